"""What messages suggest."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from torch_cormorant import Cormorant, CormorantConv
from torch_cormorant.errors import (
    OTHER_NAMES,
    ArgumentError,
    ConfigError,
    CormorantError,
    nearest,
)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("r_max", "cutoff"),
        ("cutoff_radius", "cutoff"),
        ("rc", "cutoff"),
        ("max_ell", "lmax"),
        ("l_max", "lmax"),
        ("hidden_channels", "channels"),
        ("num_features", "channels"),
        ("num_interactions", "num_levels"),
        ("num_layers", "num_levels"),
        ("n_rbf", "num_basis"),
    ],
)
def test_names_of_other_libraries_are_understood(given: str, meant: str) -> None:
    with pytest.raises(ArgumentError, match=f"{given}'; did you mean '{meant}'"):
        Cormorant(**{given: 3})


def test_every_suggestion_exists_and_none_is_ours_already() -> None:
    known: set[str] = set()
    for kind in (Cormorant, CormorantConv):
        known |= set(inspect.signature(kind).parameters)
    assert set(OTHER_NAMES.values()) <= known
    assert not set(OTHER_NAMES) & known - {"out_channels"}
    assert nearest("r_max", ["lmax"]) == "; did you mean 'lmax'?", "only what exists"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"channels": 8.0}, "channels must be a whole number, or 5 of them, got 8.0"),
        ({"channels": "8"}, "channels must be a whole number"),
        ({"channels": [8, 8, 8.5, 8, 8]}, "channels must be a whole number"),
        ({"channels": [8, 8]}, "channels must be one number or 5, got 2"),
        ({"lmax": 2.0}, "lmax must be a whole number, or 4 of them, got 2.0"),
        ({"num_levels": 2.0}, "num_levels must be an integer"),
        ({"num_basis": 8.0}, "num_basis must be positive and whole .* got 8.0"),
    ],
)
def test_numbers_that_are_not_whole_name_the_argument(
    arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        Cormorant(**arguments)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cell", "'cell'; .*energy_and_forces"),
        ("pbc", "'pbc'; .*energy_and_forces"),
        ("edge_index", "'edge_index'; .*forward_edges"),
        ("positions", "'positions'; it takes z, pos, batch"),
    ],
)
def test_a_call_says_where_other_arguments_belong(name: str, text: str) -> None:
    model = Cormorant(channels=2, num_levels=1, lmax=1)
    z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1]])
    with pytest.raises(CormorantError, match=text) as caught:
        model(z, pos, **{name: torch.eye(3)})
    assert isinstance(caught.value, TypeError)
