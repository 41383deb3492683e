"""What the checks of an operator cost, beside the operator itself.

    python -m benchmarks.check_cost [--calls 500]

Takes turns, call by call, between the whole forward neighbour sum (25 molecules of 18
atoms, lmax 3, 16 complex channels), its checks in Python, and the kernel called with a
plan whose last index is wrong: it looks at every index, refuses, and computes nothing.
 Prints medians and the share of the checks.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import statistics
import time
from collections.abc import Callable

import torch

from torch_cormorant.ops import PathTable, build_plan, cpu_kernel, neighbour_sum
from torch_cormorant.ops.cpu_kernel import pointers
from torch_cormorant.ops.operands import check_sum

MOLECULES, ATOMS, LMAX, CHANNELS = 25, 18, 3, 16


def jobs() -> dict[str, Callable[[], object]]:
    """What is timed."""
    torch.manual_seed(0)
    nodes = MOLECULES * ATOMS
    molecule = torch.arange(nodes) // ATOMS
    pairs = molecule.unsqueeze(0) == molecule.unsqueeze(1)
    pairs.fill_diagonal_(fill_value=False)
    index = pairs.nonzero().t().flip(0).contiguous()
    pos = torch.randn(nodes, 3)
    plan = build_plan(index, nodes, nodes, pos[index[1]] - pos[index[0]])
    table, side = PathTable(LMAX, LMAX, LMAX), (LMAX + 1) ** 2
    rows = index.shape[1] // 2  # all are shared with their reverse
    x = torch.randn(nodes, side, CHANNELS, dtype=torch.complex64)
    g = torch.randn(rows, LMAX + 1, CHANNELS, dtype=torch.complex64)
    sh = torch.randn(index.shape[1], side)
    wrong = plan.csr_row.clone()
    wrong[-1] = rows  # looked at last
    spoilt = dataclasses.replace(plan, csr_row=wrong)
    outs = cpu_kernel.forward(x, g, sh, plan, table)
    struct, kept = cpu_kernel.prepare_sum(x, g, sh, spoilt, table), pointers(outs)
    struct.out = ctypes.addressof(kept)
    entry, given = cpu_kernel.library().cormorant_sum_forward, ctypes.byref(struct)

    def refuse() -> int:
        return int(entry(given)) * len(kept)

    return {
        "neighbour_sum": lambda: neighbour_sum(x, g, sh, plan, table),
        "checks in Python": lambda: check_sum(x, g, sh, plan, table),
        "kernel that refuses": refuse,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=500, help="calls of each")
    calls = parser.parse_args().calls
    torch.set_num_threads(1)
    todo = jobs()
    times: dict[str, list[float]] = {name: [] for name in todo}
    for _ in range(calls):
        for name, job in todo.items():
            start = time.perf_counter_ns()
            job()
            times[name].append((time.perf_counter_ns() - start) / 1e3)
    whole, *checks = (statistics.median(times[name]) for name in todo)
    for name, value in zip(todo, (whole, *checks), strict=True):
        print(f"{name:24} {value:9.1f} us")
    print(f"{'checks, at most':24} {100 * sum(checks) / whole:9.2f} % of the sum")


if __name__ == "__main__":
    main()
