"""How work is cut into units, and the text that is written for them."""

from __future__ import annotations

import ast
import gc
import subprocess
import sys
import weakref
from collections import Counter

import pytest

pytest.importorskip("triton", reason="the kernels need the package triton")

import torch

from torch_cormorant.ops import PathTable, build_plan
from torch_cormorant.ops.triton.launch import lanes_for, make_spec
from torch_cormorant.ops.triton.layout import rows_of
from torch_cormorant.ops.triton.source import arguments, nonzeros, source_text
from torch_cormorant.ops.triton.units import (
    DOUBLE,
    KERNEL_ENTRIES,
    PLAIN,
    GradientUnit,
    Spec,
    SumUnit,
    gradient_units,
    kernels,
    sum_units,
)

TABLES = [
    PathTable(1, 1, 1),
    PathTable(3, 3, 3),
    PathTable(3, 0, 3),
    PathTable(2, 3, 1, "even"),
    PathTable(6, 6, 6),
]


def spec(table: PathTable, channels: int = 16, *, is_complex: bool = True) -> Spec:
    return make_spec(
        table, channels, DOUBLE, (True, True, True), is_complex=is_complex, sums=True
    )


@pytest.mark.parametrize("is_complex", [True, False])
@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.key[:3]))
def test_every_entry_has_one_accumulator(table: PathTable, is_complex: bool) -> None:
    made = spec(table, is_complex=is_complex)
    held = Counter(
        (block.l1, block.l2, part)
        for unit in sum_units(made)
        for block in unit.blocks
        for part in unit.parts
    )
    wanted = {(b.l1, b.l2, part) for b in table.blocks for part in made.parts}
    assert set(held) == wanted
    assert set(held.values()) == {1}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.key[:3]))
def test_every_component_has_one_unit(table: PathTable) -> None:
    components = [b for unit in gradient_units(spec(table)) for b in unit.components]
    assert components == list(range((table.used_lmax2 + 1) ** 2))


@pytest.mark.parametrize("lmax", [1, 2, 3, 4, 5, 6])
def test_accumulators_fit_the_registers(lmax: int) -> None:
    made = make_spec(
        PathTable(lmax, lmax, lmax),
        16,
        PLAIN,
        (True, True, True),
        is_complex=True,
        sums=True,
    )
    # One real or imaginary part of the largest block has (2 l + 1)^2 entries.
    limit = max(160, (2 * lmax + 1) ** 2)
    for unit in sum_units(made):
        assert unit.entries * len(unit.parts) <= limit
    for unit in gradient_units(made):
        assert unit.entries * 2 <= 160


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.key[:3]))
def test_kernels_hold_all_units_and_stay_small(table: PathTable) -> None:
    made = spec(table)
    groups = kernels(made)
    units = [unit for group in groups for unit in group]
    assert units == [*sum_units(made), *gradient_units(made)]
    together = sum(unit.entries for unit in units) <= KERNEL_ENTRIES
    assert len(groups) == (1 if together else len(units))
    assert together == (max(table.lmax1, table.lmax2) <= 3)
    assert {type(unit) for unit in units} == {SumUnit, GradientUnit}


@pytest.mark.parametrize("table", TABLES[:4], ids=lambda table: str(table.key[:3]))
def test_source_is_python_with_one_function_per_unit(table: PathTable) -> None:
    made = spec(table)
    tree = ast.parse(source_text(made))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    names = {function.name for function in functions}
    assert {f"kernel_{k}" for k in range(len(kernels(made)))} <= names
    assert len(names) == sum(1 + len(group) for group in kernels(made))
    for function in functions:
        if function.name.startswith("kernel"):
            given = tuple(argument.arg for argument in function.args.args)
            assert given[: len(arguments(made))] == arguments(made)


def test_only_coefficients_that_are_not_zero_are_written() -> None:
    table = PathTable(3, 3, 3)
    made = make_spec(table, 16, PLAIN, (False,) * 3, is_complex=True, sums=True)
    count = sum(len(nonzeros(*path)) for path in table.paths)
    text = source_text(made)
    written = [line for line in text.splitlines() if line.lstrip().startswith("s_")]
    assert len(written) == 2 * count


@pytest.mark.parametrize(
    ("channels", "lanes"),
    [(1, 1), (2, 2), (3, 4), (7, 8), (16, 16), (20, 8), (24, 8), (48, 16), (64, 32)],
)
def test_lanes_waste_little(channels: int, lanes: int) -> None:
    assert lanes_for(channels) == lanes


def test_rows_are_kept_on_the_plan() -> None:
    plan = build_plan(torch.tensor([[0, 1, 2], [1, 1, 0]]), 3, 3)
    rows = rows_of(plan, 100)
    assert rows_of(plan, 200) is rows
    assert rows.node.tolist() == [1, 0, 2]
    assert rows.count.tolist() == [2, 1, 0]
    assert rows_of(plan, 1) is not rows


def test_rows_go_with_their_plan() -> None:
    plan = build_plan(torch.tensor([[0, 1, 2], [1, 1, 0]]), 3, 3)
    rows_of(plan, 100)
    packed = weakref.ref(plan.packed)
    del plan
    gc.collect()
    assert packed() is None


def test_everything_imports_without_triton() -> None:
    code = (
        "import sys\n"
        "sys.modules['triton'] = None\n"
        "import torch_cormorant, torch_cormorant.ops.triton as kernels\n"
        "assert not kernels.is_available()\n"
        "from torch_cormorant.errors import BackendError\n"
        "try:\n"
        "    kernels.forward(None, None, None, None, None)\n"
        "except BackendError as error:\n"
        "    assert 'pip install triton' in str(error)\n"
        "else:\n"
        "    raise SystemExit('no error')\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


def test_tensors_of_the_cpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_cormorant.errors import BackendError
    from torch_cormorant.ops import triton as kernels

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    plan = build_plan(torch.tensor([[0], [1]]), 2, 2)
    x, g, sh = torch.ones(2, 4, 1), torch.ones(1, 2, 1), torch.ones(1, 4)
    with pytest.raises(BackendError, match="CUDA tensors, got one on cpu"):
        kernels.forward(x, g, sh, plan, PathTable(1, 1, 1))
