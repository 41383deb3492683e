"""The twelve properties of QM9 by the weights that come with the package."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from ase.build import molecule

from torch_cormorant import pretrained
from torch_cormorant.errors import ChargeError, EnsembleSpreadWarning, SpeciesError
from torch_cormorant.models import Ensemble, Spread, pretrained_models

NAME = "qm9"
RECORD = Path(__file__).parents[2] / "docs/records/qm9_heads/ensemble.json"


@pytest.fixture(scope="module")
def team() -> Ensemble:
    found = pretrained(NAME)
    assert isinstance(found, Ensemble)
    return found


def water() -> tuple[torch.Tensor, torch.Tensor]:
    """O-H bonds of 0.962 Angstrom, at 103.7 degrees."""
    half = math.radians(103.7 / 2)
    x, y = 0.962 * math.sin(half), 0.962 * math.cos(half)
    return torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [x, y, 0], [-x, y, 0]])


def test_it_says_what_it_knows() -> None:
    about = pretrained_models()[NAME]
    assert about.level_of_theory == "B3LYP/6-31G(2df,p)"
    assert about.elements == ("H", "C", "N", "O", "F")
    assert (about.charge, about.unpaired) == ((0, 0), 0)
    assert len(about.files) == 3
    measured = json.loads(RECORD.read_text())["targets"]
    for name, text in about.errors.items():
        error = measured[name]["mae_of_mean"]
        assert text == f"{error:.4g} {measured[name]['unit']}"
    assert set(about.errors) == set(measured)
    assert len(measured) == 12


def test_ethanol_as_qm9_has_it(team: Ensemble) -> None:
    atoms = molecule("CH3CH2OH")  # at another level of theory
    found = team.predict(torch.tensor(atoms.numbers), torch.tensor(atoms.positions))
    assert isinstance(found, Spread)
    values = dict(zip(team.info.targets, found.mean.flatten().tolist(), strict=True))
    assert values["mu"] == pytest.approx(1.4131, abs=0.15)
    assert values["gap"] == pytest.approx(values["lumo"] - values["homo"], abs=0.1)
    assert (found.std > 0).all()


def test_it_does_not_matter_how_a_molecule_lies(team: Ensemble) -> None:
    z, pos = water()
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.manual_seed(0)))
    order = torch.tensor([2, 0, 1])
    first, second = team.predict(z, pos), team.predict(z[order], pos[order] @ turn + 3)
    assert isinstance(first, Spread)
    assert isinstance(second, Spread)
    torch.testing.assert_close(first.mean, second.mean, rtol=1e-5, atol=1e-5)


def test_what_it_does_not_know_is_refused_or_warned_of(team: Ensemble) -> None:
    z, pos = water()
    with pytest.raises(ChargeError, match="odd"):
        team.predict(torch.tensor([7, 1, 1]), pos)
    with pytest.raises(SpeciesError, match="16"):
        team.predict(torch.tensor([16, 1, 1]), pos)
    with pytest.warns(EnsembleSpreadWarning, match="disagree about"):
        team.predict(z, 0.6 * pos)
