"""Pictures of molecules with a number for every atom."""

from __future__ import annotations

import math

import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.text import Text
from torch import Tensor

from torch_cormorant.elements import SYMBOLS
from torch_cormorant.errors import ConfigError, NonFiniteError, ShapeError
from torch_cormorant.so3 import random_rotation
from torch_cormorant.visualize.style import GREY, new_figure

#: Covalent radii in Angstrom (Cordero et al., Dalton Trans. 2008), H to Kr and I.
COVALENT_RADII: dict[int, float] = {
    **dict(enumerate((0.31, 0.28), 1)),
    **dict(enumerate((1.28, 0.96, 0.84, 0.76, 0.71, 0.66, 0.57, 0.58), 3)),
    **dict(enumerate((1.66, 1.41, 1.21, 1.11, 1.07, 1.05, 1.02, 1.06), 11)),
    **dict(enumerate((2.03, 1.76, 1.70, 1.60, 1.53, 1.39, 1.39, 1.32, 1.26), 19)),
    **dict(enumerate((1.24, 1.32, 1.22, 1.22, 1.20, 1.19, 1.20, 1.20, 1.16), 28)),
    53: 1.39,
}
OTHER_RADIUS = 1.5
"""Radius of elements that are not in the table, in Angstrom."""
SLACK = 1.25
"""Bonds may be longer than the sum of radii by this factor."""
VIEWS = 300
"""Directions from which a molecule is looked at before one is chosen."""
CLEAR = 0.9
"""Distance on the picture at which atoms do not hide each other, in Angstrom."""
LARGEST_FONT, SMALLEST_FONT = 8.0, 4.5
"""Size of the letters on an atom, in points."""
UNREADABLE = 3.5
"""Numbers that would have to be smaller than this are left out, in points."""
FILLED = 0.88
"""Share of the width and height of a disc that its text may take."""
MOST_DECIMALS = 4
"""Smaller numbers are written with exponents."""
CENTRES = ("zero", "mean", "element")


def find_bonds(z: Tensor, pos: Tensor) -> Tensor:
    """Bonds by distance: up to 1.25 times the sum of covalent radii.

    Args:
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.

    Returns:
        Pairs ``[2, bonds]``, the smaller index first.

    Example:
        >>> import torch
        >>> z = torch.tensor([8, 1, 1])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> find_bonds(z, pos).tolist()
        [[0, 0], [1, 2]]
    """
    radius = pos.new_tensor([COVALENT_RADII.get(int(n), OTHER_RADIUS) for n in z])
    limit = SLACK * (radius[:, None] + radius[None])
    near = torch.cdist(pos, pos) < limit
    return near.triu(1).nonzero().T


def plot_contributions(
    z: Tensor,
    pos: Tensor,
    values: Tensor,
    *,
    unit: str = "",
    title: str = "",
    centre: str = "zero",
    labels: bool = True,
) -> Figure:
    """A molecule whose atoms are coloured by a number each.

    Seen from where atoms hide each other least, nearer ones in front, the longest axis
    from left to right, bonds found by distance.
    Numbers of both signs get a colour scale around zero, others one from the smallest
    to the largest.

    Args:
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.
        values: One number per atom ``[N]`` or ``[N, 1]``, such as what
            :meth:`torch_cormorant.Cormorant.atom_contributions` returns.
        unit: Unit of the numbers, for the colour bar.
        title: Title of the figure.
        centre: What is subtracted first: nothing (``"zero"``, default), the mean of
            all atoms (``"mean"``), or of the atoms of the same element (``"element"``),
            which shows what the surroundings of an atom do.
        labels: Write the numbers on the atoms. Default True; in a molecule so large
            that they could not be read they are left out.

    Returns:
        The figure.

    Raises:
        ShapeError: If the tensors do not fit each other, or there is no atom.
        NonFiniteError: If a number is not finite.
        ConfigError: If ``centre`` is unknown.

    Example:
        >>> import torch
        >>> z = torch.tensor([8, 1, 1])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> figure = plot_contributions(z, pos, torch.tensor([-0.8, 0.4, 0.4]))
        >>> len(figure.axes[0].patches), len(figure.axes[0].lines)
        (3, 2)
    """
    numbers = _checked(z, pos, values)
    numbers = numbers - _offset(z, numbers, centre)
    flat = _projected(pos.detach().double().cpu())
    scale = _scale(numbers)
    colours = scale.to_rgba(numbers.numpy())
    spans = (flat.max(0).values - flat.min(0).values).tolist()
    width = min(9.0, max(4.4, 2.2 + 0.8 * spans[0]))
    height = min(7.5, max(2.8, 1.5 + 0.8 * spans[1]))
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    for a, b in find_bonds(z.cpu(), flat).T.tolist():
        (x1, y1, depth1), (x2, y2, depth2) = flat[[a, b]].tolist()
        order = 2 + min(depth1, depth2) / 100
        axes.add_line(Line2D((x1, x2), (y1, y2), color=GREY, lw=4, zorder=order))
    discs: list[tuple[Circle, Text]] = []
    for k, (x, y, depth) in enumerate(flat.tolist()):
        colour = tuple(colours[k])
        radius = 0.21 + 0.25 * COVALENT_RADII.get(int(z[k]), OTHER_RADIUS)
        order = 2 + (depth + 1e-3) / 100
        disc = Circle((x, y), radius, facecolor=colour, edgecolor="black", zorder=order)
        axes.add_patch(disc)
        light = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
        text = axes.text(
            x,
            y,
            SYMBOLS[int(z[k])],
            ha="center",
            va="center",
            fontsize=LARGEST_FONT,
            linespacing=0.9,
            color="white" if light < 0.5 else "black",
            zorder=order,
        )
        discs.append((disc, text))
    low = (flat.min(0).values - 0.7).tolist()
    high = (flat.max(0).values + 0.7).tolist()
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.axis("off")
    axes.set_title(title, fontsize=10)
    name = {"zero": "contribution", "mean": "contribution minus the mean"}.get(
        centre, "contribution minus the mean of its element"
    )
    label = f"{name} [{unit}]" if unit else name
    figure.colorbar(scale, ax=axes, label=label, shrink=0.85)
    if labels:
        _write(figure, discs, _shown(numbers))
    _fit(figure, discs)
    return figure


def _shown(numbers: Tensor) -> list[str]:
    """All numbers with as many decimals as give the largest two digits."""
    largest = float(numbers.abs().max())
    decimals = 0 if largest == 0 else max(0, 1 - math.floor(math.log10(largest)))
    if decimals > MOST_DECIMALS or largest >= 1e5:
        return [f"{number:.0e}" for number in numbers.tolist()]
    # Adding zero turns -0 into 0.
    return [
        f"{round(number, decimals) + 0.0:.{decimals}f}" for number in numbers.tolist()
    ]


def _write(
    figure: Figure, discs: list[tuple[Circle, Text]], numbers: list[str]
) -> None:
    """Put numbers under the symbols, unless they could not be read."""
    symbols = [text.get_text() for _, text in discs]
    for (_, text), number in zip(discs, numbers, strict=True):
        text.set_text(f"{text.get_text()}\n{number}")
    figure.draw_without_rendering()  # the layout decides how large an Angstrom is
    if min(_room(disc, text) for disc, text in discs) * LARGEST_FONT < UNREADABLE:
        for (_, text), symbol in zip(discs, symbols, strict=True):
            text.set_text(symbol)


def _room(disc: Circle, text: Text) -> float:
    """How much of its text a disc has room for; more than 1 for all of it."""
    size, written = disc.get_window_extent(), text.get_window_extent()
    ratio = min(size.width / written.width, size.height / written.height)
    return float(FILLED * ratio)


def _fit(figure: Figure, discs: list[tuple[Circle, Text]]) -> None:
    """Make letters so small that no text is larger than its disc."""
    figure.draw_without_rendering()
    for disc, text in discs:
        text.set_fontsize(
            min(LARGEST_FONT, max(SMALLEST_FONT, LARGEST_FONT * _room(disc, text)))
        )


def _checked(z: Tensor, pos: Tensor, values: Tensor) -> Tensor:
    """The numbers as ``[N]`` in float64, on the CPU."""
    count = len(z)
    shapes = (tuple(pos.shape), tuple(values.shape))
    if not count or shapes[0] != (count, 3) or shapes[1] not in ((count,), (count, 1)):
        msg = (
            "z, pos and values must have shapes [N], [N, 3] and [N] or [N, 1] with at "
            f"least one atom, got {tuple(z.shape)}, {shapes[0]} and {shapes[1]}"
        )
        raise ShapeError(msg)
    numbers = values.detach().double().cpu().reshape(count)
    if not bool(numbers.isfinite().all()):
        atom = int((~numbers.isfinite()).nonzero()[0])
        msg = f"values is not finite at atom {atom}: {float(numbers[atom])}"
        raise NonFiniteError(msg)
    return numbers


def _offset(z: Tensor, numbers: Tensor, centre: str) -> Tensor:
    if centre not in CENTRES:
        msg = f"centre must be one of {CENTRES}, got {centre!r}"
        raise ConfigError(msg)
    if centre == "zero":
        return torch.zeros_like(numbers)
    if centre == "mean":
        return numbers.mean().expand_as(numbers)
    same = (z.cpu()[:, None] == z.cpu()[None]).to(numbers)
    means: Tensor = same @ numbers / same.sum(1)
    return means


def _projected(pos: Tensor) -> Tensor:
    """Coordinates across, upwards and towards the reader."""
    centred = pos - pos.mean(0)
    generator = torch.Generator().manual_seed(0)
    views = random_rotation(VIEWS, generator=generator).to(pos)
    turned = torch.einsum("kab,nb->kna", views, _along_axes(centred))
    # The flat view along the shortest axis is the first candidate.
    turned = torch.cat([_along_axes(centred)[None], turned])
    gaps = torch.cdist(turned[..., :2], turned[..., :2])
    gaps = gaps + CLEAR * torch.eye(len(pos), dtype=pos.dtype)
    hidden = (CLEAR - gaps).clamp_min(0).square().sum((1, 2))
    best = turned[int(hidden.argmin())]
    flat = _along_axes(best[:, :2])
    # A picture may be turned, not mirrored: mirroring both ways is looking from behind.
    area = best[:, 0].dot(flat[:, 0]) * best[:, 1].dot(flat[:, 1])
    area -= best[:, 1].dot(flat[:, 0]) * best[:, 0].dot(flat[:, 1])
    depth = -best[:, 2:] if float(area) < 0 else best[:, 2:]
    return torch.cat([flat, depth], dim=1)


def _along_axes(centred: Tensor) -> Tensor:
    """Coordinates along the longest axis, the next, ...; farthest atoms positive."""
    _, _, axes = torch.linalg.svd(centred, full_matrices=True)
    turned = centred @ axes.T
    far = turned.abs().argmax(0)
    columns = torch.arange(turned.shape[1])
    signs = torch.where(turned[far, columns] < 0, -1.0, 1.0).to(turned)
    if turned.shape[1] == 3:
        signs[2] = axes.det().sign() * signs[0] * signs[1]
    aligned: Tensor = turned * signs
    return aligned


def _scale(numbers: Tensor) -> ScalarMappable:
    """Colours around zero for numbers of both signs, from least to most for others."""
    low, high = float(numbers.min()), float(numbers.max())
    if low < 0 < high:
        size = max(-low, high)
        return ScalarMappable(Normalize(-size, size), "RdBu_r")
    if low == high:
        low, high = low - 0.5, high + 0.5
    # dark is far from zero
    return ScalarMappable(Normalize(low, high), "YlGnBu_r" if high <= 0 else "YlGnBu")
