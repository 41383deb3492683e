"""Golden numbers of other networks: where they lie, and how conventions go over."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torch_cormorant.irreps import Irreps
from torch_cormorant.so3 import from_e3nn

FOLDER = Path(os.environ.get("CORMORANT_FAMILY", "../shared/family"))
RTOL = 1e-10


def files(prefix: str) -> list[Any]:
    """Golden files of one kind, found by their names, or one skipped parameter."""
    found = sorted(FOLDER.rglob(f"{prefix}_*.npz"))
    if not found:
        reason = f"no {prefix}_*.npz in {FOLDER} (set CORMORANT_FAMILY)"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    return [pytest.param(path, id=path.stem) for path in found]


class Golden:
    """One file of golden numbers."""

    def __init__(self, path: Path) -> None:
        self.arrays = dict(np.load(path))
        text = self.arrays.get("cfg_json")
        self.cfg = json.loads(str(text)) if text is not None else {}

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def __getitem__(self, name: str) -> Tensor:
        return torch.tensor(self.arrays[name])

    def text(self, name: str) -> str:
        return str(self.arrays[name])

    def number(self, name: str) -> float:
        return float(self.arrays[name])


def close(found: Tensor, expected: Tensor, name: str = "") -> None:
    """Equal to ``RTOL`` of the largest number."""
    assert found.shape == expected.shape, name
    if expected.numel():
        error = float((found - expected).detach().abs().max())
        scale = float(expected.abs().max())
        assert error <= RTOL * max(scale, 1e-12), f"{name}: {error / scale:.1e}"


def from_theirs(x: Tensor, irreps: object) -> Tensor:
    """Features of a network of the e3nn family (edges the other way round) as ours."""
    irreps = Irreps(irreps)
    ours = from_e3nn(x, irreps)
    signs = [
        torch.full((block.dim,), float(block.ir.p), dtype=x.dtype) for block in irreps
    ]
    return ours * torch.cat(signs)


def sign_3j(l1: int, l2: int, l: int) -> int:
    """e3nn's 3j symbol times the root of 2l + 1 is our table times this."""
    k = l1 + l2 - l
    return (-1) ** (k * (k + 1) // 2)
