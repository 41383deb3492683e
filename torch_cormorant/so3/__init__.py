"""Rotations of SO(3)-vectors: layout, harmonics, Wigner matrices, invariants."""

from __future__ import annotations

from torch_cormorant.cg.exact import MAX_DEGREE
from torch_cormorant.so3.flat import (
    as_irreps,
    as_packed,
    flat_blocks,
    from_e3nn,
    to_e3nn,
)
from torch_cormorant.so3.harmonics import spherical_harmonics
from torch_cormorant.so3.layout import (
    basis_matrix,
    cat_degrees,
    check_degree,
    check_vector,
    degree_index,
    degree_slice,
    degree_slices,
    dim,
    from_complex_basis,
    lmax_of,
    split_degrees,
    to_complex_basis,
)
from torch_cormorant.so3.products import dot, norm_squared
from torch_cormorant.so3.rotations import (
    cube_rotations,
    random_rotation,
    rotation_from_axis_angle,
)
from torch_cormorant.so3.wigner import wigner_D

__all__ = [
    "MAX_DEGREE",
    "as_irreps",
    "as_packed",
    "basis_matrix",
    "cat_degrees",
    "check_degree",
    "check_vector",
    "cube_rotations",
    "degree_index",
    "degree_slice",
    "degree_slices",
    "dim",
    "dot",
    "flat_blocks",
    "from_complex_basis",
    "from_e3nn",
    "lmax_of",
    "norm_squared",
    "random_rotation",
    "rotation_from_axis_angle",
    "spherical_harmonics",
    "split_degrees",
    "to_complex_basis",
    "to_e3nn",
    "wigner_D",
]
