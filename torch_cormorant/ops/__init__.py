"""Operations on SO(3)-vectors and graphs: CG products, the neighbour sum, plans."""

from __future__ import annotations

from torch_cormorant.ops.cg_product import cg_product, from_complex, to_complex
from torch_cormorant.ops.dispatch import use_backend
from torch_cormorant.ops.dots import edge_dots
from torch_cormorant.ops.edge_product import EdgePaths, edge_product
from torch_cormorant.ops.geometry import EdgeGeometry
from torch_cormorant.ops.kernel_sum import kernel_neighbour_sum
from torch_cormorant.ops.nbody_paths import NBodyPaths, kappa
from torch_cormorant.ops.neighbour_sum import neighbour_sum
from torch_cormorant.ops.paths import PathTable
from torch_cormorant.ops.plan import GraphPlan, build_plan
from torch_cormorant.ops.product_paths import ProductPath, ProductPaths
from torch_cormorant.ops.splines import Splines, spline_table
from torch_cormorant.ops.square import fold_columns, folded_square
from torch_cormorant.ops.tensor_product import tensor_product
from torch_cormorant.ops.weighted_sum import weighted_neighbour_sum

__all__ = [
    "EdgeGeometry",
    "EdgePaths",
    "GraphPlan",
    "NBodyPaths",
    "PathTable",
    "ProductPath",
    "ProductPaths",
    "Splines",
    "build_plan",
    "cg_product",
    "edge_dots",
    "edge_product",
    "fold_columns",
    "folded_square",
    "from_complex",
    "kappa",
    "kernel_neighbour_sum",
    "neighbour_sum",
    "spline_table",
    "tensor_product",
    "to_complex",
    "use_backend",
    "weighted_neighbour_sum",
]
