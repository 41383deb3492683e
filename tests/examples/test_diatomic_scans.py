"""Two atoms pulled apart with the potential of the examples: values, to see changes.

The potential was trained on one molecule and has never seen two free atoms. What is
promised is the inside of a bond: a wall, one turn of the force at most, no jumps. Wells
beyond are recorded, not promised.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from torch_cormorant.models import Cormorant, load_model
from torch_cormorant.testing import diatomic_scan

PATH = Path(__file__).parents[2] / "examples" / "models" / "ethanol.safetensors"
SPACING = 2.5e-3  # Angstrom
SCANS = {
    # elements: sign flips of the force, those within a bond, minima, and the largest
    # change of the energy in eV between neighbouring points from 70 % of a bond on
    (1, 1): (2, 0, 2, 0.0360),
    (1, 6): (4, 1, 3, 0.0218),
    (1, 8): (4, 1, 3, 0.0510),
    (6, 6): (4, 1, 2, 0.0397),
    (6, 8): (2, 1, 2, 0.0750),
    (8, 8): (4, 1, 3, 0.1250),
}


@pytest.fixture(scope="module")
def model() -> Cormorant:
    return load_model(PATH).double().eval()


@pytest.mark.parametrize("pair", list(SCANS), ids="{0[0]}-{0[1]}".format)
def test_scans_of_the_shipped_potential(
    model: Cormorant, pair: tuple[int, int]
) -> None:
    assert model.cutoff == 5.0
    length = torch.linspace(0.2, 5.2, 2001)
    assert float(length[1] - length[0]) == pytest.approx(SPACING, rel=1e-4)
    scan = diatomic_scan(model, *pair, length)
    flips, inside, minima, change = SCANS[pair]
    assert (scan.turns(), scan.turns(scan.bond), scan.minima) == (flips, inside, minima)
    far = scan.length >= 0.7 * scan.bond
    found = float(scan.energy[far].diff().abs().max())
    assert found == pytest.approx(change, rel=5e-3)
    assert scan.is_repulsive
    # what the forces do not explain, up to the trapezoid rule between points
    assert scan.largest_jump < 2e-5
    beyond = scan.length >= model.cutoff
    assert not scan.force[beyond].any()
    # atoms far apart, up to rounding: where they lie in a batch may decide its last bit
    assert float(scan.energy[beyond].abs().max()) < 1e-12
