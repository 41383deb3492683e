"""Weights by name on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pack_pretrained
import pytest
import torch
from ase.build import molecule
from ase.io import read, write

from torch_cormorant import Cormorant, save_model
from torch_cormorant.models import (
    Ensemble,
    ModelInfo,
    Normalisation,
    Predictor,
    shipped,
)
from torch_cormorant.networks import CormorantNetwork

Command = Callable[..., str]
ETHANOL = {"mu": (1.4131, 0.3), "U0": (-154.972731 * 27.211386246, 0.15)}
"""QM9's own values of ethanol, and how far a geometry of GFN2-xTB may move them."""
pytest.importorskip("rdkit")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a small ensemble."""
    team = []
    for seed in range(2):
        torch.manual_seed(seed)
        options = {"channels": 4, "num_levels": 1, "lmax": 1, "repulsion": "zbl"}
        team.append(
            Cormorant.potential([1, 6, 8], **options).set_units(
                {1: 0.0, 6: 0.0, 8: 0.0}, scale=10.0
            )
        )
    Ensemble(team).save(tmp_path / "run")
    words = [str(tmp_path / "run"), "organic", "--about", "a test"]
    monkeypatch.setattr(shipped, "FOLDERS", [tmp_path / "weights"])
    pack_pretrained.main([*words, "--out", str(tmp_path / "weights")])
    (tmp_path / "m.smi").write_text("C methane\nO water\n")
    return tmp_path / "weights"


@pytest.mark.usefixtures("weights")
def test_there_is_a_list(cormorant: Command) -> None:
    text = cormorant("models")
    assert text.startswith("organic: a test\n")
    assert "H C O; neutral, closed shells" in text
    assert "an ensemble of 2, 0.0" in text
    shipped.FOLDERS.clear()
    assert cormorant("models") == "no trained weights come with this version\n"


@pytest.mark.usefixtures("weights")
def test_a_name_stands_where_a_file_does(cormorant: Command) -> None:
    table = cormorant("predict", "organic", "m.smi").splitlines()
    assert table[0] == "name,energy [eV],energy_std [eV]"
    assert [line.split(",")[0] for line in table[1:]] == ["methane", "water"]
    assert "an ensemble of 2 models" in cormorant("info", "organic")
    assert "cutoff 5" in cormorant("native", "organic/1", "a.cormorant")
    assert Path("a.cormorant").stat().st_size > 1000
    assert "there are organic" in cormorant("predict", "organc", "m.smi", code=2)
    text = cormorant("native", "organic", "b.cormorant", code=2)
    assert "organic/0 for one of its models" in text


@pytest.mark.usefixtures("weights")
def test_structures_are_relaxed(cormorant: Command) -> None:
    before = cormorant("predict", "organic", "m.smi").splitlines()
    text = cormorant("predict", "organic", "m.smi", "--relax", "-o", "a.extxyz")
    assert "2 structures in a.extxyz" in text
    frames = read("a.extxyz", ":")
    for line, atoms in zip(before[1:], frames, strict=True):
        assert atoms.get_potential_energy() < float(line.split(",")[1])
        assert abs(atoms.get_forces()).max() < 0.0101
    text = cormorant("predict", "organic", "m.smi", "--relax", "-1", code=2)
    assert "not a positive number" in text or "expected" in text


@pytest.mark.usefixtures("weights")
def test_a_potential_relaxes_for_another_model(cormorant: Command) -> None:
    info = ModelInfo(("gap",), ("eV",), Normalisation((7.0,), (1.0,)))
    network = CormorantNetwork([1, 6, 8], channels=4, num_levels=1, lmax=1)
    save_model("gap.safetensors", Predictor(network, info).double())
    cormorant("predict", "organic", "m.smi", "--relax", "-o", "a.extxyz")
    given = ("predict", "gap.safetensors", "m.smi")
    by = (*given, "--relax-by", "organic")
    cormorant(*by, "-o", "b.extxyz")
    cormorant(*by, "--relax", "0.3", "-o", "c.extxyz")
    there, moved, rough = (read(f"{name}.extxyz", ":") for name in "abc")
    for first, second, third in zip(there, moved, rough, strict=True):
        assert abs(first.positions - second.positions).max() < 1e-6
        assert abs(first.positions - third.positions).max() > 1e-3
    gaps = [float(row.split(",")[1]) for row in cormorant(*by).splitlines()[1:]]
    assert gaps == pytest.approx([atoms.info["gap"] for atoms in moved], abs=1e-6)
    text = cormorant(*given, "--relax", code=2)
    assert "predicts gap; only a potential has forces; name one" in text
    text = cormorant("predict", "organic", "m.smi", "--relax-by", given[1], code=2)
    assert "--relax-by: gap.safetensors predicts gap" in text


@pytest.mark.usefixtures("weights")
def test_values_as_qm9_prints_them(cormorant: Command) -> None:
    targets = {"U0": ("eV", -5.0), "gap": ("eV", 7.0), "Cv": ("cal/(mol K)", -6.0)}
    units, means = zip(*targets.values(), strict=True)
    size = Normalisation(means, (1.0, 1.0, 1.0))
    info = ModelInfo(tuple(targets), units, size, {"data": {"name": "QM9"}})
    options = {"channels": 4, "num_levels": 1, "lmax": 1, "num_targets": 3}
    network = CormorantNetwork([1, 6, 8], **options)
    save_model("qm9.safetensors", Predictor(network, info).double())
    numbers = []
    for words in ((), ("--totals",)):
        text = cormorant("predict", "qm9.safetensors", "m.smi", *words)
        rows = text.splitlines()[1:]
        numbers.append([[float(x) for x in row.split(",")[1:]] for row in rows])
    added = torch.tensor(numbers[1]) - torch.tensor(numbers[0])
    methane = 27.211386246 * (-37.846772 - 4 * 0.500273)
    water = 27.211386246 * (-75.064579 - 2 * 0.500273)
    expected = torch.tensor([[methane, 0, 5 * 2.981], [water, 0, 3 * 2.981]])
    torch.testing.assert_close(added, expected, rtol=1e-6, atol=1e-5)
    text = cormorant("predict", "organic", "m.smi", "--totals", code=2)
    assert "energy of its training had no references" in text


@pytest.mark.usefixtures("weights")
@pytest.mark.filterwarnings("ignore:.*has a total charge", "ignore:.*is a radical")
@pytest.mark.parametrize(
    ("smiles", "match"),
    [("C[O-]", "C[O-]: a total charge of -1"), ("[CH3]", "unpaired electrons: 1")],
)
def test_charged_smiles_are_refused(
    cormorant: Command, smiles: str, match: str
) -> None:
    assert match in cormorant("predict", "organic", smiles, code=2)


@pytest.mark.usefixtures("weights")
def test_charged_frames_are_refused(cormorant: Command) -> None:
    frames = [molecule("CH4"), molecule("H2O")]
    frames[1].info["charge"] = 1
    write("a.extxyz", frames)
    match = "a.extxyz: frame 1: a total charge of +1"
    assert match in cormorant("predict", "organic", "a.extxyz", code=2)
    frames[1].info = {}
    frames[1].set_initial_charges([-1.0, 0.0, 0.0])
    write("b.extxyz", frames)
    match = "b.extxyz: frame 1: a total charge of -1"
    assert match in cormorant("predict", "organic", "b.extxyz", code=2)
    labelled = [molecule("CH4"), molecule("CH3")]
    for atoms in labelled:
        atoms.set_initial_magnetic_moments(None)
        atoms.info["energy"] = 1.0
    write("c.extxyz", labelled)
    match = "c.extxyz: structure 1: 9 electrons, an odd number"
    assert match in cormorant("evaluate", "organic", "c.extxyz", code=2)


@pytest.mark.filterwarnings("ignore:.*disagree about r2")  # few atoms for QM9
def test_from_smiles_to_totals(cormorant: Command) -> None:
    words = ("--relax-by", "organic-gfn2", "--totals")
    heads, row = cormorant("predict", "qm9", "CCO", *words).splitlines()
    values = dict(zip(heads.split(","), row.split(","), strict=True))
    named = {head.split(" ")[0]: value for head, value in values.items()}
    assert named["name"] == "CCO"
    for name, (value, off) in ETHANOL.items():
        assert float(named[name]) == pytest.approx(value, abs=off), name
        assert float(named[f"{name}_std"]) > 0
