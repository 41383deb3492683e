from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import EdgeGeometry, spherical_harmonics
from torch_cormorant.errors import (
    CoincidentAtomsError,
    ConfigError,
    CormorantError,
    DegreeError,
    DeviceError,
    DtypeError,
    EdgeIndexError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.ops.geometry import safe_norm

INDEX = torch.tensor([[0, 1, 1, 2, 0, 0], [1, 0, 2, 1, 0, 2]])


def positions() -> Tensor:
    return torch.tensor([[0.0, 0, 0], [1, 0.5, 0], [-1, 0, 2]], dtype=torch.float64)


def test_vectors_point_from_source_to_target() -> None:
    pos = positions()
    geometry = EdgeGeometry.from_pos(pos, INDEX)
    assert torch.equal(geometry.edge_vec[0], pos[1] - pos[0])
    assert torch.equal(geometry.edge_length, geometry.edge_vec.norm(dim=1))


@pytest.mark.parametrize("harmonics", ["unit", "solid"])
def test_harmonics_are_computed_once_and_cut_from_larger_ones(harmonics: str) -> None:
    geometry = EdgeGeometry.from_pos(positions(), INDEX, harmonics=harmonics)
    large = geometry.sh(3)
    assert geometry.sh(3) is large
    small = geometry.sh(1)
    assert small.data_ptr() == large.data_ptr()
    expected = spherical_harmonics(geometry.edge_vec, 1, harmonics == "unit")
    torch.testing.assert_close(small, expected)
    assert small[4].tolist() == [1, 0, 0, 0]


def test_pairs_share_lengths_and_numbers() -> None:
    geometry = EdgeGeometry.from_pos(positions(), INDEX[:, :5])
    assert geometry.shared
    assert geometry.pair_length.shape == (3,)
    source, target = geometry.pair_index
    assert list(zip(source.tolist(), target.tolist(), strict=True)) == [
        (0, 1),
        (1, 2),
        (0, 0),
    ]
    spread = geometry.to_edges(geometry.pair_length)
    assert torch.equal(spread, geometry.edge_length)
    assert repr(geometry) == "EdgeGeometry(3 nodes, 5 edges, 3 pairs, unit)"


def test_directed_graphs_keep_every_edge() -> None:
    for geometry in (
        EdgeGeometry.from_pos(positions(), INDEX),
        EdgeGeometry.from_pos(positions(), INDEX[:, :5], pairs=False),
    ):
        assert not geometry.shared
        assert torch.equal(geometry.pair_length, geometry.edge_length)
        assert torch.equal(geometry.pair_index[0], geometry.edge_index[0])
        assert geometry.to_edges(geometry.edge_length) is geometry.edge_length
        assert "directed" in repr(geometry)


def test_bipartite_graphs_are_directed_even_when_they_look_symmetric() -> None:
    vec = torch.tensor([[1.0, 0, 0], [-1, 0, 0]])
    geometry = EdgeGeometry(INDEX[:, :2], vec, (2, 2))
    assert not geometry.shared
    assert repr(EdgeGeometry(INDEX[:, :2], vec, (2, 5))).startswith(
        "EdgeGeometry(2 -> 5 nodes"
    )


def test_position_gradients_do_not_depend_on_pairs() -> None:
    gradients = []
    for pairs in (True, False):
        pos = positions().requires_grad_()
        geometry = EdgeGeometry.from_pos(pos, INDEX[:, :5], pairs=pairs)
        per_edge = geometry.to_edges(geometry.pair_length.cos())
        (per_edge.sum() + geometry.sh(2).square().sum()).backward()
        gradients.append(pos.grad)
    assert gradients[0] is not None
    torch.testing.assert_close(*gradients, rtol=1e-14, atol=1e-14)


def test_length_is_smooth_at_zero() -> None:
    vec = torch.tensor(
        [[0.0, 0, 0], [3, 0, 4]], dtype=torch.float64, requires_grad=True
    )
    length = safe_norm(vec)
    assert length.tolist() == [0, 5]
    (first,) = torch.autograd.grad(length.sum(), vec, create_graph=True)
    assert first.flatten().tolist() == pytest.approx([0, 0, 0, 0.6, 0, 0.8])
    (second,) = torch.autograd.grad(first.square().sum(), vec)
    assert bool(second.isfinite().all())


def test_tensors_of_the_caller_are_kept_and_not_changed() -> None:
    vec = torch.tensor([[1.0, 0, 0], [-1, 0, 0]])
    index, kept = INDEX[:, :2].clone(), vec.clone()
    geometry = EdgeGeometry(index, vec, 2)
    geometry.sh(3)
    assert geometry.edge_vec is vec
    assert torch.equal(vec, kept)
    assert torch.equal(index, INDEX[:, :2])


BASE: dict[str, Any] = {
    "edge_index": torch.tensor([[0, 1], [1, 0]]),
    "edge_vec": torch.tensor([[1.0, 0, 0], [-1, 0, 0]]),
    "num_nodes": 2,
}
VEC = BASE["edge_vec"]
MANY = torch.zeros(2, 5, dtype=torch.long)
FAULTS: dict[str, tuple[dict[str, Any], type[CormorantError], str]] = {
    "vec_shape": ({"edge_vec": VEC[:, :2]}, ShapeError, r"edge_vec .*\[2, 3\]"),
    "vec_count": ({"edge_vec": VEC[:1]}, ShapeError, r"edge_vec .*\[2, 3\]"),
    "vec_axes": ({"edge_vec": VEC.flatten()}, ShapeError, "edge_vec"),
    "vec_dtype": ({"edge_vec": VEC.long()}, DtypeError, "edge_vec .*int64"),
    "vec_complex": ({"edge_vec": VEC + 0j}, DtypeError, "edge_vec .*complex64"),
    "index_dtype": (
        {"edge_index": torch.tensor([[0, 1], [1, 0]], dtype=torch.int32)},
        DtypeError,
        "edge_index .*int32",
    ),
    "index_float": (
        {"edge_index": torch.tensor([[0.0, 1], [1, 0]])},
        DtypeError,
        "edge_index .*float32",
    ),
    "index_shape": (
        {"edge_index": torch.tensor([[0, 1], [1, 0], [0, 0]])},
        ShapeError,
        r"edge_index .*\[2, E\]",
    ),
    "index_axes": ({"edge_index": torch.tensor([0, 1])}, ShapeError, "edge_index"),
    "index_negative": (
        {"edge_index": torch.tensor([[0, -1], [1, 0]])},
        EdgeIndexError,
        "source node -1 in column 1",
    ),
    "index_large": (
        {"edge_index": torch.tensor([[0, 1], [2, 0]])},
        EdgeIndexError,
        "target node 2 in column 0",
    ),
    "index_huge": (
        {"edge_index": torch.tensor([[0, 2**62], [1, 0]])},
        EdgeIndexError,
        "column 1",
    ),
    "no_nodes": ({"num_nodes": 0}, EdgeIndexError, "edge_index"),
    "nan": ({"edge_vec": VEC * torch.nan}, NonFiniteError, "edge_vec .*row 0"),
    "inf": (
        {"edge_vec": torch.tensor([[1.0, 0, 0], [-torch.inf, 0, 0]])},
        NonFiniteError,
        "edge_vec .*row 1",
    ),
    "overflow": ({"edge_vec": VEC * 1e30}, NonFiniteError, "edge_vec .*row 0"),
    "coincident": ({"edge_vec": VEC * 0}, CoincidentAtomsError, "nodes 0 and 1"),
    "coincident_1e-12": ({"edge_vec": VEC * 1e-12}, CoincidentAtomsError, "0 and 1"),
    "coincident_1e-300": (
        {"edge_vec": VEC.double() * 1e-300},
        CoincidentAtomsError,
        "nodes 0 and 1",
    ),
    "bipartite_coincident": (
        {"edge_vec": VEC * 0, "num_nodes": (2, 2), "edge_index": MANY[:, :2]},
        CoincidentAtomsError,
        "0 and 0",
    ),
    "tiny_self_edge": (
        {"edge_vec": VEC * 1e-9, "edge_index": MANY[:, :2]},
        CoincidentAtomsError,
        "nodes 0 and 0",
    ),
    "harmonics": ({"harmonics": "complex"}, ConfigError, "harmonics .*complex"),
    "device": (
        {"edge_index": torch.empty(2, 2, dtype=torch.long, device="meta")},
        DeviceError,
        "edge_index lies on meta",
    ),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_faults_are_named(fault: str) -> None:
    change, error, message = FAULTS[fault]
    arguments = {**BASE, **change}
    index, vec = arguments.pop("edge_index"), arguments.pop("edge_vec")
    with pytest.raises(error, match=message):
        EdgeGeometry(index, vec, arguments.pop("num_nodes"), **arguments)


def test_faults_of_positions_are_named() -> None:
    with pytest.raises(ShapeError, match="pos must have shape"):
        EdgeGeometry.from_pos(torch.zeros(3, 2), INDEX)
    with pytest.raises(EdgeIndexError, match="2"):
        EdgeGeometry.from_pos(torch.randn(2, 3), INDEX)
    with pytest.raises(DegreeError, match="lmax"):
        EdgeGeometry.from_pos(positions(), INDEX).sh(9)


def test_checks_can_be_left_out() -> None:
    vec = torch.tensor([[1e-12, 0, 0], [-1e-12, 0, 0]])
    with pytest.raises(CoincidentAtomsError):
        EdgeGeometry(BASE["edge_index"], vec, 2)
    geometry = EdgeGeometry(BASE["edge_index"], vec, 2, validate=False)
    assert bool(geometry.sh(2).isfinite().all())
