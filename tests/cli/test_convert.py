"""``cormorant convert`` for the networks of other packages."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import load_model
from torch_cormorant.models import Potential, Predictor
from torch_cormorant.networks import (
    SEGNN,
    TFN,
    Allegro,
    L1Net,
    NequIP,
    PaiNN,
    SchNet,
    SO3Net,
)
from torch_cormorant.testing import random_molecule

Command = Callable[..., str]
SETTINGS: dict[str, Any] = {
    "r_max": 3.0,
    "type_names": ["C", "H", "N", "O", "F"],
    "num_layers": 2,
    "num_features": 4,
    "avg_num_neighbors": 3.0,
}
NETWORKS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "allegro": (
        Allegro,
        {
            "species": [6, 1, 7, 8, 9],
            "channels": 4,
            "scalars": 6,
            "avg_num_neighbors": 3.0,
        },
        {
            "r_max": 3.0,
            "type_names": ["C", "H", "N", "O", "F"],
            "l_max": 1,
            "num_tensor_features": 4,
            "radial_chemical_embed": {
                "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
                "num_bessels": 8,
            },
            "avg_num_neighbors": 3.0,
        },
    ),
    "nequip": (
        NequIP,
        {
            "species": [6, 1, 7, 8, 9],
            "channels": 4,
            "avg_num_neighbors": 3.0,
            "constants": "e3nn",
            "radial": [8],
        },
        SETTINGS,
    ),
    "painn": (PaiNN, {"channels": 4}, {}),
    "so3net": (SO3Net, {"channels": 4}, {}),
    "kernels": (
        L1Net,
        {"irreps": "5x0 + 4x1", "radial": [6, 5], "embedding": 7},
        {"l0": 5, "l1": 4, "l2": 0, "radial": "cosine", "rmax": 10.0, "avg": 18.0},
    ),
    "tfn": (
        TFN,
        {
            "irreps": "5x0e + 4x1o",
            "basis": {"kind": "e3nn_basis"},
            "envelope": None,
            "avg_num_neighbors": 3.0,
        },
        {"hidden": "5x0e + 4x1o", "sh": "0e + 1o", "cutoff": 3.0, "neighbours": 3.0},
    ),
    "segnn": (
        SEGNN,
        {
            "channels": 4,
            "envelope": None,
            "constants": "e3nn",
            "head": {"kind": "pooled"},
        },
        {"hidden": "4x0e+4x1o", "radius": 3.0},
    ),
    "schnet": (SchNet, {"channels": 4, "num_basis": 10}, {}),
}


def make(name: str) -> tuple[Any, dict[str, Any]]:
    kind, options, settings = NETWORKS[name]
    torch.manual_seed(1)
    reach = {} if kind is L1Net else {"cutoff": 3.0}  # all pairs
    return kind(num_levels=2, **reach, **options).double(), settings


def energies(model: Any) -> Tensor:
    z, pos = random_molecule(8)
    out: Tensor = model(z, pos).detach()
    return out


@pytest.mark.parametrize("suffix", ["pt", "ckpt"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_there_and_back(
    cormorant: Command, tmp_path: Path, name: str, suffix: str
) -> None:
    network, settings = make(name)
    state = network.to_original()
    if suffix == "ckpt":  # of a trainer, with prefixes and settings
        prefixed = {f"model.{key}": value for key, value in state.items()}
        config = {"hyper_parameters": {"lr": 1e-3, "model": settings}}
        torch.save({"state_dict": prefixed, **config}, tmp_path / "a.ckpt")
        extra: list[str] = []
    else:
        torch.save(state, tmp_path / "a.pt")
        (tmp_path / "settings.json").write_text(json.dumps(settings))
        extra = ["--config", "settings.json"]
    own = name in {"allegro", "nequip", "tfn"}
    species = [] if own else ["--species", *"HCNOF"]
    found = cormorant("convert", f"a.{suffix}", "b.safetensors", *extra, *species)
    assert "b.safetensors: written" in found
    model = load_model(tmp_path / "b.safetensors")
    assert isinstance(model, Potential)
    assert sorted(model.network.features.known) == [1, 6, 7, 8, 9]
    assert torch.allclose(energies(model), energies(network), rtol=1e-12)
    assert type(model.network).__name__ in cormorant("info", "b.safetensors")
    assert isinstance(network, type(model.network))
    cormorant("convert", "b.safetensors", "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert back.keys() == state.keys()
    for key, value in state.items():
        assert torch.allclose(back[key], value, rtol=1e-13), key


def test_other_targets_are_predictors(cormorant: Command, tmp_path: Path) -> None:
    network, _ = make("painn")
    torch.save(network.to_original(), tmp_path / "a.pth")
    arguments = ("--target", "gap", "--unit", "eV")
    cormorant("convert", "a.pth", "b.safetensors", *arguments)
    model = load_model(tmp_path / "b.safetensors")
    assert isinstance(model, Predictor)
    assert (model.info.targets, model.info.units) == (("gap",), ("eV",))


def test_averaged_weights_are_taken(cormorant: Command, tmp_path: Path) -> None:
    network, settings = make("nequip")
    state = network.to_original()
    no_parameters = ("_rmax_recip", "bessel_weights", "scales", "shifts")
    trained = [name for name in state if not name.endswith(no_parameters)]
    mean = {f"ema.ema_weight_{k}": 2 * state[n] for k, n in enumerate(trained)}
    whole = {f"model.sole_model.{n}": v for n, v in state.items()} | mean
    config = {"hyper_parameters": {"model": settings}}
    torch.save({"state_dict": whole, **config}, tmp_path / "a.ckpt")
    cormorant("convert", "a.ckpt", "b.safetensors")
    doubled = {n: 2 * v if n in trained else v for n, v in state.items()}
    expected = NequIP.from_original(doubled, settings)
    model = load_model(tmp_path / "b.safetensors")
    assert torch.equal(energies(model), energies(expected))
    mean.pop("ema.ema_weight_3")
    whole = {f"model.sole_model.{n}": v for n, v in state.items()} | mean
    torch.save({"state_dict": whole, **config}, tmp_path / "a.ckpt")
    assert "averaged weights" in cormorant("convert", "a.ckpt", "c.safetensors", code=2)


def test_a_pickled_model_is_not_opened(cormorant: Command, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    error = cormorant("convert", "model.pt", "b.safetensors", code=2)
    assert "holds more than tensors" in error
    assert "torch.save(" in error
    (tmp_path / "plain.pt").write_bytes(pickle.dumps({"a": print}))
    assert "torch.save(" in cormorant("convert", "plain.pt", "b.safetensors", code=2)


def test_what_is_missing_or_unknown_is_named(
    cormorant: Command, tmp_path: Path
) -> None:
    network, _ = make("nequip")
    torch.save(network.to_original(), tmp_path / "a.pt")
    start = ("convert", "a.pt", "b.safetensors")
    assert "type_names" in cormorant(*start, code=2)
    (tmp_path / "s.yaml").write_text("convnet_resnet: true\n")
    assert "convnet_resnet" in cormorant(*start, "--config", "s.yaml", code=2)
    (tmp_path / "s.yaml").write_text("just words\n")
    assert "names with values" in cormorant(*start, "--config", "s.yaml", code=2)
    assert "no such" in cormorant(*start, "--config", "t.yaml", code=2).lower()
    assert "'Xx' is no element" in cormorant(*start, "--species", "Xx", code=2)
