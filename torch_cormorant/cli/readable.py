"""Many properties of a structure for a reader at a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

__all__ = ["readable"]


def readable(
    names: Sequence[str],
    columns: Sequence[tuple[str, str]],
    values: Tensor,
    std: Tensor | None = None,
) -> str:
    """A block of lines for every structure, a line for every property.

    Args:
        names: Of the structures.
        columns: Name and unit of every property.
        values: ``[n, T]``.
        std: Their spreads.

    Example:
        >>> import torch
        >>> print(readable(["water"], [("gap", "eV")], torch.tensor([[9.87]])), end="")
        water
          gap  9.87 eV
    """
    width = max(len(name) for name, _ in columns)
    lines = []
    for k, (name, row) in enumerate(zip(names, values.tolist(), strict=True)):
        spreads = [None] * len(row) if std is None else std[k].tolist()
        lines.append(name)
        for (what, unit), value, spread in zip(columns, row, spreads, strict=True):
            lines.append(f"  {what:<{width}}  {_number(value, spread)} {unit}".rstrip())
    return "\n".join(lines) + "\n"


def _number(value: float, std: float | None) -> str:
    """A value to two digits of its spread."""
    if std is None or not std > 0 or not math.isfinite(std):
        return f"{value:.6g}"
    digits = max(0, 1 - math.floor(math.log10(std)))
    return f"{value:.{digits}f} \N{PLUS-MINUS SIGN} {std:.{digits}f}"
