"""Weights of the published code, in and out."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torch_cormorant import CormorantMD17, CormorantQM9
from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.networks import SchNet, network_from_original

Network = type[CormorantQM9] | type[CormorantMD17]
SMALL: dict[str, Any] = {
    "maxl": [1, 2, 0],
    "max_sh": [1, 2, 0],
    "num_channels": [3, 4, 5, 2],
    "num_cg_levels": 3,
    "basis_set": [1, 1],
    "num_mpnn_layers": 2,
}
CONFIGS: dict[str, tuple[Network, dict[str, Any]]] = {
    "qm9": (CormorantQM9, {}),
    "md17": (CormorantMD17, {}),
    "qm9_small": (CormorantQM9, SMALL),
    "md17_small": (CormorantMD17, {**SMALL, "num_mpnn_layers": 0}),
    "qm9_hard": (CormorantQM9, {**SMALL, "cutoff_type": ["hard", "learn_rad"]}),
}


def made(name: str, dtype: torch.dtype = torch.float64) -> Any:
    """A network of random weights, made through its own arrays."""
    kind, config = CONFIGS[name]
    torch.manual_seed(0)
    # arrays of the right names and shapes come from a network of that configuration
    fresh = kind.from_original(blank(name), config)
    with torch.no_grad():
        for parameter in fresh.parameters():
            parameter.normal_(std=0.05)
    return fresh.to(dtype)


def blank(name: str) -> dict[str, Any]:
    kind, config = CONFIGS[name]
    keys = {
        "lmax": config.get("maxl", [3, 3, 3, 0] if kind is CormorantQM9 else 3),
        "lmax_sh": config.get("max_sh"),
        "channels": config.get("num_channels", 16),
        "num_levels": config.get("num_cg_levels", 4),
        "basis_set": tuple(config.get("basis_set", (3, 3))),
    }
    if kind is CormorantQM9:
        keys["num_mpnn_layers"] = config.get("num_mpnn_layers", 1)
    arrays: dict[str, Any] = kind(**keys).to_original()
    return arrays


@pytest.mark.parametrize("names", ["parity", "state_dict"])
@pytest.mark.parametrize("name", list(CONFIGS))
def test_round_trip_keeps_every_bit(
    name: str, names: str, molecules: Callable[..., tuple[Tensor, ...]]
) -> None:
    kind, config = CONFIGS[name]
    model = made(name)
    weights = model.to_original(names)
    again = kind.from_original(weights, config)
    for (key, a), b in zip(model.named_parameters(), again.parameters(), strict=True):
        assert a.dtype == b.dtype == torch.float64
        assert torch.equal(a, b), key
    back = again.to_original(names)
    assert list(back) == list(weights)
    for key, value in weights.items():
        assert np.array_equal(np.asarray(value), np.asarray(back[key])), key
    z, pos, batch = molecules(4, 2)
    z = torch.where(torch.isin(z, again.features.species), z, 6)
    assert torch.equal(again(z, pos, batch), model(z, pos, batch))


@pytest.mark.parametrize("name", ["qm9_small", "md17_small"])
def test_float32_weights_stay_float32(name: str) -> None:
    model = made(name, torch.float32)
    weights = model.to_original()
    kinds = {value.dtype for value in weights.values()}
    assert kinds == {np.dtype(np.float32), np.dtype(np.complex64)}
    again = CONFIGS[name][0].from_original(weights, CONFIGS[name][1])
    assert again.dtype == torch.float32
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_parity_names_and_shapes() -> None:
    weights = made("qm9").to_original()
    shapes = {name: value.shape for name, value in weights.items()}
    assert shapes["rad3_scales"] == (8,)
    assert shapes["edge1_weight_l2"] == (16, 96)
    assert shapes["edge0_soft_cut_width"] == (16,)
    assert shapes["atom1_weight_l3"] == (16, 336)
    assert shapes["mpnn0_rad_linear_weight"] == (15, 32)
    assert shapes["mpnn0_mlp_linear1_weight"] == (32, 256)
    assert shapes["out_mlp2_linear1_bias"] == (1,)
    numbers = [v.size * (2 if np.iscomplexobj(v) else 1) for v in weights.values()]
    assert sum(numbers) == 299_808


def test_state_dict_names_and_shapes() -> None:
    weights = made("md17").to_original("state_dict")
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    assert shapes["rad_funcs.rad_funcs.0.phases"] == (1, 1, 1, 8)
    levels = "cormorant_cg.atom_levels"
    assert shapes[f"{levels}.2.cat_mix.mix_reps.weights.1"] == (16, 304, 2)
    levels = "cormorant_cg.edge_levels"
    assert shapes[f"{levels}.3.mask_layer.soft_cut_rad"] == (1, 1, 1, 16)
    assert shapes["input_func_atom.lin.weight"] == (32, 9)
    assert shapes["output_layer_atom.lin.bias"] == (1,)
    assert sum(value.numel() for value in weights.values()) == 154_241


def test_odd_paths_carry_a_phase_and_even_ones_none() -> None:
    model = made("qm9_small")
    conv = model.convs[1]
    theirs, ours = model.to_original()["atom1_weight_l1"], conv.vertex.weights[1]
    ours = torch.complex(*ours.detach().unbind(0)).numpy()
    ends = [path for path in conv.vertex.sum_paths.paths if path[2] == 1]
    for k, path in enumerate(ends):
        span = slice(k * conv.in_channels, (k + 1) * conv.in_channels)
        phase = 1j if sum(path) % 2 else 1
        assert np.array_equal(ours[:, span], phase * theirs[:, span])
    assert {sum(path) % 2 for path in ends} == {0, 1}


def test_a_missing_key_means_the_published_value() -> None:
    weights = made("qm9").to_original()
    model = CormorantQM9.from_original(weights)
    assert model.harmonics == "solid"
    assert model.lmax == [3, 3, 3, 0]
    assert model.cutoff is None
    unit = CormorantQM9.from_original(weights, {"sph_normalize": True, "kind": "qm9"})
    assert unit.harmonics == "unit"


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    weights = made("qm9_small").to_original()
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda w: w.pop("edge1_weight_l0"), "edge1_weight_l0"),
        (lambda w: w.pop("rad0_scales"), "rad0_scales"),
        (lambda w: w.pop("out_mlp1_linear0_bias"), "out_mlp1_linear0_bias"),
        (lambda w: w.update(rad9_scales=np.ones(4)), "rad9_scales"),
        (lambda w: w.update(nonsense=np.ones(4)), "nonsense"),
        (lambda w: w.update({"no.such.name": np.ones(4)}), "no.such.name"),
        (lambda w: w.update(rad0_scales=np.ones(5)), "rad0_scales"),
        (
            lambda w: w.update(atom0_weight_l0=w["atom0_weight_l0"][:, 1:]),
            "atom0_weight_l0",
        ),
        (
            lambda w: w.update(atom0_weight_l0=w["atom0_weight_l0"].real),
            "atom0_weight_l0",
        ),
    ],
    ids=range(9),
)
def test_unfit_weights_are_named(
    change: Callable[[dict[str, Any]], Any], word: str
) -> None:
    with pytest.raises(WeightsError, match=word.replace(".", r"\.")):
        CormorantQM9.from_original(changed(change), SMALL)


def test_weights_of_the_other_network_are_refused() -> None:
    with pytest.raises(WeightsError):
        CormorantMD17.from_original(made("qm9_small").to_original(), SMALL)
    with pytest.raises(WeightsError):
        CormorantQM9.from_original(made("qm9_small").to_original())
    with pytest.raises(WeightsError):
        CormorantQM9.from_original({})


@pytest.mark.parametrize(
    "change",
    [
        {"maxL": 3},
        {"num_cg_level": 3},
        {"maxl": [2, 1]},
        {"num_channels": [3, 4]},
        {"cutoff_type": ["sharp"]},
        {"cutoff_type": ["hard"], "hard_cut_rad": -1.0},
    ],
    ids=str,
)
def test_unknown_or_impossible_configurations_are_refused(
    change: dict[str, Any],
) -> None:
    weights = made("qm9_small").to_original()
    with pytest.raises(ConfigError):
        CormorantQM9.from_original(weights, {**SMALL, **change})


def test_unknown_kind_of_names_is_refused() -> None:
    with pytest.raises(ConfigError, match="torch"):
        made("qm9_small").to_original("torch")


def test_arrays_given_out_are_copies() -> None:
    model = made("qm9_small")
    weights = model.to_original()
    before = model.convs[0].edge_network.radial.scales.clone()
    for value in weights.values():
        value[...] = 0
    assert torch.equal(model.convs[0].edge_network.radial.scales, before)
    kept = {key: value.copy() for key, value in made("qm9_small").to_original().items()}
    again = CormorantQM9.from_original(kept, SMALL)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    assert all(np.any(value) for value in kept.values())


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"head": "mean"}, "MeanHead"),
        ({"norm": "norm"}, "SO3Norm"),
        ({"gate": True}, "Gate"),
    ],
)
def test_parts_that_the_original_lacks_are_not_left_out(
    options: dict[str, Any], part: str
) -> None:
    with pytest.raises(ConfigError, match=f"the original has no {part}"):
        CormorantQM9(**options).to_original()


def test_files_and_whole_checkpoints_are_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    options = {"channels": 3, "num_levels": 2, "lmax": 1, "harmonics": "solid"}
    model = CormorantQM9(**options)
    run = argparse.Namespace(num_channels=3, num_cg_levels=2, maxl=[1, 1], lr=1e-3)
    state = model.to_original(names="state_dict")
    whole = {"model_state": state, "args": run, "optimizer_state": {"step": 1}}
    torch.save(whole, tmp_path / "run.pt")
    np.savez(tmp_path / "arrays.npz", **model.to_original())
    settings = {k: v for k, v in vars(run).items() if k != "lr"}
    for given, config in (
        (tmp_path / "run.pt", None),
        (str(tmp_path / "run.pt"), settings),
        (whole, None),
        (tmp_path / "arrays.npz", settings),
    ):
        found = CormorantQM9.from_original(given, config)
        for name, value in found.to_original().items():
            np.testing.assert_array_equal(value, model.to_original()[name])
    with pytest.raises(WeightsError, match="No such file"):
        CormorantQM9.from_original(tmp_path / "other.pt")
    net = SchNet([1, 8], channels=4, num_levels=1)
    torch.save({"state_dict": net.to_original()}, tmp_path / "schnet.ckpt")
    assert type(network_from_original(tmp_path / "schnet.ckpt")) is SchNet
