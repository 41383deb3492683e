"""Copies, pickles and conversions of a layer."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from torch_cormorant import CormorantConv

Make = Callable[..., Any]


def seeded(*args: Any, **options: Any) -> CormorantConv:
    torch.manual_seed(1)
    return CormorantConv(*args, **options).double()


def test_copies_and_pickles_compute_the_same(example: Make) -> None:
    sample = example()
    conv = seeded(3, 4, lmax=2, lmax_in=1, edge_dim=1)
    args = (
        sample.features(3, 1),
        sample.edge_index,
        sample.edge_vec,
        sample.randn(sample.num_edges, 1),
    )
    expected = conv(*args)
    twin = copy.deepcopy(conv)
    assert torch.equal(twin(*args), expected)
    assert torch.equal(pickle.loads(pickle.dumps(conv))(*args), expected)  # noqa: S301
    buffer = io.BytesIO()
    torch.save(conv.state_dict(), buffer)
    buffer.seek(0)
    other = CormorantConv(3, 4, lmax=2, lmax_in=1, edge_dim=1).double()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(*args), expected)
    with torch.no_grad():
        twin.vertex.weights[0].zero_()
    assert torch.equal(conv(*args), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("complex_", [True, False])
def test_result_has_the_type_of_the_weights(
    complex_: bool, dtype: torch.dtype, example: Make
) -> None:
    sample = example(dtype=dtype)
    conv = CormorantConv(3, 4, lmax=2, complex=complex_).to(dtype)
    out, g = conv(
        sample.features(3), sample.edge_index, sample.edge_vec, return_edge_state=True
    )
    assert out.dtype == g.dtype == dtype
    assert out.shape == (7, 9, conv.planes, 4)


@pytest.mark.parametrize("through", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["portable", "reference"])
def test_constants_of_a_converted_layer_are_those_of_a_fresh_one(
    backend: str, through: torch.dtype, example: Make
) -> None:
    """Tables are made anew from exact numbers, never cast."""
    sample = example()
    conv = CormorantConv(3, 4, lmax=3, lmax_in=3, radial="bessel", cutoff=3.0)
    x = sample.features(3, 3)
    single = (x.float(), sample.edge_index, sample.edge_vec.float())
    before = conv(*single)
    converted = copy.deepcopy(conv).double().to(through).double()
    fresh = CormorantConv(3, 4, lmax=3, lmax_in=3, radial="bessel", cutoff=3.0)
    fresh = fresh.double()
    fresh.load_state_dict(converted.state_dict())
    for layer in (converted, fresh):
        layer.set_backend(backend)
    args = (x, sample.edge_index, sample.edge_vec)
    assert torch.equal(converted(*args), fresh(*args))
    assert torch.equal(conv.double().float()(*single), before)


def test_autocast_computes_in_the_type_of_the_weights(example: Make) -> None:
    sample = example(dtype=torch.float32)
    conv = CormorantConv(3, 4, lmax=2, edge_dim=2)
    x = sample.features(3).bfloat16()
    attr = sample.randn(sample.num_edges, 2).bfloat16()
    args = (sample.edge_index, sample.edge_vec)
    expected = conv(x.float(), *args, attr.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        linear = nn.Linear(3, 3)
        assert linear(x.float()).dtype == torch.bfloat16
        found = conv(x, *args, attr)
        state = conv(x, *args, attr, return_edge_state=True)[1]
        assert torch.is_autocast_enabled("cpu")
    assert found.dtype == state.dtype == torch.float32
    assert torch.equal(found, expected)
