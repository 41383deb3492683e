"""Runs the kernels in Triton's interpreter; started by test_interpreter.py.

Prints one JSON object: for every case the largest error of every result, relative to
the largest entry of the portable path's.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.ops import (
    GraphPlan,
    PathTable,
    build_plan,
    portable,
    use_backend,
)
from torch_cormorant.ops import triton as kernels
from torch_cormorant.ops.padded import fixed_plan
from torch_cormorant.ops.plan import unpack_plan
from torch_cormorant.ops.triton import launch, layout, units

Errors = dict[str, float]
ALL = (True, True, True)


@dataclasses.dataclass
class Problem:
    """Random inputs on a small graph."""

    x: Tensor
    g: Tensor
    sh: Tensor
    plan: GraphPlan
    table: PathTable
    grads: list[Tensor]
    cotangents: list[Tensor]

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, GraphPlan, PathTable]:
        return self.x, self.g, self.sh, self.plan, self.table


def problem(
    table: PathTable,
    channels: int,
    *,
    graph: str = "directed",
    dtype: torch.dtype = torch.complex128,
    chunk_slots: int | None = None,
    seed: int = 0,
) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, like: torch.dtype) -> Tensor:
        return torch.randn(*shape, dtype=like, generator=generator)

    real = torch.float32 if dtype in {torch.float32, torch.complex64} else torch.float64
    sources, targets, vec = 4, 4, None
    if graph == "pairs":
        vec = random(9, 3, like=torch.float64)
        vec[1::2] = -vec[0:-1:2]
        vec[8] = 0
        edges = [[0, 1, 0, 2, 1, 2, 1, 3, 3], [1, 0, 2, 0, 2, 1, 3, 1, 3]]
    elif graph == "directed":
        # Receivers 0 and 3 have no edges; 5 sources, 1 of them unused.
        sources = 5
        edges = [[0, 1, 2, 3, 4, 4, 0, 1, 2], [1, 1, 1, 1, 2, 2, 2, 1, 1]]
    else:
        edges = [[], []]
    index = torch.tensor(edges, dtype=torch.long)
    plan = build_plan(index, sources, targets, vec, chunk_slots)
    rows = index.shape[1] if plan.pairs is None else plan.pairs.edge.shape[0]
    x = random(sources, (table.used_lmax2 + 1) ** 2, channels, like=dtype)
    g = random(rows, table.lmax1 + 1, channels, like=dtype)
    sh = random(index.shape[1], (table.lmax1 + 1) ** 2, like=real)
    shapes = portable.shapes(targets, table, channels)
    return Problem(
        x=x,
        g=g,
        sh=sh,
        plan=plan,
        table=table,
        grads=[random(*shape, like=dtype) for shape in shapes],
        cotangents=[torch.randn_like(t) for t in (x, g, sh)],
    )


def error(found: Tensor | None, expected: Tensor | None) -> float:
    if found is None or expected is None:
        return 0.0 if found is expected else float("inf")
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return float("inf")
    if not found.numel():
        return 0.0
    largest = float(expected.abs().max())
    return float((found - expected).abs().max()) / (largest or 1.0)


def worst(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> float:
    return max(error(a, b) for a, b in zip(found, expected, strict=True))


def composed(
    p: Problem, cotangents: Sequence[Tensor | None]
) -> tuple[list[Tensor], list[Tensor]]:
    """The double backward out of the portable forward and backward."""
    totals = [torch.zeros_like(t) for t in (p.x, p.g, p.sh)]
    dgrads = [torch.zeros_like(grad) for grad in p.grads]
    for k, cotangent in enumerate(cotangents):
        if cotangent is None:
            continue
        given = [p.x, p.g, p.sh]
        given[k] = cotangent
        parts = portable.backward(*given, p.plan, p.table, ALL, p.grads)
        for q, part in enumerate(parts):
            if q != k and part is not None:
                totals[q] += part
        sums = portable.forward(*given, p.plan, p.table)
        dgrads = [total + part for total, part in zip(dgrads, sums, strict=True)]
    return totals, dgrads


def check(p: Problem, *, second: bool = True, other: GraphPlan | None = None) -> Errors:
    """Every result of the functions; ``second`` includes the double backward.

    With another plan the kernels take that one.
    """
    inputs = p.inputs if other is None else (*p.inputs[:3], other, p.table)
    found = kernels.forward(*inputs)
    errors = {"forward": worst(found, portable.forward(*p.inputs))}
    mine = kernels.backward(*inputs, ALL, p.grads)
    theirs = portable.backward(*p.inputs, ALL, p.grads)
    for name, a, b in zip(("dx", "dg", "dsh"), mine, theirs, strict=True):
        errors[name] = error(a, b)
    if not second:
        return errors
    found2 = kernels.double_backward(*inputs, ALL, True, p.grads, p.cotangents)
    totals, dgrads = composed(p, p.cotangents)
    for name, a, b in zip(("ddx", "ddg", "ddsh"), found2, totals, strict=False):
        errors[name] = error(a, b)
    errors["ddgrads"] = worst(found2[3] or [], dgrads)
    return errors


def subsets() -> Errors:
    """Every choice of wanted gradients and of given cotangents."""
    p = problem(PathTable(1, 1, 1), 2)
    errors = {}
    theirs = portable.backward(*p.inputs, ALL, p.grads)
    for code in range(8):
        need = (bool(code & 1), bool(code & 2), bool(code & 4))
        mine = kernels.backward(*p.inputs, need, p.grads)
        wanted = [b if n else None for b, n in zip(theirs, need, strict=True)]
        errors[f"need {code}"] = worst(mine, wanted)
        if not code:
            continue
        given = [u if n else None for u, n in zip(p.cotangents, need, strict=True)]
        second = kernels.double_backward(*p.inputs, ALL, True, p.grads, given)
        totals, dgrads = composed(p, given)
        errors[f"given {code}"] = max(
            worst(second[:3], totals), worst(second[3] or [], dgrads)
        )
        second = kernels.double_backward(*p.inputs, need, False, p.grads, p.cotangents)
        totals, _ = composed(p, p.cotangents)
        wanted = [t if n else None for t, n in zip(totals, need, strict=True)]
        errors[f"double {code}"] = worst(second[:3], wanted)
        errors[f"left out {code}"] = 0.0 if second[3] is None else float("inf")
    nothing = kernels.double_backward(*p.inputs, ALL, True, p.grads, [None] * 3)
    errors["no cotangent"] = 0.0 if nothing == (None,) * 4 else float("inf")
    return errors


def parted() -> Errors:
    """Receivers with many edges get several rows."""
    layout.SPLIT = 2
    try:
        errors = check(problem(PathTable(1, 1, 1), 2, graph="pairs"))
        return errors | {
            f"directed {name}": value
            for name, value in check(problem(PathTable(1, 0, 1), 3)).items()
        }
    finally:
        layout.SPLIT = 256


def grouped() -> Errors:
    """Buffers that hold three edges at a time."""
    before = launch.BUFFER_BYTES
    launch.BUFFER_BYTES = 3 * 8 * (8 * 2 + 4 * 2 + 4)
    try:
        errors = check(problem(PathTable(1, 1, 1), 2, graph="pairs"))
        p = problem(PathTable(1, 1, 1), 2)
        kernels.backward(*p.inputs, ALL, p.grads)
        (rows,) = p.plan.packed.__dict__["_triton_rows"].values()
        errors["groups"] = 0.0 if len(rows.groups) > 1 else float("inf")
        layout.SPLIT = 2
        both = check(problem(PathTable(1, 1, 1), 2))
        return errors | {f"parted {name}": value for name, value in both.items()}
    finally:
        launch.BUFFER_BYTES = before
        layout.SPLIT = 256


def strided() -> Errors:
    """Conjugated, strided and expanded inputs; nothing given is changed."""
    p = problem(PathTable(1, 1, 1), 2)
    odd = dataclasses.replace(
        p,
        x=p.x.transpose(0, 1).contiguous().transpose(0, 1).conj(),
        g=p.g[:1].expand_as(p.g),
        sh=p.sh.t().contiguous().t(),
        grads=[grad.conj() for grad in p.grads],
    )
    plain = dataclasses.replace(
        odd,
        x=odd.x.resolve_conj().contiguous(),
        g=odd.g.contiguous(),
        sh=odd.sh.contiguous(),
        grads=[grad.resolve_conj() for grad in odd.grads],
    )
    before = [t.clone() for t in (odd.x, odd.g, odd.sh, *odd.grads)]
    mine = kernels.backward(*odd.inputs, ALL, odd.grads)
    errors = {
        "forward": worst(kernels.forward(*odd.inputs), portable.forward(*plain.inputs)),
        "backward": worst(mine, portable.backward(*plain.inputs, ALL, plain.grads)),
    }
    after = (odd.x, odd.g, odd.sh, *odd.grads)
    errors["unchanged"] = worst(after, before)
    return errors


def wide() -> Errors:
    """More components, degrees and harmonics than the paths read."""
    p = problem(PathTable(1, 1, 1), 2)
    more = dataclasses.replace(
        p,
        x=torch.cat([p.x, p.x[:, :2]], dim=1),
        g=torch.cat([p.g, p.g[:, :1]], dim=1),
        sh=torch.cat([p.sh, p.sh[:, :3]], dim=1),
    )
    mine = kernels.backward(*more.inputs, ALL, p.grads)
    theirs = portable.backward(*p.inputs, ALL, p.grads)
    errors = {
        "forward": worst(kernels.forward(*more.inputs), portable.forward(*p.inputs))
    }
    for name, a, b in zip(("dx", "dg", "dsh"), mine, theirs, strict=True):
        if a is None or b is None:
            raise ValueError(name)
        errors[name] = error(a[:, : b.shape[1]], b)
        errors[f"{name} beyond"] = float(a[:, b.shape[1] :].abs().max())
    return errors


def contained() -> Errors:
    """What is not finite on one edge stays with that edge's receiver."""
    p = problem(PathTable(1, 1, 1), 2)
    p.sh[4] = float("nan")  # this edge ends in node 2; padding reads the first edge
    found = kernels.forward(*p.inputs)
    expected = portable.forward(*p.inputs)
    others = [0, 1, 3]
    return {
        "others": worst([t[others] for t in found], [t[others] for t in expected]),
        "receiver": 0.0 if all(t[2].isnan().any() for t in found) else float("inf"),
    }


def misplaced() -> Errors:
    """Inputs and tables that begin at addresses which are no multiples of 16."""

    def moved(x: Tensor) -> Tensor:
        numbers = torch.view_as_real(x) if x.is_complex() else x
        longer = numbers.new_empty(numbers.numel() + 1)
        longer[1:] = numbers.flatten()
        found = longer[1:].view(numbers.shape)
        return torch.view_as_complex(found) if x.is_complex() else found

    p = problem(PathTable(1, 1, 1), 2, dtype=torch.float64)
    odd = dataclasses.replace(
        p,
        x=moved(p.x),
        g=moved(p.g),
        sh=moved(p.sh),
        grads=[moved(grad) for grad in p.grads],
    )
    rows = layout.rows_of(p.plan, p.plan.num_edges)
    tables = (rows.source, rows.edge, rows.start, rows.count, rows.node, rows.target)
    aligned = not any(table.data_ptr() % launch.ALIGNMENT for table in tables)
    return {**check(odd), "aligned": 0.0 if aligned else float("inf")}


def refilled() -> Errors:
    """Another graph in the memory of the first one, as captured steps have it."""
    table, errors = PathTable(1, 1, 1), {}
    graphs = (
        ([0, 1, 0, 1, 2, 1, 2, 3, 3], [0, 0, 1, 1, 1, 2, 2, 3, 3]),
        ([0, 2, 0, 1, 2, 2, 1, 3, 3], [0, 0, 0, 1, 1, 2, 2, 3, 3]),
    )
    memory = None
    for source, target in graphs:
        index = torch.tensor([source, target])
        of_edge = torch.tensor([0, 1, 1, 2, 3, 4, 3, 5, 6])
        pair_edge = torch.tensor([0, 1, 3, 4, 5, 7, 8])
        plan = fixed_plan(index, pair_edge, of_edge, 4, 4)
        p = problem(table, 2, graph="pairs")
        g = torch.randn(7, 2, 2, dtype=torch.complex128)
        memory = plan.packed.clone() if memory is None else memory.copy_(plan.packed)
        here = unpack_plan(layout.of_one_capture(memory), plan.header)
        right = dataclasses.replace(p, g=g, plan=plan, cotangents=[p.x, g, p.sh])
        errors |= {
            f"{len(errors)} {name}": value
            for name, value in check(right, other=here).items()
        }
    return errors


def captured_step() -> Errors:
    """A training step on these kernels; the rows are worked out once in each."""
    from torch_geometric.loader import DataLoader

    from torch_cormorant import Cormorant
    from torch_cormorant.data import MiniEthanol
    from torch_cormorant.train import (
        PaddedSizes,
        PotentialRegression,
        pad_batch,
        potential_normalisation,
    )
    from torch_cormorant.train.capture.step import padded_terms

    data, found, built = MiniEthanol()[:2], {}, []
    before = layout._build

    def build(*args: Any, **kwargs: Any) -> layout.Rows:
        built.append(args)
        return before(*args, **kwargs)

    for backend in ("portable", "triton"):
        torch.manual_seed(0)
        small = {"channels": 2, "num_levels": 2, "lmax": 1, "hidden": 4}
        model = Cormorant.potential((1, 6, 8), cutoff=2.0, **small).double()
        module = PotentialRegression(model, potential_normalisation(data))
        sizes = PaddedSizes.of(model, data, 1)
        batch = next(iter(DataLoader(data, 1)))
        padded = pad_batch(model, batch, sizes, module.label_names)
        layout._build = build
        try:
            with use_backend(backend):
                loss, _ = padded_terms(module, padded)
                loss.backward()
        finally:
            layout._build = before
        found[backend] = [loss.detach(), *(p.grad for p in model.parameters())]
    scale = max(float(t.abs().max()) for t in found["portable"][1:] if t is not None)
    apart = [
        float((a - b).abs().max()) / scale
        for a, b in zip(*found.values(), strict=True)
        if a is not None
    ]
    return {"step": max(apart), "built": 0.0 if len(built) == 1 else float("inf")}


def many() -> Errors:
    """Every unit a kernel of its own, as beyond degree 3."""
    before = units.KERNEL_ENTRIES, launch.REGISTERS, launch.DOUBLE_REGISTERS
    units.KERNEL_ENTRIES, launch.REGISTERS, launch.DOUBLE_REGISTERS = 1, 9, 9
    try:
        p = problem(PathTable(1, 1, 1), 2)
        spec = launch.make_spec(
            p.table, 2, units.PLAIN, ALL, is_complex=True, sums=True
        )
        if len(units.kernels(spec)) < 6:
            raise ValueError(units.kernels(spec))
        return check(p)
    finally:
        units.KERNEL_ENTRIES, launch.REGISTERS, launch.DOUBLE_REGISTERS = before


def paired(table: PathTable, channels: int, **kwargs: Any) -> Callable[[], Errors]:
    return lambda: check(problem(table, channels, **kwargs))


ONE = PathTable(1, 1, 1)
CASES: dict[str, Callable[[], Errors]] = {
    "complex, directed": paired(ONE, 2),
    "complex, pairs": paired(ONE, 2, graph="pairs"),
    "real, directed": paired(ONE, 3, dtype=torch.float64),
    "real, pairs": paired(ONE, 3, graph="pairs", dtype=torch.float64),
    "padded slots": paired(PathTable(2, 1, 2), 2, chunk_slots=4),
    "no edges": paired(ONE, 2, graph="empty"),
    # A block (3, 3) is too large for one unit: re and im are summed apart.
    "degree three": lambda: check(problem(PathTable(3, 3, 3), 1), second=False),
    "first layer": paired(PathTable(3, 0, 3), 2),
    "scalars out": paired(PathTable(2, 2, 0), 2),
    "scalars only": paired(PathTable(0, 0, 0), 2, dtype=torch.float64),
    "even paths": paired(PathTable(2, 2, 1, "even"), 2),
    "seven channels": paired(PathTable(1, 0, 1), 7),
    "one full warp": paired(PathTable(1, 0, 1), 32),
    "several channel blocks": paired(PathTable(1, 0, 1), 40),
    "subsets": subsets,
    "parted receivers": parted,
    "groups of receivers": grouped,
    "strided inputs": strided,
    "wide inputs": wide,
    "contained": contained,
    "many kernels": many,
    "misplaced inputs": misplaced,
    "refilled memory": refilled,
    "captured step": captured_step,
}
SINGLE: dict[str, Callable[[], Errors]] = {
    "complex64": paired(PathTable(2, 2, 2), 2, dtype=torch.complex64),
    "float32": paired(PathTable(2, 2, 2), 2, dtype=torch.float32, graph="pairs"),
}


if __name__ == "__main__":
    json.dump({name: run() for name, run in (CASES | SINGLE).items()}, sys.stdout)
