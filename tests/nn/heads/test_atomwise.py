"""The head of NequIP, PaiNN and SchNet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn import AtomwiseHead, HeadInput, LevelSizes, make_head

Z = torch.tensor([8, 1, 1, 8])
BATCH = torch.tensor([0, 0, 0, 1])


def made(inputs: int = 3, **options: Any) -> AtomwiseHead:
    head = AtomwiseHead(inputs, species=(1, 8), **options).double()
    for value in (*head.buffers(), *head.parameters()):
        if value.is_floating_point():
            nn.init.normal_(value)
    return head


def given(values: Tensor) -> HeadInput:
    return HeadInput(values, [values[:, None, None]], BATCH, 2, Z)


@pytest.mark.parametrize("trainable", [(), ("scale", "shift")])
def test_scales_and_shifts_of_species(trainable: tuple[str, ...]) -> None:
    options = {"scale": "species", "shift": "species", "constant": True}
    head = made(layers=[4], trainable=trainable, **options)
    values = torch.randn(4, 3, dtype=torch.float64)
    row = torch.tensor([1, 0, 0, 1])
    raw = head.mlp(values)
    atoms = head.scale[row] * raw + head.shift[row] + head.constant
    assert torch.allclose(head(given(values), summed=False), atoms)
    sums = torch.stack([atoms[:3].sum(0), atoms[3:].sum(0)])
    assert torch.allclose(head(given(values)), sums)
    learned = {name for name, _ in head.named_parameters() if "mlp" not in name}
    assert learned == set(trainable)


def test_pair_energies_are_added_as_they_are() -> None:
    head = made(4, scale="shared", pair=True)
    values = torch.randn(4, 4, dtype=torch.float64)
    expected = head.scale * head.mlp(values[:, :3]) + values[:, 3:]
    assert torch.allclose(head(given(values), summed=False), expected)


def test_without_species_it_needs_no_atomic_numbers() -> None:
    head = make_head({"kind": "atomwise", "act": "ssp"}, LevelSizes.of_scalars(3))
    values = torch.randn(4, 3)
    out = head(HeadInput(values, [values], BATCH, 2))
    assert out.shape == (2, 1)
    head.rescale(2.0)
    assert torch.allclose(head(HeadInput(values, [values], BATCH, 2)), 2 * out)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="scale must be one of"):
        AtomwiseHead(3, scale="each")
    with pytest.raises(ConfigError, match="give the head species"):
        AtomwiseHead(3, shift="species")
    with pytest.raises(ConfigError, match="cannot be rescaled"):
        made(shift="shared").rescale(2.0)
    head, values = made(shift="species"), torch.randn(4, 3, dtype=torch.float64)
    with pytest.raises(ConfigError, match="needs atomic numbers"):
        head(given(values)._replace(z=None))


def test_without_layers_the_invariants_are_the_energies() -> None:
    head = made(2, num_targets=2, layers=None, scale="shared")
    values = torch.randn(4, 2, dtype=torch.float64)
    assert not [*head.parameters()]
    assert torch.equal(head(given(values), summed=False), head.scale * values)
    with pytest.raises(ConfigError, match="layers=None needs as many invariants as"):
        made(3, layers=None)
    with pytest.raises(ConfigError, match="cannot be rescaled"):
        made(1, layers=None).rescale(2.0)
