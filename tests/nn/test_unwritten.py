"""What a class of one's own has forgotten is named."""

from __future__ import annotations

import pytest
import torch

from torch_cormorant.nn import Head, Mask, Pair, Radial
from torch_cormorant.nn.heads import SumHead


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        (Head, "forward(atoms)"),
        (SumHead, "contributions(values)"),
        (Pair, "forward(z, edge_index, edge_vec)"),
        (Radial, "forward(length)"),
        (Mask, "forward(length)"),
    ],
)
def test_it_is_named(kind: type[torch.nn.Module], missing: str) -> None:
    mine = type("Mine", (kind,), {})
    made = mine.__new__(mine)
    torch.nn.Module.__init__(made)
    name, _, rest = missing.partition("(")
    with pytest.raises(NotImplementedError) as error:
        getattr(made, name)(*rest.split(","))
    assert str(error.value) == f"Mine defines no {missing}"
