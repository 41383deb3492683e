from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn import AtomwiseReadout, LinearReadout, MLPReadout
from torch_cormorant.nn.readout import activation

BATCH = torch.tensor([0, 0, 2, 2, 2])
READOUTS: dict[str, Any] = {
    "mlp": lambda: MLPReadout(6, 3, hidden=7, middle=5),
    "linear": lambda: LinearReadout(6, 3),
    "atomwise": lambda: AtomwiseReadout(6, 3, hidden=7),
}


@pytest.mark.parametrize("name", list(READOUTS))
def test_every_molecule_has_its_row_also_an_empty_one(name: str) -> None:
    readout = READOUTS[name]().double()
    values = torch.randn(5, 6, dtype=torch.float64)
    found = readout(values, BATCH, 4)
    assert found.shape == (4, 3)
    for molecule in range(4):
        rows = values[molecule == BATCH]
        alone = readout(rows, torch.zeros(len(rows), dtype=torch.long), 1)
        torch.testing.assert_close(found[molecule], alone[0], rtol=1e-13, atol=1e-13)
    assert torch.equal(found[1], found[3])


def test_readouts_are_their_formulas() -> None:
    values = torch.randn(5, 6)
    mlp = READOUTS["mlp"]()
    expected = mlp.mlp2(mlp.mlp1(values)[:2].sum(0))
    torch.testing.assert_close(mlp(values, BATCH, 3)[0], expected)
    linear = READOUTS["linear"]()
    expected = linear.linear(values[2:].sum(0))
    torch.testing.assert_close(linear(values, BATCH, 3)[2], expected)
    atomwise = READOUTS["atomwise"]()
    expected = atomwise.mlp(values)[:2].sum(0)
    torch.testing.assert_close(atomwise(values, BATCH, 3)[0], expected)


def test_only_the_atomwise_readout_is_additive() -> None:
    values = torch.randn(5, 6)
    whole, one = torch.zeros(5, dtype=torch.long), BATCH // 2
    for name, additive in [("atomwise", True), ("mlp", False), ("linear", False)]:
        readout = READOUTS[name]()
        total, parts = readout(values, whole, 1)[0], readout(values, one, 2).sum(0)
        assert torch.allclose(total, parts, atol=1e-5) is additive


def test_activations_by_name() -> None:
    slope = activation("leaky_relu")
    assert isinstance(slope, nn.LeakyReLU)
    assert slope.negative_slope == 0.01
    assert isinstance(activation("silu"), nn.SiLU)
    assert isinstance(activation("relu"), nn.ReLU)
    with pytest.raises(ConfigError, match="gelu"):
        activation("gelu")
