"""What does not fit a layer is refused by a typed error that names the tensor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import CormorantConv, EdgeGeometry
from torch_cormorant.errors import (
    CoincidentAtomsError,
    ConfigError,
    CormorantError,
    DeviceError,
    DtypeError,
    EdgeIndexError,
    NonFiniteError,
    ShapeError,
)

INDEX = torch.tensor([[0, 1, 2], [1, 0, 2]])
VEC = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 0, 0]])
POS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]])


def spoiled(x: Tensor, value: float, row: int = 2) -> Tensor:
    x = x.clone()
    x[row, -1] = value
    return x


def inputs() -> dict[str, Any]:
    return {
        "x": torch.ones(4, 5),
        "edge_index": INDEX,
        "edge_vec": VEC,
        "edge_attr": torch.ones(3, 2),
        "edge_state": torch.ones(3, 2, 2, 4),
    }


def without(name: str) -> dict[str, Any]:
    return {name: None}


def with_pos(pos: Any) -> dict[str, Any]:
    return {"edge_vec": None, "pos": pos}


X = torch.ones(4, 5)
GEOMETRY = {"edge_vec": None, "edge_index": EdgeGeometry(INDEX, VEC, 4)}

Fault = tuple[Callable[[], dict[str, Any]], type[CormorantError], str]
FAULTS: dict[str, Fault] = {
    # --- x
    "x_channels": (lambda: {"x": torch.ones(4, 3)}, ShapeError, r"x must have shape"),
    "x_axes": (lambda: {"x": torch.ones(4, 5, 1)}, ShapeError, "x must have shape"),
    "x_degrees": (lambda: {"x": torch.ones(4, 4, 2, 5)}, ShapeError, "x must have"),
    "x_planes": (lambda: {"x": torch.ones(4, 1, 1, 5)}, ShapeError, "x must have"),
    "x_double": (lambda: {"x": X.double()}, DtypeError, "x is torch.float64"),
    "x_integer": (lambda: {"x": X.long()}, DtypeError, "x is torch.int64"),
    "x_complex": (lambda: {"x": X + 0j}, DtypeError, "x is torch.complex64"),
    "x_list": (lambda: {"x": X.tolist()}, CormorantError, "x must be"),
    "x_none": (lambda: {"x": None}, DtypeError, "x must be"),
    "x_triple": (lambda: {"x": (X, X, X)}, DtypeError, "x must be"),
    "x_nan": (lambda: {"x": spoiled(X, torch.nan)}, NonFiniteError, "x .*row 2"),
    "x_inf": (lambda: {"x": spoiled(X, -torch.inf)}, NonFiniteError, "x .*row 2"),
    "x_device": (lambda: {"x": X.to("meta")}, DeviceError, "x"),
    "x_too_few": (lambda: {"x": X[:2]}, EdgeIndexError, "edge_index"),
    "target_nan": (
        lambda: {"x": (X, spoiled(X, torch.nan)), "edge_vec": VEC + 1},
        NonFiniteError,
        "x.*row 2",
    ),
    "target_channels": (lambda: {"x": (X, X[:, :3])}, ShapeError, "x must have shape"),
    "target_dtype": (lambda: {"x": (X, X.double())}, DtypeError, "x is"),
    # --- edge_index
    "index_list": (lambda: {"edge_index": INDEX.tolist()}, DtypeError, "edge_index"),
    "index_int32": (lambda: {"edge_index": INDEX.int()}, DtypeError, "edge_index"),
    "index_float": (lambda: {"edge_index": INDEX.float()}, DtypeError, "edge_index"),
    "index_shape": (lambda: {"edge_index": INDEX.t()}, ShapeError, "edge_"),
    "index_large": (lambda: {"edge_index": INDEX + 2}, EdgeIndexError, "column 2"),
    "index_negative": (lambda: {"edge_index": INDEX - 1}, EdgeIndexError, "column 0"),
    "index_device": (
        lambda: {"edge_index": INDEX.to("meta")},
        DeviceError,
        "edge_index lies on",
    ),
    # --- edge_vec and pos
    "vec_shape": (lambda: {"edge_vec": VEC[:, :2]}, ShapeError, "edge_vec"),
    "vec_rows": (lambda: {"edge_vec": VEC[:2]}, ShapeError, "edge_vec"),
    "vec_nan": (
        lambda: {"edge_vec": spoiled(VEC, torch.nan, 1)},
        NonFiniteError,
        "edge_vec .*row 1",
    ),
    "vec_double": (lambda: {"edge_vec": VEC.double()}, DtypeError, "edge_vec"),
    "vec_half": (lambda: {"edge_vec": VEC.half()}, DtypeError, "edge_vec"),
    "vec_device": (lambda: {"edge_vec": VEC.to("meta")}, DeviceError, "edge_"),
    "vec_coincident": (
        lambda: {"edge_vec": 0 * VEC},
        CoincidentAtomsError,
        "nodes 0 and 1",
    ),
    "no_vectors": (lambda: without("edge_vec"), ConfigError, "edge_vec"),
    "both": (lambda: {"pos": POS}, ConfigError, "edge_vec"),
    "pos_shape": (lambda: with_pos(POS[:, :2]), ShapeError, "pos must have shape"),
    "pos_rows": (lambda: with_pos(POS[:3]), ShapeError, "pos must have shape"),
    "pos_integer": (lambda: with_pos(POS.long()), DtypeError, "pos"),
    "pos_double": (lambda: with_pos(POS.double()), DtypeError, "edge_vec|pos"),
    "pos_nan": (
        lambda: with_pos(spoiled(POS, torch.nan, 1)),
        NonFiniteError,
        "pos .*row 1",
    ),
    "pos_list": (lambda: with_pos(POS.tolist()), DtypeError, "pos"),
    # --- edge_attr and edge_state
    "attr_missing": (lambda: without("edge_attr"), ConfigError, "edge_attr"),
    "attr_width": (lambda: {"edge_attr": torch.ones(3, 1)}, ShapeError, "edge_attr"),
    "attr_rows": (lambda: {"edge_attr": torch.ones(2, 2)}, ShapeError, "edge_attr"),
    "attr_nan": (
        lambda: {"edge_attr": spoiled(torch.ones(3, 2), torch.nan, 1)},
        NonFiniteError,
        "edge_attr .*row 1",
    ),
    "attr_device": (
        lambda: {"edge_attr": torch.ones(3, 2, device="meta")},
        DeviceError,
        "edge_attr",
    ),
    "state_shape": (
        lambda: {"edge_state": torch.ones(3, 2, 2, 5)},
        ShapeError,
        "edge_state",
    ),
    "state_rows": (
        lambda: {"edge_state": torch.ones(2, 2, 2, 4)},
        ShapeError,
        "edge_state",
    ),
    "state_dtype": (
        lambda: {"edge_state": torch.ones(3, 2, 2, 4).double()},
        DtypeError,
        "edge_state",
    ),
    "state_nan": (
        lambda: {"edge_state": spoiled(torch.ones(3, 2, 2, 4), torch.nan, 1)},
        NonFiniteError,
        "edge_state .*row 1",
    ),
    # --- EdgeGeometry
    "geometry_vec": (lambda: {**GEOMETRY, "edge_vec": VEC}, ConfigError, "edge_vec"),
    "geometry_pos": (lambda: {**GEOMETRY, "pos": POS}, ConfigError, "pos"),
    "geometry_size": (
        lambda: {"edge_vec": None, "edge_index": EdgeGeometry(INDEX, VEC, 5)},
        ShapeError,
        "EdgeGeometry",
    ),
    "geometry_solid": (
        lambda: {
            "edge_vec": None,
            "edge_index": EdgeGeometry(INDEX, VEC, 4, harmonics="solid"),
        },
        ConfigError,
        "harmonics",
    ),
    "geometry_double": (
        lambda: {"edge_vec": None, "edge_index": EdgeGeometry(INDEX, VEC.double(), 4)},
        DtypeError,
        "float64",
    ),
}


@pytest.mark.parametrize("backend", ["portable", "reference"])
@pytest.mark.parametrize("fault", list(FAULTS))
def test_faults_are_named(fault: str, backend: str) -> None:
    make, error, message = FAULTS[fault]
    conv = CormorantConv(
        5, 3, lmax=1, edge_dim=2, edge_state_channels=4, backend=backend
    )
    conv(**inputs())
    with pytest.raises(error, match=message) as caught:
        conv(**{**inputs(), **make()})
    assert len(str(caught.value)) > 30


def test_attributes_that_the_layer_does_not_take_are_refused() -> None:
    conv = CormorantConv(5, 3, lmax=1)
    with pytest.raises(ConfigError, match="edge_dim=0"):
        conv(X, INDEX, VEC, torch.ones(3, 2))
    with pytest.raises(ShapeError, match="edge_state"):
        conv(X, INDEX, VEC, edge_state=torch.ones(3, 2, 2, 5))


@pytest.mark.parametrize("distance", [0.0, 1e-300, 1e-12])
def test_coincident_atoms_are_refused_by_name(distance: float) -> None:
    conv = CormorantConv(5, 3, lmax=1).double()
    vec = distance * VEC.double()
    with pytest.raises(CoincidentAtomsError, match="nodes 0 and 1"):
        conv(X.double(), INDEX, vec)
