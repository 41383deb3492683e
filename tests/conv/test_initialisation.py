"""How a layer starts, and what it does without edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import CormorantConv

Make = Callable[..., Any]


def seeded(*args: Any, **options: Any) -> CormorantConv:
    torch.manual_seed(1)
    return CormorantConv(*args, **options).double()


@pytest.mark.parametrize("complex_", [True, False])
@pytest.mark.parametrize("paths", ["all", "even"])
def test_a_stack_of_four_stays_at_order_one(
    paths: str, complex_: bool, example: Make
) -> None:
    sample = example(nodes=40, cutoff=2.0)
    torch.manual_seed(0)
    options = {"lmax": 3, "paths": paths, "complex": complex_}
    x, sizes = sample.features(16), []
    for k in range(4):
        conv = CormorantConv(16, 16, lmax_in=3 if k else 0, **options).double()
        x = conv(x, sample.edge_index, sample.edge_vec).detach()
        sizes.append(float(x.square().mean().sqrt()))
    assert all(0.03 < size < 30 for size in sizes), sizes


@pytest.mark.parametrize("init", ["published", "supplement"])
def test_published_initialisations_have_their_scale(init: str) -> None:
    torch.manual_seed(0)
    conv = CormorantConv(16, 16, lmax=3, lmax_in=3, init=init, gain=5.0)
    for l in range(4):
        weight = conv.vertex.weights[l]
        out, columns = weight.shape[1:]
        scale = max(out, columns) if init == "published" else out + columns
        top = float(weight.detach().abs().max())
        assert 0.95 * 5 / scale < top <= 5 / scale
        weight = conv.edge_network.weights[l].detach()
        out, columns = weight.shape[1:]
        if init == "published":
            assert float(weight.std()) == pytest.approx(1 / max(out, columns), rel=0.1)
        else:
            assert float(weight.abs().max()) <= 5 / (out + columns)


def test_gain_scales_the_weights() -> None:
    torch.manual_seed(0)
    one = CormorantConv(3, 4, lmax=2)
    torch.manual_seed(0)
    two = CormorantConv(3, 4, lmax=2, gain=2.0)
    for a, b in zip(one.vertex.parameters(), two.vertex.parameters(), strict=True):
        torch.testing.assert_close(2 * a, b)


def test_unused_state_columns_still_exist() -> None:
    with_state = CormorantConv(3, 4, lmax=2, lmax_in=2)
    assert with_state.edge_state_channels == 3
    none = CormorantConv(3, 4, lmax=2, lmax_in=2, edge_state_channels=0)
    wider = with_state.edge_network.weights[1].shape[-1]
    assert wider - none.edge_network.weights[1].shape[-1] == 3
    assert CormorantConv(3, 4, lmax=2).edge_state_channels == 0


def test_output_of_a_node_without_edges_is_its_own_update(example: Make) -> None:
    sample = example()
    conv = seeded(3, 4, lmax=2, lmax_in=1)
    x = sample.features(3, 1)
    empty = conv(x, sample.edge_index[:, :0], sample.edge_vec[:0])
    assert bool(empty.isfinite().all())
    only = sample.edge_index[1] == 2
    some = conv(x, sample.edge_index[:, only], sample.edge_vec[only])
    others = torch.arange(7) != 2
    torch.testing.assert_close(some[others], empty[others], rtol=1e-13, atol=1e-13)
    assert not torch.allclose(some[2], empty[2])


def test_no_nodes_at_all() -> None:
    for backend in ("portable", "reference"):
        conv = CormorantConv(3, 4, lmax=2, backend=backend)
        index = torch.zeros(2, 0, dtype=torch.long)
        out = conv(torch.zeros(0, 3), index, torch.zeros(0, 3))
        assert out.shape == (0, 9, 2, 4)


def parameters_in_use(conv: CormorantConv, loss: Tensor) -> list[str]:
    loss.backward()
    return [name for name, p in conv.named_parameters() if p.grad is not None]


def test_every_parameter_gets_a_gradient(example: Make) -> None:
    sample = example()
    conv = seeded(3, 4, lmax=2, lmax_in=2, edge_dim=1)
    out = conv(
        sample.features(3, 2),
        sample.edge_index,
        sample.edge_vec,
        sample.randn(sample.num_edges, 1),
        edge_state=sample.randn(sample.num_edges, 3, 2, 3),
    )
    used = parameters_in_use(conv, out.square().sum())
    assert used == [name for name, _ in conv.named_parameters()]
    for name, parameter in conv.named_parameters():
        assert bool(parameter.grad.any()), name
