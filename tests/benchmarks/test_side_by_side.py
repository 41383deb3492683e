"""The page that has the whole family side by side."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import side_by_side as page

from benchmarks import edge_costs as costs
from benchmarks.curve_families import FAMILIES
from benchmarks.force_families import FAMILIES as POTENTIALS
from benchmarks.records import FOLDER
from benchmarks.thesis_tables import tables
from torch_cormorant import conv as operators
from torch_cormorant.cg import clebsch_gordan
from torch_cormorant.networks import NequIP, SchNet
from torch_cormorant.ops import ProductPaths


def test_every_row_is_a_network_that_can_be_run_and_counted() -> None:
    counted = costs.counted()
    assert set(page.ROWS) == set(counted)
    assert page.joined(page.read("multiply"), "counted") == counted
    for name, row in page.ROWS.items():
        assert name in FAMILIES
        assert (row.forces or name) in POTENTIALS
        assert row.operator in operators.__all__
        assert counted[name] > 0


def test_costs_are_those_of_loops_over_the_tables() -> None:
    """One multiply-add for every term of the sums, as a program would write them."""
    degrees = range(3)
    for l1, l2, l in product(degrees, degrees, degrees):
        if abs(l1 - l2) <= l <= l1 + l2:
            assert costs.entries(l1, l2, l) == int(
                (clebsch_gordan(l1, l2, l) != 0).sum()
            )
    depthwise = ProductPaths("2x0e + 3x1o", "0e + 1o", out="0e + 1o")
    # 0x0->0: (1 + 1) 2, 0x1->1: (3 + 3) 2, 1x0->1: (3 + 3) 3, 1x1->0: (3 + 1) 3
    assert costs.product(depthwise) == 4 + 12 + 18 + 12
    full = ProductPaths("2x0 + 3x1", "0 + 1", out="5x0", mode="uvw")
    # 0x0->0: (1 + 5) 2, 1x1->0: (3 + 5) 3
    assert costs.product(full) == 12 + 24
    net = SchNet([1], channels=4, filters=6, num_levels=2, num_basis=5)
    assert costs.radial(net) == 5 * 6 + 6 * 6 + 2 * 6
    net = NequIP([1], channels=2, num_levels=2, lmax=0, parity=False, radial=[7])
    assert costs.radial(net) == 8 * 7 + 7 * 2 + 2 * 2


def write(folder: Path, name: str, **more: Any) -> None:
    """Write a record."""
    made = {"hardware": {"cpu": "a CPU"}, "commit": "abcdef0", "parameters": 1234}
    (folder / f"{name}.json").write_text(json.dumps(made | more))


def test_tables_are_made_of_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "RECORDS", tmp_path)
    assert page.errors().count(page.MISSING) == 2
    assert page.classes().count("| - | - |") == len(page.ROWS)
    counted = {"ours-painn": 4416}
    write(tmp_path, "costs", kind="multiply-adds of an edge", counted=counted)
    kind = "CPU seconds of a training step, batch of 25, in turns"
    median = {"ours-painn": 0.025}
    write(tmp_path, "speed", kind=kind, median=median, rounds=9, load="1.0")
    for model, mae in (("ours-painn", 0.5), ("ours-schnet", 0.7), ("real", None)):
        run = {"model": model, "target": "alpha", "test_mae": mae, "steps": 99}
        run |= {"train_size": 1000, "budget_cpu_seconds": 200.0, "unit": "bohr^3"}
        run |= {"baselines": {"composition": 1.0}, "kind": "learning curve at ..."}
        write(tmp_path, model, **run)
    run = {"kind": "potential trained on ...", "set": "ethanol", "steps": 9}
    run |= {"model": "cormorant-tuned", "budget_cpu_seconds": 200.0}
    run |= {"test": {"test": {"energy_mae": 8.0, "force_mae": 30.0}}}
    write(tmp_path, "forces", cpu_seconds_per_step=0.04, **run)
    assert "| $3 B C + 9 C$ | 4,416 | 25 |" in page.classes()
    assert page.classes().endswith("load of the machine 1.0 at the end.")
    lines = page.errors().splitlines()
    assert lines[0] == "**1,000 molecules, 200 CPU seconds of training.**"
    assert "| PaiNN | 1,234 | 99 | **0.5** |" in lines
    assert "| SchNet | 1,234 | 99 | 0.7 |" in lines
    assert "| Cormorant, recipe | 1,234 | 99 | diverged |" in lines
    assert lines[-1] == "| Cormorant, recipe | 1,234 | 9 | 8.0 | 30.0 | 40 |"


def test_included_parts_are_of_the_records_that_are_here() -> None:
    for name, made in (("classes", page.classes), ("errors", page.errors)):
        path = page.HERE / f"side_by_side_{name}.inc"
        assert path.read_text(encoding="utf-8") == made() + "\n"
    path = page.HERE / "side_by_side_thesis.inc"
    assert path.read_text(encoding="utf-8") == tables(FOLDER / "thesis")
