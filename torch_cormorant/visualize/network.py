"""Pictures of a network: what it has learned about distances, how large it is."""

from __future__ import annotations

import math
from typing import Any

import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor, nn

from torch_cormorant.conv import CormorantConv
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import Model
from torch_cormorant.nn import EdgeNetwork, SoftCutoff, envelope
from torch_cormorant.visualize.style import GREY, new_figure, plain

NEAREST = 0.7
"""Where curves begin, in Angstrom: shorter than any bond."""
FARTHEST = 6.0
"""Where curves end without a cutoff, in Angstrom."""
POINTS = 300


@torch.no_grad()
def plot_radial(model: nn.Module, lmax: int | None = None) -> Figure:
    r"""Learned cutoffs and learned radial functions of every level.

    One row for each level. Left the mask :math:`\mu_c(r)` of every channel (times the
    envelope, where there is one), then for every degree l the part of the edge scalars
    that depends on the distance only, :math:`\mathrm{Re}\, \mu_c(r) (W^l \eta(r))_c`.
    Every line is a channel; colours run from the shortest soft radius to the longest.
    Functions that know the elements are those between atoms of the first one.

    Args:
        model: A :class:`~torch_cormorant.Cormorant` network, a
            :class:`~torch_cormorant.CormorantConv`, or any module with such layers.
        lmax: Largest degree that is drawn. Default: all.

    Returns:
        The figure.

    Raises:
        ConfigError: If the module has no such layer.

    Example:
        >>> from torch_cormorant import CormorantConv
        >>> figure = plot_radial(CormorantConv(4, 4, lmax=1, cutoff=5.0))
        >>> [axes.get_title() for axes in figure.axes]
        ['cutoffs', 'l = 0', 'l = 1']
    """
    layers = [part for part in model.modules() if isinstance(part, CormorantConv)]
    nets = [layer.edge_network for layer in layers if layer.in_channels > 0]
    if not nets:
        msg = f"{type(model).__name__} has no CormorantConv with known channels"
        raise ConfigError(msg)
    top = max(net.lmax for net in nets)
    top = top if lmax is None else min(top, lmax)
    figure = new_figure(1.9 * (top + 2), 1.7 * len(nets) + 0.5)
    grid = figure.subplots(len(nets), top + 2, squeeze=False, sharex=True)
    for row, (level, net) in enumerate(zip(grid, nets, strict=True)):
        _draw_level(level, net)
        level[0].set_ylabel(f"level {row + 1}")
    for k, axes in enumerate(grid[0]):
        axes.set_title("cutoffs" if k == 0 else f"l = {k - 1}", fontsize=10)
    for column in grid.T:
        lowest = [axes for axes in column if axes.get_visible()][-1]
        lowest.set_xlabel("r [Angstrom]")
        lowest.tick_params(labelbottom=True)
    return figure


def _draw_level(row: list[Axes], net: EdgeNetwork) -> None:
    cutoff = net.cutoff
    soft = cutoff if isinstance(cutoff, SoftCutoff) else None
    end = net.envelope_cutoff or (soft and soft.hard_radius) or FARTHEST
    dtype = net.weights[0].dtype
    length = torch.linspace(NEAREST, 1.05 * end, POINTS, dtype=dtype)
    length = length.to(net.weights[0].device)
    mask = cutoff(length)
    if net.envelope_cutoff is not None:
        mask = mask * envelope(length, net.envelope_cutoff).unsqueeze(-1)
    ranked = soft and soft.radius.abs().argsort().argsort().tolist()
    order: list[int] = ranked or list(range(mask.shape[1]))
    colours = colormaps["viridis"]([k / max(1, len(order) - 1) for k in order])
    _lines(row[0], length, mask, colours)
    row[0].set_ylim(-0.05, 1.05)
    for l, axes in enumerate(row[1:]):
        if l > net.lmax:
            axes.set_visible(False)
            continue
        _lines(axes, length, mask * _radial_part(net, length, l), colours)
    for axes in row:
        plain(axes)
        axes.axhline(0, color=GREY, lw=0.5, zorder=0)
        if net.envelope_cutoff is not None:
            axes.axvline(net.envelope_cutoff, color="k", lw=0.8, ls=":", zorder=0)
        axes.tick_params(labelsize=7)


def _radial_part(net: EdgeNetwork, length: Tensor, l: int) -> Tensor:
    """Real part of the learned radial functions ``[R, C]``."""
    eta: Tensor = net.radial(length)
    weight = net.block(l, 2)
    if net.planes == 1:
        only: Tensor = eta @ weight[0].T
        return only
    real, imaginary = eta.unflatten(-1, (-1, 2)).unbind(-1)
    both: Tensor = real @ weight[0].T - imaginary @ weight[1].T
    return both


def _lines(axes: Axes, length: Tensor, values: Tensor, colours: Any) -> None:
    x = length.cpu().numpy()
    for curve, colour in zip(values.T.cpu().numpy(), colours, strict=True):
        axes.add_line(Line2D(x, curve, color=tuple(colour), lw=1.0))
    axes.set_xlim(float(x[0]), float(x[-1]))
    axes.relim()
    axes.autoscale_view(scalex=False)


@torch.no_grad()
def plot_activations(
    model: Model, z: Tensor, pos: Tensor, batch: Tensor | None = None
) -> Figure:
    """Size of the activations of every level and degree, on given molecules.

    The number in a cell is the root mean square over atoms, components and channels.
    Equal colours along a column mean that a degree neither dies nor explodes.

    Args:
        model: The network.
        z: Atomic numbers ``[N]``.
        pos: Positions ``[N, 3]`` in Angstrom.
        batch: Molecule of each atom.

    Returns:
        The figure.

    Raises:
        ConfigError: If there is no atom.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1]])
        >>> model = Cormorant(channels=4, num_levels=2, lmax=1)
        >>> len(plot_activations(model, z, pos).axes[0].texts)
        4
    """
    if not len(z):
        msg = "plot_activations needs at least one atom, z is empty"
        raise ConfigError(msg)
    _, levels = model(z, pos, batch, return_levels=True)
    top = max(model.lmax)
    sizes = torch.full((len(levels), top + 1), torch.nan, dtype=torch.float64)
    for s, level in enumerate(levels):
        for l in range(model.lmax[s] + 1):
            part = level[:, l * l : (l + 1) ** 2].double()
            sizes[s, l] = part.square().sum(2).mean().sqrt()
    return _table_of_sizes(sizes)


def _table_of_sizes(sizes: Tensor) -> Figure:
    """A heat map with its numbers."""
    rows, columns = sizes.shape
    figure = new_figure(1.1 * columns + 2.0, 0.55 * rows + 1.2)
    axes = figure.add_subplot()
    found = sizes[sizes > 0]
    low, high = (float(found.min()), float(found.max())) if len(found) else (1.0, 1.0)
    middle = (low * high) ** 0.5
    spread = max(10.0, high / middle)  # one shade means one power of ten at least
    norm = LogNorm(middle / spread, middle * spread)
    image = axes.imshow(sizes.cpu().numpy(), cmap="viridis", norm=norm, aspect="auto")
    for s in range(rows):
        for l in range(columns):
            value = float(sizes[s, l])
            if not math.isnan(value):  # a level without that degree
                dark = value < middle
                colour = "white" if dark else "black"
                axes.text(l, s, f"{value:.2g}", ha="center", va="center", color=colour)
    axes.set_xticks(range(columns), [f"l = {l}" for l in range(columns)])
    axes.set_yticks(range(rows), [f"level {s + 1}" for s in range(rows)])
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label="RMS")
    return figure
