"""Whether positions look like Angstrom."""

from __future__ import annotations

import math

import pytest
import torch

from torch_cormorant.data import MiniEthanol, MiniQM9
from torch_cormorant.errors import CormorantWarning
from torch_cormorant.graph.spacing import neighbour_distance, warn_if_not_angstrom


def test_molecules_in_nm_are_noticed_and_those_in_angstrom_are_not() -> None:
    found = list(MiniQM9("gap")[:100]) + list(MiniEthanol()[:20])
    found = [one for one in found if one.z.numel() > 2]
    assert len(found) > 100
    for one in found:
        # A compressed molecule is still one in Angstrom.
        assert not warn_if_not_angstrom(0.6 * one.pos, "molecule")
        with pytest.warns(CormorantWarning, match="molecule: .* in nm"):
            assert warn_if_not_angstrom(0.1 * one.pos, "molecule")


def test_pairs_pushed_together_and_single_atoms_are_left_alone() -> None:
    pair = torch.tensor([[0.0, 0, 0], [0, 0, 0.05]])
    assert not warn_if_not_angstrom(pair, "pair")
    assert neighbour_distance(pair) == pytest.approx(0.05)
    assert math.isinf(neighbour_distance(pair[:1]))
    # One close contact among many atoms is a matter for the potential.
    line = torch.arange(9.0)[:, None] * torch.tensor([1.0, 0, 0])
    line[1, 0] = 0.1
    assert not warn_if_not_angstrom(line, "line")


def test_a_sample_of_a_large_system_tells_its_spacing() -> None:
    line = 0.25 * torch.arange(20_000.0)[:, None] * torch.tensor([1.0, 0, 0])
    before = line.clone()
    assert neighbour_distance(line) == pytest.approx(0.25)
    assert torch.equal(line, before)
