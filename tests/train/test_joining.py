"""Batches that are joined here are PyG's, value by value."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from torch_cormorant.data import MiniEthanol, MiniQM9
from torch_cormorant.train import joining
from torch_cormorant.train.joining import join


class Own(Data):
    """Counts its labels by something else than PyG's rule."""

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        return 7 if key == "label" else super().__inc__(key, value, *args, **kwargs)


def molecule(size: int, kind: type[Data] = Data, **more: Any) -> Data:
    pos = torch.arange(3.0 * size).view(size, 3)
    return kind(z=torch.ones(size, dtype=torch.int64), pos=pos, **more)


SETS: dict[str, list[Data]] = {
    "frames": [MiniEthanol()[k] for k in (3, 0)],
    "molecules": [MiniQM9("gap")[k] for k in (7, 2, 300)],
    "one": [molecule(2)],
    "with and without atoms": [molecule(0), molecule(3), molecule(0)],
    "weights": [molecule(k, weight=torch.ones(1)) for k in (1, 2)],
}
OTHERS: dict[str, list[Data]] = {
    "edges": [molecule(2, edge_index=torch.tensor([[0, 1], [1, 0]]))] * 2,
    "features": [molecule(2, x=torch.ones(2, 4))] * 2,
    "scalars": [molecule(k, label=torch.tensor(1.0)) for k in (1, 2)],
    "numbers": [molecule(k, label=1.5) for k in (1, 2)],
    "lists": [molecule(k, label=[torch.ones(2), torch.ones(1)]) for k in (1, 2)],
    "own rules": [molecule(k, Own, label=torch.ones(k)) for k in (1, 2)],
    "own rules later": [
        molecule(1, label=torch.ones(1)),
        molecule(2, Own, label=torch.ones(2)),
    ],
    "count": [molecule(k, num_nodes=k) for k in (1, 2)],
    "another order": [
        molecule(1, one=torch.ones(1), two=torch.ones(2)),
        molecule(2, two=torch.ones(2), one=torch.ones(1)),
    ],
    "no positions": [Data(z=torch.ones(k), num_nodes=k) for k in (1, 2)],
}


def same(one: Any, other: Any) -> bool:
    if isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return bool(type(one) is type(other) and one == other)


@pytest.mark.parametrize("name", [*SETS, *OTHERS])
def test_batch_is_that_of_pyg(name: str) -> None:
    molecules = {**SETS, **OTHERS}[name]
    one, other = join(molecules), Batch.from_data_list(molecules)
    assert type(one) is type(other)
    assert one.num_graphs == other.num_graphs
    pairs: list[tuple[Any, Any]] = [
        (one.to_dict(), other.to_dict()),
        (one._slice_dict, other._slice_dict),
        (one._inc_dict, other._inc_dict),
    ]
    for given, wanted in pairs:
        assert set(given) == set(wanted)
        if name == "lists":
            continue
        assert all(same(given[key], wanted[key]) for key in wanted)
    for k in range(len(molecules) if name != "lists" else 0):
        row, again = one.get_example(k).to_dict(), other.get_example(k).to_dict()
        assert all(same(row[key], again[key]) for key in again)


@pytest.mark.parametrize("name", [*SETS, *OTHERS])
def test_what_is_simple_is_joined_here(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(joining.Batch, "from_data_list", asked.append)
    join({**SETS, **OTHERS}[name])
    assert len(asked) == (name in OTHERS)


def test_batches_share_nothing() -> None:
    one, other = join(SETS["frames"]), join(SETS["frames"])
    one.extra = torch.ones(1)
    one.z += 1
    one.ptr += 1
    assert "extra" not in other
    assert torch.equal(other.z, Batch.from_data_list(SETS["frames"]).z)
    assert torch.equal(other.get_example(1).pos, SETS["frames"][1].pos)
