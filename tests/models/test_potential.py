"""Energies, forces and stress: what comes out, and what is refused."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

from torch_cormorant import Cormorant, CormorantMD17, CormorantQM9, EdgeGeometry
from torch_cormorant.errors import (
    CellError,
    CoincidentAtomsError,
    ConfigError,
    EdgeIndexError,
    NonFiniteError,
    ShapeError,
    SpeciesError,
)
from torch_cormorant.graph import neighbour_list
from torch_cormorant.models import (
    CormorantPotential,
    Normalisation,
    load_model,
    save_model,
)
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.testing import random_molecule

SMALL: dict[str, Any] = {"channels": 4, "num_levels": 2, "lmax": 2, "cutoff": 3.0}


def potential(**options: Any) -> CormorantPotential:
    torch.manual_seed(1)
    return Cormorant.potential(**{**SMALL, **options}).double().eval()


def cell_of(size: float = 5.0) -> Tensor:
    skew = torch.tensor([[1.0, 0, 0], [0.3, 1, 0], [-0.2, 0.1, 1.1]])
    return size * skew.double()


def batch_of(*sizes: int) -> tuple[Tensor, Tensor, Tensor]:
    parts = [
        random_molecule(n, torch.Generator().manual_seed(k))
        for k, n in enumerate(sizes)
    ]
    batch = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    return torch.cat([z for z, _ in parts]), torch.cat([p for _, p in parts]), batch


def test_shapes_and_types_of_everything() -> None:
    z, pos, batch = batch_of(4, 3)
    cells = torch.stack([cell_of(), cell_of(6.0)])
    for dtype in (torch.float32, torch.float64):
        model = potential().to(dtype)
        out = model.evaluate(z, pos, batch, cells, stress=True)
        assert out.energies is not None
        assert out.forces is not None
        assert out.stress is not None
        assert out.energy.dtype == out.energies.dtype == torch.float64
        assert (out.energy.shape, out.energies.shape) == ((2,), (7,))
        assert out.forces.dtype == out.stress.dtype == pos.dtype
        assert (out.forces.shape, out.stress.shape) == ((7, 3), (2, 3, 3))
        assert torch.equal(out.stress, out.stress.transpose(1, 2))
        total = torch.zeros(2).double().index_add(0, batch, out.energies)
        torch.testing.assert_close(out.energy, total, rtol=1e-14, atol=1e-14)


def test_only_what_is_asked_for_is_computed() -> None:
    z, pos, _ = batch_of(4)
    out = potential().evaluate(z, pos, forces=False)
    assert out.forces is None
    assert out.stress is None
    full = potential().evaluate(z, pos)
    assert torch.equal(out.energy, full.energy)
    energy, forces = potential().energy_and_forces(z, pos)
    assert torch.equal(energy, full.energy)
    assert full.forces is not None
    assert torch.equal(forces, full.forces)


def test_given_edges_give_what_the_search_gives() -> None:
    z, pos, batch = batch_of(5, 4)
    model, cell = potential(), cell_of()
    expected = model.energy_and_forces(z, pos, batch, cell)
    for loop in (False, True):
        index, shift = neighbour_list(pos, 3.0, batch, cell, loop=loop)
        found = model.energy_and_forces(
            z, pos, batch, cell, edge_index=index, edge_shift=shift
        )
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)
    # farther edges add exactly nothing under the envelope
    index, shift = neighbour_list(pos, 4.5, batch, cell)
    found = model.energy_and_forces(
        z, pos, batch, cell, edge_index=index, edge_shift=shift
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-13)


def test_a_box_in_which_nothing_repeats_is_no_box() -> None:
    z, pos, _ = batch_of(5)
    model = potential()
    expected = model.energy_and_forces(z, pos)
    found = model.energy_and_forces(z, pos, None, cell_of(), pbc=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    index, shift = neighbour_list(pos, 3.0)
    found = model.energy_and_forces(
        z, pos, None, cell_of(), False, edge_index=index, edge_shift=shift
    )
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)
    found = model.energy_and_forces(z, pos, edge_index=index, edge_shift=shift)
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-14)


def test_graphs_of_a_batch_do_not_see_each_other() -> None:
    z, pos, batch = batch_of(4, 3, 5)
    cells = torch.stack([cell_of(), cell_of(4.0), cell_of(9.0)])
    pbc = torch.tensor([[True] * 3, [False] * 3, [True, False, True]])
    model = potential()
    whole = model.evaluate(z, pos, batch, cells, pbc)
    assert whole.forces is not None
    for k in range(3):
        mine = batch == k
        one = model.evaluate(z[mine], pos[mine], None, cells[k], pbc[k])
        torch.testing.assert_close(whole.energy[k], one.energy[0], rtol=1e-13, atol=0)
        torch.testing.assert_close(
            whole.forces[mine], one.forces, rtol=1e-11, atol=1e-13
        )


def test_units_scale_and_references_reach_everything() -> None:
    z, pos, batch = batch_of(4, 3)
    model = potential()
    plain = model.evaluate(z, pos, batch, cell_of(), stress=True)
    values = {1: -13.6, 6: -1029.0, 7: -1485.0, 8: -2041.0, 9: -2713.0}
    model.set_units(values, scale=0.37)
    found = model.evaluate(z, pos, batch, cell_of(), stress=True)
    shift = torch.tensor([values[int(k)] for k in z], dtype=torch.float64)
    assert plain.energies is not None
    assert plain.forces is not None
    assert plain.stress is not None
    torch.testing.assert_close(found.energies, 0.37 * plain.energies + shift)
    torch.testing.assert_close(found.forces, 0.37 * plain.forces)
    torch.testing.assert_close(found.stress, 0.37 * plain.stress)
    torch.testing.assert_close(model.predict(z, pos, batch)[:, 0],
                               model.evaluate(z, pos, batch).energy)  # fmt: skip


@pytest.mark.parametrize("head", ["extensive", "published", "linear"])
def test_every_head_with_one_energy_works(head: str) -> None:
    z, pos, batch = batch_of(4, 3)
    torch.manual_seed(0)
    model = Cormorant(**SMALL, head=head, hidden=8, activation="silu").double().eval()
    plain = model(z, pos, batch)
    assert isinstance(plain, Tensor)
    model.info = ModelInfo(("E",), ("eV",), Normalisation((2.0,), (3.0,), {1: (5.0,)}))
    out = model.evaluate(z, pos, batch)
    hydrogen = torch.tensor([(z[batch == k] == 1).sum() for k in range(2)])
    expected = 3 * plain.detach().squeeze(1) + 2 + 5 * hydrogen
    torch.testing.assert_close(out.energy, expected)
    assert (out.energies is not None) == (head == "extensive")
    if out.energies is not None:
        total = torch.zeros(2).double().index_add(0, batch, out.energies)
        torch.testing.assert_close(out.energy, total)


def test_references_of_many_thousand_units_do_not_cost_digits() -> None:
    """float32 holds -2041 eV an atom to 1e-4 eV only."""
    z, pos, _ = batch_of(4)
    model = potential().float()
    plain = model.evaluate(z, pos).energy
    model.set_units(dict.fromkeys((1, 6, 7, 8, 9), -2041.0))
    assert float((model.evaluate(z, pos).energy - plain + 4 * 2041).abs()) < 1e-11


def test_atoms_share_the_constant_without_losing_digits() -> None:
    z, pos, batch = batch_of(4, 3)
    model = potential()
    plain = model.evaluate(z, pos, batch)
    constant = Normalisation((-4000.1,), (1.0,), {})
    model.info = ModelInfo(("energy",), ("eV",), constant)
    found = model.evaluate(z, pos, batch)
    assert found.energies is not None
    assert plain.energies is not None
    shares = found.energies - plain.energies
    sizes = torch.bincount(batch).double()[batch]
    torch.testing.assert_close(shares, -4000.1 / sizes, rtol=0, atol=1e-11)
    total = torch.zeros(2, dtype=torch.float64).index_add(0, batch, found.energies)
    torch.testing.assert_close(total, found.energy, rtol=0, atol=1e-11)


def test_results_can_be_differentiated_in_training_only() -> None:
    z, pos, _ = batch_of(3)
    model = potential()
    for train in (False, True):
        model.train(train)
        out = model.evaluate(z, pos, None, cell_of(), stress=True)
        for value in (out.energy, out.energies, out.forces, out.stress):
            assert value is not None
            assert value.requires_grad is train
    with torch.no_grad():
        assert not model.energy_and_forces(z, pos)[1].requires_grad
    with torch.inference_mode():
        inside = [tensor.clone() for tensor in (z, pos)]
        found = model.energy_and_forces(*inside)[1]
    expected = model.eval().energy_and_forces(z, pos)[1]
    torch.testing.assert_close(found.clone(), expected, rtol=1e-12, atol=1e-13)


def test_the_arguments_stay_as_they_are() -> None:
    z, pos, batch = batch_of(3, 2)
    cell = cell_of()
    copies = [t.clone() for t in (z, pos, batch, cell)]
    potential().evaluate(z, pos, batch, cell, stress=True)
    for tensor, copy in zip((z, pos, batch, cell), copies, strict=True):
        assert torch.equal(tensor, copy)
        assert tensor.grad is None
        assert not tensor.requires_grad


def test_nothing_keeps_the_computation_alive() -> None:
    z, pos, _ = batch_of(6)
    model = potential()
    seen: list[weakref.ref[Tensor]] = []
    hook = model.head.register_forward_pre_hook(lambda *_: None)
    original = model.run_levels

    def watched(*args: Any) -> list[Tensor]:
        levels = original(*args)
        seen.extend(weakref.ref(level) for level in levels)
        return levels

    model.run_levels = watched  # type: ignore[method-assign]
    out = model.evaluate(z, pos)
    hook.remove()
    gc.collect()
    assert seen
    assert all(reference() is None for reference in seen)
    assert out.energy.grad_fn is None


def test_atoms_alone_have_no_forces() -> None:
    model = potential()
    energy, forces = model.energy_and_forces(
        torch.tensor([6]), torch.zeros(1, 3).double()
    )
    assert bool(energy.isfinite().all())
    assert not forces.any()
    energy, forces = model.energy_and_forces(
        torch.empty(0, dtype=torch.long), torch.empty(0, 3).double(), num_graphs=2
    )
    assert energy.tolist() == [0, 0]
    assert forces.shape == (0, 3)


def test_a_model_survives_its_file(tmp_path: Any) -> None:
    model = potential(repulsion="zbl", energy_unit="kcal/mol")
    model.set_units(dict.fromkeys((1, 6, 7, 8, 9), -3.0), 2.0)
    save_model(tmp_path / "model.safetensors", model)
    again = load_model(tmp_path / "model.safetensors")
    assert type(again) is CormorantPotential
    assert again.config == model.config
    assert again.info.units == ("kcal/mol",)
    z, pos, _ = batch_of(4)
    expected = model.energy_and_forces(z, 0.8 * pos)
    torch.testing.assert_close(again.energy_and_forces(z, 0.8 * pos), expected)


def test_published_networks_have_forces_and_no_cells() -> None:
    z, pos, _ = batch_of(4)
    for kind in (CormorantQM9, CormorantMD17):
        model = kind(species=(1, 6, 7, 8, 9), channels=2, num_levels=1, lmax=1).eval()
        assert bool(model.energy_and_forces(z, pos)[1].any())
        with pytest.raises(ConfigError, match=r"cutoff=None.*periodic"):
            model.energy_and_forces(z, pos, cell=cell_of())


def bad_positions(value: float) -> Tensor:
    _, pos, _ = batch_of(4, 3)
    pos[5, 1] = value
    return pos


CELLS = torch.stack([cell_of(), cell_of()])
FLAT = CELLS * torch.tensor([1.0, 0.0])[:, None, None]
INDEX = torch.tensor([[0], [1]])
EDGES = {"edge_index": INDEX, "cell": CELLS}
SLAB = torch.tensor([True, True, False])
BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"cell": FLAT}, CellError, "graph 1"),
    ({"cell": CELLS[:, :2]}, ShapeError, "cell"),
    ({"cell": CELLS.repeat(2, 1, 1)[:3], "num_graphs": 2}, ShapeError, "cell"),
    ({"cell": CELLS * math.nan}, CellError, "graph 0"),
    ({"pos": bad_positions(math.nan)}, NonFiniteError, "atom 5"),
    ({"pos": bad_positions(math.inf), "cell": CELLS}, NonFiniteError, "atom 5"),
    ({"pos": torch.zeros(7, 3)}, CoincidentAtomsError, "nodes"),
    ({"pos": torch.zeros(7, 2)}, ShapeError, r"pos .*\(7, 2\)"),
    ({"z": torch.full((7,), 92)}, SpeciesError, "atomic number 92"),
    ({"z": torch.ones(6).long()}, ShapeError, r"z .*\(6,\)"),
    ({"batch": torch.zeros(6).long()}, ShapeError, "batch"),
    ({"pbc": True}, ConfigError, "cell is None"),
    ({"edge_index": INDEX + 9}, EdgeIndexError, "node"),
    ({"edge_index": INDEX[0]}, ShapeError, "edge_index"),
    ({"edge_index": INDEX, "edge_shift": torch.ones(1, 3)}, ConfigError, "cell"),
    ({"edge_shift": torch.ones(1, 3)}, EdgeIndexError, "edge_index"),
    ({"edge_index": INDEX, "cell": CELLS}, EdgeIndexError, "without edge_shift"),
    ({"edge_index": INDEX + 3}, EdgeIndexError, "two graphs in column 0"),
    (EDGES | {"edge_shift": torch.full((1, 3), 0.5)}, EdgeIndexError, "whole .*row 0"),
    (EDGES | {"edge_shift": torch.full((1, 3), math.nan)}, EdgeIndexError, "whole"),
    (EDGES | {"edge_shift": torch.ones(3)}, ShapeError, r"edge_shift .*\[1, 3\]"),
    (EDGES | {"edge_shift": torch.ones(1, 3), "pbc": SLAB}, EdgeIndexError, "repeat"),
    (EDGES | {"edge_shift": torch.ones(1, 3), "pbc": False}, EdgeIndexError, "repeat"),
    ({"stress": True}, ConfigError, "stress needs a cell"),
]


@pytest.mark.parametrize(("change", "error", "words"), BAD)
def test_bad_input_is_refused_by_name(
    change: dict[str, Any], error: type[Exception], words: str
) -> None:
    z, pos, batch = batch_of(4, 3)
    with pytest.raises(error, match=words):
        potential().evaluate(**{"z": z, "pos": pos, "batch": batch, **change})


def test_an_atom_on_the_image_of_another_is_refused() -> None:
    pos = torch.tensor([[0.0, 0, 0], [4.0, 0, 0]])
    with pytest.raises(CoincidentAtomsError, match="nodes"):
        potential().evaluate(torch.tensor([1, 1]), pos, None, 4 * torch.eye(3))


def test_a_slab_without_a_third_vector_has_forces_and_no_stress() -> None:
    z, pos, _ = batch_of(4)
    cell = cell_of() * torch.tensor([1.0, 1, 0])[:, None]
    pbc = torch.tensor([True, True, False])
    assert bool(potential().energy_and_forces(z, pos, None, cell, pbc)[1].any())
    for missing in (0.0, math.nan, math.inf):  # what does not repeat is not read
        cell[2] = missing
        with pytest.raises(CellError, match="graph 0 has no volume"):
            potential().evaluate(z, pos, None, cell, pbc, stress=True)


def test_cached_geometry_is_refused() -> None:
    z, pos, _ = batch_of(3)
    geometry = EdgeGeometry.from_pos(pos, torch.tensor([[0, 1], [1, 0]]))
    with pytest.raises(ConfigError, match="cached vectors know no positions"):
        potential().energy_and_forces(z, pos, edge_index=geometry)  # type: ignore[arg-type]


@pytest.mark.parametrize("head", ["dipole", "atom_vector"])
def test_models_without_one_energy_are_refused(head: str) -> None:
    z, pos, _ = batch_of(3)
    with pytest.raises(ConfigError, match="one target"):
        Cormorant(**SMALL, head=head).energy_and_forces(z, pos.float())
    with pytest.raises(ConfigError, match="one target"):
        Cormorant(**SMALL, num_targets=2).energy_and_forces(z, pos.float())
