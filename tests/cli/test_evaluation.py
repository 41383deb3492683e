"""Errors of trained networks on labelled structures."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_cormorant import Cormorant, load_model, save_model
from torch_cormorant.data import (
    MiniEthanol,
    MiniQM9,
    read_qm9,
    split_indices,
    unit_factor,
    write_extxyz,
)

Command = Callable[..., str]
SHARED = Path("../shared/data/qm9/qm9_labelled.npz").resolve()


def load_writer() -> ModuleType:
    """Return the module that writes QM9's raw files for the tests of the readers."""
    path = Path(__file__).parents[1] / "data" / "conftest.py"
    spec = importlib.util.spec_from_file_location("qm9_writer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(text: str, name: str) -> list[float]:
    """Return the mean absolute errors behind a name, one for each table."""
    found = [line for line in text.splitlines() if line.startswith(f"  {name}")]
    return [float(re.split(r"\s{2,}", line.strip())[1]) for line in found]


def written(path: Path, count: int, factor: float, *names: str) -> list[Data]:
    """Write molecules with properties, the first one times a factor."""
    data = MiniQM9(names)[:count]
    scales = [factor] + [1.0] * (len(names) - 1)
    rows = [
        {n: v * s for n, v, s in zip(names, one.y[0].tolist(), scales, strict=True)}
        for one in data
    ]
    write_extxyz(path, [Data(z=one.z, pos=one.pos) for one in data], info=rows)
    return list(data)


def untrained(path: Path, targets: list[str], units: list[str]) -> Cormorant:
    """Write and return a network with given outputs."""
    torch.manual_seed(1)
    model = Cormorant(num_levels=1, lmax=1, channels=4, num_targets=len(targets))
    save_model(path, model, targets=targets, units=units)
    return load_model(path)


def test_own_data_are_divided_as_in_the_training(cormorant: Command, gap: Path) -> None:
    file, data = gap / "model.safetensors", MiniQM9("gap")
    split, model = split_indices(310, 12, 6, 10), load_model(file)
    errors = torch.cat(
        [(model.predict(one.z, one.pos) - one.y).abs().flatten() for one in data]
    )
    text = cormorant("evaluate", file, "mini_qm9")
    assert "gap of 10 molecules" in text
    expected = errors[torch.tensor(split.test)].mean().item()
    assert row(text, "model.safe") == pytest.approx([expected * 1000], rel=2e-3)
    mean = data[torch.tensor(split.train)].values.mean()
    of_mean = (data[torch.tensor(split.test)].values - mean).abs().mean().item()
    assert row(text, "mean of the training") == pytest.approx([of_mean * 1e3], rel=1e-3)
    text = cormorant("evaluate", file, "mini-qm9", "--part", "all")
    assert "gap of 310 molecules" in text
    assert "among them" in text
    assert row(text, "model.safe") == pytest.approx(
        [1e3 * errors.mean().item()], rel=2e-3
    )


def test_properties_of_an_extxyz_file(cormorant: Command, tmp_path: Path) -> None:
    hartree = 27.211386245988
    data = written(tmp_path / "a.extxyz", 20, 1 / hartree, "gap", "mu")
    model = untrained(tmp_path / "a.safetensors", ["gap", "mu"], ["eV", "Debye"])
    units = ("--unit", "gap=Hartree", "mu=Debye")
    text = cormorant("evaluate", "a.safetensors", "a.extxyz", *units)
    errors = torch.cat(
        [(model.predict(one.z, one.pos) - one.y).abs() for one in data]
    ).mean(dim=0)
    expected = [errors[0].item() * 1e3, errors[1].item()]
    assert row(text, "a.safetensors") == pytest.approx(expected, rel=2e-3)
    assert "MAE [meV]" in text
    assert "MAE [Debye]" in text
    assert len(row(text, "least squares")) == len(row(text, "mean of these")) == 2


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["b.extxyz"], "frame 0: property 'gap' is missing, there is mu"),
        (["c.extxyz"], "frame 0: 'gap': 2 numbers, expected 1, 3 (x, y, z)"),
        (["mini_ethanol"], "mini_ethanol: holds no property 'gap'"),
        (["frames.npz"], "frames.npz: holds no property 'gap'"),
        (["a.extxyz", "--part", "test"], "not what"),
        (["a.extxyz", "--unit", "mu=Debye"], "the model predicts gap"),
        (["a.extxyz", "--unit", "gap"], "expected NAME=UNIT"),
        (["a.extxyz", "--unit", "gap=Debye"], "measure different things"),
        (["mini_qm9", "--unit", "gap=eV"], "ASE reads, need it"),
        (["a.txt"], "labels are read from"),
        (["none.npz"], "none.npz: no such file"),
    ],
)
def test_what_does_not_fit_is_named(
    cormorant: Command, tmp_path: Path, gap: Path, arguments: list[str], problem: str
) -> None:
    written(tmp_path / "a.extxyz", 2, 1.0, "gap")
    written(tmp_path / "b.extxyz", 2, 1.0, "mu")
    (tmp_path / "c.extxyz").write_text('1\ngap="1 2"\nH 0 0 0\n')
    np.savez(tmp_path / "frames.npz", z=np.array([1]), R=np.zeros((1, 1, 3)))
    file = gap / "model.safetensors"
    assert problem in cormorant("evaluate", file, *arguments, code=2)


def test_a_missing_property_or_unit_of_a_set(
    cormorant: Command, tmp_path: Path
) -> None:
    untrained(tmp_path / "alpha.safetensors", ["alpha"], ["bohr^3"])
    error = cormorant("evaluate", "alpha.safetensors", "mini_qm9", code=2)
    assert "no property 'alpha'" in error
    untrained(tmp_path / "bare.safetensors", ["gap"], [""])
    error = cormorant("evaluate", "bare.safetensors", "mini_qm9", code=2)
    assert "tells none for 'gap'" in error


def test_a_potential_on_the_embedded_frames(cormorant: Command, tmp_path: Path) -> None:
    model = untrained(tmp_path / "e.safetensors", ["energy"], ["eV"])
    data = MiniEthanol()[:3]
    write_extxyz(tmp_path / "a.extxyz", [data[k] for k in range(3)])
    text = cormorant("evaluate", "e.safetensors", "a.extxyz")
    forces = [model.energy_and_forces(one.z, one.pos)[1] - one.forces for one in data]
    expected = torch.cat(forces).abs().mean().item() * 1000
    assert row(text, "e.safetensors ")[1] == pytest.approx(expected, rel=2e-3)


def test_arrays_of_qm9(cormorant: Command, tmp_path: Path) -> None:
    if not SHARED.exists():
        pytest.skip("no QM9 arrays beside the repository")
    whole = np.load(SHARED)
    end = whole["offset"][30]
    keys = ("y_names", "y_units")
    part = {name: whole[name] for name in keys}
    part |= {name: whole[name][:30] for name in ("index", "y", "smiles")}
    part |= {"offset": whole["offset"][:31]}
    part |= {name: whole[name][:end] for name in ("z", "pos")}
    np.savez(tmp_path / "qm9.npz", **part)
    untrained(tmp_path / "m.safetensors", ["gap", "U0"], ["eV", "eV"])
    text = cormorant("evaluate", "m.safetensors", "qm9.npz")
    assert "QM9: U0 of 30 molecules" in text
    assert len(row(text, "Cormorant, paper's Table 1")) == 2


@pytest.mark.parametrize("revised", [True, False])
def test_frames_of_md17(cormorant: Command, tmp_path: Path, revised: bool) -> None:
    model = untrained(tmp_path / "e.safetensors", ["energy"], ["eV"])
    data, kcal = MiniEthanol()[:4], unit_factor("eV", "kcal/mol")
    frames = [data[k] for k in range(4)]
    arrays = {
        "nuclear_charges": frames[0].z.numpy(),
        "coords": np.stack([one.pos.numpy() for one in frames]),
        "energies": kcal * np.array([one.energy.item() for one in frames]),
        "forces": kcal * np.stack([one.forces.numpy() for one in frames]),
    }
    if not revised:
        arrays = dict(zip(("z", "R", "E", "F"), arrays.values(), strict=True))
    np.savez(tmp_path / "rmd17_ethanol.npz", **arrays)
    text = cormorant("evaluate", "e.safetensors", "rmd17_ethanol.npz")
    errors = [model.energy_and_forces(one.z, one.pos)[1] - one.forces for one in frames]
    expected = torch.cat(errors).abs().mean().item() * 1000
    assert row(text, "e.safetensors ")[1] == pytest.approx(expected, rel=2e-3)
    cormorant("predict", "e.safetensors", "rmd17_ethanol.npz", "-o", "out.csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 5
    described = ("datasets", "md17", "--path", "rmd17_ethanol.npz", "--molecule")
    assert "MD17 ethanol" in cormorant(*described, "ethanol")
    wrong = cormorant(*described, "uracil", code=2)
    assert "holds C2H6O, but 'uracil' is C4H4N2O2; leave the molecule out" in wrong


def test_the_raw_folder_of_qm9(cormorant: Command, tmp_path: Path) -> None:
    writer = load_writer()
    root = writer.write_pyg(tmp_path / "qm9")
    model = untrained(tmp_path / "m.safetensors", ["gap"], ["eV"])
    data = read_qm9(root, target="gap", download=False)
    text = cormorant("evaluate", "m.safetensors", "qm9")
    assert f"gap of {len(data)} molecules" in text
    errors = [(model.predict(one.z, one.pos) - one.y).abs().item() for one in data]
    expected = 1000 * float(np.mean(errors))
    assert row(text, "m.safetensors") == pytest.approx([expected], rel=2e-3)


def trained(path: Path, **names: object) -> Cormorant:
    """Write and return a potential with the record of a training on an own file."""
    model = untrained(path, ["energy"], ["eV"])
    usual = {"source": "extxyz", "target": "", "units": {}, "part": "", "unit": ""}
    record = {
        "config": {"data": {**usual, "energy": "energy", "forces": "forces", **names}},
        "data": {"sha256": "0" * 64, "split_sha256": ""},
    }
    save_model(path, model, targets=["energy"], units=["eV"], training=record)
    return load_model(path)


def renamed(path: Path, factor: float = 1.0) -> list[Data]:
    """Write frames with the labels REF_energy and REF_forces, and return them."""
    data = [MiniEthanol()[k] for k in range(3)]
    write_extxyz(
        path,
        [Data(z=one.z, pos=one.pos) for one in data],
        info=[{"REF_energy": factor * one.energy.item()} for one in data],
        arrays=[{"REF_forces": factor * one.forces} for one in data],
    )
    return data


def force_error(model: Cormorant, data: list[Data]) -> float:
    """Return the mean absolute error of forces in meV/A."""
    errors = [model.energy_and_forces(one.z, one.pos)[1] - one.forces for one in data]
    return torch.cat(errors).abs().mean().item() * 1000


REF = {"energy": "REF_energy", "forces": "REF_forces"}


def test_labels_have_the_names_of_the_training(
    cormorant: Command, tmp_path: Path
) -> None:
    model = trained(tmp_path / "e.safetensors", **REF)
    expected = pytest.approx(force_error(model, renamed(tmp_path / "a.xyz")), rel=2e-3)
    described = cormorant("datasets", "extxyz", "--path", "a.xyz")
    assert "structures:      3" in described
    text = cormorant("evaluate", "e.safetensors", "a.xyz")
    assert row(text, "e.safetensors ")[1] == expected
    assert "energy eV, forces eV/Angstrom, pos Angstrom" in text
    write_extxyz(tmp_path / "b.xyz", [MiniEthanol()[k] for k in range(3)])
    text = cormorant("evaluate", "e.safetensors", "b.xyz")  # ASE's names are known
    assert row(text, "e.safetensors ")[1] == expected


def test_units_go_with_the_names_of_the_training(
    cormorant: Command, tmp_path: Path
) -> None:
    model = trained(tmp_path / "e.safetensors", **REF, units={"energy": "Hartree"})
    data = renamed(tmp_path / "a.xyz", unit_factor("eV", "Hartree"))
    text = cormorant("evaluate", "e.safetensors", "a.xyz")
    expected = pytest.approx(force_error(model, data), rel=2e-3)
    assert row(text, "e.safetensors ")[1] == expected
    assert "energy Hartree, forces Hartree/Angstrom, pos Angstrom" in text
    units = ("--unit", "forces=Hartree/A", "energy=Hartree")
    text = cormorant("evaluate", "e.safetensors", "a.xyz", *units)
    assert row(text, "e.safetensors ")[1] == expected


def test_options_name_the_labels(cormorant: Command, tmp_path: Path) -> None:
    model = trained(tmp_path / "e.safetensors")
    data = renamed(tmp_path / "a.xyz")
    names = ("--energy", "REF_energy", "--forces", "REF_forces")
    text = cormorant("evaluate", "e.safetensors", "a.xyz", *names)
    expected = pytest.approx(force_error(model, data), rel=2e-3)
    assert row(text, "e.safetensors ")[1] == expected
    alone = cormorant("evaluate", "e.safetensors", "a.xyz", "--energy", "REF_energy")
    assert "forces" not in alone.lower()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["a.xyz"], "'energy' is missing, there is REF_energy, REF_forces; name the e"),
        (["a.xyz", "--energy", "E"], "frame 0: 'E' is missing, there is REF_energy"),
        (
            ["a.xyz", "--energy", "REF_energy", "--forces", "F"],
            "there is REF_forces; name the right one with --forces NAME",
        ),
        (["mini_ethanol", "--energy", "E"], "--energy: names the label of a potential"),
        (["a.npz"], "name it, for example --unit energy=eV"),
        (["a.npz", "--unit", "energy=eV", "--data-part", "x"], "--data-part: "),
        (["a.xyz", "--data-part", "x"], "--data-part: a.xyz is no .npz file"),
    ],
)
def test_errors_speak_of_the_command_line(
    cormorant: Command, tmp_path: Path, arguments: list[str], problem: str
) -> None:
    trained(tmp_path / "e.safetensors")
    renamed(tmp_path / "a.xyz")
    pos = np.array([[[0.0, 0, 0], [0, 0, 1]]])
    np.savez(tmp_path / "a.npz", z=[1, 1], pos=pos, energy=np.zeros(1))
    error = cormorant("evaluate", "e.safetensors", *arguments, code=2)
    assert problem in error
    for python in ("=...", "=None", "=True", "file_unit", "format="):
        assert python not in error


@pytest.mark.parametrize("suffix", ["traj", "json", "db", "xyz.gz"])
def test_every_format_that_is_trained_on_is_evaluated_and_predicted(
    cormorant: Command, tmp_path: Path, suffix: str
) -> None:
    io = pytest.importorskip("ase.io")
    model = trained(tmp_path / "e.safetensors")
    data = [MiniEthanol()[k] for k in range(3)]
    write_extxyz(tmp_path / "a.extxyz", data)
    io.write(tmp_path / f"b.{suffix}", io.read(tmp_path / "a.extxyz", index=":"))
    text = cormorant("evaluate", "e.safetensors", f"b.{suffix}")
    assert row(text, "e.safetensors ")[1] == pytest.approx(
        force_error(model, data), rel=2e-3
    )
    cormorant("predict", "e.safetensors", f"b.{suffix}", "-o", "out.csv")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4


def test_a_part_of_a_divided_file(cormorant: Command, tmp_path: Path) -> None:
    trained(tmp_path / "e.safetensors")
    data = [MiniEthanol()[k] for k in range(4)]
    arrays = {
        "z": data[0].z.numpy(),
        "pos": np.stack([one.pos.numpy() for one in data]),
        "energy": np.array([one.energy.item() for one in data]),
    }
    split = np.array(["cold", "cold", "cold", "hot"])
    np.savez(tmp_path / "a.npz", **arrays, split=split, energy_unit="eV")
    text = cormorant("evaluate", "e.safetensors", "a.npz", "--data-part", "cold")
    assert "3 structures" in text
    predict = ("predict", "e.safetensors", "a.npz", "-o", "out.csv")
    cormorant(*predict, "--data-part", "hot")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2
    error = cormorant(*predict, "--data-part", "warm", "--overwrite", code=2)
    assert "--data-part: a.npz has the parts cold, hot; 'warm' is not one" in error


def test_a_folder_without_the_files_of_qm9(cormorant: Command, tmp_path: Path) -> None:
    untrained(tmp_path / "m.safetensors", ["gap"], ["eV"])
    (tmp_path / "qm9").mkdir()
    error = cormorant("evaluate", "m.safetensors", "qm9", code=2)
    assert "no such file; fetch it: cormorant datasets qm9 --path qm9 --fetch" in error


def test_names_in_a_table_are_no_formulas(cormorant: Command, tmp_path: Path) -> None:
    untrained(tmp_path / "m.safetensors", ["=1+1", "@gap"], ["eV", ""])
    write_extxyz(tmp_path / "a.extxyz", [MiniEthanol()[0]])
    cormorant("predict", "m.safetensors", "a.extxyz", "-o", "out.csv")
    header, values = (tmp_path / "out.csv").read_text().splitlines()
    assert header == "name,'=1+1 [eV],'@gap"
    assert all(float(value) for value in values.split(",")[1:])
