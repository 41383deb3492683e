"""Fused stages as they are written in formulas, in PyTorch alone.

What fused operators do where the kernels do not compute, what they are tested against,
and where derivatives beyond the second come from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from torch_cormorant.ops.cg_product import product, to_complex
from torch_cormorant.ops.radial_basis import check_cutoff
from torch_cormorant.ops.vertex_paths import VertexPaths

CLAMP = 1e-3
"""Smallest radius and width (Angstrom) that a mask can reach."""


# ------------------------------------------------------------------------- edges


def soft_mask(r: Tensor, radius: Tensor, width: Tensor | None) -> Tensor:
    """Mask without a hard cutoff, ``[E, channels]``.

    Args:
        r: Lengths in Angstrom ``[E, 1]``.
        radius: Of every channel.
        width: Of every channel; None: a Gaussian.
    """
    radius = radius.abs().clamp_min(CLAMP)
    if width is None:
        return torch.exp(-(r / radius).square())
    return torch.sigmoid((radius - r) / width.abs().clamp_min(CLAMP))


def envelope(length: Tensor, cutoff: float) -> Tensor:
    r"""C2 polynomial from 1 at r = 0 to 0 at the cutoff and beyond.

    :math:`u(t) = 1 - 10 t^3 + 15 t^4 - 6 t^5` with :math:`t = r / r_c`: value and the
    first two derivatives vanish at the cutoff.

    Args:
        length: ``[E]`` in Angstrom.
        cutoff: r_c in Angstrom.

    Raises:
        ConfigError: If the cutoff is not a positive number.

    Example:
        >>> import torch
        >>> envelope(torch.tensor([0.0, 2.5, 5.0, 9.0]), 5.0)
        tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """
    check_cutoff(cutoff)
    # Written in s = 1 - t, where it is s^3 (10 - 15 s + 6 s^2): no cancellation near
    # the cutoff, exactly zero from there on.
    s = (1 - length / cutoff).clamp_min(0)
    return s * s * s * (10 + s * (6 * s - 15))


def edge_mask(parts: Mapping[str, Tensor], smooth: float, hard: float) -> Tensor:
    """Mask of all pairs ``[pairs, channels or 1]``.

    Args:
        parts: Operands of the edge network by their names.
        smooth: Radius of the smooth envelope; 0: none.
        hard: Radius from which on the mask is zero; 0: none.
    """
    if "rows" in parts:
        return parts["rows"]
    length = parts["length"]
    r, mask = length.unsqueeze(-1), torch.ones_like(length).unsqueeze(-1)
    if "radius" in parts:
        mask = soft_mask(r, parts["radius"], parts.get("width"))
    if hard:
        mask = torch.where(r >= hard, 0.0, mask)
    return mask * envelope(r, smooth) if smooth else mask


def edge_scalars(
    parts: Mapping[str, Tensor],
    dots: Tensor,
    weights: Sequence[Tensor],
    widths: Sequence[tuple[int, ...]],
    mask: Tensor,
) -> Tensor:
    """The edge network of all pairs, degree by degree ``[pairs, degrees, C]``.

    Args:
        parts: Operands by their names.
        dots: Dot products of the nodes of every pair ``[pairs, degrees, C]``.
        weights: For each degree ``[P, C, columns]``.
        widths: For each degree the columns: state, dots, radial functions, others.
        mask: As above.
    """
    eta = parts["radial"]
    if dots.is_complex():
        eta = torch.view_as_complex(eta.unflatten(1, (-1, 2)))
    found = []
    for l, (weight, row) in enumerate(zip(weights, widths, strict=True)):
        kinds = weight.split(row, dim=-1)[:3]
        of_state, of_dots, of_radial = (
            to_complex(w.transpose(0, 1)).t() for w in kinds
        )
        out = eta @ of_radial
        if row[1]:
            out = out + dots.flatten(1) @ of_dots
        if row[0]:
            out = out + parts["state"][:, l] @ of_state
        found.append(out * mask)
    return torch.stack(found, dim=1)


def power_trig(length: Tensor, scales: Tensor, phases: Tensor, powers: int) -> Tensor:
    """Waves times powers of lengths; see :class:`torch_cormorant.nn.radial.PowerTrig`.

    Args:
        length: ``[E]`` in Angstrom.
        scales: Frequencies of the waves.
        phases: Phases of the waves.
        powers: How many powers 0, -1, ... there are.
    """
    apart = length != 0
    safe = torch.where(apart, length, 1.0).unsqueeze(-1)
    wave = torch.sin(2 * math.pi * safe * scales + phases)
    rows = [apart.to(length.dtype).unsqueeze(-1)]
    for _ in range(powers - 1):
        rows.append(rows[-1] / safe)
    return (wave.unsqueeze(-1) * torch.stack(rows, dim=-1)).flatten(1)


# ------------------------------------------------------------------------- nodes


def vertex_step(
    aggregate: Sequence[Tensor],
    x: Tensor,
    weights: Sequence[Tensor],
    paths: VertexPaths,
) -> Tensor:
    """The vertex step: all paths, one matrix for each degree.

    Args:
        aggregate: Sums over neighbours.
        x: Complex (or real) ``[N, M_in, C]``.
        weights: For each degree ``[P, C_out, columns]``.
        paths: Which products there are.

    Returns:
        Complex (or real) ``[N, M, C_out]``.
    """
    squares, parts = product(x, x, paths.squares), []
    for l, counts in enumerate(paths.counts):
        columns = [aggregate[l].flatten(2)] if counts[0] else []
        columns += [x[:, l * l : (l + 1) ** 2]] if counts[1] else []
        columns += [squares[l].flatten(2)] if counts[2] else []
        if not columns:
            parts.append(x.new_zeros(x.shape[0], 2 * l + 1, weights[l].shape[1]))
            continue
        weight = to_complex(weights[l].transpose(0, 1))
        parts.append(torch.cat(columns, dim=-1) @ weight.t())
    return torch.cat(parts, dim=1)


def norm(x: Tensor, weight: Tensor, eps: float, degrees: Tensor) -> Tensor:
    """The equivariant norm of ``[N, M, P, C]``; ``degrees``: that of each component."""
    power = x.square().sum((2, 3))
    scale = [
        power[:, l * l : (l + 1) ** 2].mean(1) / x.shape[3]
        for l in range(weight.shape[0])
    ]
    inverse = (torch.stack(scale, dim=1) + eps).rsqrt()
    factor = inverse.unsqueeze(-1) * weight
    return x * factor[:, degrees].unsqueeze(2)


def invariants(levels: Sequence[Tensor]) -> Tensor:
    """All invariants of levels ``[N, M_s, P, C_s]``."""
    planes = levels[0].shape[2]
    first = [level[:, 0].transpose(1, 2).flatten(1) for level in levels]
    rest = []
    lmax = max(round(level.shape[1] ** 0.5) - 1 for level in levels)
    for l in range(lmax + 1):
        for level in levels:
            part = level[:, l * l : (l + 1) ** 2]
            if part.shape[1] == 0:
                continue
            squares = part.square().sum(1)
            if planes == 1:
                rest.append(squares[:, 0])
                continue
            real, imag = squares.unbind(1)
            rest.append(torch.stack([real - imag, real + imag], dim=-1).flatten(1))
    return torch.cat(first + rest, dim=-1)
