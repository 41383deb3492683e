"""A trained folder of seeds wherever a model file does."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from torch_cormorant.cli import main
from torch_cormorant.data import MiniEthanol, read_extxyz, write_extxyz
from torch_cormorant.errors import EnsembleSpreadWarning
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.models import Ensemble

Command = Callable[..., str]
CONFIG = """
data: {source: extxyz, path: cool.extxyz, train: 100, valid: 30, test: 30}
model:
  network: potential
  options: {size: complex, channels: 4, num_levels: 1, lmax: 1}
training: {epochs: 8, batch_size: 5, lr: 1e-2, optimizer: adam, seeds: [0, 1, 2]}
output: {report: false}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of potentials that have only seen the coolest frames."""
    where = tmp_path_factory.mktemp("seeds")
    data = MiniEthanol()
    order = data.energies.argsort().tolist()
    write_extxyz(where / "cool.extxyz", [data[k] for k in order[:160]])
    write_extxyz(where / "hot.extxyz", [data[k] for k in order[-30:]])
    (where / "a.yaml").write_text(CONFIG.replace("cool.ext", f"{where}/cool.ext"))
    arguments = ["train", str(where / "a.yaml"), "--out", str(where / "run")]
    assert main(arguments) == 0
    return where


def spread(team: Ensemble, path: Path) -> float:
    """Mean spread of the force components of all frames of a file."""
    frames = [CormorantCalculator(team).calculate_many(read(path, ":"))]
    return float(np.mean([one["forces_std"] for one in frames[0]]))


def test_the_spread_grows_off_the_training_data(
    folder: Path, cormorant: Command
) -> None:
    team = Ensemble.load(folder / "run")
    held = json.loads((folder / "run" / "ensemble.json").read_text())
    assert team.factors == held["factors"]
    assert set(team.factors) == {"energy", "forces"}
    with pytest.warns(EnsembleSpreadWarning, match=r"disagree about .*; also struct"):
        hot = team.evaluate_all(list(read_extxyz(folder / "hot.extxyz")))
    assert hot.forces_std is not None
    assert set(team.limits) == {"energy_per_atom", "forces"}
    with pytest.warns(EnsembleSpreadWarning, match=r"by .* eV/atom \(limit"):
        of_hot = spread(team, folder / "hot.extxyz")
    assert of_hot > 1.5 * spread(team, folder / "cool.extxyz")
    text = cormorant("evaluate", folder / "run", folder / "cool.extxyz")
    assert "MAE [meV]  RMSE [meV]  spread [meV]" in text
    assert "30 structures" in text  # the test part of the training
    line = next(one for one in text.splitlines() if "/Å" in one)
    at = text.splitlines().index(line)
    rmse, std = map(float, text.splitlines()[at + 1].split()[-2:])
    assert 0.5 < std / rmse < 2.0  # measured on the validation frames


def test_predictions_of_a_folder_have_a_spread(
    folder: Path, cormorant: Command
) -> None:
    hot = folder / "hot.extxyz"
    with pytest.warns(EnsembleSpreadWarning, match="do not rely on the result"):
        cormorant("predict", folder / "run", hot, "-o", "out.csv")
    with Path("out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["name", "energy [eV]", "energy_std [eV]"]
    with pytest.warns(EnsembleSpreadWarning):
        cormorant("predict", folder / "run", hot, "-o", "out.extxyz")
    frame: Atoms = read("out.extxyz", index=3)
    frame.calc = CormorantCalculator.from_file(folder / "run", backend="model")
    energy = frame.get_potential_energy()
    results = frame.calc.results
    assert energy == pytest.approx(float(rows[3]["energy [eV]"]), rel=1e-9)
    found = float(rows[3]["energy_std [eV]"])
    assert results["energy_std"] == pytest.approx(found, rel=1e-4)
    np.testing.assert_allclose(
        frame.arrays["forces_std"], results["forces_std"], rtol=1e-3, atol=1e-6
    )
    assert "an ensemble of 3 models" in cormorant("info", folder / "run")


def test_properties_have_a_spread_too(cormorant: Command, tmp_path: Path) -> None:
    config = Path(__file__).with_name("gap.yaml")
    seeds = ("training.seeds=[1, 2]", "training.epochs=1")
    cormorant("train", config, "--out", "run", "--override", *seeds)
    team = Ensemble.load(tmp_path / "run")
    assert set(team.factors) == {"gap"}
    text = cormorant("evaluate", "run", "mini_qm9")
    assert "spread [meV]" in text
    frame = MiniEthanol()[0]
    write_extxyz(tmp_path / "one.extxyz", [frame])
    cormorant("predict", "run", "one.extxyz", "-o", "out.extxyz")
    found = team.predict(frame.z, frame.pos)
    info = read("out.extxyz").info
    assert info["gap"] == pytest.approx(float(found.mean), rel=1e-4)
    assert info["gap_std"] == pytest.approx(float(found.std), rel=1e-3)
    (tmp_path / "run" / "ensemble.json").write_text("[]")
    assert "factors are not understood" in cormorant("info", "run", code=2)
