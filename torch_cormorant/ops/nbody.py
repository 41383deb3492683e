r"""The sums of N-body gates: products of two sums, and sums over pairs of children."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torch_cormorant.irreps import Irrep
from torch_cormorant.ops.children import children_of, pairs_of
from torch_cormorant.ops.nbody_paths import NBodyPaths, Piece
from torch_cormorant.ops.tensors import safe_norm

__all__ = ["fragments_of_pairs", "fragments_of_sums"]

Radials = Callable[[Tensor], Tensor]
Fragments = dict[Irrep, Tensor]


def fragments_of_sums(sums: Sequence[Tensor], paths: NBodyPaths) -> Fragments:
    r"""Fragments of eqs. (10) and (11), from sums over the children of a node.

    Eq. (11) is a sum over pairs of products, so it is the product of two sums:

    .. math::
        \sum_{i i'} f_i f_{i'} \, \psi_i \otimes \psi_{i'} \otimes v_i \otimes v_{i'}
        = \Big( \sum_i f_i \, \psi_i \otimes v_i \Big) \otimes
          \Big( \sum_{i'} f_{i'} \, \psi_{i'} \otimes v_{i'} \Big)

    Args:
        sums: :math:`\sum_i f_p(d_i) \, v_i \psi_i` for each block of the children,
            ``[T, P, 3 (2l + 1), C]``, vectors (y, z, x) outside; real or complex.
        paths: The fragments, of gate ``"single"`` or ``"pairs"``.

    Returns:
        ``[T, 2l + 1, P F]`` by irreps.
    """
    found = []
    for piece in paths.pieces:
        a = sums[piece.blocks[0]]
        if len(piece.blocks) == 2:
            c, d = _channels(piece, paths, a.device)
            b = sums[piece.blocks[1]]
            a = a.index_select(-1, c).unsqueeze(3) * b.index_select(-1, d).unsqueeze(2)
            a = a.flatten(2, 3)
        found.append(_tables(a, piece))
    return _joined(found, paths, sums[0], sums[0].shape[0])


def fragments_of_pairs(
    x: Sequence[Tensor],
    v: Tensor,
    target: Tensor,
    count: int,
    radials: Radials,
    paths: NBodyPaths,
    cutoff: float | None = None,
) -> Fragments:
    r"""Fragments of eq. (12): a sum over pairs of different children of a node.

    The inner sum, :math:`B_i = \sum_{i' \ne i} f_p(d_{ii'}) \, v_{ii'} \psi_{i'}`,
    mixes no channels, and what is left is one matrix product for each node: memory
    grows with the pairs of children, not with pairs times products of channels.

    Args:
        x: States of the children of all edges by blocks, ``[E, 2l + 1, C]``.
        v: Vectors from the nodes to the children ``[E, 3]``, as (y, z, x).
        target: Nodes of all edges ``[E]``.
        count: Number of nodes T.
        radials: From lengths ``[n]`` to radial functions ``[n, P]``.
        paths: The fragments, of gate ``"relative"``.
        cutoff: Pairs that are not closer are left out. Default None: none is.

    Returns:
        ``[T, 2l + 1, P F]`` by irreps.
    """
    parts: list[Fragments] = []
    order = []
    for nodes, edges in children_of(target, count):
        states = [_placed(block, edges) for block in x]
        inner = _inner_sums(states, _placed(v, edges), edges, radials, cutoff)
        found = []
        for piece in paths.pieces:
            first, second = piece.blocks
            g = _sum_over_children(states[first], inner[second], piece, paths)
            found.append(_tables(g, piece))
        parts.append(_joined(found, paths, x[0], len(nodes)))
        order.append(nodes)
    if not parts:
        functions = radials(v.new_ones(1)).shape[1]
        return {
            ir: x[0].new_zeros(count, ir.dim, functions * number)
            for ir, number in paths.counts().items()
        }
    place = torch.cat(order)
    return {ir: _scattered([p[ir] for p in parts], place, count) for ir in parts[0]}


def _placed(rows: Tensor, edges: Tensor) -> Tensor:
    """Rows of edges at their places ``[T, K, ...]``, zeros where these are empty."""
    held = rows.index_select(0, edges.clamp_min(0).flatten()).unflatten(0, edges.shape)
    full = (edges >= 0).view(*edges.shape, *[1] * (rows.ndim - 1))
    return torch.where(full, held, held.new_zeros(()))


def _scattered(parts: Sequence[Tensor], place: Tensor, count: int) -> Tensor:
    rows = torch.cat(list(parts))
    return rows.new_zeros(count, *rows.shape[1:]).index_copy(0, place, rows)


def _inner_sums(
    states: Sequence[Tensor],
    v: Tensor,
    edges: Tensor,
    radials: Radials,
    cutoff: float | None,
) -> list[Tensor]:
    """B of every child by blocks, ``[T, K, P, 3 (2l + 1), C]``."""
    pairs = pairs_of(edges).flatten()
    between = (v.unsqueeze(2) - v.unsqueeze(1)).flatten(0, 2)
    if cutoff is not None:
        pairs = pairs & (between.detach().square().sum(-1) < cutoff**2)
    kept = pairs.nonzero().flatten()
    vectors = between.index_select(0, kept)
    weights = radials(safe_norm(vectors)).unsqueeze(2) * vectors.unsqueeze(1)
    places = edges.shape[0], edges.shape[1], edges.shape[1]
    flat = weights.new_zeros(pairs.shape[0], *weights.shape[1:])
    w = flat.index_copy(0, kept, weights).unflatten(0, places)
    made = []
    for block in states:
        own = w.to(block.dtype)
        out = torch.einsum("tijpv,tjmc->tipvmc", own, block)
        made.append(out.flatten(3, 4))
    return made


def _sum_over_children(x: Tensor, b: Tensor, piece: Piece, paths: NBodyPaths) -> Tensor:
    """Components and channels of both, summed: ``[T, P, components, pairs]``."""
    if piece.channels == "equal":
        return torch.einsum("tkac,tkpsc->tpasc", x, b).flatten(2, 3)
    g = torch.einsum("tkac,tkpsd->tpascd", x, b).flatten(2, 3).flatten(3)
    if piece.channels == "all":
        return g
    c, d = _channels(piece, paths, x.device)
    return g.index_select(3, c * b.shape[-1] + d)


def _channels(
    piece: Piece, paths: NBodyPaths, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Channels of the first and of the second child of all pairs."""
    first, second = (paths.irreps_in[k].mul for k in piece.blocks)
    if piece.channels == "equal":
        same = torch.arange(first, device=device)
        return same, same
    if piece.channels == "below":
        c, d = torch.triu_indices(first, first, 1, device=device)
        return c, d
    c = torch.arange(first, device=device).repeat_interleave(second)
    return c, torch.arange(second, device=device).repeat(first)


def _tables(g: Tensor, piece: Piece) -> Fragments:
    """Components coupled: ``[T, P, R, C]`` to ``[T, P, 2l + 1, F C]``."""
    found = {}
    for ir, table in piece.tables.items():
        own = table.to(device=g.device, dtype=g.dtype)
        found[ir] = torch.einsum("tprc,rfm->tpmfc", g, own).flatten(3)
    return found


def _joined(
    found: Sequence[Fragments], paths: NBodyPaths, like: Tensor, count: int
) -> Fragments:
    """Fragments of all pieces side by side, radial functions outside."""
    result = {}
    for ir in paths.counts():
        parts = [part[ir] for part in found if ir in part]
        if not parts:
            result[ir] = like.new_zeros(count, ir.dim, 0)
            continue
        result[ir] = torch.cat(parts, dim=-1).transpose(1, 2).flatten(2)
    return result
