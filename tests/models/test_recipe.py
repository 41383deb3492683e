from __future__ import annotations

from typing import Any

import pytest
import torch

from torch_cormorant import Cormorant
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import RECIPE, RECIPE_SIZES, recipe
from torch_cormorant.models.cormorant_potential import SIZES
from torch_cormorant.testing import random_molecule

SMALL: dict[str, Any] = {"channels": 4, "num_levels": 1, "lmax": 1}


def test_recipe_is_a_cormorant_with_its_arguments() -> None:
    model = recipe([1, 6], head="mean", cutoff=4.0)
    assert model.head.kind == "mean"
    assert model.cutoff == 4.0
    assert model.num_levels == RECIPE["num_levels"]
    assert model.config["paths"] == "even"
    assert model.config["activation"] == "silu"


def test_published_heads_of_the_recipe_start_at_a_tenth() -> None:
    z, pos = random_molecule(6, dtype=torch.float32)
    for head in ("published", ["published", "published"]):
        torch.manual_seed(0)
        ours = recipe(head=head, **SMALL)
        torch.manual_seed(0)
        plain = Cormorant(head=head, **{**RECIPE, **SMALL})
        torch.testing.assert_close(ours(z, pos), 0.1 * plain(z, pos))


def test_other_heads_are_as_they_are() -> None:
    z, pos = random_molecule(6, dtype=torch.float32)
    torch.manual_seed(0)
    ours = recipe(head="extensive", **SMALL)
    torch.manual_seed(0)
    plain = Cormorant(head="extensive", **{**RECIPE, **SMALL})
    assert torch.equal(ours(z, pos), plain(z, pos))


def test_sizes_have_the_names_of_those_of_potentials() -> None:
    assert [*RECIPE_SIZES] == [*SIZES]
    for size, options in RECIPE_SIZES.items():
        config = recipe(size=size).config
        assert {name: config[name] for name in options} == options
    assert recipe().config == recipe(size="medium").config
    assert recipe(size="complex", channels=4).config["channels"] == 4
    with pytest.raises(ConfigError, match="size must be one of"):
        recipe(size="huge")
