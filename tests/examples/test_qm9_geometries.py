"""Errors of properties by where the geometry comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import qm9_geometries


def test_a_geometry_of_dft_is_best(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    npz, record = shared / "data/qm9/qm9_labelled.npz", tmp_path / "found.json"
    words = ["--npz", str(npz), "--molecules", "4", "--record", str(record)]
    qm9_geometries.main(words)
    found = json.loads(record.read_text())
    assert 2 <= found["molecules"] <= 4  # RDKit embeds most of them
    errors = found["mae"]
    assert set(errors) == {"dft", "rdkit", "dft_relaxed", "rdkit_relaxed"}
    energy = found["targets"].index("U0")
    for kind in set(errors) - {"dft"}:
        assert errors["dft"][energy] < 0.5 * errors[kind][energy]
    assert errors["dft"][energy] < 0.1
