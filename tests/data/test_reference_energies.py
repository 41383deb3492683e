"""What the composition explains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from torch_cormorant.data import (
    FrameArrays,
    Frames,
    MiniEthanol,
    MiniQM9,
    read_npz,
    read_qm9,
    reference_energies,
    split_indices,
)
from torch_cormorant.errors import ConfigError, ShapeError, SpeciesError

VALUES = {1: -13.5, 6: -1030.25, 8: -2041.75}


def made_up(constant: float = 0.0, noise: float = 0.0) -> Frames:
    """Systems whose energies are sums over their atoms."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, 40)
    z = rng.choice([1, 6, 8], sizes.sum())
    offset = np.concatenate([[0], np.cumsum(sizes)])
    sums = np.add.reduceat(np.array([VALUES[k] for k in z.tolist()]), offset[:-1])
    energy = sums + constant + noise * rng.normal(size=40)
    frames = FrameArrays(z, rng.normal(size=(len(z), 3)), offset, energy)
    return Frames(frames, name="made up", energy_unit="eV")


def test_sums_over_atoms_are_found_again() -> None:
    found = reference_energies(made_up())
    assert found.per_element == pytest.approx(VALUES, abs=1e-8)
    assert found.constant == 0.0
    assert found.mae < 1e-8
    assert found.mean_mae > 1000
    assert found.unit == "eV"
    with_constant = reference_energies(made_up(constant=7.5), constant=True)
    assert with_constant.constant == pytest.approx(7.5, abs=1e-7)
    assert with_constant.per_element == pytest.approx(VALUES, abs=1e-7)


def test_only_the_given_rows_are_looked_at() -> None:
    dataset = made_up(noise=1.0)
    rows = list(range(30))
    assert reference_energies(dataset, rows) == reference_energies(dataset[rows])
    assert reference_energies(dataset, rows) != reference_energies(dataset)
    with pytest.raises(ConfigError, match="rows: there are none"):
        reference_energies(dataset, [])


def test_isolated_atoms_take_the_place_of_the_fit() -> None:
    found = reference_energies(made_up(), isolated={**VALUES, 7: -1.0})
    assert dict(found.per_element) == VALUES
    assert found.source == "isolated atoms"
    assert found.mae < 1e-8
    with pytest.raises(SpeciesError, match="isolated: no energy for atomic number 8"):
        reference_energies(made_up(), isolated={1: 0.0, 6: 0.0})


def test_one_composition_has_the_solution_of_least_norm() -> None:
    dataset = MiniEthanol()
    found = reference_energies(dataset)
    z = dataset[0].z
    assert found.sums(z).item() == pytest.approx(dataset.energies.mean().item())
    # C2 H6 O: of all solutions the one of least norm is proportional to the counts.
    assert found.per_element[1] == pytest.approx(3 * found.per_element[6])
    assert found.per_element[6] == pytest.approx(2 * found.per_element[8])
    assert found.std == pytest.approx(dataset.energies.std().item(), rel=1e-3)


def test_first_guesses_of_a_batch() -> None:
    found = reference_energies(made_up())
    z = torch.tensor([8, 1, 1, 6])
    sums = found.sums(z, torch.tensor([0, 0, 0, 1]))
    assert sums.dtype == torch.float64
    assert sums.tolist() == pytest.approx([-2068.75, -1030.25], abs=1e-7)
    assert found.per_atom(z).tolist() == pytest.approx([VALUES[k] for k in z.tolist()])
    for wrong in (7, 200, 0, -1):
        with pytest.raises(SpeciesError, match=f"atomic number {wrong}"):
            found.sums(torch.tensor([1, wrong]))
    with pytest.raises(ShapeError, match=r"batch: shape \(2,\)"):
        found.sums(z, torch.tensor([0, 1]))


def test_the_text_names_values_and_what_they_leave() -> None:
    text = reference_energies(made_up(7.5), constant=True).describe()
    for part in ("in eV, least squares over 40", "C  -1030.250000", "constant 7.5"):
        assert part in text
    assert "mean absolute rest" in text


def test_sets_of_several_properties_or_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds 7 properties"):
        reference_energies(MiniQM9())
    np.savez(tmp_path / "x.npz", z=[1], pos=[[0.0, 0, 0]])
    with pytest.raises(ConfigError, match="holds no energies"):
        reference_energies(read_npz(tmp_path / "x.npz"))


@pytest.mark.parametrize(
    ("target", "least", "most", "mean"),
    [("U0_atom", 0.84, 0.9, 8), ("zpve", 37e-3, 41e-3, 0.7)],
)
def test_on_qm9_the_composition_explains_most(
    shared: Path, target: str, least: float, most: float, mean: float
) -> None:
    dataset = read_qm9(npz=shared / "data/qm9/qm9_labelled.npz", target=target)
    train = split_indices(len(dataset), 20_000, 1000, 1000).train
    found = reference_energies(dataset, train.tolist(), constant=True)
    assert least < found.mae < most
    assert found.mean_mae == pytest.approx(mean, rel=0.05)


def test_elements_that_no_row_holds_have_no_value() -> None:
    data = MiniQM9("energy")
    hydrocarbons = [row for row in range(60) if set(data[row].z.tolist()) == {1, 6}]
    found = reference_energies(data, hydrocarbons)
    assert sorted(found.per_element) == [1, 6]
    with pytest.raises(SpeciesError, match="no reference energy for atomic number 9"):
        found.per_atom(torch.tensor([6, 9]))
    isolated = {1: -13.6, 6: -1030.0}
    known = reference_energies(data, hydrocarbons, isolated=isolated)
    assert known.per_element == isolated
