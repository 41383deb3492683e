from __future__ import annotations

import importlib
import importlib.util
import io

import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

import torch_cormorant.visualize
from torch_cormorant import Cormorant, CormorantConv, CormorantQM9
from torch_cormorant.cg import paths
from torch_cormorant.errors import BackendError, ConfigError, NonFiniteError, ShapeError
from torch_cormorant.nn import envelope
from torch_cormorant.testing import random_molecule
from torch_cormorant.visualize import (
    find_bonds,
    plot_activations,
    plot_cg_blocks,
    plot_contributions,
    plot_harmonics,
    plot_radial,
)
from torch_cormorant.visualize.molecule import _projected

ETHENE_Z = torch.tensor([6, 6, 1, 1, 1, 1])
ETHENE = torch.tensor(
    [
        [0.0, 0.0, 0.67],
        [0.0, 0.0, -0.67],
        [0.0, 0.92, 1.24],
        [0.0, -0.92, 1.24],
        [0.0, 0.92, -1.24],
        [0.0, -0.92, -1.24],
    ],
    dtype=torch.float64,
)


def drawn(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def small(**options: object) -> Cormorant:
    torch.manual_seed(0)
    defaults = {"channels": 4, "num_levels": 2, "lmax": (2, 1), "hidden": 16}
    return Cormorant(**{**defaults, **options})


@pytest.mark.parametrize("lmax", [0, 2, 3])
def test_every_path_has_its_frame(lmax: int) -> None:
    axes = plot_cg_blocks(lmax).axes[0]
    found = [frame for frame in axes.patches if isinstance(frame, Rectangle)]
    sizes = sorted((frame.get_width(), frame.get_height()) for frame in found)
    every = list(paths(lmax, lmax, lmax))
    expected = [((2 * a + 1) * (2 * b + 1), 2 * l + 1) for a, b, l in every]
    assert sizes == sorted(expected)
    odd = sum((a + b + l) % 2 for a, b, l in every)
    black = sum(to_rgb(frame.get_edgecolor()) == (0, 0, 0) for frame in found)
    assert black == len(every) - odd
    (image,) = axes.images
    values = torch.tensor(image.get_array().filled(0))
    # each row of the matrix holds one orthonormal row of every path that ends there
    counts = [sum(end == l for *_, end in every) for l in range(lmax + 1)]
    rows = [float(n) for l, n in enumerate(counts) for _ in range(2 * l + 1)]
    assert values.square().sum(1).tolist() == pytest.approx(rows)
    assert [label.get_text() for label in axes.get_yticklabels()][-1] == f"l = {lmax}"
    assert axes.get_xlabel() == "(m1, m2) of the pair l1 l2"


def test_every_component_has_its_surface() -> None:
    figure = plot_harmonics(1)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [f"l = {l}, m = {m}" for l in range(2) for m in range(-l, l + 1)]
    assert all(len(axes.collections) == 1 for axes in figure.axes)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "Y > 0",
        "Y < 0",
    ]
    assert drawn(plot_harmonics(0)).startswith(b"\x89PNG")


def test_radial_functions_and_cutoffs_are_those_of_the_layers() -> None:
    model = small(cutoff=4.0)
    figure = plot_radial(model)
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert len(figure.axes) == 2 * 4
    assert len(visible) == 4 + 3  # the second level has no degree 2
    assert [axes.get_title() for axes in figure.axes[:4]] == [
        "cutoffs",
        "l = 0",
        "l = 1",
        "l = 2",
    ]
    net = model.convs[0].edge_network
    curves = [line for line in figure.axes[0].lines if len(line.get_xdata()) > 2]
    assert len(curves) == 4
    length = torch.tensor(curves[0].get_xdata())
    expected = net.cutoff(length)[:, 0] * envelope(length, 4.0)
    torch.testing.assert_close(torch.tensor(curves[0].get_ydata()), expected.detach())
    lines = [line for line in figure.axes[2].lines if len(line.get_xdata()) > 2]
    eta = net.radial(length).unflatten(-1, (-1, 2))
    eta = torch.complex(eta[..., 0], eta[..., 1])
    block = net.block(1, 2)
    weight = torch.complex(block[0], block[1])
    values = (eta @ weight.T).real.detach() * expected[:, None].detach()
    for k, line in enumerate(lines):
        found = torch.tensor(line.get_ydata())
        torch.testing.assert_close(found, values[:, k], rtol=1e-4, atol=1e-5)
    assert figure.axes[4].get_ylabel() == "level 2"
    assert figure.axes[3].get_xlabel() == "r [Angstrom]"  # nothing below it


@pytest.mark.parametrize("complex", [True, False])
def test_radial_functions_of_single_layers(complex: bool) -> None:
    layer = CormorantConv(3, 3, lmax=1, complex=complex, radial="power_trig")
    figure = plot_radial(nn.Sequential(layer), lmax=0)
    assert len(figure.axes) == 2
    assert figure.axes[0].get_xlim()[1] == pytest.approx(6.3)
    with pytest.raises(ConfigError, match="Linear has no CormorantConv"):
        plot_radial(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="known channels"):
        plot_radial(CormorantConv(-1, 3))


def test_activations_are_numbers_of_the_levels() -> None:
    model = small()
    z, pos = random_molecule(5)
    axes, bar = plot_activations(model, z, pos.float()).axes
    _, levels = model(z, pos.float(), return_levels=True)
    texts = {(int(t.get_position()[1]), int(t.get_position()[0])) for t in axes.texts}
    assert texts == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)}
    values = torch.tensor(axes.images[0].get_array().filled(torch.nan))
    for s, level in enumerate(levels):
        for l in range(model.lmax[s] + 1):
            part = level[:, l * l : (l + 1) ** 2].detach().double()
            rms = part.square().sum(2).mean().sqrt()
            assert float(values[s, l]) == pytest.approx(float(rms))
    assert bool(values[1, 2].isnan())
    assert bar.get_ylabel() == "RMS"
    with pytest.raises(ConfigError, match="at least one atom"):
        plot_activations(model, z[:0], pos[:0])


def test_activations_of_a_dead_network_are_drawn_too() -> None:
    model = CormorantQM9(channels=2, hidden=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    z, pos = random_molecule(3)
    figure = plot_activations(model, z, pos.float())
    assert {text.get_text() for text in figure.axes[0].texts} == {"0"}
    assert drawn(figure)


def test_bonds_of_ethene() -> None:
    found = {tuple(pair) for pair in find_bonds(ETHENE_Z, ETHENE).T.tolist()}
    assert found == {(0, 1), (0, 2), (0, 3), (1, 4), (1, 5)}
    assert find_bonds(ETHENE_Z, 3 * ETHENE).shape == (2, 0)
    unknown = torch.tensor([92, 92])
    near = torch.tensor([[0.0, 0, 0], [0, 0, 3.5]])
    assert find_bonds(unknown, near).shape == (2, 1)


def test_a_molecule_has_its_atoms_bonds_and_numbers() -> None:
    values = torch.tensor([-1.0, 1.0, 0.25, 0.5, 0.5, 0.5])
    figure = plot_contributions(ETHENE_Z, ETHENE, values, unit="eV", title="ethene")
    axes, bar = figure.axes
    assert (len(axes.patches), len(axes.lines)) == (6, 5)
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["C\n-1.0", "C\n1.0", "H\n0.2", "H\n0.5", "H\n0.5", "H\n0.5"]
    assert axes.get_title() == "ethene"
    assert bar.get_ylabel() == "contribution [eV]"
    assert bar.get_ylim() == (-1, 1)
    blue, red = (axes.patches[k].get_facecolor() for k in (0, 1))
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    radii = [disc.get_radius() for disc in axes.patches]
    assert radii[0] == radii[1] > radii[2]
    assert drawn(figure).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("scale", "shown"),
    [
        (1.0, ["0.0", "-1.0", "0.0", "0.5", "0.3", "0.2"]),
        (0.01, ["0.0004", "-0.0100", "0.0000", "0.0050", "0.0033", "0.0020"]),
        (1234.0, ["49", "-1234", "0", "617", "411", "247"]),
        (1e6, ["4e+04", "-1e+06", "0e+00", "5e+05", "3e+05", "2e+05"]),
        (0.0, ["0"] * 6),
    ],
)
def test_numbers_have_equal_decimals_and_stay_on_their_atoms(
    scale: float, shown: list[str]
) -> None:
    values = scale * torch.tensor([0.04, -1.0, 0.0, 0.5, 0.333, 0.2])
    figure = plot_contributions(ETHENE_Z, ETHENE, values, unit="eV")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert [text.get_text().split("\n")[1] for text in axes.texts] == shown
    for disc, text in zip(axes.patches, axes.texts, strict=True):
        room, box = disc.get_window_extent(), text.get_window_extent()
        assert room.x0 < box.x0 < box.x1 < room.x1
        assert room.y0 < box.y0 < box.y1 < room.y1


def test_numbers_of_one_sign_and_references() -> None:
    values = torch.arange(1.0, 7.0)[:, None]
    figure = plot_contributions(ETHENE_Z, ETHENE, values, labels=False)
    assert figure.axes[1].get_ylim() == (1, 6)
    assert figure.axes[0].texts[0].get_text() == "C"
    figure = plot_contributions(ETHENE_Z, ETHENE, values, centre="element")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["C\n-0.5", "C\n0.5", "H\n-1.5", "H\n-0.5", "H\n0.5", "H\n1.5"]
    assert figure.axes[1].get_ylabel() == "contribution minus the mean of its element"
    figure = plot_contributions(ETHENE_Z, ETHENE, values, centre="mean", unit="eV")
    assert figure.axes[0].texts[0].get_text() == "C\n-2.5"
    assert figure.axes[1].get_ylabel() == "contribution minus the mean [eV]"
    figure = plot_contributions(ETHENE_Z, ETHENE, torch.full((6,), 2.0))
    assert figure.axes[1].get_ylim() == (1.5, 2.5)


def test_numbers_that_nobody_could_read_are_left_out() -> None:
    count = 400
    z, pos = random_molecule(8)
    places = torch.arange(count // 8).repeat_interleave(8)[:, None]
    many = pos.repeat(count // 8, 1) + 9.0 * places
    figure = plot_contributions(z.repeat(count // 8), many, torch.randn(count))
    assert not any("\n" in text.get_text() for text in figure.axes[0].texts)


def test_words_beside_the_harmonics_have_room() -> None:
    figure = plot_harmonics(0)
    figure.draw_without_rendering()
    title = figure.axes[0].title.get_window_extent()
    left = figure.texts[0].get_window_extent()
    right = figure.legends[0].get_window_extent()
    assert left.x1 < title.x0 < title.x1 < right.x0


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_a_picture_is_the_molecule_turned_never_mirrored(count: int) -> None:
    _, pos = random_molecule(count)
    flat = _projected(pos)
    torch.testing.assert_close(torch.cdist(flat, flat), torch.cdist(pos, pos))
    if count > 3:
        centred = pos - pos.mean(0)
        matrix = torch.linalg.lstsq(centred, flat).solution
        assert float(matrix.det()) == pytest.approx(1.0)
    spread = flat.square().sum(0)
    assert float(spread[0]) >= float(spread[1]) - 1e-12


def test_atoms_hide_each_other_no_more_than_needed() -> None:
    flat = _projected(ETHENE)
    gaps = torch.cdist(flat[:, :2], flat[:, :2]) + 9 * torch.eye(6)
    assert float(gaps.min()) > 0.9


def _values(*numbers: float) -> Tensor:
    return torch.tensor(numbers)


def test_faults_are_named() -> None:
    z, pos = ETHENE_Z[:2], ETHENE[:2]
    with pytest.raises(ShapeError, match=r"got \(2,\), \(2, 3\) and \(3,\)"):
        plot_contributions(z, pos, _values(1, 2, 3))
    with pytest.raises(ShapeError, match="at least one atom"):
        plot_contributions(z[:0], pos[:0], _values())
    with pytest.raises(NonFiniteError, match="atom 1"):
        plot_contributions(z, pos, _values(1, torch.nan))
    with pytest.raises(ConfigError, match="centre must be one of"):
        plot_contributions(z, pos, _values(1, 2), centre="atom")


def test_a_missing_matplotlib_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match="needs matplotlib"):
        importlib.reload(torch_cormorant.visualize)
