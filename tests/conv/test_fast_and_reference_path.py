"""The fast path and the path edge by edge are the same function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant import CormorantConv, EdgeGeometry

Make = Callable[..., Any]

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "scalars": {},
    "lmax_0": {"lmax": 0, "lmax_sh": 1, "lmax_in": 1},
    "all_degrees_0": {"lmax": 0},
    "vectors": {"lmax_in": 2},
    "down": {"lmax": 1, "lmax_in": 3, "lmax_sh": 2},
    "up": {"lmax": 3, "lmax_in": 1, "lmax_sh": 2},
    "far_up": {"lmax": 4, "lmax_in": 1, "lmax_sh": 3},
    "real": {"lmax_in": 2, "complex": False},
    "even": {"lmax_in": 2, "paths": "even"},
    "even_real": {"lmax_in": 2, "paths": "even", "complex": False},
    "solid": {"lmax_in": 2, "harmonics": "solid"},
    "edge_attr": {"lmax_in": 2, "edge_dim": 3},
    "edge_attr_real": {"edge_dim": 1, "complex": False},
    "edge_state": {"lmax_in": 2, "edge_state_channels": 5},
    "edge_state_low": {"lmax_in": 2, "edge_state_lmax": 1},
    "edge_state_high": {"lmax_in": 2, "edge_state_lmax": 4, "edge_dim": 2},
    "edge_state_scalars": {"edge_state_channels": 2, "complex": False},
    "bessel": {"lmax_in": 1, "radial": "bessel", "cutoff": 2.5},
    "gaussian": {"radial": "gaussian", "cutoff": 2.5, "num_basis": 6},
    "gaussian_real": {
        "radial": "gaussian",
        "cutoff": 2.5,
        "num_basis": 5,
        "complex": False,
    },
    "basis_set": {"basis_set": (1, 2)},
    "basis_set_odd": {"basis_set": (0, 4)},
    "hard": {"cutoff": 1.5, "cutoff_type": ("hard", "learn")},
    "only_hard": {"cutoff": 1.5, "cutoff_type": ("hard",)},
    "gaussian_mask": {"gaussian_mask": True},
    "no_envelope": {"cutoff": 2.5, "envelope": False},
    "published": {"lmax_in": 2, "init": "published", "gain": 5.0},
    "supplement": {"lmax_in": 2, "init": "supplement", "gain": 5.0},
}


def inputs_of(conv: CormorantConv, sample: Any, *, shaken: bool) -> dict[str, Tensor]:
    """Every tensor that the layer takes, with everything that it can use."""
    planes = conv.planes
    inputs = {"x": sample.features(conv.in_channels, conv.lmax_in, planes)}
    if shaken:  # no edge is the reverse of another one any more
        apart = (sample.edge_index[0] != sample.edge_index[1])[:, None]
        noise = sample.randn(sample.num_edges, 3)
        inputs["edge_vec"] = sample.edge_vec + 0.05 * apart * noise
    else:
        inputs["pos"] = sample.pos
    if conv.edge_dim:
        inputs["edge_attr"] = sample.randn(sample.num_edges, conv.edge_dim)
    if conv.edge_state_channels:
        shape = (conv.edge_state_lmax + 1, planes, conv.edge_state_channels)
        inputs["edge_state"] = sample.randn(sample.num_edges, *shape)
    return inputs


def outcome(
    conv: CormorantConv, sample: Any, inputs: dict[str, Tensor], weights: list[Tensor]
) -> list[Tensor]:
    """Node and edge output, and gradients of all inputs and parameters."""
    leaves = {k: v.clone().requires_grad_() for k, v in inputs.items()}
    out, g = conv(edge_index=sample.edge_index, return_edge_state=True, **leaves)
    loss = (out * weights[0]).sum() + (g * weights[1]).sum() + out.square().sum()
    wanted = [*leaves.values(), *(p for p in conv.parameters() if p.requires_grad)]
    first = torch.autograd.grad(loss, wanted, create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(
        first[0].square().sum() + first[1].square().sum(),
        wanted,
        materialize_grads=True,
    )
    return [t.detach() for t in (out, g, *first, *second)]


@pytest.mark.parametrize("shaken", [False, True])
@pytest.mark.parametrize("name", list(CONFIGURATIONS))
def test_values_and_gradients_of_everything(
    name: str, shaken: bool, example: Make
) -> None:
    sample = example()
    options = {"lmax": 2, **CONFIGURATIONS[name]}
    conv = CormorantConv(3, 4, **options).double()
    inputs = inputs_of(conv, sample, shaken=shaken)
    shapes = [
        (7, (conv.lmax + 1) ** 2, conv.planes, 4),
        (sample.num_edges, conv.lmax_sh + 1, conv.planes, 3),
    ]
    weights = [sample.randn(*shape) for shape in shapes]
    found = outcome(conv, sample, inputs, weights)
    assert [tuple(part.shape) for part in found[:2]] == shapes
    conv.set_backend("reference")
    expected = outcome(conv, sample, inputs, weights)
    for k, (a, b) in enumerate(zip(found, expected, strict=True)):
        scale = float(b.abs().max())
        assert float((a - b).abs().max()) <= 1e-12 * scale, k
    assert all(bool(part.any()) for part in found[:3])


def test_symmetric_and_shaken_graphs_take_different_roads(example: Make) -> None:
    sample = example()
    conv = CormorantConv(3, 4)
    shared = EdgeGeometry.from_pos(sample.pos, sample.edge_index)
    assert shared.shared
    vec = inputs_of(conv, sample, shaken=True)["edge_vec"]
    assert not EdgeGeometry(sample.edge_index, vec, 7).shared


def test_edge_vectors_of_a_symmetric_graph_give_the_gradients_of_positions_and_cells(
    example: Make,
) -> None:
    """One of two edges gets the length's share of both, which no sum can see."""
    sample = example()
    conv = CormorantConv(3, 4).double()
    x, found = sample.features(3), []
    source, target = sample.edge_index
    for backend in ("portable", "reference"):
        conv.set_backend(backend)
        vec = sample.edge_vec.requires_grad_()
        out = conv(x, sample.edge_index, vec).square().sum()
        (slope,) = torch.autograd.grad(out, vec)
        force = torch.zeros_like(sample.pos).index_add(0, source, slope)
        force = force.index_add(0, target, -slope)
        found.append((force, vec.detach().T @ slope))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-11)


def test_float32(example: Make) -> None:
    sample = example(dtype=torch.float32)
    conv = CormorantConv(8, 8, lmax=3, lmax_in=3)
    inputs = inputs_of(conv, sample, shaken=False)
    found = conv(edge_index=sample.edge_index, **inputs)
    conv.set_backend("reference")
    expected = conv(edge_index=sample.edge_index, **inputs)
    assert found.dtype == torch.float32
    error = float((found - expected).detach().abs().max())
    assert error <= 5e-6 * float(expected.detach().abs().max())


@pytest.mark.parametrize("backend", ["auto", "portable", "reference"])
def test_every_named_backend_runs(backend: str, example: Make) -> None:
    sample = example()
    torch.manual_seed(3)
    conv = CormorantConv(3, 4, backend=backend).double()
    assert conv.backend == backend
    torch.manual_seed(3)
    other = CormorantConv(3, 4).double()
    args = (sample.features(3), sample.edge_index, sample.edge_vec)
    torch.testing.assert_close(conv(*args), other(*args), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("backend", ["portable", "reference"])
def test_bipartite_pairs(backend: str, example: Make) -> None:
    sample = example()
    generator = sample.generator
    index = torch.stack(
        [
            torch.randint(0, 7, (15,), generator=generator),
            torch.randint(0, 4, (15,), generator=generator),
        ]
    )
    conv = CormorantConv(3, 4, lmax=2, lmax_in=1, edge_dim=2).double()
    conv.set_backend(backend)
    source, attr = sample.features(3, 1), sample.randn(15, 2)
    target, vec = sample.randn(4, 4, 2, 3), sample.randn(15, 3)
    out = conv((source, target), index, vec, attr)
    assert out.shape == (4, 9, 2, 4)
    # Both kinds of nodes in one graph: the same sums, targets numbered from 7.
    shifted = index + torch.tensor([[0], [7]])
    whole = conv(torch.cat([source, target]), shifted, vec, attr)
    torch.testing.assert_close(out, whole[7:], rtol=1e-12, atol=1e-12)


def test_bipartite_fast_path_has_the_gradients_of_the_reference(
    example: Make,
) -> None:
    sample = example()
    index = torch.tensor([[0, 6, 2, 2, 5], [1, 1, 0, 1, 2]])
    conv = CormorantConv(3, 4, lmax=2, lmax_in=1).double()
    inputs = [sample.features(3, 1), sample.randn(3, 4, 2, 3), sample.randn(5, 3)]
    found = []
    for backend in ("portable", "reference"):
        conv.set_backend(backend)
        source, target, vec = (x.clone().requires_grad_() for x in inputs)
        out = conv((source, target), index, vec).square().sum()
        leaves = [source, target, vec, *conv.parameters()]
        found.append(torch.autograd.grad(out, leaves))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11 * float(b.abs().max()))


@pytest.mark.parametrize("complex_", [True, False])
def test_gradcheck_of_the_layer(complex_: bool) -> None:
    index = torch.tensor([[0, 1, 1], [1, 0, 1]])
    conv = CormorantConv(1, 1, lmax=1, lmax_in=1, complex=complex_).double()
    planes = conv.planes
    x = torch.randn(2, 4, planes, 1, dtype=torch.float64, requires_grad=True)
    state = torch.randn(3, 2, planes, 1, dtype=torch.float64, requires_grad=True)
    # A self edge has the vector zero, a constant; the others are free.
    free = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, free: Tensor, state: Tensor) -> Tensor:
        vec = torch.cat([free, free.new_zeros(1, 3)])
        out = conv(x, index, vec, edge_state=state)
        assert isinstance(out, Tensor)
        return out

    inputs = (x, free, state)
    assert torch.autograd.gradcheck(function, inputs, atol=1e-8, rtol=1e-6)
    assert torch.autograd.gradgradcheck(function, inputs, atol=1e-7, rtol=1e-5)


def test_inputs_are_never_changed(example: Make) -> None:
    sample = example()
    conv = CormorantConv(3, 4, lmax=2, lmax_in=2, edge_dim=2).double()
    inputs = inputs_of(conv, sample, shaken=False)
    kept = {name: value.clone() for name, value in inputs.items()}
    index = sample.edge_index.clone()
    weights = nn.ParameterList(conv.parameters())
    before = [p.detach().clone() for p in weights]
    for backend in ("portable", "reference"):
        conv.set_backend(backend)
        leaves = {name: value.requires_grad_() for name, value in inputs.items()}
        conv(edge_index=index, **leaves).sum().backward()
        assert all(torch.equal(inputs[name], kept[name]) for name in kept)
        assert torch.equal(index, sample.edge_index)
        assert all(map(torch.equal, weights, before))
