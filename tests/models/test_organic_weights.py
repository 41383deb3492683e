"""The potential for organic molecules that comes with the package."""

from __future__ import annotations

import pytest
import torch

from torch_cormorant import pretrained
from torch_cormorant.data import MiniEthanol
from torch_cormorant.errors import ChargeError, EnsembleSpreadWarning, SpeciesError
from torch_cormorant.models import Ensemble, pretrained_models
from torch_cormorant.testing import check_potential

NAME = "organic-gfn2"
FORMIC_ACID = torch.tensor([6, 8, 8, 1, 1])
POS = torch.tensor(
    [
        [0.000, 0.420, 0.000],
        [-1.030, -0.450, 0.000],
        [1.160, 0.100, 0.000],
        [-0.370, 1.460, 0.000],
        [-0.650, -1.350, 0.000],
    ]
)


@pytest.fixture(scope="module")
def team() -> Ensemble:
    found = pretrained(NAME)
    assert isinstance(found, Ensemble)
    return found


def test_it_says_what_it_knows(team: Ensemble) -> None:
    about = pretrained_models()[NAME]
    assert about.level_of_theory == "GFN2-xTB"
    assert about.elements == ("H", "C", "N", "O", "F", "S", "Cl")
    assert (about.charge, about.unpaired) == ((0, 0), 0)
    assert len(team.models) == len(about.files) == 3
    assert about.size < 2_000_000
    assert set(about.errors) == {"test:", "held out:"}
    assert len(about.data["sha256"]) == 64


def test_ethanol_at_500_kelvin_is_as_gfn2_has_it(team: Ensemble) -> None:
    # these frames are of another program of ours at the same level, and of no training
    frames = MiniEthanol()[::40]
    out = team.evaluate_all(list(frames))
    forces = out.forces - torch.cat([frame.forces for frame in frames])
    energy = out.energy - torch.cat([frame.energy for frame in frames])
    assert float(forces.abs().mean()) < 0.060
    assert float(energy.abs().mean()) < 9 * 0.005


@pytest.mark.parametrize("member", range(3))
def test_laws_and_scans_of_pairs(member: int) -> None:
    model = pretrained(NAME, member=member).double()
    checks = check_potential(model, FORMIC_ACID, POS.double())
    failed = [check for check in checks if not check.passed]
    assert not failed, failed


def test_what_it_does_not_know_is_refused_or_warned_of(team: Ensemble) -> None:
    with pytest.raises(ChargeError, match="odd"):
        team.evaluate(FORMIC_ACID[:4], POS[:4])
    with pytest.raises(SpeciesError, match="14"):
        team.evaluate(torch.tensor([14, 1, 1, 1, 1]), POS)
    with pytest.warns(EnsembleSpreadWarning):
        team.evaluate(FORMIC_ACID, 0.7 * POS)
