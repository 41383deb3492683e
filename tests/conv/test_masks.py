"""Where soft masks start, and the word about masks that silence a graph."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from torch_cormorant import Cormorant, CormorantConv, CormorantQM9, EdgeGeometry
from torch_cormorant.errors import CormorantWarning
from torch_cormorant.models import recipe


def line(step: float, atoms: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Atoms on a line, each pair within two steps an edge."""
    pos = step * torch.arange(atoms).unsqueeze(1) * torch.tensor([[0.0, 0.6, 0.8]])
    gaps = torch.cdist(pos, pos)
    near = (gaps > 0.5 * step) & (gaps < 2.5 * step)
    return near.nonzero().t().contiguous(), pos


@pytest.mark.parametrize(
    ("options", "radius"),
    [
        ({}, 1.73),
        ({"cutoff": 5.0}, 4.0),
        ({"cutoff": 3.0, "radial": "bessel"}, 2.4),
        ({"cutoff": 5.0, "soft_radius": 1.73}, 1.73),
    ],
)
def test_soft_radii_start_near_the_cutoff(
    options: dict[str, Any], radius: float
) -> None:
    conv = CormorantConv(3, 4, lmax=1, **options)
    expected = torch.full((3,), radius)
    assert torch.equal(conv.edge_network.cutoff.radius, expected)
    lazy = CormorantConv(-1, 4, lmax=1, **options)
    lazy.materialize(3)
    assert torch.equal(lazy.edge_network.cutoff.radius, expected)


@pytest.mark.parametrize("length", [2.6, 3.5, 4.9])
def test_no_edge_within_the_cutoff_is_silent(length: float) -> None:
    mask = CormorantConv(3, 4, cutoff=5.0).edge_network.cutoff
    assert bool((mask(torch.tensor([length])) > 1e-3).all())


def test_networks_start_as_published_and_as_their_recipes_say() -> None:
    made = [CormorantQM9(), CormorantQM9(cutoff=5.0), Cormorant(), recipe()]
    made += [Cormorant(soft_radius=None)]
    starts = [model.convs[0].edge_network.cutoff.soft_radius for model in made]
    assert starts == [1.73] * len(made)
    assert Cormorant.potential().convs[0].edge_network.cutoff.soft_radius == 3.0


@pytest.mark.parametrize("geometry", [False, True])
def test_a_layer_says_once_that_most_edges_are_masked(geometry: bool) -> None:
    index, pos = line(3.2)
    conv, x = CormorantConv(3, 4, lmax=1), torch.randn(6, 3)
    options = {} if geometry else {"pos": pos}
    edges = EdgeGeometry.from_pos(pos, index) if geometry else index
    with pytest.warns(CormorantWarning, match="18 of 18 edges.* 6.4 Angstrom.* 1.73"):
        conv(x, edges, **options)
    conv(x, edges, **options)


@pytest.mark.parametrize(
    "options",
    [{"cutoff": 7.0}, {"soft_radius": 6.0}, {"cutoff_type": ("learn", "hard")}],
)
def test_open_masks_are_not_spoken_of(options: dict[str, Any]) -> None:
    index, pos = line(3.2)
    if "cutoff_type" in options:  # a hard cutoff is meant to cut
        options = {**options, "cutoff": 3.0, "soft_radius": 7.0}
    conv = CormorantConv(3, 4, lmax=1, **options)
    conv(torch.randn(6, 3), index, pos=pos)


def test_published_networks_mask_far_pairs_without_a_word() -> None:
    _, pos = line(1.4, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CormorantQM9(channels=2, num_levels=1, lmax=1)(torch.full((9,), 6), pos)


def test_empty_graphs_have_nothing_to_look_at() -> None:
    index, pos = line(3.2)
    x = torch.randn(6, 3)
    conv = CormorantConv(3, 4, lmax=1)
    conv(x, index[:, :0], pos=pos)
    assert not conv.check_masks
