"""The layer of Allegro on its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import EdgeGeometry, radius_graph
from torch_cormorant.conv import AllegroBlock
from torch_cormorant.errors import ConfigError, ShapeError, WeightsError
from torch_cormorant.so3 import random_rotation

Make = Callable[..., Any]
CUTOFF = 2.2
FIRST, LAST = "3x0e + 3x1o + 3x1e", "3x0e + 3x1o + 3x2o"


def block(**options: Any) -> AllegroBlock:
    return AllegroBlock(FIRST, LAST, 5, 4, lmax=2, **options).double()


class Given:
    """A block and what it acts on."""

    def __init__(self, sample: Any, **options: Any) -> None:
        self.block = block(**options)
        self.pos, self.index = sample.pos, radius_graph(sample.pos, CUTOFF)
        E, paths = self.index.shape[1], self.block.paths
        self.s = sample.randn(E, 5)
        self.v = sample.randn(E, paths.first.dim)
        self.w = sample.randn(E, 9)

    def __call__(self, **changes: Any) -> tuple[Tensor, ...]:
        given = {"s": self.s, "v": self.v, "w": self.w, "pos": self.pos, **changes}
        geometry = EdgeGeometry.from_pos(given.pop("pos"), self.index)
        more = {k: given.pop(k) for k in ("node_type",) if k in given}
        result: tuple[Tensor, ...] = self.block(*given.values(), geometry, **more)
        return result


def test_results_turn_with_their_input(example: Make, turned: Make) -> None:
    given = Given(example())
    s, v, w = given()
    for turn in (random_rotation(), -random_rotation()):
        moved = turned(given.v, given.block.irreps_in, turn)
        found = given(v=moved, pos=given.pos @ turn.T + 1.0)
        expected = s, turned(v, given.block.irreps_out, turn), w
        for a, b in zip(found, expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-11, atol=1e-11)


def test_the_reference_gives_the_same(example: Make) -> None:
    given = Given(example(), shared_weights=True)
    expected = given()
    given.block.backend = "portable"
    for a, b in zip(given(), expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


def test_an_edge_sees_its_receiver_alone(example: Make) -> None:
    given = Given(example())
    expected, target = given(), given.index[1]
    w = given.w.clone()
    w[target == 0] += 1.0
    for a, b in zip(given(w=w), expected, strict=True):
        assert torch.equal(a[target != 0], b[target != 0])
        assert not torch.allclose(a[target == 0], b[target == 0])


def test_numbers_of_neighbours_are_those_of_the_receivers(example: Make) -> None:
    given = Given(example(), avg_num_neighbors=[4.0, 9.0])
    one = block(avg_num_neighbors=4.0)
    one.load_state_dict(dict(given.block.named_parameters()), strict=False)
    types = torch.tensor([0, 1, 0, 0, 1, 1, 0])
    found = given(node_type=types)[1]
    expected = given.block.__class__.forward(
        one, given.s, given.v, given.w, EdgeGeometry.from_pos(given.pos, given.index)
    )[1]
    factor = torch.tensor([1.0, 2 / 3], dtype=torch.float64)[types[given.index[1]]]
    assert torch.allclose(found, expected * factor[:, None], rtol=1e-12, atol=1e-12)
    with pytest.raises(ConfigError, match="give node_type"):
        given()


def test_repr_weights_and_reset(example: Make) -> None:
    given = Given(example(), hidden=[6], act="identity", avg_num_neighbors=3.0)
    twin = eval(repr(given.block)).double()  # noqa: S307
    assert repr(twin) == repr(given.block)
    twin.load_state_dict(given.block.state_dict())
    with pytest.raises(WeightsError, match=r"avg_num_neighbors=3\.0"):
        block(hidden=[6], act="identity").load_state_dict(given.block.state_dict())
    before, given.block = given()[0], twin
    assert torch.equal(given()[0], before)
    twin.reset_parameters()
    assert not torch.allclose(given()[0], before)


def test_the_last_block_makes_no_weights(example: Make) -> None:
    assert Given(example(), weights_out=False)()[2] is None


def test_what_does_not_fit_is_named(example: Make) -> None:
    given = Given(example())
    with pytest.raises(ShapeError, match=r"weights must have shape \[\d+, 9\]"):
        given(w=given.w[:, 1:])
    with pytest.raises(ConfigError, match=r"even scalars \(0e\)"):
        AllegroBlock(FIRST, "3x1o", 5, 4, lmax=1)
    with pytest.raises(ConfigError, match="avg_num_neighbors must be positive"):
        block(avg_num_neighbors=0)
