from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from ase import Atoms

from tests.interfaces.structures import liquid
from torch_cormorant.errors import (
    CellError,
    CoincidentAtomsError,
    ConfigError,
    DtypeError,
    MemoryBudgetError,
    NonFiniteError,
    SpeciesError,
)
from torch_cormorant.models import Cormorant, Potential
from torch_cormorant.models.chunked import (
    MemoryPlan,
    evaluate_in_chunks,
    plan_memory,
)
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.networks import NequIP, PaiNN, SchNet


def make(**options: object) -> Cormorant:
    torch.manual_seed(1)
    given = {"channels": 3, "num_levels": 3, "lmax": [2, 1, 1], **options}
    if "input" in given:
        return Cormorant([1, 8], head="extensive", **given).double().eval()
    model = Cormorant.potential([1, 8], **given)
    return model.set_units({1: -1.0, 8: -3.0}, 0.5).double().eval()


def tensors(atoms: Atoms) -> tuple[torch.Tensor, ...]:
    return (
        torch.tensor(atoms.numbers),
        torch.tensor(atoms.positions),
        torch.tensor(atoms.cell.array),
        torch.tensor(atoms.pbc),
    )


@pytest.mark.parametrize("keep", [True, False], ids=["edges kept", "edges again"])
@pytest.mark.parametrize("size", [1, 150, 10**6])
@pytest.mark.parametrize(
    "options",
    [
        {"repulsion": "zbl", "gate": True},
        {"input": "mpnn", "norm": None, "paths": "all", "complex": False},
        {"radial": "species", "species_scale": True, "residual": True},
    ],
    ids=["zbl", "mpnn", "species"],
)
def test_chunks_are_exact(keep: bool, size: int, options: dict[str, object]) -> None:
    model = make(cutoff=2.8, **options)
    z, pos, cell, pbc = tensors(liquid(17, spread=1.7))
    whole = model.evaluate(z, pos, cell=cell, pbc=pbc, stress=True)
    plan = MemoryPlan(keep_edges=keep, chunk_edges=size, resident=0, working=0)
    found = evaluate_in_chunks(model, z, pos, cell, pbc, plan=plan)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(found.energy, whole.energy, **close)
    torch.testing.assert_close(found.energies, whole.energies, **close)
    torch.testing.assert_close(found.forces, whole.forces, **close)
    virial = -torch.linalg.det(cell).abs() * whole.stress[0]
    torch.testing.assert_close(found.virial[0], virial, **close)


def test_atomic_energies_hold_the_constant_as_those_of_evaluate() -> None:
    model = make()
    units = Normalisation((-7.0,), (2.0,), {1: (-13.0,), 8: (-2000.0,)})
    model.info = replace(model.info, normalisation=units)
    z, pos, cell, pbc = tensors(liquid(5))
    whole = model.evaluate(z, pos, cell=cell, pbc=pbc)
    found = evaluate_in_chunks(model, z, pos, cell, pbc)
    torch.testing.assert_close(found.energies, whole.energies, rtol=1e-13, atol=0)
    torch.testing.assert_close(found.energy, whole.energy, rtol=1e-13, atol=0)


def test_single_precision_and_lone_atoms() -> None:
    model = make().float()
    z, far = torch.tensor([8, 1, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1], [50, 0, 0]])
    whole = model.evaluate(z, far)
    found = evaluate_in_chunks(model, z, far)
    torch.testing.assert_close(found.forces, whole.forces)
    assert found.num_edges == 2
    none = evaluate_in_chunks(model, z[:0], far[:0])
    assert none.energy == 0
    assert none.forces.shape == (0, 3)


def test_evaluate_within_a_budget_is_evaluate() -> None:
    """The same names, the same unit, the same numbers; of one structure."""
    model = make(cutoff=2.8, repulsion="zbl")
    z, pos, cell, pbc = tensors(liquid(17, spread=1.7))
    close = {"rtol": 1e-11, "atol": 1e-12}
    for stress in (True, False):
        whole = model.evaluate(z, pos, cell=cell, pbc=pbc, stress=stress)
        for memory in ("1GiB", 2**30, 1e9, math.inf):
            found = model.evaluate(
                z, pos, cell=cell, pbc=pbc, stress=stress, memory=memory
            )
            assert found.unit == whole.unit == "eV"
            for name in ("energy", "energies", "forces", "stress"):
                left, right = getattr(found, name), getattr(whole, name)
                torch.testing.assert_close(left, right, **close)
    with pytest.raises(MemoryBudgetError, match="need at least"):
        model.evaluate(z, pos, cell=cell, pbc=pbc, memory="1kB")
    with pytest.raises(ConfigError, match="leave out batch"):
        model.evaluate(z, pos, torch.zeros_like(z), memory="1GiB")
    with pytest.raises(ConfigError, match="stress needs a cell"):
        model.evaluate(z, pos, stress=True, memory="1GiB")


def test_less_memory_means_smaller_chunks_and_then_an_error() -> None:
    model = make(channels=8)
    plenty = plan_memory(model, 10_000, 400_000)
    assert plenty.keep_edges
    tight = plan_memory(model, 10_000, 400_000, plenty.resident // 2)
    assert not tight.keep_edges
    assert tight.resident + tight.working <= plenty.resident // 2
    with pytest.raises(MemoryBudgetError, match=r"need at least .* MiB, the budget is"):
        plan_memory(model, 10_000, 400_000, 10 * 2**20)


def test_an_infinite_budget_is_no_limit() -> None:
    assert plan_memory(make(), 100, 4000, torch.inf) == plan_memory(make(), 100, 4000)


def test_memory_does_not_grow_with_edges_where_they_are_computed_again() -> None:
    model = make(channels=16)
    few, many = (
        plan_memory(model, 10_000, edges, 200 * 2**20 + edges * 200)
        for edges in (200_000, 400_000)
    )
    assert not few.keep_edges
    assert not many.keep_edges
    assert (many.resident - few.resident) / 200_000 < 160, "bytes per edge"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": None, "radial": "power_trig"}, "cutoff"),
        ({"head": "mean"}, "sum of atomic contributions"),
        ({"input": "mpnn", "num_mpnn_layers": 2}, "one input layer"),
    ],
)
def test_models_that_cannot_be_cut_are_named(
    options: dict[str, object], message: str
) -> None:
    small = {"species": [1, 8], "channels": 2, "num_levels": 1, "lmax": 1}
    model = Cormorant(**{"head": "extensive", **small, **options})
    with pytest.raises(ConfigError, match=message):
        evaluate_in_chunks(model, torch.tensor([1]), torch.zeros(1, 3))
    with pytest.raises(SpeciesError, match="atomic number 6"):
        evaluate_in_chunks(make(), torch.tensor([6]), torch.zeros(1, 3))


def test_bad_structures_are_refused_with_the_users_numbers() -> None:
    model = make(cutoff=2.8)
    z, pos, cell, pbc = tensors(liquid(17, spread=1.7))
    same = pos.clone()
    same[13] = same[4]
    with pytest.raises(CoincidentAtomsError, match=r"atoms (4 and 13|13 and 4) "):
        evaluate_in_chunks(model, z, same, cell, pbc)
    same[13] = same[4] + cell[1]
    with pytest.raises(CoincidentAtomsError, match=r"atoms (4 and 13|13 and 4) "):
        evaluate_in_chunks(model, z, same, cell, pbc)
    pos[3, 1] = torch.nan
    with pytest.raises(NonFiniteError, match="atom 3"):
        evaluate_in_chunks(model, z, pos, cell, pbc)
    z, pos, cell, pbc = tensors(liquid(17, spread=1.7))
    with pytest.raises(CellError, match="does not span"):
        evaluate_in_chunks(model, z, pos, 0 * cell, pbc)
    for wrong in ("8 apples", "GiB", -1, math.nan, "8GiBs"):
        with pytest.raises(ConfigError, match="number of bytes or a text"):
            evaluate_in_chunks(model, z, pos, cell, pbc, memory=wrong)
    with pytest.raises(DtypeError, match="bfloat16"):
        evaluate_in_chunks(make(cutoff=2.8).bfloat16(), z, pos, cell, pbc)
    for parameter in model.parameters():
        parameter.data.fill_(torch.inf)
    with pytest.raises(NonFiniteError, match="energy of atom 0"):
        evaluate_in_chunks(model, z, pos, cell, pbc)


def test_vectors_that_do_not_repeat_are_not_read_and_inference_mode_is_left() -> None:
    model = make(cutoff=2.8)
    z, pos, cell, _ = tensors(liquid(17, spread=1.7))
    slab = torch.tensor([True, False, True])
    whole = model.evaluate(z, pos, cell=cell, pbc=slab)
    cell[1] = torch.nan
    with torch.inference_mode():
        z, pos, cell, slab = (part.clone() for part in (z, pos, cell, slab))
        found = evaluate_in_chunks(model, z, pos, cell, slab)
    close = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(found.energy, whole.energy, **close)
    torch.testing.assert_close(found.forces, whole.forces, **close)


FAMILY = {
    "nequip": lambda: NequIP([1, 8], channels=3, num_levels=3, lmax=2, cutoff=2.8),
    "zbl": lambda: NequIP(
        [1, 8],
        channels=3,
        num_levels=2,
        cutoff=2.8,
        zbl="metal",
        edge_cutoffs=[[2.0, 2.5], [2.5, 2.8]],
    ),
    "painn": lambda: PaiNN([1, 8], channels=3, num_levels=2, cutoff=2.8),
    "schnet": lambda: SchNet([1, 8], channels=3, num_levels=2, cutoff=2.8),
}


@pytest.mark.parametrize("size", [1, 150])
@pytest.mark.parametrize("name", list(FAMILY))
def test_chunks_of_the_family_are_exact(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = Potential(FAMILY[name]().double(), pair="zbl").eval()
    model.set_units({1: -1.0, 8: -3.0}, 0.5)
    z, pos, cell, pbc = tensors(liquid(17, spread=1.7))
    whole = model.evaluate(z, pos, cell=cell, pbc=pbc, stress=True)
    plan = MemoryPlan(keep_edges=False, chunk_edges=size, resident=0, working=0)
    found = evaluate_in_chunks(model, z, pos, cell, pbc, plan=plan, stress=True)
    for key, value in whole.tensors().items():
        assert torch.allclose(getattr(found, key), value, rtol=1e-10, atol=1e-11), key


def test_tables_and_budgets_of_the_family() -> None:
    model = Potential(FAMILY["painn"]().double()).tabulate()
    z, pos, cell, pbc = tensors(liquid(17, spread=1.7))
    whole = model.evaluate(z, pos, cell=cell, pbc=pbc)
    found = model.evaluate(z, pos, cell=cell, pbc=pbc, memory="1GiB")
    assert whole.forces is not None
    assert torch.allclose(found.forces, whole.forces, atol=1e-11)
    with pytest.raises(MemoryBudgetError, match="need at least"):
        model.evaluate(z, pos, cell=cell, pbc=pbc, memory=1000)
    apart = evaluate_in_chunks(model, z[:2], 100 * pos[:2], memory=2**30)
    assert torch.equal(apart.forces, torch.zeros(2, 3, dtype=torch.float64))
