"""The weighted sum against the depthwise tensor product of e3nn and a scatter."""

from __future__ import annotations

from math import sqrt

import pytest
import torch
from torch import Tensor

from torch_cormorant.irreps import Irreps
from torch_cormorant.ops import ProductPaths, build_plan, weighted_neighbour_sum
from torch_cormorant.so3 import from_e3nn, to_e3nn

CASES = {"even": ("8x0e + 5x1o + 4x2e", 2), "both": ("4x0e + 3x0o + 2x1e + 5x1o", 1)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_values_and_gradients(name: str, dtype: torch.dtype) -> None:
    """Each path of e3nn is ours times a sign and the root of 2l + 1."""
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")
    text, lmax = CASES[name]
    harmonics = Irreps.harmonics(lmax)
    paths = ProductPaths(text, harmonics, text)
    nodes, edges = 8, 40
    generator = torch.Generator().manual_seed(1)
    index = torch.randint(0, nodes, (2, edges), generator=generator)
    plan = build_plan(index, nodes, nodes)
    sizes = (
        (nodes, paths.first.dim),
        (edges, harmonics.dim),
        (edges, paths.weight_numel),
    )
    x, sh, w = (torch.randn(size, generator=generator, dtype=dtype) for size in sizes)
    theirs, scales = _product(o3, paths, dtype)

    def ours(x: Tensor, sh: Tensor, w: Tensor) -> list[Tensor]:
        return list(weighted_neighbour_sum(x, (plan, sh), w, paths))

    def of_e3nn(x: Tensor, sh: Tensor, w: Tensor) -> list[Tensor]:
        moved = to_e3nn(x, paths.first), to_e3nn(sh, harmonics)
        messages = theirs(moved[0][index[0]], moved[1], w)
        total = torch.zeros(nodes, messages.shape[1], dtype=dtype)
        total = total.index_add(0, index[1], messages)
        parts: list[list[Tensor]] = [[] for _ in paths.out]
        at = 0
        for path, size, scale in zip(paths.paths, paths.sizes, scales, strict=True):
            irreps = Irreps([(size, paths.out[path.out].ir)])
            part = from_e3nn(total[:, at : at + irreps.dim], irreps) * scale
            parts[path.out].append(part.unflatten(1, (-1, size)))
            at += irreps.dim
        return [torch.cat(part, dim=2) for part in parts]

    results = []
    for function in (ours, of_e3nn):
        leaves = [part.clone().requires_grad_() for part in (x, sh, w)]
        out = function(*leaves)
        loss = sum((part.sin() * part).sum() for part in out)
        results.append([*out, *torch.autograd.grad(loss, leaves)])
    limit = 1e-13 if dtype == torch.float64 else 2e-6
    for a, b in zip(*results, strict=True):
        assert float((a - b).abs().max()) <= limit * float(b.abs().max())


def _product(o3: object, paths: ProductPaths, dtype: torch.dtype) -> tuple:
    """The product of e3nn with one block of the result per path, and our factors."""
    out = [
        (size, str(paths.out[path.out].ir))
        for path, size in zip(paths.paths, paths.sizes, strict=True)
    ]
    rules = [(p.first, p.second, k, "uvu", True) for k, p in enumerate(paths.paths)]
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        product = o3.TensorProduct(
            str(paths.first).replace(" ", ""),
            str(paths.second).replace(" ", ""),
            "+".join(f"{mul}x{ir}" for mul, ir in out),
            rules,
            irrep_normalization="none",
            path_normalization="none",
            shared_weights=False,
            internal_weights=False,
        )
    finally:
        torch.set_default_dtype(before)
    scales = []
    for path in paths.paths:
        l1, l2, l = paths.degrees(path)
        k = l1 + l2 - l
        scales.append((-1) ** (k * (k + 1) // 2) * sqrt(2 * l + 1))
    return product, scales
