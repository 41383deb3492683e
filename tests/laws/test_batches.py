"""A molecule does not notice the other molecules of its batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

Make = Callable[..., Any]
SIZES = (4, 7, 1, 3, 5)


def close(a: Tensor, b: Tensor, rtol: float) -> None:
    assert float((a - b).abs().max()) <= rtol * float(b.abs().max())


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(torch.float64, 1e-13), (torch.float32, 2e-6)]
)
def test_every_molecule_gets_what_it_gets_alone(
    name: str, dtype: torch.dtype, rtol: float, network: Make, molecules: Make
) -> None:
    model = network(name, dtype)
    z, pos, batch = molecules(*SIZES)
    pos = pos.to(dtype)
    together = model(z, pos, batch)
    parts = [model(z[batch == k], pos[batch == k]) for k in range(len(SIZES))]
    close(together, torch.cat(parts), rtol)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 2**31),
    cuts=st.sets(st.integers(1, len(SIZES) - 1)),
)
def test_any_order_and_any_split_of_a_batch(
    seed: int, cuts: set[int], network: Make, molecules: Make
) -> None:
    model = network("qm9", num_levels=2, lmax=(2, 0))
    z, pos, batch = molecules(*SIZES)
    expected = model(z, pos, batch)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(SIZES), generator=generator).tolist()
    found = []
    borders = [0, *sorted(cuts), len(SIZES)]
    for first, last in pairwise(borders):
        chosen = order[first:last]
        rows = [(batch == k).nonzero().flatten() for k in chosen]
        local = torch.arange(len(chosen)).repeat_interleave(
            torch.tensor([len(r) for r in rows])
        )
        index = torch.cat(rows)
        found.append(model(z[index], pos[index], local))
    close(torch.cat(found), expected[order], 1e-13)


@pytest.mark.parametrize("where", ["first", "middle", "last", "all"])
def test_empty_molecules_change_nothing(
    name: str, where: str, network: Make, molecules: Make
) -> None:
    model = network(name)
    z, pos, batch = molecules(4, 3)
    leaf = pos.clone().requires_grad_()
    kept = {"first": [1, 2], "middle": [0, 2], "last": [0, 1], "all": [1, 3]}[where]
    count = 5 if where == "all" else 3
    moved = torch.tensor(kept)[batch]
    out = model(z, leaf, moved, num_graphs=count)
    assert out.shape == (count, 1)
    close(out[kept].detach(), model(z, pos, batch), 1e-13)
    empty = model(z[:0], pos[:0], num_graphs=1)
    for row in set(range(count)) - set(kept):
        close(out[row].detach(), empty[0], 1e-13)
    (gradient,) = torch.autograd.grad(out.sum(), leaf)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("backend", ["portable", "reference"])
def test_no_gradient_leaks_into_another_molecule(
    name: str, backend: str, dtype: torch.dtype, network: Make, molecules: Make
) -> None:
    model = network(name, dtype)
    model.set_backend(backend)
    z, pos, batch = molecules(4, 3, 5)
    leaf = pos.to(dtype).requires_grad_()
    out = model(z, leaf, batch)
    for k in range(3):
        (slope,) = torch.autograd.grad(out[k, 0], leaf, retain_graph=True)
        assert not slope[batch != k].any(), "exactly zero"
        assert bool(slope[batch == k].any())


def test_molecules_at_the_same_place_do_not_interact(
    network: Make, molecules: Make
) -> None:
    model = network("cutoff")
    z, pos, _ = molecules(5)
    batch = torch.arange(2).repeat_interleave(5)
    out = model(torch.cat([z, z]), torch.cat([pos, pos]), batch)
    close(out, model(z, pos).expand(2, 1), 1e-13)
