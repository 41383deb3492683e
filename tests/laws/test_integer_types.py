"""Whole numbers mean the same in every integer type.

PyTorch reads a table by ``int64``, takes ``uint8`` for a mask and refuses the others.
With as many atoms as the table has rows, a mask is even accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from torch_cormorant import Cormorant
from torch_cormorant.data.baselines import element_counts
from torch_cormorant.data.reference_energies import ReferenceEnergies
from torch_cormorant.errors import DtypeError, EdgeIndexError
from torch_cormorant.explain import ExplainableModel
from torch_cormorant.graph import (
    NeighbourCache,
    all_pairs,
    edge_vectors,
    neighbour_list,
    radius_graph,
)
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.traced import TracedPotential
from torch_cormorant.models import vibrational_frequencies
from torch_cormorant.models.chunked import evaluate_in_chunks
from torch_cormorant.models.normalisation import MAX_Z, Normalisation
from torch_cormorant.nn.zbl import ZBL
from torch_cormorant.testing import random_molecule
from torch_cormorant.train import PaddedSizes, pad_batch

SMALL_TYPES = (torch.uint8, torch.int8, torch.int16, torch.int32)
Numbers = tuple[Tensor, Tensor, Tensor]  # z, pos, batch
UNITS = Normalisation((3.0,), (2.0,), {1: (-13.6,), 8: (-2041.0,)})


def water() -> Cormorant:
    torch.manual_seed(0)
    options = {"channels": 3, "num_levels": 1, "lmax": 1, "hidden": 8}
    model = Cormorant.potential([1, 8], repulsion="zbl", **options).double().eval()
    model.info = replace(model.info, normalisation=UNITS)
    return model


def two_waters(kind: torch.dtype) -> Numbers:
    one = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
    pos = torch.cat([one, one + 0.1 * one.square()]).double()
    z, batch = torch.tensor([8, 1, 1] * 2), torch.tensor([0, 0, 0, 1, 1, 1])
    return z.to(kind), pos, batch.to(kind)


def padded(z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
    del batch
    model = Cormorant([1, 8], channels=3, num_levels=1, lmax=1).double()
    y = torch.ones(1, 1).double()
    data = [Data(z=z[:3], pos=pos[:3], y=y), Data(z=z[3:], pos=pos[3:], y=y)]
    sizes = PaddedSizes.of(model, data, batch_size=2)
    found = pad_batch(model, Batch.from_data_list(data), sizes, ["y"])
    assert found is not None
    assert found.z.dtype == torch.int64
    return found.z


def explained(z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
    torch.manual_seed(0)
    model = ExplainableModel(Cormorant([1, 8], channels=3, num_levels=1).double())
    found: Tensor = model(**model.inputs(z, pos, batch))
    return found


def reference_energies(z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
    del pos
    values = {1: -13.6, 8: -2041.0}
    found = ReferenceEnergies(values, 0.5, "eV", "here", mae=0, std=0, mean_mae=0)
    return found.sums(z, batch)


def repelled(z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
    index = radius_graph(pos, 1.5, batch)
    return ZBL([1, 8])(z, index, 0.5 * edge_vectors(pos, index))


def of_cells(z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
    del z
    cells = torch.stack([3 * torch.eye(3), 4 * torch.eye(3)]).double()
    index, shift = NeighbourCache(2.0)(pos, batch, cells)
    assert torch.equal(index, neighbour_list(pos, 2.0, batch, cells)[0])
    return edge_vectors(pos, index, shift, cells, batch)


def of_edges(z: Tensor, pos: Tensor, batch: Tensor) -> Tensor:
    index = all_pairs(batch)
    out = water().forward_edges(z, index, edge_vectors(pos, index), batch=batch)
    assert isinstance(out, Tensor)
    return out


DOORS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "forward": lambda *numbers: water()(*numbers),  # noqa: PLW0108 - made anew
    "forward_edges": of_edges,
    "evaluate": lambda z, pos, batch: water().evaluate(z, pos, batch).forces,
    "energies": lambda z, pos, batch: water().evaluate(z, pos, batch).energies,
    "chunks": lambda z, pos, _: evaluate_in_chunks(water(), z[:3], pos[:3]).energies,
    "engine": lambda z, pos, batch: Engine(water())(z, pos, batch).energy,
    "traced": lambda z, pos, _: (
        TracedPotential(Engine(water()), z[:3], pos[:3])(pos[:3]).energies
    ),
    "vibrations": lambda z, pos, _: (
        vibrational_frequencies(water(), z[:3], pos[:3]).frequencies
    ),
    "restore": lambda z, _, batch: UNITS.restore(torch.ones(2, 1), z, batch),
    "restore_atoms": lambda z, _, batch: UNITS.restore(
        torch.ones(6, 1), z, batch, per_atom=True
    ),
    "references": reference_energies,
    "counts": lambda z, *_: element_counts(z, torch.tensor([0, 3, 6]), [1, 8]),
    "zbl": repelled,
    "cells": of_cells,
    "padded": padded,
    "explained": explained,
}


@pytest.mark.filterwarnings("ignore:pos. the force on atom")
@pytest.mark.parametrize("door", list(DOORS))
def test_every_integer_type_gives_the_numbers_of_int64(door: str) -> None:
    expected = DOORS[door](*two_waters(torch.int64))
    for kind in SMALL_TYPES:
        found = DOORS[door](*two_waters(kind))
        assert torch.equal(found, expected), kind


def test_uint8_is_no_mask_where_atoms_are_as_many_as_rows_of_the_table() -> None:
    z, pos = random_molecule(MAX_Z + 1)
    z = torch.where(z == 1, 1, 8)
    model = water()
    expected = model.evaluate(z, pos).energy
    assert torch.equal(model.evaluate(z.to(torch.uint8), pos).energy, expected)
    assert torch.equal(UNITS.atoms(z.to(torch.uint8)), UNITS.atoms(z))


def test_species_may_be_small_integers() -> None:
    species = list(np.array([1, 8], dtype=np.uint8))
    model = Cormorant(species, channels=2, num_levels=1, lmax=1)
    assert model.features.known == (1, 8)
    assert model.config["species"] == [1, 8]


@pytest.mark.parametrize("kind", [torch.float64, torch.bool])
def test_other_types_are_refused_by_name(kind: torch.dtype) -> None:
    z, pos, batch = two_waters(torch.int64)
    for door in ("forward", "forward_edges", "evaluate", "chunks", "engine"):
        with pytest.raises(DtypeError, match="z must be an integer tensor"):
            DOORS[door](z.to(kind), pos, batch)
    with pytest.raises(DtypeError, match="batch must be an integer tensor"):
        radius_graph(pos, 2.0, batch.to(kind))


def test_edges_stay_int64() -> None:
    z, pos, _ = two_waters(torch.int64)
    index = radius_graph(pos, 2.0).int()
    with pytest.raises((DtypeError, EdgeIndexError), match="edge_index"):
        water().evaluate(z, pos, edge_index=index)
