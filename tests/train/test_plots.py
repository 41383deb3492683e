from __future__ import annotations

from pathlib import Path

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from torch_cormorant.data import MINI_TARGETS
from torch_cormorant.train import EpochRow, plot_learning_curve, plot_parity
from torch_cormorant.train.plots import draw_learning_curve

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("count", [1, 30])
def test_learning_curve_is_a_png(tmp_path: Path, count: int) -> None:
    rows = [
        EpochRow(
            epoch=k + 1,
            train_loss=1 / (k + 1),
            train_mae=0.5 / (k + 1),
            valid_mae=0.6 / (k + 1),
            lr=1e-3,
            seconds=1.0,
        )
        for k in range(count)
    ]
    path = tmp_path / "a.png"
    plot_learning_curve(
        path, rows, MINI_TARGETS["gap"], title="t", levels=[("line", 0.3)]
    )
    assert path.read_bytes().startswith(PNG)


def test_epochs_are_whole_numbers() -> None:
    figure = Figure()
    FigureCanvasAgg(figure)
    for count in (1, 2, 3, 30):
        axes = figure.add_subplot()
        rows = [
            EpochRow(
                epoch=k,
                train_loss=1,
                train_mae=1e-3 / k,
                valid_mae=5e-4 / k,
                lr=1,
                seconds=1,
            )
            for k in range(1, count + 1)
        ]
        draw_learning_curve(axes, rows, MINI_TARGETS["gap"])
        figure.canvas.draw()
        labels = [tick.get_text() for tick in axes.get_yticklabels(which="both")]
        assert not [text for text in labels if "e" in text], "0.6, not 6e-01"
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert all(tick == round(tick) for tick in shown), shown
        assert count in shown


@pytest.mark.parametrize("count", [1, 2000])
def test_parity_plot_is_a_png(tmp_path: Path, count: int) -> None:
    values = torch.linspace(-1, 1, count).double()[:, None]
    path = tmp_path / "a.png"
    plot_parity(path, values, values + 0.1, MINI_TARGETS["mu"], title="t")
    assert path.read_bytes().startswith(PNG)
