"""The questions of the thesis: rows are run once, tables say what they show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import curve_data as data
from benchmarks import thesis
from benchmarks.thesis_tables import tables, verdict
from torch_cormorant.errors import DataError


def record(folder: Path, row: str, seed: int, mae: float, **more: Any) -> None:
    """Write what a run leaves."""
    made = {
        "row": row,
        "seed": seed,
        "test_mae": mae,
        "unit": "bohr^3",
        "steps": 100,
        "cpu_seconds": 7.0,
        "parameters": 1234,
        "train_size": 1000,
        "epochs": 30,
    }
    (folder / f"{row}-{seed}.json").write_text(json.dumps(made | more))


def test_a_row_is_run_once_and_goes_on_where_it_was_cut(
    qm9: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "VALID", 5)
    monkeypatch.setattr(data, "TEST", 6)
    folder = tmp_path / "records"
    run = ["--npz", str(qm9), "--records", str(folder), "--train-size", "15"]
    run += ["--epochs", "2", "--rows", "batch-8", "basis-bessel-l0", "degree-0"]
    assert thesis.main([*run, "--seeds", "0"]) == 0
    files = sorted(folder.iterdir())
    names = ["batch-8-15-2e-seed0.json", "degree-0-15-2e-seed0.json"]
    assert [file.name for file in files] == names  # two names of one row
    found = [json.loads(file.read_text()) for file in files]
    assert [made["steps"] for made in found] == [4, 2]
    assert [made["unit"] for made in found] == ["bohr^3", "Debye"]
    assert found[1]["settings"]["network"] == {"lmax": 0, "gate": False}
    times = [file.stat().st_mtime_ns for file in files]
    assert thesis.main([*run, "--seeds", "0", "1"]) == 0
    assert [file.stat().st_mtime_ns for file in files] == times
    assert len(list(folder.iterdir())) == 4


def test_every_row_has_a_network() -> None:
    for name, row in thesis.ROWS.items():
        net = row.family().make(row.target).net  # type: ignore[operator]
        assert net.config["gate"] is (name.endswith("-gate")), name
    assert set(thesis.SAME.values()) <= set(thesis.ROWS)


def test_tables_say_what_follows(tmp_path: Path) -> None:
    text = tables(tmp_path)
    assert text.count("Not run yet") == 5
    for seed, (plain, gated) in enumerate(((1.0, 0.9), (1.1, 1.0), (1.2, 1.09))):
        record(tmp_path, "degree-1", seed, plain)
        record(tmp_path, "degree-1-gate", seed, gated)
    for size, mae in ((8, 2.0), (16, 1.0), (32, 3.0), (64, 4.0)):
        record(tmp_path, f"batch-{size}", 0, mae)
    record(tmp_path, "amsgrad", 0, 1.1)
    text = tables(tmp_path)
    line = "| 1 | 1.1 ± 0.1 (3) | 0.997 ± 0.1 (3) | -9 % | 1,234, 7 s |"
    assert line in text.splitlines()
    assert "degree 1: yes, -9 %" in text
    assert "Least error: 16; the largest is 300 % above it." in text
    assert "Least error: Adam; the largest is 10 % above it." in text
    assert "differ by 9 % between seeds" in text
    assert "rows levels-5, levels-6 are missing" in text
    record(tmp_path, "levels-5", 0, 1.0, epochs=9)
    with pytest.raises(DataError, match="one length"):
        tables(tmp_path)


def test_seeds_that_disagree_do_not_tell() -> None:
    assert verdict([-5.0, 4.0, -6.0]) == "3 seeds do not tell"
    assert verdict([5.0, 5.5, 5.2]).startswith("no, it harms")
    assert verdict([-5.0]) == "one seed does not tell"
