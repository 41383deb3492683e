"""Draws the figures of the pages; ``python docs/figures.py FOLDER`` does it by hand.

Everything that is plotted is computed by the package itself.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import torch

mpl.use("Agg")

from force_tables import dihedral_scan, force_curves
from learning_curves import learning_curves
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Patch, Rectangle
from peer_curves import peer_curves
from torch_geometric.data import Batch

from torch_cormorant import Cormorant, CormorantQM9
from torch_cormorant.cg import paths
from torch_cormorant.data import CompositionBaseline, MiniQM9
from torch_cormorant.nn import Bessel, Gaussian, PowerTrig, SoftCutoff, envelope
from torch_cormorant.visualize import (
    plot_activations,
    plot_cg_blocks,
    plot_contributions,
    plot_harmonics,
    plot_radial,
)

BLUE, ORANGE, GREY, GREEN = "#2c6fad", "#d9722b", "#8a8f98", "#4c9a5b"
CUTOFF = 5.0
OPAQUE = {"framealpha": 1.0, "edgecolor": "white"}


def edge_convention() -> Figure:
    """Two atoms and the edge between them."""
    figure, axes = plt.subplots(figsize=(4.8, 1.9))
    source, target = (0.0, 0.0), (4.0, 0.0)
    for place, name, colour in (
        (source, "source j = edge_index[0]", GREY),
        (target, "target i = edge_index[1]", BLUE),
    ):
        axes.scatter(*place, s=700, color=colour, zorder=3)
        axes.text(*place, name[7], color="w", ha="center", va="center", zorder=4)
        axes.text(place[0], -0.85, name, ha="center", fontsize=9)
    arrow = {"arrowstyle": "-|>", "lw": 2.2, "shrinkA": 14, "shrinkB": 14}
    axes.annotate("", target, source, arrowprops=arrow)
    axes.text(2, 0.15, "edge_vec = pos[i] - pos[j]", ha="center", fontsize=10)
    axes.text(2, -0.36, "messages flow from j to i", ha="center", fontsize=9)
    axes.set(xlim=(-1.1, 5.1), ylim=(-1.1, 0.6))
    axes.axis("off")
    figure.tight_layout()
    return figure


def harmonics() -> Figure:
    """Real spherical harmonics up to degree 3, as surfaces of radius abs(Y)."""
    return plot_harmonics(3)


def cg_blocks() -> Figure:
    """All CG tables up to degree 2 as one matrix."""
    return plot_cg_blocks(2)


def path_table() -> Figure:
    """Which couplings exist for lmax 3, and which of them a square needs."""
    lmax = 3
    figure, panels = plt.subplots(1, lmax + 1, figsize=(7.8, 3.0), sharey=True)
    for l, axes in enumerate(panels):
        for l1, l2, end in paths(lmax, lmax, lmax):
            if end == l:
                _path(axes, l1, l2, l)
        axes.set(xlim=(-0.5, 3.5), ylim=(3.5, -0.5), title=f"to degree l = {l}")
        axes.set(xticks=range(4), yticks=range(4), xlabel="l2", aspect="equal")
        axes.tick_params(length=0)
    panels[0].set_ylabel("l1")
    marker = {"ls": "", "color": "black"}
    handles = [
        Patch(color=BLUE, label="l1 + l2 + l even"),
        Patch(color=ORANGE, label="l1 + l2 + l odd"),
        Line2D([], [], marker="o", label="computed for a square", **marker),
        Line2D([], [], marker="x", label="zero in a square", **marker),
    ]
    figure.legend(handles=handles, loc="lower center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0.17, 1, 1))
    return figure


def _path(axes: Axes, l1: int, l2: int, l: int) -> None:
    odd = bool((l1 + l2 + l) % 2)
    corner = (l2 - 0.46, l1 - 0.46)
    axes.add_patch(Rectangle(corner, 0.92, 0.92, color=ORANGE if odd else BLUE))
    if l1 == l2 and odd:
        axes.plot(l2, l1, "x", color="white")
    elif l1 <= l2:
        axes.plot(l2, l1, "o", color="white")


def radial() -> Figure:
    """Radial functions, soft mask and envelope."""
    length = torch.linspace(0.02, 6.5, 600, dtype=torch.float64)
    figure, grid = plt.subplots(2, 2, figsize=(7.6, 5.0))
    panels = grid.flatten()
    published = PowerTrig((3, 3), complex=False).double()
    wave = published(length).detach().unflatten(-1, (8, 4))[:, 1]
    smooth = envelope(length, CUTOFF)[:, None]
    for power, colour in enumerate((BLUE, ORANGE, GREEN, GREY)):
        label = f"power -{power}" if power else "power 0"
        panels[0].plot(length, wave[:, power], color=colour, lw=1.2, label=label)
    panels[0].legend(fontsize=8, ncols=2, loc="upper right", **OPAQUE)
    panels[0].set(title='"power_trig", one frequency', ylim=(-2.5, 4.5))
    panels[1].plot(length, smooth * Bessel(8, CUTOFF)(length), lw=1.1)
    panels[1].set_title('"bessel" times envelope')
    panels[2].plot(length, smooth * Gaussian(8, CUTOFF)(length), lw=1.1)
    panels[2].set_title('"gaussian" times envelope')
    mask = SoftCutoff(1).double()(length).detach()
    panels[3].plot(length, mask, color=BLUE, label="soft mask at the start")
    panels[3].plot(length, smooth, color=ORANGE, label="envelope")
    panels[3].legend(fontsize=8, loc="upper right", **OPAQUE)
    panels[3].set_title("mask and envelope")
    for axes in panels:
        axes.axvline(CUTOFF, color="k", lw=0.8, ls=":")
        axes.axhline(0, color="k", lw=0.5)
        axes.set(xlabel="r [Angstrom]", xlim=(0, 6.5))
        axes.title.set_fontsize(10)
    figure.tight_layout()
    return figure


#: Centre, text and colour of every box of the layer's diagram.
BOXES = {
    "vec": (0.0, 0.9, "edge vectors\n$r_{ij} = r_i - r_j$", GREY),
    "sh": (2.4, 1.8, "harmonics\n$Y(r_{ij})$", ORANGE),
    "rad": (2.4, 0.9, "radial functions $\\eta$\nmask $\\mu$", ORANGE),
    "dots": (2.4, 0.0, "dot products\n$d = F_i \\cdot F_j$", ORANGE),
    "g": (4.8, 0.45, "edge scalars\n$\\mu\\,W_e[g \\oplus d \\oplus \\eta]$", ORANGE),
    "sum": (7.2, 1.1, "neighbour sum\n$T_i = \\sum_j Y\\,(g_{ij} F_j)$", ORANGE),
    "cg": (9.6, 1.8, "CG tables\n$A_i = C\\,T_i$", BLUE),
    "square": (9.6, 0.45, "CG square\n$F_i \\otimes F_i$", BLUE),
    "mix": (12.0, 1.1, "mixing\n$W_v[A \\oplus F \\oplus F \\otimes F]$", BLUE),
}
ARROWS = (
    ("vec", "sh"),
    ("vec", "rad"),
    ("sh", "sum"),
    ("rad", "g"),
    ("dots", "g"),
    ("g", "sum"),
    ("sum", "cg"),
    ("cg", "mix"),
    ("square", "mix"),
)
WIDTH, HEIGHT, FEATURES = 1.02, 0.38, -1.05


def layer() -> Figure:
    """The steps of one layer, and how often each of them is done."""
    figure, axes = plt.subplots(figsize=(9.4, 3.5))
    for x, y, text, colour in BOXES.values():
        _box(axes, (x, y), (2 * WIDTH, 2 * HEIGHT), text, colour)
    _box(axes, (6.0, FEATURES), (14.04, 0.5), "node features $F$", GREY)
    arrow = {"arrowstyle": "-|>", "lw": 1.2, "color": "#444444"}
    for start, end in ARROWS:
        tail, head = BOXES[start], BOXES[end]
        points = ((head[0] - WIDTH, head[1]), (tail[0] + WIDTH, tail[1]))
        axes.annotate("", *points, arrowprops=arrow)
    for name in ("dots", "sum", "square", "mix"):
        x, y = BOXES[name][:2]
        axes.annotate("", (x, y - HEIGHT), (x, FEATURES + 0.25), arrowprops=arrow)
    handles = [
        Patch(color=GREY, label="input"),
        Patch(color=ORANGE, label="over edges or pairs"),
        Patch(color=BLUE, label="once per node"),
    ]
    axes.legend(handles=handles, loc="upper center", ncols=3, frameon=False)
    axes.set(xlim=(-1.1, 13.1), ylim=(-1.4, 2.9))
    axes.axis("off")
    figure.tight_layout()
    return figure


def _box(
    axes: Axes,
    centre: tuple[float, float],
    size: tuple[float, float],
    text: str,
    colour: str,
) -> None:
    corner = (centre[0] - size[0] / 2, centre[1] - size[1] / 2)
    style = {"boxstyle": "round,pad=0,rounding_size=0.1", "fc": "white", "lw": 2}
    axes.add_patch(FancyBboxPatch(corner, *size, ec=colour, **style))
    axes.text(*centre, text, ha="center", va="center", fontsize=9)


@functools.cache
def trained() -> Cormorant:
    """A small network after a few epochs on the embedded molecules."""
    torch.manual_seed(0)
    data = MiniQM9("energy_atom")
    counts = data.element_counts()
    rest = data.values - CompositionBaseline.fit(counts, data.values).predict(counts)
    model = Cormorant(
        head="extensive",
        channels=8,
        num_levels=2,
        lmax=(2, 1),
        paths="even",
        norm="norm",
        activation="silu",
        soft_radius=3.0,
    )
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(12):
        for rows in torch.randperm(len(data)).split(20):
            batch = Batch.from_data_list([data[int(k)] for k in rows])
            out = model(batch.z, batch.pos, batch.batch)
            loss = (out - rest[rows].float()).abs().mean()
            adam.zero_grad()
            loss.backward()
            adam.step()
    return model.eval()


def trained_radial() -> Figure:
    """Cutoffs and radial functions of the small network."""
    return plot_radial(trained())


def contributions() -> Figure:
    """What the small network thinks of the atoms of urea."""
    data = MiniQM9("energy_atom")
    urea = next(molecule for molecule in data if molecule.smiles == "NC(N)=O")
    atoms = trained().atom_contributions(urea.z, urea.pos)
    return plot_contributions(urea.z, urea.pos, atoms, unit="eV", title="urea")


def activations() -> Figure:
    """Sizes in the published network with new weights."""
    torch.manual_seed(0)
    data = MiniQM9("energy_atom")
    batch = Batch.from_data_list([data[k] for k in range(100, 110)])
    return plot_activations(CormorantQM9(), batch.z, batch.pos, batch.batch)


FIGURES: tuple[Callable[[], Figure], ...] = (
    learning_curves,
    peer_curves,
    force_curves,
    dihedral_scan,
    edge_convention,
    harmonics,
    cg_blocks,
    path_table,
    radial,
    layer,
    trained_radial,
    contributions,
    activations,
)


def draw_all(folder: Path) -> None:
    """Write every figure as PNG into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for draw in FIGURES:
        figure = draw()
        path = folder / f"{draw.__name__}.png"
        figure.savefig(path, dpi=140, facecolor="white", bbox_inches="tight")
        plt.close(figure)


if __name__ == "__main__":
    draw_all(Path(sys.argv[1]))
