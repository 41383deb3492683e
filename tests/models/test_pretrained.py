"""Weights by name, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pack_pretrained
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from torch_geometric.data import Batch, Data

import torch_cormorant
from torch_cormorant import Cormorant, load_model, pretrained, save_model
from torch_cormorant.data import MiniEthanol
from torch_cormorant.errors import (
    ChargeError,
    ConfigError,
    DataError,
    EnsembleSpreadWarning,
    ModelFileError,
)
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.models import (
    Ensemble,
    ModelInfo,
    Normalisation,
    Potential,
    Predictor,
    Together,
    load_models,
    pretrained_models,
    shipped,
)
from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.train.config import TrainingConfig
from torch_cormorant.train.starting import Start

SMALL: dict[str, Any] = {"channels": 4, "num_levels": 1, "lmax": 1}
ETHANOL = MiniEthanol()[0]


def pack(run: Path, name: str, out: Path) -> None:
    words = [str(run), name, "--about", "test weights", "--out", str(out)]
    pack_pretrained.main(words)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of an ensemble of potentials and of a property."""
    team = []
    for seed in range(3):
        torch.manual_seed(seed)
        made = Cormorant.potential([1, 6, 8], cutoff=3.0, **SMALL)
        team.append(made.set_units({1: -13.0, 6: -48.0, 8: -111.0}, scale=0.2))
    whole = Ensemble(team)
    whole.calibrate(MiniEthanol()[:20])
    whole.save(tmp_path / "run")
    info = ModelInfo(
        ("gap",),
        ("eV",),
        Normalisation((7.0,), (1.0,)),
        {
            "command": "cormorant train /home/me/a.yaml --override a=/home/b.npz",
            "config": {
                "data": {"path": "/home/me/qm9.npz"},
                "training": {"start": "/home/me/old.safetensors"},
            },
            "data": {"name": "QM9", "sha256": "00", "level_of_theory": "B3LYP"},
            "hardware": {"cpu": "mine"},
            "test": {"gap": {"ours": 0.25, "unit": "eV"}},
        },
    )
    network = Predictor(CormorantNetwork([1, 6, 8], **SMALL), info).double()
    save_model(tmp_path / "gap.safetensors", network)
    place = tmp_path / "weights"
    pack(tmp_path / "run", "organic", place)
    pack(tmp_path / "gap.safetensors", "gap", place)
    monkeypatch.setattr(shipped, "FOLDERS", [place])
    monkeypatch.chdir(tmp_path)
    return place


def test_names_mean_weights(weights: Path) -> None:
    assert pretrained() == ["gap", "organic"] == list(pretrained_models())
    team = pretrained("organic")
    assert isinstance(team, Ensemble)
    assert set(team.limits) == {"energy_per_atom", "forces"}
    assert isinstance(pretrained("organic", member=1), Potential)
    assert isinstance(pretrained("gap"), Predictor)
    assert pretrained("gap", 0).dtype == torch.float32
    z, pos = ETHANOL.z, ETHANOL.pos
    expected = team.evaluate(z, pos).energy
    for found in (load_models("organic"), Ensemble.load("organic")):
        assert torch.equal(found.evaluate(z, pos).energy, expected)
    calculator = CormorantCalculator.pretrained("organic", backend="model")
    atoms = Atoms(z.numpy(), pos.numpy(), calculator=calculator)
    assert atoms.get_potential_energy() == pytest.approx(float(expected))
    one = CormorantCalculator.pretrained("organic", member=0)
    assert "forces_std" not in one.implemented_properties
    assert isinstance(load_model("organic/2"), Potential)
    assert isinstance(load_model("gap"), Predictor)
    found = pretrained_models()["gap"]
    assert found.errors == {"gap": "0.25 eV"}
    assert found.elements == ("H", "C", "O")
    assert found.level_of_theory == "B3LYP"
    assert found.size < 200_000
    assert weights in found.folder.parents


def test_weights_are_rounded_to_twelve_bits(weights: Path, tmp_path: Path) -> None:
    packed = load_model("gap").float().state_dict()
    for name, whole in load_model(tmp_path / "gap.safetensors").state_dict().items():
        if name in dict(load_model("gap").named_parameters()):
            torch.testing.assert_close(
                packed[name], whole.float(), rtol=2**-13, atol=0, msg=name
            )
            assert not (packed[name].view(torch.int32) % 2**11).any()
    assert weights.is_dir()


def test_large_tensors_may_keep_fewer_bits() -> None:
    torch.manual_seed(0)
    model = Predictor(CormorantNetwork([1, 6, 8], **{**SMALL, "channels": 24}))
    before = {name: one.detach().clone() for name, one in model.named_parameters()}
    pack_pretrained.shortened(model, 12, 7)
    sizes = set()
    for name, weight in model.named_parameters():
        kept = 7 if weight.numel() > pack_pretrained.LARGE else 12
        sizes.add(kept)
        assert not (weight.detach().view(torch.int32) % 2 ** (23 - kept)).any()
        expected = before[name]
        torch.testing.assert_close(
            weight.detach(), expected, rtol=2.0 ** -(kept + 1), atol=0
        )
    assert sizes == {7, 12}


def test_provenance_names_no_places(weights: Path) -> None:
    training = pretrained("gap").info.training
    assert training["command"] == "cormorant train a.yaml --override a=b.npz"
    assert training["config"]["data"]["path"] == "qm9.npz"
    assert training["config"]["training"]["start"] == "old.safetensors"
    assert training["data"]["sha256"] == "00"
    assert training["domain"] == {"charge": [0, 0], "unpaired": 0}
    assert "hardware" not in training
    assert b"/home" not in (weights / "gap" / "member-0.safetensors").read_bytes()


def test_names_that_are_none(weights: Path, tmp_path: Path) -> None:
    match = r"there are gap, organic; did you mean 'organic'\?"
    for call in (pretrained, load_model, load_models, Ensemble.load):
        with pytest.raises(ModelFileError, match=match):
            call("organics")
    with pytest.raises(ModelFileError, match="has 3 members, so there is no member 3"):
        load_models("organic/3")
    with pytest.raises(ModelFileError, match="give organic/0 for one of its models"):
        load_model("organic")
    with pytest.raises(ModelFileError, match=r"missing\.safetensors: cannot"):
        load_model("missing.safetensors")
    (weights / "gap" / "about.json").write_text("{}")
    with pytest.raises(ModelFileError, match="install the package again"):
        pretrained_models()
    shipped.FOLDERS[:] = [tmp_path / "nothing"]
    assert pretrained_models() == {}
    with pytest.raises(ModelFileError, match="this version has none"):
        torch_cormorant.pretrained("organic")


@pytest.mark.usefixtures("weights")
def test_a_path_wins_over_a_name(tmp_path: Path) -> None:
    (tmp_path / "organic").mkdir()
    assert isinstance(load_models("organic"), Ensemble)  # no model file in there
    potential = Cormorant.potential([1, 8], **SMALL)
    save_model(tmp_path / "organic" / "mine.safetensors", potential)
    found: Any = load_models("organic")
    assert found.network.features.known == (1, 8)


CHARGED = [
    ({"charge": -1}, "a total charge of -1"),
    ({"charge": 2.0}, r"a total charge of \+2"),
    ({"spin": 3}, "unpaired electrons: 2"),
    ({"multiplicity": 2}, "unpaired electrons: 1"),
    ({"spin": "many"}, "spin: 'many', expected a number"),
]


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize(("info", "match"), CHARGED)
def test_charges_and_spins_are_refused(info: dict[str, Any], match: str) -> None:
    atoms = molecule("CH3OH", calculator=CormorantCalculator.pretrained("organic"))
    atoms.info.update(info)
    with pytest.raises((ChargeError, DataError), match=match):
        atoms.get_potential_energy()
    data = Data(z=ETHANOL.z, pos=ETHANOL.pos, **info)
    if "many" not in info.values():
        batch = Batch.from_data_list([data, data])
        for model in (
            pretrained("organic", 0),
            pretrained("gap"),
            pretrained("organic"),
        ):
            for structures in ([data], data, batch):
                with pytest.raises(ChargeError, match=f"structure 0: {match}"):
                    model.predict(structures)


@pytest.mark.usefixtures("weights")
def test_charges_and_moments_of_atoms_are_refused() -> None:
    atoms = molecule("CH3OH", calculator=CormorantCalculator.pretrained("organic"))
    atoms.info.update(charge=0, spin=1)
    atoms.set_initial_charges([0.5, -0.5, 0, 0, 0.3, -0.3])
    atoms.get_potential_energy()
    atoms.set_initial_charges([1.0, 0, 0, 0, 0, 0])
    with pytest.raises(ChargeError, match=r"a total charge of \+1"):
        atoms.get_potential_energy()
    atoms.set_initial_charges(None)
    atoms.set_initial_magnetic_moments([1.0, 1.0, 0, 0, 0, 0])
    with pytest.raises(ChargeError, match="unpaired electrons: 2"):
        atoms.get_forces()


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("memory", [None, "1GiB"])
def test_radicals_are_seen_by_their_electrons(memory: str | None) -> None:
    atoms = molecule("CH3")
    z, pos = torch.tensor(atoms.numbers), torch.tensor(atoms.positions)
    for model in (pretrained("organic"), pretrained("organic", 1)):
        with pytest.raises(ChargeError, match="9 electrons, an odd number"):
            model.evaluate(z, pos, memory=memory)
        model.evaluate(z[:2], pos[:2])  # pairs are trained on
    with pytest.raises(ChargeError, match="structure 0: 9 electrons"):
        pretrained("gap").predict(z, pos)


def test_other_models_are_not_asked() -> None:
    atoms = molecule(
        "CH3", calculator=CormorantCalculator(Cormorant.potential([1, 6], **SMALL))
    )
    atoms.info["charge"] = 1
    atoms.get_forces()


@pytest.mark.usefixtures("weights")
def test_what_is_far_from_the_training_is_warned_of(
    recwarn: pytest.WarningsRecorder,
) -> None:
    team = pretrained("organic")
    team.limits = dict.fromkeys(team.limits, 1e-06)
    z, pos = ETHANOL.z, ETHANOL.pos
    far = r"structure 0: the models .* \(limit 1e-06\)"
    calls: list[Callable[[], object]] = [
        lambda: team.evaluate(z, pos),
        lambda: team.predict(z, pos),
        lambda: team.evaluate_all([ETHANOL, ETHANOL], batch_size=1),
        lambda: team.predict([ETHANOL]),
    ]
    for call in calls:
        with pytest.warns(EnsembleSpreadWarning, match=far):
            call()
    for backend in ("native", "model"):
        atoms = Atoms(z.numpy(), pos.numpy())
        atoms.calc = CormorantCalculator(team, backend=backend)
        with pytest.warns(EnsembleSpreadWarning, match=far):
            atoms.get_forces()
        atoms.positions += 0.01
        recwarn.clear()
        atoms.get_forces()  # once in a run
        assert not recwarn
        with pytest.warns(EnsembleSpreadWarning, match=far):
            atoms.calc.get_forces(atoms[:8][[0, 1, 2]])
    team.warns = "never"
    recwarn.clear()
    for backend in ("native", "model"):
        atoms = Atoms(z.numpy(), pos.numpy())
        atoms.calc = CormorantCalculator(team, backend=backend)
        atoms.get_forces()
        atoms.calc.get_forces(atoms[:8][[0, 1, 2]])
    assert not recwarn


def test_a_property_has_a_limit_too() -> None:
    rows = [Data(z=one.z, pos=one.pos, y=one.energy) for one in MiniEthanol()[:12]]
    models = []
    for seed in range(2):
        torch.manual_seed(seed)
        models.append(Predictor(CormorantNetwork([1, 6, 8], **SMALL)))
    team = Ensemble(models)
    team.calibrate(rows)
    assert set(team.limits) == {"target_1"}
    team.predict(rows)
    squeezed = [Data(z=rows[0].z, pos=0.3 * rows[0].pos)]
    team.limits = {"target_1": 1e-9}
    with pytest.warns(EnsembleSpreadWarning, match="disagree about target_1 by"):
        team.predict(squeezed)


def test_properties_of_several_networks_stand_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gap", "mu"):
        info = ModelInfo((name,), ("eV",), Normalisation((7.0,), (1.0,)))
        model = Predictor(CormorantNetwork([1, 6, 8], **SMALL), info)
        save_model(tmp_path / "run" / name / "model.safetensors", model)
    pack(tmp_path / "run", "both", tmp_path / "weights")
    monkeypatch.setattr(shipped, "FOLDERS", [tmp_path / "weights"])
    both: Any = pretrained("both")
    assert isinstance(both, Together)
    assert both.info.targets == ("gap", "mu")
    assert both.network.features.known == (1, 6, 8)
    found = both.predict([ETHANOL, ETHANOL])
    expected = [pretrained("both", k).predict([ETHANOL]) for k in (0, 1)]
    torch.testing.assert_close(found[1], torch.cat(expected, dim=1)[0])
    with pytest.raises(ChargeError, match="a total charge of -1"):
        both.predict([Data(z=ETHANOL.z, pos=ETHANOL.pos, charge=-1)])
    with pytest.raises(ConfigError, match="got 2 with gap, gap"):
        Together([both.models[0], both.models[0]])


def test_errors_are_those_of_the_whole_ensemble(weights: Path, tmp_path: Path) -> None:
    frames = [MiniEthanol()[k] for k in range(8)]
    path = tmp_path / "frames.npz"
    np.savez(
        path,
        z=ETHANOL.z,
        pos=torch.stack([frame.pos for frame in frames]),
        forces=torch.stack([frame.forces for frame in frames]),
        energy=torch.cat([frame.energy for frame in frames]),
        split=np.array(["test"] * 5 + ["valid"] * 3),
        energy_unit="eV",
    )
    team: Any = pretrained("organic")
    out = team.evaluate_all(frames[:5])
    off = out.energy - torch.cat([frame.energy for frame in frames[:5]])
    (tmp_path / "run" / "ensemble.json").unlink()
    words = [str(tmp_path / "run"), "again", "--about", "more", "--data", str(path)]
    pack_pretrained.main([*words, "--out", str(weights)])
    text = pretrained_models()["again"].errors["test:"]
    expected = 1000 * float(off.abs().mean()) / 9
    assert float(text.split()[0]) == pytest.approx(expected, abs=0.01)
    assert text.endswith("(5 frames)")
    again: Any = pretrained("again")
    assert again.limits  # measured on the part valid


@pytest.mark.usefixtures("weights")
def test_a_training_that_starts_from_them_may_know_more() -> None:
    start = Start(TrainingConfig(start="organic"))  # of an ensemble its first member
    assert start.record["file"] == "organic/0"
    first = pretrained("organic", member=0).state_dict()
    for name, weight in start.model.state_dict().items():
        assert torch.equal(weight.float(), first[name].float())
    assert start.old.training["domain"] == {"charge": [0, 0], "unpaired": 0}
    atoms = molecule("CH3")
    z, pos = torch.tensor(atoms.numbers), torch.tensor(atoms.positions)
    assert start.to_potential().evaluate(z, pos).energy.isfinite()
