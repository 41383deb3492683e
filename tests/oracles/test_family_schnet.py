"""SchNet against torch-geometric's own class with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.nn.models import SchNet as Theirs

from torch_cormorant import radius_graph
from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.networks import SchNet
from torch_cormorant.testing import random_molecule

CUTOFF = 3.5
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled": {"mean": -1.5, "std": 0.7},
    "references": {"atomref": torch.linspace(-1, 1, 100)[:, None]},
    "all": {"mean": 0.3, "std": 2.0, "atomref": torch.ones(100, 1)},
}
Batch = tuple[Tensor, Tensor, Tensor]


def graph(pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Return all neighbours; torch-geometric's own search keeps 32 of them."""
    index = radius_graph(pos.detach(), CUTOFF, batch)
    return index, (pos[index[0]] - pos[index[1]]).norm(dim=-1)


def theirs(**options: Any) -> Theirs:
    made = Theirs(8, 6, 3, 10, CUTOFF, graph, **options).double()
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn_like(p) / max(1, p.shape[-1]) ** 0.5)
    return made


def molecules() -> Batch:
    parts = [random_molecule(n) for n in (9, 6)]
    z, pos = (torch.cat(list(values)) for values in zip(*parts, strict=True))
    # an atom on its own behind the others
    z, pos = torch.cat([z, z[:1]]), torch.cat([pos, pos.new_zeros(1, 3)])
    batch = torch.tensor([0] * 9 + [1] * 6 + [2])
    return z, pos.requires_grad_(), batch


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", list(OPTIONS))
def test_energies_forces_and_weights_agree(name: str, precision: torch.dtype) -> None:
    torch.set_default_dtype(precision)  # of which their constants are made
    try:
        other = theirs(**OPTIONS[name])
    finally:
        torch.set_default_dtype(torch.float32)
    state = other.state_dict()
    settings = {k: v for k, v in OPTIONS[name].items() if k != "atomref"}
    ours = SchNet.from_original(state, settings)
    z, pos, batch = molecules()
    expected, found = other(z, pos, batch), ours(z, pos, batch)
    scale = expected.detach().abs().max()
    assert (found - expected).abs().max() < 1e-13 * scale
    (slope,) = torch.autograd.grad(expected.sum(), pos)
    (own,) = torch.autograd.grad(found.sum(), pos)
    assert (slope - own).abs().max() < 1e-12 * slope.abs().max()
    back = ours.to_original()
    assert back.keys() == state.keys()
    for key, value in back.items():
        if key != "initial_atomref":
            assert torch.allclose(value, state[key], rtol=1e-14, atol=1e-15), key


@pytest.mark.parametrize(
    ("setting", "value"), [("dipole", True), ("readout", "mean"), ("scale", 2.0)]
)
def test_other_readouts_are_refused(setting: str, value: Any) -> None:
    state = theirs().state_dict()
    with pytest.raises(ConfigError, match=f"{setting}={value!r} of torch-geometric"):
        SchNet.from_original(state, {setting: value})


def test_unknown_weights_and_settings_are_refused() -> None:
    state = theirs().state_dict()
    with pytest.raises(ConfigError, match=r"'cutof' of .*; did you mean 'cutoff'"):
        SchNet.from_original(state, {"cutof": 3.0})
    with pytest.raises(WeightsError, match=r"'lin3\.bias' of torch-geometric has no"):
        SchNet.from_original({**state, "lin3.bias": torch.ones(1)})
    del state["lin1.bias"]
    with pytest.raises(WeightsError, match=r"'lin1\.bias' of .* is missing"):
        SchNet.from_original(state)


def test_other_networks_than_theirs_are_not_written() -> None:
    for options, word in [
        ({"head": "extensive"}, "the head 'extensive'"),
        ({"num_targets": 2}, "2 targets"),
        ({"basis": "bessel_basis"}, "another basis"),
        ({"head": {"kind": "atomwise", "act": "silu", "layers": [4]}}, "'silu'"),
    ]:
        with pytest.raises(ConfigError, match=word):
            SchNet(channels=8, num_levels=1, **options).to_original()
