from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.activations import activation
from torch_cormorant.nn.heads import (
    AttentionHead,
    ExtensiveHead,
    HeadInput,
    LinearHead,
    MeanHead,
    PooledHead,
    PublishedHead,
)

BATCH = torch.tensor([0, 0, 2, 2, 2])
HEADS: dict[str, Any] = {
    "published": lambda: PublishedHead(6, 3, hidden=7, middle=5),
    "linear": lambda: LinearHead(6, 3),
    "extensive": lambda: ExtensiveHead(6, 3, hidden=7),
    "mean": lambda: MeanHead(6, 3, hidden=7),
    "attention": lambda: AttentionHead(6, 3, hidden=7),
    "pooled": lambda: PooledHead(6, 3),
    "pooled_max": lambda: PooledHead(6, 3, pool="max", layers=[4], act="relu"),
    "pooled_sum": lambda: PooledHead(6, 3, pool="sum", layers=[4]),
}


def atoms_of(values: Tensor, batch: Tensor, count: int) -> HeadInput:
    return HeadInput(values, (), batch, count)


@pytest.mark.parametrize("name", list(HEADS))
def test_every_molecule_has_its_row_also_an_empty_one(name: str) -> None:
    head = HEADS[name]().double()
    values = torch.randn(5, 6, dtype=torch.float64)
    found = head(atoms_of(values, BATCH, 4))
    assert found.shape == (4, *head.shape)
    for molecule in range(4):
        rows = values[molecule == BATCH]
        alone = head(atoms_of(rows, torch.zeros(len(rows), dtype=torch.long), 1))
        torch.testing.assert_close(found[molecule], alone[0], rtol=1e-13, atol=1e-13)
    assert torch.equal(found[1], found[3])


def test_heads_are_their_formulas() -> None:
    values = torch.randn(5, 6)
    atoms = atoms_of(values, BATCH, 3)
    mlp = HEADS["published"]()
    expected = mlp.mlp2(mlp.mlp1(values)[:2].sum(0))
    torch.testing.assert_close(mlp(atoms)[0], expected)
    linear = HEADS["linear"]()
    expected = linear.linear(values[2:].sum(0))
    torch.testing.assert_close(linear(atoms)[2], expected)
    extensive = HEADS["extensive"]()
    expected = 0.1 * extensive.mlp(values)[:2].sum(0)
    torch.testing.assert_close(extensive(atoms)[0], expected)
    found = extensive.contributions(values)
    torch.testing.assert_close(found, 0.1 * extensive.mlp(values))
    mean = HEADS["mean"]()
    torch.testing.assert_close(mean(atoms)[2], 0.1 * mean.mlp(values)[2:].mean(0))
    attention = HEADS["attention"]()
    shares = torch.softmax(0.1 * attention.score(values)[2:], dim=0)
    expected = 0.1 * (shares * attention.value(values)[2:]).sum(0)
    torch.testing.assert_close(attention(atoms)[2], expected)
    torch.testing.assert_close(attention.weights(atoms)[2:], shares)
    pools = {
        "pooled": values[2:].mean(0),
        "pooled_max": values[2:].amax(0),
        "pooled_sum": values[2:].sum(0),
    }
    for name, pooled in pools.items():
        head = HEADS[name]()
        torch.testing.assert_close(head(atoms)[2], head.mlp(pooled))
    with pytest.raises(ConfigError, match="pool must be one of"):
        PooledHead(6, pool="median")


def test_extensive_heads_add_up_and_intensive_ones_stay() -> None:
    values = torch.randn(5, 6)
    one = torch.zeros(5, dtype=torch.long)
    twice, both = torch.cat([values, values]), torch.zeros(10, dtype=torch.long)
    factors = {"extensive": 2, "mean": 1, "attention": 1}
    factors |= {"pooled": 1, "pooled_max": 1}
    for name, make in HEADS.items():
        head = make()
        single, double = (
            head(atoms_of(values, one, 1)),
            head(atoms_of(twice, both, 1)),
        )
        kept = [f for f in (1, 2) if torch.allclose(double, f * single, atol=1e-6)]
        assert kept == ([factors[name]] if name in factors else [])
        assert head.additive is (name == "extensive")


def test_intensive_heads_of_no_atoms_are_zero() -> None:
    nothing = atoms_of(torch.empty(0, 6), torch.empty(0, dtype=torch.long), 2)
    for name in ("extensive", "mean", "attention"):
        assert not HEADS[name]()(nothing).any()


def test_attention_survives_scores_of_any_size() -> None:
    head = HEADS["attention"]()
    values = torch.randn(5, 6)
    with torch.no_grad():
        head.score[-1].weight.mul_(1e6)
    weights = head.weights(atoms_of(values, BATCH, 3))
    assert bool(weights.isfinite().all())
    totals = torch.zeros(3, 3).index_add(0, BATCH, weights)
    torch.testing.assert_close(totals[[0, 2]], torch.ones(2, 3))


def test_gradients_of_attention() -> None:
    head = HEADS["attention"]().double()
    values = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)

    def function(rows: Tensor) -> Tensor:
        return head(atoms_of(rows, BATCH, 3))

    assert torch.autograd.gradcheck(function, (values,))
    assert torch.autograd.gradgradcheck(function, (values,))


@pytest.mark.parametrize("name", list(HEADS))
def test_rescaling_multiplies_the_result(name: str) -> None:
    head = HEADS[name]().double()
    atoms = atoms_of(torch.randn(5, 6, dtype=torch.float64), BATCH, 3)
    before = head(atoms).detach()
    head.rescale(0.3)
    torch.testing.assert_close(head(atoms).detach(), 0.3 * before)


def test_new_heads_start_small_and_published_ones_as_published() -> None:
    atoms = atoms_of(torch.randn(64, 40), torch.arange(64) // 4, 16)
    for kind in (PublishedHead, ExtensiveHead, MeanHead, AttentionHead):
        size = float(kind(40)(atoms).detach().square().mean().sqrt())
        assert (size > 0.1) is (kind is PublishedHead)


def test_activations_by_name() -> None:
    slope = activation("leaky_relu")
    assert isinstance(slope, nn.LeakyReLU)
    assert slope.negative_slope == 0.01
    assert isinstance(activation("silu"), nn.SiLU)
    assert isinstance(activation("relu"), nn.ReLU)
    with pytest.raises(ConfigError, match="gelu"):
        activation("gelu")
