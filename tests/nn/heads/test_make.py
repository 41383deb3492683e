from __future__ import annotations

from typing import Any

import pytest
import torch

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.heads import (
    HEADS,
    Contraction,
    Head,
    HeadInput,
    HeadList,
    LevelSizes,
    make_head,
)

SIZES = LevelSizes((4, 3), (2, 3), 2)


def atoms_of(count: int = 5) -> HeadInput:
    levels = [torch.randn(count, 9, 2, 4), torch.randn(count, 16, 2, 3)]
    values = torch.randn(count, SIZES.scalars)
    batch = torch.zeros(count, dtype=torch.long)
    z, pos = torch.full((count,), 6), torch.randn(count, 3)
    return HeadInput(values, levels, batch, 1, z, pos)


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("num_targets", [1, 3])
def test_every_name_makes_a_head_of_its_shape(kind: str, num_targets: int) -> None:
    head = make_head(kind, SIZES, num_targets, hidden=8, middle=8, act="silu")
    rows = 5 if head.per_atom else 1
    assert head(atoms_of()).shape == (rows, *head.shape)
    assert (num_targets in head.shape) or num_targets == 1
    assert head.kind in {kind, "so3"}
    assert head.last_layers()


def test_columns_count_every_level_that_has_the_degree() -> None:
    assert [SIZES.columns(l) for l in range(5)] == [14, 14, 14, 6, 0]
    assert make_head({"kind": "so3", "degree": 3}, SIZES).shape == (7,)
    with pytest.raises(ConfigError, match=r"degree 4, but the levels end at lmax 3"):
        make_head({"kind": "so3", "degree": 4}, SIZES)
    with pytest.raises(ConfigError, match="lmax=2"):
        make_head("polarizability", LevelSizes((4,), (1,), 2))


def test_options_reach_the_head() -> None:
    assert make_head({"kind": "extensive", "hidden": 5}, SIZES).mlp[0].out_features == 5
    assert make_head("extensive", SIZES, hidden=7).mlp[0].out_features == 7
    assert make_head({"kind": "mean", "num_targets": 2}, SIZES).shape == (2,)
    assert make_head({"kind": "so3", "degree": 0}, SIZES).shape == (1,)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dipol", "did you mean 'dipole'"),
        ({"kind": "dipole", "nrom": True}, "no option 'nrom'"),
        ({"kind": "dipole_norm", "norm": False}, "no option 'norm'"),
        ({"kind": "so3", "degre": 2}, "did you mean 'degree'"),
        ({"degree": 2}, "needs its name as 'kind'"),
        ([], "needs at least one"),
        (["extensive", "atom_vector"], "all per molecule or all per atom"),
        (3, "got 3"),
        ([3], "got 3"),
    ],
)
def test_mistakes_are_named(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_head(spec, SIZES)


def test_a_list_joins_and_splits() -> None:
    heads = make_head(["extensive", "dipole", "polarizability"], SIZES, hidden=8)
    assert isinstance(heads, HeadList)
    atoms = atoms_of()
    out = heads(atoms)
    assert out.shape == (1, 13)
    parts = heads.split(out)
    assert [tuple(part.shape) for part in parts] == [(1, 1), (1, 3), (1, 3, 3)]
    for part, head in zip(parts, heads.heads, strict=True):
        torch.testing.assert_close(part, head(atoms))
    heads.rescale(2.0)
    torch.testing.assert_close(heads(atoms), 2 * out)
    assert heads.scale_only


def test_what_must_keep_its_zero() -> None:
    kept = {"dipole", "dipole_norm", "polarizability", "vector", "atom_vector", "so3"}
    for kind in HEADS:
        head: Head = make_head(kind, SIZES)
        assert head.scale_only is (kind in kept)


def test_a_contraction_is_its_formula() -> None:
    contraction = Contraction(SIZES, [0, 2], copies=2, hidden=8)
    atoms = atoms_of()
    zero, two = contraction(atoms)
    assert zero.shape == (5, 1, 2)
    weights = 0.1 * contraction.mlp(atoms.values)
    torch.testing.assert_close(zero[:, 0], weights[:, :2])
    columns = torch.cat([x[:, 4:9].flatten(2) for x in atoms.levels], dim=-1)
    expected = torch.einsum("nmk,nkt->nmt", columns, weights[:, 2:].view(5, 14, 2))
    torch.testing.assert_close(two, expected / 14**0.5)
