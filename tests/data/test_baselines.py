"""What the composition explains, and what a model has to beat."""

from __future__ import annotations

import pytest
import torch

from torch_cormorant.data import (
    CompositionBaseline,
    MeanBaseline,
    MiniEthanol,
    mean_absolute_error,
)
from torch_cormorant.data.baselines import element_counts, independent_compositions
from torch_cormorant.errors import ShapeError, SpeciesError


def test_composition_baseline_is_exact_on_linear_data() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 9, (40, 5), generator=generator).double()
    weights = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    values = counts @ weights * 100 + 7
    fit = CompositionBaseline.fit(counts[:30], values[:30])
    torch.testing.assert_close(
        fit.predict(counts[30:]), values[30:], rtol=1e-12, atol=1e-10
    )


def test_elements_that_never_or_always_occur_do_no_harm() -> None:
    counts = torch.tensor([[1, 0, 2], [2, 0, 4], [5, 0, 10]]).double()
    fit = CompositionBaseline.fit(counts, 3 * counts[:, :1])
    torch.testing.assert_close(fit.predict(counts), 3 * counts[:, :1])
    assert fit.weights[1].abs().item() < 1e-12


def test_mean_baseline_has_the_mean_deviation_as_error() -> None:
    values = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    predicted = MeanBaseline.fit(values).predict(3)
    assert mean_absolute_error(predicted, values) == pytest.approx(2.0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match="predicted"):
        mean_absolute_error(torch.zeros(3), torch.zeros(3, 1))
    with pytest.raises(ShapeError, match="counts, values"):
        CompositionBaseline.fit(torch.zeros(3, 2), torch.zeros(2, 1))


def test_the_kept_compositions_span_all() -> None:
    generator = torch.Generator().manual_seed(0)
    few = torch.randint(0, 5, (3, 6), generator=generator).double()
    counts = torch.randint(0, 4, (200, 3), generator=generator).double() @ few
    species = [1, 6, 7, 8, 9, 17]
    found = independent_compositions(counts, species)
    assert len(found) == int(torch.linalg.matrix_rank(counts)) == 3
    rows = torch.tensor([[entry.get(str(z), 0) for z in species] for entry in found])
    both = torch.cat([rows.double(), counts])
    assert int(torch.linalg.matrix_rank(both)) == 3
    assert {tuple(row) for row in rows.tolist()} <= {
        tuple(row) for row in counts.long().tolist()
    }


def test_one_molecule_is_one_composition() -> None:
    data = MiniEthanol()
    assert data.compositions() == [{"1": 6, "6": 2, "8": 1}]
    data.isolated_energies = {1: -10.0, 6: -50.0, 8: -100.0}
    assert data.compositions() == [{"1": 6, "6": 2, "8": 1}], "known, but not used"


def test_species_of_another_set_are_refused() -> None:
    with pytest.raises(SpeciesError, match="atomic number 8 is not among"):
        element_counts(torch.tensor([1, 8]), torch.tensor([0, 2]), (1, 6))
