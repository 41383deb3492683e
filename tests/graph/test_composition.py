"""Composition schemes: parts of molecules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch_geometric.data import Batch

from torch_cormorant.errors import ConfigError, EdgeIndexError
from torch_cormorant.graph import Composition, composition_scheme
from torch_cormorant.testing import random_molecule


def sets(scheme: Composition, s: int) -> list[set[int]]:
    """Atoms of the parts of a level."""
    level = scheme.levels[s]
    found: list[set[int]] = [set() for _ in range(level.num_parts)]
    for atom, part in level.atoms.T.tolist():
        assert atom not in found[part]
        found[part].add(atom)
    return found


def test_balls_hold_what_their_balls_hold() -> None:
    _, pos = random_molecule(12)
    scheme = composition_scheme(pos, radii=[1.6, 3.0])
    distance = torch.cdist(pos, pos)
    first = [set((row < 1.6).nonzero().flatten().tolist()) for row in distance]
    assert sets(scheme, 0) == first
    joined = [
        set().union(*(first[j] for j in (row < 1.4).nonzero().flatten().tolist()))
        for row in distance
    ]
    assert sets(scheme, 1) == joined
    assert any(len(a & b) and a != b for a in joined for b in joined)  # they overlap
    for i, atoms in enumerate(joined):
        assert all(distance[i, j] < 3.0 for j in atoms)
    assert sets(scheme, 2) == [set(range(12))]


def test_bonds_of_a_list_and_of_rdkit() -> None:
    pos = torch.randn(4, 3)
    scheme = composition_scheme(pos, bonds=torch.tensor([[0, 2], [1, 1]]))
    assert sets(scheme, 0) == [{0, 1}, {0, 1, 2}, {1, 2}, {3}]
    chem = pytest.importorskip("rdkit.Chem")
    molecule = chem.AddHs(chem.MolFromSmiles("CO"))
    scheme = composition_scheme(torch.randn(6, 3), bonds=molecule)
    assert sets(scheme, 0)[:2] == [{0, 1, 2, 3, 4}, {0, 1, 5}]
    assert sets(scheme, 1) == [set(range(6))]


def test_positions_and_what_is_left_out() -> None:
    pos = torch.tensor([[0.0, 0, 0], [0, 0, 3], [0, 3, 0], [9, 9, 9]])
    scheme = composition_scheme(pos, fragments=[[0, 1], [1, 2]])
    places = scheme.positions(pos)
    assert places[0].tolist() == [[0, 0, 1.5], [0, 1.5, 1.5]]
    assert places[1].tolist() == [[0, 1, 1]]  # atom 1 once, atom 3 in no part
    heavy = scheme.positions(pos, "mass", torch.tensor([1.0, 2, 1, 1]))
    assert heavy[0].tolist() == [[0, 0, 2], [0, 1, 2]]
    drawn = composition_scheme(pos, radii=[4.0], root=False)
    assert torch.equal(drawn.positions(pos, "centre")[0], pos)
    numbers = composition_scheme(pos, fragments=torch.tensor([1, 0, 1, 0]))
    assert sets(numbers, 0) == [{1, 3}, {0, 2}]


def test_a_batch_is_the_molecules_one_by_one() -> None:
    sizes = [5, 1, 7]
    parts = [random_molecule(n)[1] for n in sizes]
    batch = torch.arange(3).repeat_interleave(torch.tensor(sizes))
    whole = composition_scheme(torch.cat(parts), batch, radii=[1.8, 3.0])
    single = [composition_scheme(pos, radii=[1.8, 3.0]) for pos in parts]
    data = [s.to_data(pos=pos) for s, pos in zip(single, parts, strict=True)]
    joined = Composition.from_data(Batch.from_data_list(data))
    assert len(joined.levels) == len(whole.levels) == 3
    for s, (a, b) in enumerate(zip(joined.levels, whole.levels, strict=True)):
        assert sets(joined, s) == sets(whole, s)
        assert sorted(a.edge_index.T.tolist()) == sorted(b.edge_index.T.tolist())
        assert torch.equal(a.batch, b.batch)
        assert (a.centre is None) == (b.centre is None)
    for a, b in zip(
        joined.positions(torch.cat(parts)),
        whole.positions(torch.cat(parts)),
        strict=True,
    ):
        assert torch.allclose(a, b)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"radii": [2.0, 1.0]}, ConfigError, "rise from level to level"),
        ({"root": False}, ConfigError, "give radii"),
        ({"fragments": [[0, 7]]}, EdgeIndexError, "fragments name atom 7"),
        ({"fragments": [[1, 2]]}, EdgeIndexError, "part 0 holds atoms of two"),
        ({"bonds": torch.tensor([[0], [3]])}, EdgeIndexError, "atoms of two molecules"),
        ({"fragments": [[0]], "radii": [1.0]}, ConfigError, "not both"),
    ],
)
def test_what_is_no_scheme_is_refused(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        composition_scheme(torch.randn(4, 3), torch.tensor([0, 0, 1, 1]), **options)


def test_places_need_what_they_are_made_of() -> None:
    pos = torch.randn(4, 3)
    scheme = composition_scheme(pos, radii=[1.0])
    with pytest.raises(ConfigError, match="needs parts drawn around atoms"):
        scheme.positions(pos, "centre")
    with pytest.raises(ConfigError, match="give masses="):
        scheme.positions(pos, "mass")
