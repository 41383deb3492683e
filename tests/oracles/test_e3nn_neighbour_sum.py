"""The neighbour sum against tensor products of e3nn, an independent library."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from torch_cormorant.ops import PathTable, build_plan, neighbour_sum
from torch_cormorant.so3 import degree_slice, spherical_harmonics

with warnings.catch_warnings():
    # e3nn uses TorchScript, which newer releases of torch report on import.
    warnings.simplefilter("ignore")
    o3 = pytest.importorskip("e3nn.o3")

CHANNELS = 3
# e3nn keeps its constants in float64, good to about 4e-15 of one at these degrees.
RTOL = 1e-13


@contextmanager
def torch_float64() -> Iterator[None]:
    """Make e3nn round its constants to float64, not to float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def e3nn_product(
    left: Tensor, right: Tensor, path: tuple[int, int, int], weight: Tensor
) -> Tensor:
    """One path of e3nn's channelwise product ("uuu"), component normalised.

    e3nn multiplies by sqrt(2l + 1) times its 3j symbol, which is an orthonormal CG
    table up to a sign; its components follow the same (y, z, x) order as ours.
    """
    l1, l2, l = path
    with warnings.catch_warnings(), torch_float64():
        warnings.simplefilter("ignore")
        product = o3.TensorProduct(
            f"{CHANNELS}x{l1}e",
            f"{CHANNELS}x{l2}e",
            f"{CHANNELS}x{l}e",
            [(0, 0, 0, "uuu", True)],
            irrep_normalization="component",
            path_normalization="none",
            internal_weights=False,
            shared_weights=False,
        )
        return torch.as_tensor(
            product(
                left.transpose(1, 2).flatten(1),
                right.transpose(1, 2).flatten(1),
                weight,
            )
        ).reshape(-1, CHANNELS, 2 * l + 1)


@pytest.mark.parametrize("lmax", [1, 2, 3])
def test_neighbour_sum_equals_e3nn_path_by_path(lmax: int) -> None:
    generator = torch.Generator().manual_seed(lmax)
    nodes, edges, table = 6, 25, PathTable(lmax, lmax, lmax)
    options = {"generator": generator, "dtype": torch.float64}
    index = torch.randint(0, nodes, (2, edges), generator=generator)
    x = torch.randn(nodes, (lmax + 1) ** 2, CHANNELS, **options)
    g = torch.randn(edges, lmax + 1, CHANNELS, **options)
    sh = spherical_harmonics(torch.randn(edges, 3, **options), lmax)
    sums = neighbour_sum(x, g, sh, build_plan(index, nodes, nodes), table)
    position = [0] * (lmax + 1)
    for path in table.paths:
        l1, l2, l = path
        harmonics = sh[:, degree_slice(l1), None].expand(-1, -1, CHANNELS)
        values = x[index[0]][:, degree_slice(l2)]
        messages = e3nn_product(harmonics, values, path, g[:, l1])
        zeros = messages.new_zeros(nodes, CHANNELS, 2 * l + 1)
        expected = zeros.index_add(0, index[1], messages).transpose(1, 2)
        found = sums[l][:, :, position[l]]
        position[l] += 1
        scale = float(expected.abs().max())
        assert scale > 0.01
        same = float((found - expected).abs().max())
        opposite = float((found + expected).abs().max())
        # Overall signs of CG tables are a convention, one for each path.
        assert min(same, opposite) < RTOL * scale * math.sqrt(edges), path
    assert position == list(table.counts)
