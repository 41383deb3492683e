from __future__ import annotations

import json
from pathlib import Path

import pytest

from torch_cormorant.data import MiniQM9, read_qm9
from torch_cormorant.train import compare, hardware, results_table, versions


def test_errors_are_those_of_the_test_molecules() -> None:
    data = MiniQM9("r2")
    train, test = data[:200], data[200:]
    found = compare(train, test, test.values + 2.0)
    assert found.ours == pytest.approx(2.0)
    expected = (test.values - train.values.mean()).abs().mean().item()
    assert found.mean == pytest.approx(expected)
    assert found.composition < found.mean
    assert found.paper is None


def test_table_is_in_the_unit_of_display_and_does_not_claim_qm9() -> None:
    data = MiniQM9("homo")
    found = compare(data[:200], data[200:], data[200:].values + 0.034)
    lines = found.table("ours").splitlines()
    assert lines[0].startswith("MiniQM9 (not QM9): homo of 110 test molecules")
    assert lines[1].split() == ["model", "MAE", "[meV]"]
    assert lines[2].split() == ["ours", "34.00"]
    assert len(lines) == 5
    assert "paper" not in found.table("ours")


def test_published_error_is_shown_for_qm9_only(shared: Path) -> None:
    data = read_qm9(npz=shared / "data/qm9/qm9_labelled.npz", target="alpha")
    found = compare(data[:1000], data[1000:1100], data[1000:1100].values)
    assert found.paper == 0.085
    assert found.table("ours").splitlines()[-1].split() == [
        *["Cormorant,", "paper's", "Table", "1", "(100,000", "training", "molecules)"],
        "0.08500",
    ]
    energy = read_qm9(npz=shared / "data/qm9/qm9_labelled.npz", target="zpve")
    assert compare(energy[:50], energy[50:60], energy[50:60].values).paper == (
        pytest.approx(0.002027)
    )


def test_record_is_plain_json() -> None:
    data = MiniQM9("mu")
    record = compare(data[:200], data[200:], data[200:].values).record()
    assert json.loads(json.dumps(record)) == record
    assert record["unit"] == "Debye"


def test_table_keeps_four_digits_at_any_size() -> None:
    text = results_table("t", "eV", [("a", 123456.7), ("b", 12.5), ("c", 0.00123456)])
    assert [line.split()[-1] for line in text.splitlines()[2:]] == [
        "123457",
        "12.50",
        "0.001235",
    ]


def test_versions_and_hardware_can_be_written() -> None:
    import torch

    assert json.dumps([versions(), hardware(torch.device("cpu"))])
    assert torch.__version__.startswith(versions()["torch"].split("+")[0])
