"""Check, time and profile the kernels on a GPU.

``python -m benchmarks.kernels.check`` compares every result with the portable
path in double precision, compares two runs bit by bit, then times the kernels and the
portable path on the same GPU and prints one table. Without a GPU it says so and stops.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed.measure import Step, relative_error
from torch_cormorant.errors import BackendError
from torch_cormorant.ops import portable
from torch_cormorant.ops import triton as kernels
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan, build_plan

ALL = (True, True, True)
Inputs = tuple[Tensor, Tensor, Tensor, GraphPlan, PathTable]


def inputs(
    lmax: int,
    channels: int,
    nodes: int,
    degree: int,
    dtype: torch.dtype,
    device: str | torch.device = "cuda",
) -> Inputs:
    """Random features on a random graph of uneven degrees around ``degree``."""
    generator = torch.Generator().manual_seed(0)
    wanted = torch.poisson(torch.full((nodes,), float(degree)), generator=generator)
    target = torch.repeat_interleave(torch.arange(nodes), wanted.long())
    source = torch.randint(nodes, target.shape, generator=generator)
    index = torch.stack([source, target]).to(device)
    plan = build_plan(index, nodes, nodes)
    table = PathTable(lmax, lmax, lmax)

    def random(rows: int, components: int) -> Tensor:
        made = torch.randn(
            rows, components, channels, dtype=torch.complex128, generator=generator
        )
        return made.to(device=device, dtype=dtype)

    edges, size = index.shape[1], (lmax + 1) ** 2
    sh = torch.randn(edges, size, dtype=torch.float64, generator=generator)
    real = torch.float32 if dtype == torch.complex64 else torch.float64
    x, g = random(nodes, size), random(edges, lmax + 1)
    return x, g, sh.to(device=device, dtype=real), plan, table


def double_portable(
    data: Inputs, grads: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> list[Tensor]:
    """The double backward out of portable forward and backward calls."""
    x, g, sh, plan, table = data
    totals = [torch.zeros_like(t) for t in (x, g, sh, *grads)]
    for k, cotangent in enumerate(cotangents):
        given = [x, g, sh]
        given[k] = cotangent
        parts = portable.backward(given[0], given[1], given[2], plan, table, ALL, grads)
        for q, part in enumerate(parts):
            if q != k and part is not None:
                totals[q] += part
        sums = portable.forward(given[0], given[1], given[2], plan, table)
        for q, part in enumerate(sums):
            totals[3 + q] += part
    return totals


def steps(data: Inputs) -> dict[str, tuple[Step, Step]]:
    """By name what the kernels do and the same by the portable path."""
    grads = [torch.randn_like(t) for t in portable.forward(*data)]
    cotangents = [torch.randn_like(t) for t in data[:3]]
    return {
        "forward": (lambda: kernels.forward(*data), lambda: portable.forward(*data)),
        "backward": (
            lambda: kernels.backward(*data, ALL, grads),
            lambda: portable.backward(*data, ALL, grads),
        ),
        "double": (
            lambda: kernels.double_backward(*data, ALL, True, grads, cotangents),
            lambda: double_portable(data, grads, cotangents),
        ),
    }


def errors(lmax: int, channels: int, device: str = "cuda") -> dict[str, float]:
    """Largest relative error of every result, in double precision.

    Args:
        lmax: Largest degree everywhere.
        channels: Number of complex channels.
        device: Where to compute.

    Returns:
        Errors by name; ``"repeat"`` is 0 if a second run has the same bits.
    """
    result = {"repeat": 0.0}
    data = inputs(lmax, channels, 40, 7, torch.complex128, device)
    for name, (ours, theirs) in steps(data).items():
        once, again, right = (_tensors(run()) for run in (ours, ours, theirs))
        for k, (a, b, expected) in enumerate(zip(once, again, right, strict=True)):
            result[f"{name} {k}"] = relative_error((a,), (expected,))
            if not torch.equal(a, b):
                result["repeat"] = float("inf")
    return result


def _tensors(found: Any) -> list[Tensor]:
    """All tensors of a result, in order."""
    if isinstance(found, Tensor):
        return [found]
    return [tensor for part in found or () for tensor in _tensors(part)]


def milliseconds(run: Step, repeats: int = 20) -> float:
    """Median time on the device."""
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(float(begin.elapsed_time(end)))
    return statistics.median(times)


def timings(lmax: int, channels: int, nodes: int, degree: int) -> list[str]:
    """Lines of the table of times: kernels, portable path, ratio, edges per second."""
    data = inputs(lmax, channels, nodes, degree, torch.complex64)
    edges, lines = data[2].shape[0], []
    for name, (ours, theirs) in steps(data).items():
        a, b = milliseconds(ours), milliseconds(theirs)
        lines.append(
            f"{lmax:4d} {channels:8d} {edges:9d}  {name:8s} {a:9.3f} {b:9.3f} "
            f"{b / a:6.1f} {edges / a / 1e6:8.3f}"
        )
    return lines


def profile(lmax: int, channels: int, nodes: int, degree: int) -> str:
    """Time per kernel of one forward, backward and double backward."""
    data = inputs(lmax, channels, nodes, degree, torch.complex64)
    runs = [ours for ours, _ in steps(data).values()]
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    for run in runs:
        run()
    with torch.profiler.profile(activities=kinds) as seen:
        for run in runs:
            run()
        torch.cuda.synchronize()
    table: str = seen.key_averages().table(sort_by="cuda_time_total", row_limit=12)
    return table


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lmax", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--nodes", type=int, nargs="+", default=[450, 10_000])
    parser.add_argument("--degree", type=int, default=16)
    parser.add_argument("--tolerance", type=float, default=1e-12)
    parser.add_argument("--profile", action="store_true")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything; 1 if a result is wrong, 2 if there is no GPU."""
    options = _arguments(argv)
    if not torch.cuda.is_available():
        print("no CUDA device here: nothing was checked or timed")
        return 2
    if not kernels.is_available():
        message = "the Triton kernels need the package triton: pip install triton"
        raise BackendError(message)
    import triton

    name = torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}, triton {triton.__version__}")
    wrong = 0
    for lmax in options.lmax:
        for channels in options.channels:
            found = errors(lmax, channels)
            largest = max(found, key=lambda key: found[key])
            wrong += found[largest] > options.tolerance
            print(f"lmax {lmax}, channels {channels}: {largest} {found[largest]:.1e}")
    print("lmax channels     edges  what        ours/ms portab/ms  ratio Gedges/s")
    for lmax in options.lmax:
        for channels in options.channels:
            for nodes in options.nodes:
                for line in timings(lmax, channels, nodes, options.degree):
                    print(line, flush=True)
    if options.profile:
        print(profile(max(options.lmax), options.channels[0], 10_000, options.degree))
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
