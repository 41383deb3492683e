"""The states by which torch-sim itself tests its models (torch-sim 0.6 or newer)."""

from __future__ import annotations

import pytest
import torch

torch_sim = pytest.importorskip("torch_sim")
outside = pytest.importorskip("torch_sim.testing")

from ase.calculators.calculator import PropertyNotImplementedError  # noqa: E402

from torch_cormorant import Cormorant  # noqa: E402
from torch_cormorant.interfaces.ase import CormorantCalculator  # noqa: E402
from torch_cormorant.interfaces.torch_sim import CormorantSimModel  # noqa: E402

CPU = torch.device("cpu")
STATES = dict(outside.SIMSTATE_GENERATORS)


def made(name: str) -> torch_sim.SimState:
    state = STATES[name](CPU, torch.float64)
    assert isinstance(state, torch_sim.SimState)
    return state


@pytest.fixture(scope="module")
def potential() -> Cormorant:
    torch.manual_seed(0)
    species = sorted({z for name in STATES for z in made(name).atomic_numbers.tolist()})
    options = {"channels": 3, "num_levels": 1, "lmax": 1, "energy_unit": "eV"}
    return Cormorant.potential(species, **options).double()


def test_no_state_is_left_out() -> None:
    assert len(STATES) >= 21


@pytest.mark.parametrize("name", list(STATES))
def test_a_state_of_torch_sim_has_the_results_of_ase(
    name: str, potential: Cormorant
) -> None:
    state = made(name)
    # a molecule has no volume and so no stress: ASE's calculator refuses it
    model = CormorantSimModel(potential, compute_stress=bool(state.pbc.all()))
    exact = outside.ModelTolerance.STRICT
    names = ("energy_rtol", "force_rtol", "stress_rtol", "energy_atol", "force_atol")
    outside.assert_model_calculator_consistency(
        model, CormorantCalculator(potential), state, **dict.fromkeys(names, exact)
    )


@pytest.mark.parametrize("name", list(outside.SIMSTATE_MOLECULE_GENERATORS))
def test_stress_of_a_molecule_is_zero_here_and_refused_by_ase(
    name: str, potential: Cormorant
) -> None:
    state = made(name)
    found = CormorantSimModel(potential)(state)["stress"]
    assert torch.equal(found, torch.zeros(1, 3, 3).double())
    atoms = torch_sim.io.state_to_atoms(state)[0]
    atoms.calc = CormorantCalculator(potential)
    with pytest.raises(PropertyNotImplementedError, match="three periodic"):
        atoms.get_stress()
