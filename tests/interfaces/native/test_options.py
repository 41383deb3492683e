"""Every option against the network itself, on every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from torch_cormorant.interfaces.native import NativePotential
from torch_cormorant.models.energy import Result

Agree = Callable[..., Result]
Make = Callable[..., Any]
OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "one level": {"num_levels": 1},
    "eight levels": {"num_levels": 8, "channels": 2},
    "no norm": {"norm": None, "channels": 5},
    "gate": {"gate": True, "channels": 5},
    "gate without norm": {"gate": True, "norm": None, "channels": 5},
    "norm with eps": {"norm": {"kind": "norm", "eps": 0.3}, "channels": 5},
    "gaussian": {"radial": "gaussian", "channels": 5},
    "gaussian mask": {"gaussian_mask": True, "channels": 5},
    "fixed masks": {"cutoff_type": ("soft",), "channels": 5},
    "no masks": {"cutoff_type": (), "channels": 5},
    "repulsion": {"repulsion": "zbl", "channels": 5},
    "repulsion in kcal/mol": {
        "repulsion": "zbl",
        "energy_unit": "kcal/mol",
        "channels": 5,
    },
    "own sizes": {
        "num_levels": 3,
        "lmax": (2, 1, 3),
        "lmax_sh": (2, 3, 1),
        "channels": (4, 8, 6, 5),
        "gate": True,
    },
    "many channels": {"channels": 37, "num_levels": 2, "lmax": 1, "hidden": 7},
    "far and wide": {"cutoff": 3.1, "num_basis": 12, "hidden": 100, "channels": 4},
    "charges": {"charge_power": 1, "charge_scale": 3.0, "channels": 4},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_potentials(
    name: str, agree: Agree, make: Make, atoms: Any, instruction_set: str
) -> None:
    del instruction_set
    agree(make(**OPTIONS[name]), *atoms(11))


@pytest.mark.parametrize("complex", [True, False])
@pytest.mark.parametrize("paths", ["even", "all"])
@pytest.mark.parametrize("lmax", [1, 2, 3, 4])
def test_degrees(
    lmax: int,
    paths: str,
    complex: bool,
    agree: Agree,
    make: Make,
    atoms: Any,
    instruction_set: str,
) -> None:
    del instruction_set
    model = make(lmax=lmax, paths=paths, complex=complex, channels=3, num_levels=2)
    agree(model, *atoms(9))
    agree(model.float(), *atoms(9))


@pytest.mark.parametrize("name", ["default", "gate", "repulsion", "own sizes"])
def test_single_precision(
    name: str, agree: Agree, make: Make, atoms: Any, instruction_set: str
) -> None:
    del instruction_set
    found = agree(make(**OPTIONS[name]).float(), *atoms(30))
    assert found.forces is not None
    assert found.forces.dtype == torch.float64


def test_the_arithmetic_can_be_chosen(make: Make, atoms: Any) -> None:
    model, given = make(channels=4).float(), atoms(9)
    fine = NativePotential(model, dtype=torch.float64).evaluate(*given)
    wanted = model.double().evaluate(*map(torch.as_tensor, given))
    torch.testing.assert_close(fine.energy, wanted.energy, rtol=1e-13, atol=0)
    torch.testing.assert_close(fine.forces, wanted.forces, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("complex", [True, False])
def test_forces_without_a_head_come_from_nowhere(
    complex: bool, make: Make, atoms: Any
) -> None:
    """What scratch memory held before must not reach any force."""
    model = make(channels=4, complex=complex)
    with torch.no_grad():
        model.head.mlp[2].weight.zero_()
    native = NativePotential(model)
    found = native.evaluate(*atoms(20))
    assert found.forces is not None
    assert not found.forces.any()
    other = make(channels=4, complex=complex)
    wanted = NativePotential(other).evaluate(*atoms(9)).forces
    again = NativePotential(other)
    again.evaluate(*atoms(60, seed=3))
    assert torch.equal(again.evaluate(*atoms(9)).forces, wanted)


def test_weights_as_they_start(agree: Agree, atoms: Any) -> None:
    from torch_cormorant import Cormorant

    model = Cormorant.potential((1, 6, 8), channels=4).double().eval()
    agree(model, *atoms(9))
    units = model.info.normalisation
    model.info = type(model.info)(
        ("energy",), ("eV",), type(units)((12.5,), (0.3,), {})
    )
    agree(model, *atoms(9))
