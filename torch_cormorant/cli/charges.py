"""Charges and unpaired electrons in files, for models that know none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch_geometric.data import Data

from torch_cormorant.cli.structures import is_own_file
from torch_cormorant.data import FrameFile
from torch_cormorant.data.extxyz_format import ParsedFrame
from torch_cormorant.models.domain import (
    KEY,
    NAMES,
    Electrons,
    check_data,
    check_electrons,
    said_of,
)

__all__ = ["refuse_charges"]


def refuse_charges(
    model: Any, path: Path, frames: Iterable[Data], names: Sequence[str]
) -> None:
    """Refuse structures that a model with a stated domain does not know.

    Args:
        model: Any.
        path: The file that they are from, or a SMILES.
        frames: The structures.
        names: What each is called.

    Raises:
        ChargeError: One of them is charged or has unpaired electrons; it is named.
    """
    if KEY not in model.info.training:
        return
    file = FrameFile(path) if is_own_file(path) else None
    for number, (frame, name) in enumerate(zip(frames, names, strict=True)):
        where = name if name == str(path) else f"{path}: {name}"
        if file is None:
            check_data(model, frame, where)
        else:
            said = _said(file.parsed(number), where)
            check_electrons(model, frame.z, where, said)


def _said(frame: ParsedFrame, where: str) -> Electrons:
    """What the second line says, or else columns of charges and moments."""
    told = said_of({k: v for k, v in frame.info.items() if k in NAMES}, where)
    sums = {
        name: float(np.linalg.norm(table, axis=1).sum() if moment else table.sum())
        for name, moment in (("initial_charges", False), ("initial_magmoms", True))
        if (table := frame.arrays.get(name)) is not None
    }
    charge = told.charge or sums.get("initial_charges", 0.0)
    return Electrons(charge, max(told.unpaired, sums.get("initial_magmoms", 0.0)))
