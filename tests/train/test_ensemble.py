from __future__ import annotations

from pathlib import Path

import pytest
import torch

from torch_cormorant.errors import ShapeError
from torch_cormorant.train import calibration, plot_calibration


def test_a_calibrated_ensemble_lies_on_the_line(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    size = torch.linspace(0.1, 2, 4000)[:, None].double()
    # Errors of the mean as large as the deviation of the networks around it.
    error = size * torch.randn(4000, 1, generator=generator)
    around = size * torch.randn(40, 4000, 1, generator=generator)
    predicted = error + around - around.mean(dim=0)
    found = calibration(predicted, torch.zeros(4000, 1))
    for spread, wrong in zip(found.spread, found.error, strict=True):
        assert spread == pytest.approx(wrong, rel=0.15)
    assert found.correlation > 0.4
    plot_calibration(tmp_path / "a.png", found, "eV")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_one_network_is_no_ensemble() -> None:
    with pytest.raises(ShapeError, match="K of at least 2"):
        calibration(torch.zeros(1, 3, 1), torch.zeros(3, 1))
