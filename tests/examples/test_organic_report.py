"""The report of an organic potential, with a small potential on both sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import organic_report
import pytest
import torch
from organic_checks import geometry, models, sides, tables

from torch_cormorant import Cormorant, save_model
from torch_cormorant.data import MiniEthanol
from torch_cormorant.models import Ensemble

pytest.importorskip("rdkit")
SMALL: dict[str, Any] = {"channels": 2, "num_levels": 1, "lmax": 1, "cutoff": 3.0}
ZERO = dict.fromkeys((1, 6, 7, 8, 9, 16, 17), 0.0)


def potential(seed: int) -> Any:
    torch.manual_seed(seed)
    made = Cormorant.potential(list(ZERO), repulsion="zbl", **SMALL)
    return made.double().set_units(ZERO, scale=0.2)


def springs(z: geometry.Integers) -> geometry.Potential:
    """Return two atoms 1 Angstrom apart, 40 eV/Angstrom^2."""
    del z

    def call(pos: geometry.Floats) -> tuple[float, geometry.Floats]:
        line = pos[1] - pos[0]
        length = np.linalg.norm(line)
        pull = 40.0 * (length - 1.0) * line / length
        return 20.0 * float(length - 1.0) ** 2, np.array([pull, -pull])

    return call


def test_distances_and_modes_of_known_systems() -> None:
    rng = np.random.default_rng(0)
    pos = rng.normal(size=(7, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.linalg.det(turn)
    assert geometry.rmsd(pos, pos @ turn.T + 3.0) < 1e-12
    assert geometry.rmsd(pos, pos * [1, 1, -1]) > 0.1
    assert geometry.spearman(np.arange(5), np.array([1, 3, 2, 9, 20])) == pytest.approx(
        0.9
    )
    z = np.array([1, 1])
    start = np.array([[0.0, 0, 0], [0, 0, 1.3]])
    relaxed, energy, done = geometry.relax(springs, z, start, 1e-6, 50)
    assert done
    assert energy == pytest.approx(0.0, abs=1e-9)
    (mode,) = geometry.frequencies(springs, z, relaxed)
    mass = 1.008 / 2
    assert mode == pytest.approx(521.47 * np.sqrt(40.0 / mass), rel=1e-3)
    moved = geometry.turned(pos, (0, 1), np.array([3, 4]), 180.0)
    again = geometry.turned(moved, (0, 1), np.array([3, 4]), 180.0)
    np.testing.assert_allclose(again, pos, atol=1e-12)
    np.testing.assert_array_equal(moved[:3], pos[:3])


@pytest.mark.parametrize("part", ["torsions", "dissociation", "proton_transfer"])
def test_a_potential_beside_itself_is_right(part: str, tmp_path: Path) -> None:
    model, references = potential(0), tmp_path / "references"
    save_model(tmp_path / "m.safetensors", model)
    references.mkdir()
    begun = organic_report._fewer(sides.PARTS[part].starts(), 1)
    np.savez(references / f"{part}_starts.npz", **begun)
    theirs = sides.PARTS[part].compute(models.maker(model), begun)
    np.savez(references / f"{part}.npz", **theirs)
    words = ["--model", str(tmp_path / "m.safetensors"), "--only", part]
    words += ["--records", str(tmp_path / "records"), "--tables", str(tmp_path / "t")]
    organic_report.main([*words, "--references", str(references)])
    held = json.loads((tmp_path / "records" / f"{part}.json").read_text())
    (row,) = held["rows"].values()
    assert row["mae_kcal"] == pytest.approx(0.0, abs=1e-6)
    assert max(row["gfn2"]) > 0.0
    assert len(held["digest"]) == 64
    text = (tmp_path / "t").read_text()
    assert text.startswith(f"### {tables.TABLES[part][0]}\n")
    assert text.count("\n| ") == 3


def test_what_needs_no_reference(tmp_path: Path) -> None:
    ethanol = MiniEthanol()
    frames = [ethanol[k] for k in range(6)]
    stack = {name: torch.stack([f[name] for f in frames]) for name in ("pos", "forces")}
    path = tmp_path / "frames.npz"
    np.savez(
        path,
        z=frames[0].z,
        energy=torch.cat([f.energy for f in frames]),
        kind=np.array(["mine"] * 6),
        split=np.array(["train", "test"] * 3),
        energy_unit="eV",
        **stack,
    )
    team = Ensemble([potential(0), potential(1)])
    team.calibrate(frames)
    team.warns = "never"
    (row,) = models.errors(team, path, 10).values()
    assert row["frames"] == 3
    assert row["energy_mae"] > 0
    assert row["warned"] == 0.0
    out = team.evaluate_all(frames[1::2])
    off = out.forces - torch.cat([f.forces for f in frames[1::2]])
    assert row["force_mae"] == pytest.approx(1000 * float(off.abs().mean()))
    found = models.strange(team)
    assert {"ozone", "ibuprofen, 15 % shorter"} <= set(found)
    text = "\n".join(
        tables.TABLES[name][1](rows)
        for name, rows in (("errors", {"mine, test": row}), ("strange", found))
    )
    assert "| mine, test | 3 |" in text
