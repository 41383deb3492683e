"""Warnings of compositions that training did not span."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from torch_cormorant import Cormorant
from torch_cormorant.errors import CormorantWarning
from torch_cormorant.models.compositions import warn_of_composition

ETHANOL = {"1": 6, "6": 2, "8": 1}
WATER = {"1": 2, "8": 1}


def trained_on(*compositions: Any) -> Cormorant:
    model = Cormorant.potential([1, 6, 8], channels=2, num_levels=1)
    model.info = replace(model.info, training={"compositions": list(compositions)})
    return model


def atoms(**counts: int) -> torch.Tensor:
    numbers = {"H": 1, "C": 6, "O": 8}
    return torch.tensor([numbers[k] for k, n in counts.items() for _ in range(n)])


def test_other_compositions_are_warned_of() -> None:
    model = trained_on(ETHANOL)
    for same in (atoms(C=2, H=6, O=1), atoms(C=2000, H=6000, O=1000)):
        assert not warn_of_composition(model, same, "box")
    for other in (atoms(C=1, H=4, O=1), atoms(O=1), atoms(C=2000, H=6001, O=1000)):
        with pytest.warns(CormorantWarning, match=r"^methanol: .*off by many eV"):
            assert warn_of_composition(model, other, "methanol")


def test_what_the_training_spans_is_fine() -> None:
    model = trained_on(ETHANOL, WATER)
    assert not warn_of_composition(model, atoms(C=2, H=4), "ethene")
    with pytest.warns(CormorantWarning):
        warn_of_composition(model, atoms(C=1, H=4), "methane")


def test_models_without_a_record_say_nothing() -> None:
    for model in (trained_on(), Cormorant.potential([1, 6, 8])):
        assert not warn_of_composition(model, atoms(C=1), "carbon")
