"""The default for force fields, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from torch_cormorant import Cormorant
from torch_cormorant.errors import ArgumentError, ConfigError
from torch_cormorant.models import CormorantPotential


def test_the_documented_defaults() -> None:
    model = Cormorant.potential()
    assert type(model) is CormorantPotential
    assert model.cutoff == 5.0
    assert model.head.kind == "extensive"
    assert model.config["paths"] == "even"
    assert model.config["activation"] == "silu"
    assert model.config["radial"] == "bessel"
    assert model.pair is None
    assert model.config == Cormorant.potential(size="medium").config
    assert model.info.units == ("eV",)
    assert not any(isinstance(m, torch.nn.LeakyReLU) for m in model.modules())


@pytest.mark.parametrize(
    ("size", "weights"),
    [("small", 20_417), ("medium", 62_721), ("large", 102_209), ("complex", 67_377)],
)
def test_sizes_and_what_is_given_beside_them(size: str, weights: int) -> None:
    model = Cormorant.potential([1, 6, 8], size=size)
    assert sum(weight.numel() for weight in model.parameters()) == weights
    other = Cormorant.potential([1], size=size, channels=4, num_levels=1)
    assert (other.config["channels"], other.config["num_levels"]) == (4, 1)
    assert other.config["complex"] is (size == "complex")


@pytest.mark.parametrize(
    "options",
    [
        {"size": "huge"},
        {"activation": "leaky_relu"},
        {"activation": "relu"},
        {"envelope": False},
        {"head": "published"},
        {"radial": "power_trig"},
        {"input": "mpnn"},
        {"cutoff": None},
        {"cutoff_type": ("hard", "learn")},
        {"repulsion": "lj"},
        {"energy_unit": "bohr"},
        {"repulsion": "zbl", "cutoff": 1.0},
    ],
    ids=str,
)
def test_what_would_break_its_promises_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Cormorant.potential(**options)


def test_unknown_arguments_are_refused_by_name() -> None:
    with pytest.raises(ArgumentError, match="radius"):
        Cormorant.potential(radius=3.0)


def test_units_need_every_species() -> None:
    with pytest.raises(ConfigError, match=r"\[8\]"):
        Cormorant.potential([1, 8]).set_units({1: -13.6})
    with pytest.raises(ConfigError, match="std"):
        Cormorant.potential([1]).set_units({1: -13.6}, scale=0.0)


def test_the_repulsion_is_added_in_the_unit_of_the_model() -> None:
    z = torch.tensor([6, 8])
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.7]], dtype=torch.float64)
    energies = []
    for repulsion in (None, "zbl"):
        torch.manual_seed(0)
        model = Cormorant.potential([6, 8], repulsion=repulsion).double().eval()
        model.set_units({6: -1.0, 8: -2.0}, scale=3.0)
        energies.append(model.evaluate(z, pos).energy)
    index = torch.tensor([[0, 1], [1, 0]])
    vec = torch.stack([pos[1], -pos[1]])
    assert model.pair is not None
    expected = model.pair(z, index, vec).sum()
    assert float(expected) > 10
    torch.testing.assert_close((energies[1] - energies[0])[0], expected)
