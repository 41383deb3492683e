"""Tensor products of irreps, row by row, in the three modes of the field."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.ops.product_paths import ProductPath, ProductPaths, cg_table
from torch_cormorant.so3.flat import check_flat, flat_blocks


def tensor_product(
    x: Tensor,
    y: Tensor,
    irreps_x: object,
    irreps_y: object,
    irreps_out: object | None = None,
    *,
    paths: ProductPaths | Iterable[Sequence[object]] | None = None,
    mode: str = "uvu",
    weights: Tensor | None = None,
) -> Tensor:
    r"""Multiply irreps of x with irreps of y, row by row, over a list of paths.

    .. math::
        \text{out}^{l}_{m} \mathrel{+}= w \sum_{m_1 m_2}
        C^{l_1 l_2 l}_{m_1 m_2 m}\, x^{l_1}_{m_1}\, y^{l_2}_{m_2}

    with exact Clebsch-Gordan tables and no further factor; the modes are explained at
    :class:`~torch_cormorant.ops.ProductPaths`.

    Args:
        x: First operand, flat rows.
        y: Second operand, flat rows.
        irreps_x: What x is made of.
        irreps_y: What y is made of.
        irreps_out: ``"uvw"``: irreps of the result; otherwise those that are kept.
        paths: The paths, or triples for :class:`~torch_cormorant.ops.ProductPaths`;
            default: all.
        mode: ``"uuu"``, ``"uvu"`` (default) or ``"uvw"``.
        weights: One set for all rows, or one for each. May be left out (all ones) in
            the first two modes.

    Shapes:
        ``x`` ``[N, dim_x]``, ``y`` ``[N, dim_y]``, ``weights`` ``[weight_numel]`` or
        ``[N, weight_numel]``, path after path, each as ``ProductPaths.shapes`` says.

    Returns:
        Flat rows ``[N, dim]`` of ``ProductPaths.out``.

    Raises:
        ShapeError, DtypeError: If a tensor does not fit the irreps or the others.
        ConfigError: If the paths are not allowed, or weights are missing.

    Note:
        Differentiable to any order. For messages along edges use
        :func:`~torch_cormorant.ops.weighted_neighbour_sum`.

    Example:
        >>> import torch
        >>> x, y = torch.randn(5, 20), torch.randn(5, 4)
        >>> tensor_product(x, y, "8x0e + 4x1o", "0e + 1o", "0e + 1o").shape
        torch.Size([5, 48])
    """
    if not isinstance(paths, ProductPaths):
        paths = ProductPaths(irreps_x, irreps_y, irreps_out, mode=mode, paths=paths)
    _check(x, y, weights, paths)
    first, second = flat_blocks(x, paths.first), flat_blocks(y, paths.second)
    if weights is None:
        split: Sequence[Tensor | None] = [None] * len(paths.paths)
    else:
        split = weights.split(paths.sizes, dim=-1)
    made: list[list[Tensor]] = [[] for _ in paths.out]
    for k, (path, w) in enumerate(zip(paths.paths, split, strict=True)):
        if w is not None:
            w = w.unflatten(-1, paths.shapes[k])  # noqa: PLW2901
        part = _one(paths, path, first[path.first], second[path.second], w)
        made[path.out].append(part)
    blocks = [
        _joined(parts, paths.mode)
        if parts
        else x.new_zeros(x.shape[0], block.ir.dim, block.mul)
        for parts, block in zip(made, paths.out, strict=True)
    ]
    flat = [block.flatten(1) for block in blocks]
    return torch.cat(flat, dim=1) if flat else x.new_zeros(x.shape[0], 0)


def _joined(parts: list[Tensor], mode: str) -> Tensor:
    if mode == "uvw":
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
    return torch.cat(parts, dim=-1)


def _one(
    paths: ProductPaths, path: ProductPath, x: Tensor, y: Tensor, w: Tensor | None
) -> Tensor:
    """One path: ``[N, 2l + 1, copies]``."""
    cg = cg_table(paths.degrees(path), x.dtype, x.device)
    if paths.mode == "uvw" and w is not None:
        coupled = torch.einsum("abm,nbv->namv", cg, y)
        pairs = torch.einsum("nau,namv->nmuv", x, coupled)
        row = "n" if w.ndim == 4 else ""
        return torch.einsum(f"nmuv,{row}uvw->nmw", pairs, w)
    if paths.mode == "uvu":
        if w is None:
            y = y.sum(-1, keepdim=True)
        else:
            row = "n" if w.ndim == 3 else ""
            y = torch.einsum(f"nbv,{row}uv->nbu", y, w)
        w = None
    out = torch.einsum("abm,nau,nbu->nmu", cg, x, y.expand(-1, -1, x.shape[-1]))
    return out if w is None else out * (w if w.ndim == 1 else w.unsqueeze(1))


def _check(x: Tensor, y: Tensor, w: Tensor | None, paths: ProductPaths) -> None:
    for name, value in (("x", x), ("y", y), ("weights", w)):
        if value is None:
            continue
        if value.dtype not in (torch.float32, torch.float64) or value.dtype != x.dtype:
            msg = (
                f"{name} must be float32 or float64 and of the type of x, got "
                f"{value.dtype} beside {x.dtype}; convert it"
            )
            raise DtypeError(msg)
    check_flat(x, paths.first, "x")
    check_flat(y, paths.second, "y")
    if x.ndim != 2 or y.ndim != 2 or x.shape[0] != y.shape[0]:
        msg = (
            "x and y must have shapes [N, dim] with equal N, got "
            f"{list(x.shape)} and {list(y.shape)}"
        )
        raise ShapeError(msg)
    if w is None:
        if paths.mode == "uvw" and paths.paths:
            msg = f'mode "uvw" needs weights, {paths.weight_numel} of them'
            raise ConfigError(msg)
        return
    numel = paths.weight_numel
    if tuple(w.shape) not in {(numel,), (x.shape[0], numel)}:
        msg = (
            f"weights must have shape [{numel}] or [{x.shape[0]}, {numel}], got "
            f"{list(w.shape)}"
        )
        raise ShapeError(msg)
