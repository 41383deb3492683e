"""From a configuration to data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_cormorant import load_model
from torch_cormorant.cli.config import load_config
from torch_cormorant.data import Frames, MiniEthanol, unit_factor
from torch_cormorant.errors import ConfigError
from torch_cormorant.train.sources import load_data

FRAME = """2
Lattice="5 0 0 0 5 0 0 0 5" Properties=species:S:1:pos:R:3:F:R:3 E=-1 W="1 0 0 0 1 0 0 0 1"
H 0 0 0   0 0 0.1
H 0 0 0.7 0 0 -0.1
"""  # noqa: E501
CONFIG = """data:
  source: {source}
  path: {path}
  energy: E
  forces: F
  virial: W
  units: {units}
"""


def config(folder: Path, source: str, path: Path, units: str) -> Path:
    text = CONFIG.format(source=source, path=path, units=units)
    (folder / "a.yaml").write_text(text)
    return folder / "a.yaml"


def test_units_and_virial_of_an_own_file_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    path.write_text(FRAME)
    units = "{energy: Hartree, forces: Hartree/bohr}"
    found = load_data(load_config(config(tmp_path, "extxyz", path, units)).data)
    assert isinstance(found, Frames)
    hartree = unit_factor("Hartree", "eV")
    assert found[0].energy.item() == pytest.approx(-hartree)
    force = unit_factor("Hartree/bohr", "eV/Angstrom")
    assert found[0].forces[0, 2].item() == pytest.approx(0.1 * force)
    expected = -hartree / 125 * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(found[0].stress[0], expected)


def test_the_unit_of_arrays_that_do_not_say_it_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    pos = np.array([[[0.0, 0, 0], [0, 0, 0.7]]])
    np.savez(path, z=np.array([1, 1]), pos=pos, energy=np.array([-1.0]))
    found = load_data(
        load_config(config(tmp_path, "frames", path, "{energy: Hartree}")).data
    )
    assert isinstance(found, Frames)
    assert found.energy_unit == "Hartree"


@pytest.mark.parametrize(
    ("source", "units", "message"),
    [
        ("md17", "{energy: eV}", "data.units: source 'md17' knows its units"),
        ("extxyz", "{energy: 3}", "data.units: expected names of units"),
        ("extxyz", "eV", "data.units: expected a list or mapping"),
    ],
)
def test_units_that_do_not_fit_are_refused(
    tmp_path: Path, source: str, units: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(config(tmp_path, source, tmp_path / "a.extxyz", units))


def test_energies_of_isolated_atoms_are_taken_where_asked_for(
    tmp_path: Path, cormorant: Callable[..., str]
) -> None:
    ethanol = MiniEthanol()[:12]
    np.savez(
        tmp_path / "a.npz",
        z=ethanol[0].z.numpy(),
        pos=torch.stack([frame.pos for frame in ethanol]).numpy(),
        energy=ethanol.energies.numpy(),
        energy_unit="eV",
        isolated_z=np.array([1, 6, 8]),
        isolated_energy=np.array([-13.0, -50.0, -100.0]),
    )
    (tmp_path / "a.yaml").write_text(
        "data: {source: frames, path: a.npz, train: 6, valid: 3, test: 3}\n"
        "model: {network: potential, options: {num_levels: 1, channels: 4, lmax: 1}}\n"
        "loss: {forces: 0}\n"
        "training: {epochs: 1, batch_size: 3, reference: isolated}\n"
        "output: {report: false}\n"
    )
    cormorant("train", "a.yaml")
    info = load_model(tmp_path / "runs/a/model.safetensors").info
    assert info.normalisation.atom_values == {1: (-13.0,), 6: (-50.0,), 8: (-100.0,)}
    assert info.training["compositions"] == []
    start = ("train", "a.yaml", "--overwrite", "--override")
    cormorant(*start, "training.reference=auto")
    info = load_model(tmp_path / "runs/a/model.safetensors").info
    assert info.training["compositions"] == [{"1": 6, "6": 2, "8": 1}]
    answer = cormorant(*start, "data={source: mini_ethanol, train: 6}", code=2)
    assert "expected section.key=value" in answer
    source = ("data.source=mini_ethanol", "data.path=''")
    assert "holds no energies of isolated" in cormorant(*start, *source, code=2)
    mean = cormorant(*start, "training.reference=mean", code=2)
    assert "training.reference: 'mean' is not for frames" in mean


MD17_CONFIG = """data:
  {source: md17, path: rmd17_ethanol.npz, official_split: 2, valid: 2}
model: {network: potential, options: {num_levels: 1, channels: 4, lmax: 1}}
training: {epochs: 1, batch_size: 3}
output: {report: false}
"""


def test_an_official_split_is_trained_on_and_found_again(
    tmp_path: Path, cormorant: Callable[..., str]
) -> None:
    ethanol = MiniEthanol("kcal/mol")[:12]
    np.savez(
        tmp_path / "rmd17_ethanol.npz",
        nuclear_charges=ethanol[0].z.numpy(),
        coords=torch.stack([frame.pos for frame in ethanol]).numpy(),
        energies=ethanol.energies.numpy(),
        forces=torch.stack([frame.forces for frame in ethanol]).numpy(),
        split02_train=np.array([11, 3, 5, 7, 0]),
        split02_test=np.array([1, 2, 4]),
    )
    (tmp_path / "a.yaml").write_text(MD17_CONFIG)
    assert "3 / 2 / 3 train/valid/test" in cormorant("train", "a.yaml")
    model = "runs/a/model.safetensors"
    assert "3 structures" in cormorant("evaluate", model, "rmd17_ethanol.npz")
    start = ("train", "a.yaml", "--overwrite", "--override")
    other = cormorant(*start, "data.official_split=1", code=2)
    assert "has the official splits 2, not 1" in other
    assert "leave out train and test" in cormorant(*start, "data.train=3", code=2)
    source = cormorant(*start, "data.source=mini_ethanol", code=2)
    assert "data.official_split: source 'mini_ethanol' has none" in source
