from __future__ import annotations

import torch

from torch_cormorant import Cormorant
from torch_cormorant.models import RECIPE, recipe
from torch_cormorant.testing import random_molecule

SMALL = {"channels": 4, "num_levels": 1, "lmax": 1}


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
