"""The example that takes the ethanol potential to another molecule."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from torch_cormorant.data import MiniEthanol, unit_factor

SCRIPT = Path(__file__).parents[2] / "examples" / "fine_tuning.py"


def test_all_ways_are_trained_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("fine_tuning", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "UNKNOWN", slice(1000, 1005))
    factor = unit_factor("eV", "kcal/mol")
    frames = list(MiniEthanol()[:70])
    np.savez(
        tmp_path / "rmd17_ethanol.npz",
        nuclear_charges=frames[0].z.numpy(),
        coords=np.stack([frame.pos.numpy() for frame in frames]),
        energies=np.array([float(frame.energy) * factor for frame in frames]),
        forces=np.stack([frame.forces.numpy() * factor for frame in frames]),
    )
    small = ("--frames", "5", "--steps", "1", "--test", "5")
    given = ("--data", str(tmp_path / "rmd17_ethanol.npz"), *small)
    records = tmp_path / "records.json"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *given, "--records", str(records)])
    module.main()
    text = capsys.readouterr().out
    found = json.loads(records.read_text())
    assert [row["way"] for row in found["runs"]] == list(module.WAYS)
    assert text.endswith(module.table(found) + "\n")
    scratch, *others = found["runs"]
    # one step from the potential of the very molecule and level of theory
    assert all(row["force_mae"] < scratch["force_mae"] / 2 for row in others)
