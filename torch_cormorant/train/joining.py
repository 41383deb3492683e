"""Molecules joined into one batch, as PyG joins them but in few calls."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info
from torch_geometric.data import Batch, Data

__all__ = ["join"]

SPECIAL = ("index", "batch", "adj", "ptr", "node", "edge", "face", "feat", "tf", "n_id")
"""What is in the names of attributes that PyG joins, or counts atoms by, in some way
of its own."""
EMPTY: Any = Batch()


def join(molecules: Sequence[Data]) -> Batch:
    """``Batch.from_data_list``, value by value, for the molecules of a data set.

    Tensors are put one behind the other and texts are listed. Whatever needs more is
    left to PyG.

    Args:
        molecules: At least one.

    Example:
        >>> from torch_cormorant.data import MiniQM9
        >>> join(MiniQM9("gap")[:2]).ptr.tolist()
        [0, 2, 5]
    """
    molecules = list(molecules)
    rows = [molecule.to_dict() for molecule in molecules]
    alike = all(type(molecule) is Data for molecule in molecules)
    if not (alike and get_worker_info() is None and _are_simple(rows)):
        return Batch.from_data_list(molecules)
    batch, count = copy.copy(EMPTY), len(rows)
    slices: dict[str, Tensor] = {}
    added: dict[str, Tensor | None] = {}
    for name, value in rows[0].items():
        parts = [row[name] for row in rows]
        if isinstance(value, Tensor):
            batch[name] = torch.cat(parts)
            starts = [0, *accumulate(map(len, parts))]
            slices[name] = torch.tensor(starts)
            added[name] = torch.zeros(count, dtype=torch.int64)
        else:
            batch[name], added[name] = parts, None
            slices[name] = torch.arange(count + 1)
    batch.ptr = slices["pos"].clone()
    atoms = [len(row["pos"]) for row in rows]
    batch.batch = torch.from_numpy(np.arange(count, dtype=np.int64).repeat(atoms))
    batch._num_graphs = count  # noqa: SLF001
    batch._slice_dict, batch._inc_dict = slices, added  # noqa: SLF001
    joined: Batch = batch
    return joined


def _are_simple(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all have the same rows of numbers and texts, and atoms have positions."""
    first = rows[0]
    names, kinds = [*first], [*map(type, first.values())]
    if "pos" not in first or "x" in first:
        return False
    if any(part in name for name in names for part in SPECIAL):
        return False
    for row in rows:
        if [*row] != names or [*map(type, row.values())] != kinds:
            return False
    return all(map(_is_simple, first.values()))


def _is_simple(value: Any) -> bool:
    if type(value) is not Tensor:
        return type(value) is str
    plain = value.layout == torch.strided and not value.is_nested
    return plain and value.is_cpu and value.dim() > 0
