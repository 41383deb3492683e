"""Tensor products of irreps against explicit sums and e3nn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import sqrt

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from torch_cormorant import clebsch_gordan, wigner_D
from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.ops import ProductPaths, tensor_product
from torch_cormorant.ops.product_paths import paths_of
from torch_cormorant.so3 import degree_slices, flat_blocks, from_e3nn, random_rotation
from torch_cormorant.so3 import to_e3nn as theirs_of

FIRST, SECOND = "2x0e + 3x1o + 2x2e", "2x0e + 1x1o + 2x2e"
PATHS = {
    "uuu": ProductPaths("2x0e + 2x1o + 2x2e", "2x0e + 2x1o + 2x2e", mode="uuu"),
    "uvu": ProductPaths(FIRST, SECOND, "0e + 1o + 1e + 3o"),
    "uvw": ProductPaths(FIRST, SECOND, "3x0e + 2x1o + 1x1e + 2x0e", mode="uvw"),
}


def draw(paths: ProductPaths, rows: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    sizes = (paths.first.dim, paths.second.dim, paths.weight_numel)
    x, y, w = (torch.randn(rows, n, dtype=torch.float64) for n in sizes)
    return x, y, w


def brute_force(x: Tensor, y: Tensor, w: Tensor, paths: ProductPaths) -> Tensor:
    """One number after the other."""
    out = torch.zeros(x.shape[0], paths.out.dim, dtype=x.dtype)
    a, b, to = (
        flat_blocks(value, irreps)
        for value, irreps in ((x, paths.first), (y, paths.second), (out, paths.out))
    )
    split = w.split(paths.sizes, dim=1)
    for path, part, shape in zip(paths.paths, split, paths.shapes, strict=True):
        cg = clebsch_gordan(*paths.degrees(path))
        for copies in product(*map(range, shape)):
            weight = part.reshape(-1, *shape)[(slice(None), *copies)]
            u, v = copies[0], copies[0] if paths.mode == "uuu" else copies[1]
            channel = copies[-1] if paths.mode == "uvw" else path.at + u
            for m1, m2, m in product(*map(range, cg.shape)):
                value = a[path.first][:, m1, u] * b[path.second][:, m2, v]
                to[path.out][:, m, channel] += weight * cg[m1, m2, m] * value
    return out


@pytest.mark.parametrize("mode", list(PATHS))
def test_against_explicit_sums(mode: str) -> None:
    paths = PATHS[mode]
    x, y, w = draw(paths)
    args = (paths.first, paths.second)
    found = tensor_product(x, y, *args, paths=paths, weights=w)
    assert torch.allclose(found, brute_force(x, y, w, paths), atol=1e-13)
    shared = tensor_product(x, y, *args, paths=paths, weights=w[0])
    expected = brute_force(x, y, w[:1].expand_as(w), paths)
    assert torch.allclose(shared, expected, atol=1e-13)
    if mode != "uvw":
        plain = tensor_product(x, y, *args, paths=paths)
        expected = brute_force(x, y, torch.ones_like(w), paths)
        assert torch.allclose(plain, expected, atol=1e-13)


@pytest.mark.parametrize("mode", list(PATHS))
def test_derivatives(mode: str) -> None:
    paths = PATHS[mode]

    def function(x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        return tensor_product(x, y, "", "", paths=paths, weights=w)

    inputs = [value.requires_grad_() for value in draw(paths, 2)]
    assert gradcheck(function, inputs, fast_mode=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


def turn(x: Tensor, irreps: Irreps, D: Tensor, det: int) -> Tensor:
    at = degree_slices(4)
    parts = [
        (D[at[ir.l], at[ir.l]] @ block).flatten(1) * (ir.p if det < 0 else 1)
        for (_, ir), block in zip(irreps, flat_blocks(x, irreps), strict=True)
    ]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("det", [1, -1])
@pytest.mark.parametrize("mode", list(PATHS))
def test_rotations_and_inversion(mode: str, det: int) -> None:
    paths = PATHS[mode]
    x, y, w = draw(paths)
    D = wigner_D(random_rotation(dtype=torch.float64), 4)

    def function(x: Tensor, y: Tensor) -> Tensor:
        return tensor_product(x, y, "", "", paths=paths, weights=w)

    turned = function(turn(x, paths.first, D, det), turn(y, paths.second, D, det))
    expected = turn(function(x, y), paths.out, D, det)
    assert torch.allclose(turned, expected, atol=1e-12)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", list(PATHS))
def test_against_e3nn(mode: str) -> None:
    """Each path of e3nn is ours times a sign and the root of 2l + 1."""
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")
    paths = PATHS[mode]
    x, y, w = draw(paths)
    singles = [
        (
            path,
            o3.Irreps(
                [
                    (
                        paths.out[path.out].mul if mode == "uvw" else shape[0],
                        str(paths.out[path.out].ir),
                    )
                ]
            ),
        )
        for path, shape in zip(paths.paths, paths.shapes, strict=True)
    ]
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        product = o3.TensorProduct(
            str(paths.first).replace(" ", ""),
            str(paths.second).replace(" ", ""),
            sum((irreps for _, irreps in singles), o3.Irreps("")),
            [(p.first, p.second, k, mode, True) for k, (p, _) in enumerate(singles)],
            irrep_normalization="none",
            path_normalization="none",
            shared_weights=False,
            internal_weights=False,
        )
    finally:
        torch.set_default_dtype(default)
    result = product(theirs_of(x, paths.first), theirs_of(y, paths.second), w)
    blocks: list[Tensor | None] = [None] * len(paths.out)
    found = tensor_product(x, y, "", "", paths=paths, weights=w)
    at = 0
    for path, irreps in singles:
        l1, l2, l = paths.degrees(path)
        k = l1 + l2 - l
        scale = (-1) ** (k * (k + 1) // 2) * sqrt(2 * l + 1)
        part = from_e3nn(result[:, at : at + irreps.dim], irreps) * scale
        at += irreps.dim
        part = part.unflatten(1, (2 * l + 1, -1))
        before = blocks[path.out]
        if before is None:
            blocks[path.out] = part
        elif mode == "uvw":
            blocks[path.out] = before + part
        else:
            blocks[path.out] = torch.cat([before, part], dim=-1)
    expected = torch.cat([b.flatten(1) for b in blocks if b is not None], dim=1)
    assert torch.allclose(found, expected, atol=1e-12)


def test_paths_can_be_chosen_and_have_no_order_of_their_own() -> None:
    chosen = [(1, 1, "1e"), (0, 1, "1o"), (1, 0, "1o")]
    paths = ProductPaths("2x0e + 3x1o", "0e + 1o", paths=chosen)
    assert paths.out == Irreps("5x1o + 3x1e")
    assert [path.at for path in paths.paths] == [0, 0, 2]
    assert paths.weight_numel == 8
    assert paths_of(paths.key) == paths
    assert hash(paths_of(paths.key)) == hash(paths)
    given = ProductPaths(
        "1x0e + 3x1o",
        "2x0e + 1x1o",
        "2x0e + 1x1o + 1x0e",
        mode="uvw",
        paths=[(1, 1, 0), (1, 1, 2)],
    )
    assert given.shapes == ((3, 1, 2), (3, 1, 1))
    assert paths_of(given.key) == given


def test_repeated_irreps_of_a_full_product_get_their_own_weights() -> None:
    paths = ProductPaths("2x1o", "1x1o", "3x0e + 2x0e", mode="uvw")
    assert paths.shapes == ((2, 1, 3), (2, 1, 2))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: ProductPaths("1x0e", "1x0e", mode="uww"), ConfigError, "mode"),
        (lambda: ProductPaths("1x0e", "0e", mode="uvw"), ConfigError, "give out"),
        (lambda: ProductPaths("1x0e", "1o", paths=[(0, 0, "1e")]), ConfigError, "not"),
        (lambda: ProductPaths("1x0e", "1o", paths=[(1, 0, "1o")]), ConfigError, "0 to"),
        (lambda: ProductPaths("1x0e", "1o", paths=[(0, "a", "1o")]), ConfigError, "to"),
        (lambda: ProductPaths("1x0e", "1o", paths=[(0, 0)]), ConfigError, "three"),
        (
            lambda: ProductPaths("2x0e", "1o", mode="uuu", paths=[(0, 0, "1o")]),
            ShapeError,
            "multiplicities",
        ),
        (lambda: paths_of([0, 3]), ConfigError, "key"),
    ],
)
def test_paths_that_cannot_be(
    make: Callable[[], object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make()


def test_tensors_that_do_not_fit() -> None:
    x, y = torch.zeros(2, 5), torch.zeros(2, 4)
    args = ("2x0e + 1x1o", "0e + 1o", "2x0e")
    with pytest.raises(ShapeError, match="y must have rows"):
        tensor_product(x, x, *args)
    with pytest.raises(ShapeError, match="equal N"):
        tensor_product(x, y[:1], *args)
    with pytest.raises(DtypeError, match="y must be"):
        tensor_product(x, y.double(), *args)
    with pytest.raises(DtypeError, match="float32 or float64"):
        tensor_product(x.half(), y.half(), *args)
    with pytest.raises(ConfigError, match="needs weights"):
        tensor_product(x, y, *args, mode="uvw")
    with pytest.raises(ShapeError, match="weights must have shape"):
        tensor_product(x, y, *args, weights=torch.zeros(2, 2))


def test_nothing_to_multiply() -> None:
    x = torch.zeros(3, 2)
    assert tensor_product(x, x, "2x0e", "2x0e", "1o").shape == (3, 0)
    assert tensor_product(x[:0], x[:0], "2x0e", "2x0e").shape == (0, 2)
    weights = torch.zeros(0)
    out = tensor_product(x, x, "2x0e", "2x0e", "2x1o", mode="uvw", weights=weights)
    assert torch.equal(out, torch.zeros(3, 6))
