"""Pictures of the algebra: Clebsch-Gordan tables and spherical harmonics."""

from __future__ import annotations

import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from mpl_toolkits.mplot3d import Axes3D
from torch import Tensor

from torch_cormorant.cg import clebsch_gordan, paths
from torch_cormorant.so3 import check_degree, spherical_harmonics
from torch_cormorant.visualize.style import BLUE, GREEN, ORANGE, new_figure


def plot_cg_blocks(lmax: int = 2) -> Figure:
    """All real Clebsch-Gordan tables up to a degree, as one matrix of blocks.

    Rows are the components m of the result, columns the pairs (m1, m2) of the factors;
    a frame is drawn around every path (l1, l2, l) that exists, green where
    l1 + l2 + l is odd (those change sign under reflections).

    Args:
        lmax: Largest degree of factors and result, at most 4. Default 2.

    Returns:
        The figure.

    Raises:
        DegreeError: If ``lmax`` is no degree of the tables.

    Example:
        >>> len(plot_cg_blocks(1).axes[0].patches)  # paths: 000 011 101 110 111
        5
    """
    check_degree(lmax)
    size = (lmax + 1) ** 2
    pairs = [(l1, l2) for l1 in range(lmax + 1) for l2 in range(lmax + 1)]
    widths = [(2 * l1 + 1) * (2 * l2 + 1) for l1, l2 in pairs]
    starts = {pair: sum(widths[:n]) for n, pair in enumerate(pairs)}
    matrix = torch.full((size, size * size), torch.nan, dtype=torch.float64)
    figure = new_figure(min(14.0, 4.0 + 0.5 * size), 1.7 + 0.13 * size)
    axes = figure.add_subplot()
    for l1, l2, l in paths(lmax, lmax, lmax):
        table = clebsch_gordan(l1, l2, l).flatten(0, 1).T
        column, odd = starts[l1, l2], bool((l1 + l2 + l) % 2)
        width = table.shape[1]
        matrix[l * l : (l + 1) ** 2, column : column + width] = table
        frame = Rectangle((column - 0.5, l * l - 0.5), width, 2 * l + 1, fill=False)
        frame.set(linewidth=1.4, edgecolor=GREEN if odd else "black", zorder=3 + odd)
        axes.add_patch(frame)
    image = axes.imshow(
        matrix.numpy(),
        cmap="RdBu",
        vmin=-1,
        vmax=1,
        aspect="auto",
        interpolation="nearest",
    )
    centres = [starts[p] + (w - 1) / 2 for p, w in zip(pairs, widths, strict=True)]
    narrow = size > 9  # names of narrow blocks would lie on one another
    shown = [k for k, w in enumerate(widths) if not narrow or w >= size]
    names = [f"{pairs[k][0]}{pairs[k][1]}" for k in shown]
    axes.set_xticks([centres[k] for k in shown], names, fontsize=7.5)
    if not narrow:
        axes.get_xticklabels()[0].set_horizontalalignment("right")
    degrees = [l * l + l for l in range(lmax + 1)]
    axes.set_yticks(degrees, [f"l = {l}" for l in range(lmax + 1)])
    axes.tick_params(length=0)
    axes.set_xlabel("(m1, m2) of the pair l1 l2")
    axes.set_ylabel("m of l")
    handles = [
        Rectangle((0, 0), 1, 1, fill=False, ec="black", label="l1 + l2 + l even"),
        Rectangle((0, 0), 1, 1, fill=False, ec=GREEN, label="l1 + l2 + l odd"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False)
    figure.colorbar(image, ax=axes, pad=0.01, label="C")
    return figure


def plot_harmonics(lmax: int = 3) -> Figure:
    """Real spherical harmonics as surfaces whose radius is abs(Y).

    Args:
        lmax: Largest degree. Default 3.

    Returns:
        The figure, one panel for each component.

    Raises:
        DegreeError: If ``lmax`` is no degree of the tables.

    Example:
        >>> [axes.get_title() for axes in plot_harmonics(1).axes][1]
        'l = 1, m = -1'
    """
    check_degree(lmax)
    polar = torch.linspace(0, torch.pi, 61, dtype=torch.float64)[:, None]
    azimuth = torch.linspace(0, 2 * torch.pi, 121, dtype=torch.float64)[None]
    x, y = polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin()
    directions = torch.stack([x, y, polar.cos().expand_as(x)], dim=-1)
    values = spherical_harmonics(directions, lmax)
    side = 2 * lmax + 1
    # Wide enough for what stands to the left and to the right of the first row.
    width = max(4.0, 1.1 * side + 0.5)
    figure = new_figure(width, 1.35 * (lmax + 1), constrained=False)
    for l in range(lmax + 1):
        for m in range(-l, l + 1):
            place = l * side + lmax + m + 1
            axes = figure.add_subplot(lmax + 1, side, place, projection="3d")
            if isinstance(axes, Axes3D):
                _surface(axes, directions, values[..., l * l + l + m])
            axes.set_title(f"l = {l}, m = {m}", fontsize=8, y=0.97)
    handles = [Patch(color=BLUE, label="Y > 0"), Patch(color=ORANGE, label="Y < 0")]
    figure.legend(handles=handles, loc="upper right", frameon=False, fontsize=9)
    text = "z up,\ny to the right,\nx towards you"
    figure.text(0.01, 0.98, text, fontsize=8, va="top")
    figure.subplots_adjust(0, 0, 1, 0.94, wspace=0, hspace=0.16)
    return figure


def _surface(axes: Axes3D, directions: Tensor, value: Tensor) -> None:
    points = (directions * value.abs()[..., None]).numpy()
    points /= float(value.abs().max())
    positive, negative = (torch.tensor(to_rgb(name)) for name in (BLUE, ORANGE))
    colours = torch.where(value[..., None] > 0, positive, negative).numpy()
    axes.plot_surface(
        points[..., 0],
        points[..., 1],
        points[..., 2],
        facecolors=colours,
        rstride=1,
        cstride=1,
        linewidth=0,
        antialiased=False,
    )
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    axes.set_box_aspect((1, 1, 1), zoom=1.35)
    axes.view_init(elev=20, azim=15)
    axes.axis("off")
