"""Compile the kernels for a GPU that is not there: registers, spills, time.

``python -m benchmarks.kernels.registers --lmax 3`` prints one line per
kernel. Triton compiles ahead of time for a named architecture, so this shows that
the source is valid for the real compiler and that the accumulators fit.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.triton.launch import built, make_spec
from torch_cormorant.ops.triton.source import CONSTANTS, NUMBERS, arguments
from torch_cormorant.ops.triton.units import DOUBLE, PLAIN, Spec, kernels

KINDS = ("forward", "backward", "double")


@dataclass(frozen=True)
class Usage:
    """What one compiled kernel takes of a multiprocessor.

    Attributes:
        registers: Registers per thread.
        stack: Bytes per thread in local memory, spilled registers included.
        shared: Bytes of shared memory per program.
        units: Units of work in the kernel.
        seconds: CPU time of the compilation.
    """

    registers: int
    stack: int
    shared: int
    units: int
    seconds: float


def spec_for(
    kind: str,
    lmax: int,
    channels: int,
    *,
    is_complex: bool = True,
    dtype: torch.dtype = torch.float32,
    registers: int | None = None,
) -> Spec:
    """The spec of a kind of kernel, all degrees equal to lmax."""
    every = kind != "forward"
    return make_spec(
        PathTable(lmax, lmax, lmax),
        channels,
        DOUBLE if kind == "double" else PLAIN,
        (every, every, every),
        is_complex=is_complex,
        sums=kind != "backward",
        dtype=dtype,
        registers=registers,
    )


def usage(
    spec: Spec, channels: int, *, double: bool = False, arch: int = 90
) -> Iterator[Usage]:
    """Compile the kernels of a spec for an architecture, one after the other.

    Args:
        spec: What the kernels compute.
        channels: Number of channels.
        double: float64 instead of float32.
        arch: Compute capability, 90 for Hopper.

    Yields:
        One entry per kernel.
    """
    parts, table = len(spec.parts), spec.table
    constants = {
        "C": channels,
        "XW": (table.used_lmax2 + 1) ** 2 * parts * channels,
        "GW": (table.lmax1 + 1) * parts * channels,
        "YW": (table.lmax1 + 1) ** 2,
    }
    names = [*arguments(spec), *CONSTANTS]
    tables = {"SRC", "GROW", "YROW", "START", "NODE", "SUMROW"}
    signature, attributes = {}, {}
    for place, name in enumerate(names):
        if name in CONSTANTS:
            signature[name] = "constexpr"
        elif name in NUMBERS:
            signature[name] = "i32"
        else:
            kind = "i32" if name == "COUNT" else "fp64" if double else "fp32"
            signature[name] = "*i64" if name in tables else f"*{kind}"
            attributes[place,] = [["tt.divisibility", 16]]
    for kernel, units in zip(built(spec), kernels(spec), strict=True):
        begin = time.process_time()
        source = ASTSource(kernel, signature, constants, attributes)
        target = GPUTarget("cuda", arch, 32)
        made = triton.compile(
            source, target=target, options={"num_warps": 1, "enable_fp_fusion": True}
        )
        seconds = time.process_time() - begin
        registers, stack = _resources(made.asm["cubin"])
        shared = made.metadata.shared
        yield Usage(registers, stack, shared, len(units), seconds)


def _resources(cubin: bytes) -> tuple[int, int]:
    """Registers and stack of the one kernel in a cubin."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [str(tool), "-res-usage", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", text.stdout + text.stderr)
    if found is None:
        return 0, 0
    return int(found[1]), int(found[2])


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lmax", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--arch", type=int, default=90)
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--registers", type=int, help="accumulators per thread")
    options = parser.parse_args(argv)
    print("lmax  kind      units  registers  stack  shared  seconds")
    for lmax in options.lmax:
        for kind in options.kinds:
            spec = spec_for(
                kind,
                lmax,
                options.channels,
                is_complex=not options.real,
                dtype=torch.float64 if options.float64 else torch.float32,
                registers=options.registers,
            )
            for found in usage(
                spec, options.channels, double=options.float64, arch=options.arch
            ):
                print(
                    f"{lmax:4d}  {kind:8s}  {found.units:5d}  {found.registers:9d}  "
                    f"{found.stack:5d}  {found.shared:6d}  {found.seconds:7.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
