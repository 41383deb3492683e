"""What a number needs beside it: versions, hardware, baselines."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["hardware", "rank_correlation", "results_table", "versions"]

_PACKAGES = (
    "torch-cormorant",
    "torch",
    "torch-geometric",
    "lightning",
    "torchmetrics",
    "numpy",
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a result.

    Example:
        >>> sorted(versions())[:2]
        ['lightning', 'numpy']
    """
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def hardware(device: torch.device) -> dict[str, object]:
    """Processor, threads and, where one is used, the GPU.

    Args:
        device: Where the network ran.

    Returns:
        Plain values, ready for JSON.

    Example:
        >>> hardware(torch.device("cpu"))["device"]
        'cpu'
    """
    return {
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(terse=True),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def results_table(
    title: str,
    unit: str,
    rows: Sequence[tuple[Any, ...]],
    columns: Sequence[str] = ("MAE",),
) -> str:
    """A plain table of errors.

    Args:
        title: First line.
        unit: Unit of the errors.
        rows: Name and numbers of each model, one for each column; None: empty.
        columns: What the numbers are. Default: mean absolute errors.

    Returns:
        The table, without a final newline.

    Example:
        >>> print(results_table("test", "eV", [("ours", 0.25), ("mean", 12.5)]))
        test
          model  MAE [eV]
          ours     0.2500
          mean      12.50
    """
    width = max(len(name) for name, *_ in (*rows, ("model",)))
    heads = [f"{name} [{unit}]" if unit != "1" else name for name in columns]
    lines = [title, "  ".join([f"  {'model':<{width}}", *heads])]
    for name, *values in rows:
        cells = [
            f"{'' if value is None else _four_digits(value):>{len(head)}}"
            for head, value in zip(heads, values, strict=True)
        ]
        lines.append("  ".join([f"  {name:<{width}}", *cells]).rstrip())
    return "\n".join(lines)


def _four_digits(value: float) -> str:
    text = f"{value:#.4g}"
    return f"{value:.0f}" if "e+" in text else text.removesuffix(".")


def rank_correlation(left: Tensor, right: Tensor) -> float:
    """How far two lists of numbers have the same order, from -1 to 1.

    Args:
        left: ``[n]``.
        right: ``[n]``.

    Returns:
        Spearman's correlation; 0 for fewer than two numbers.

    Example:
        >>> rank_correlation(torch.tensor([1.0, 5, 9]), torch.tensor([0.1, 0.2, 7]))
        1.0
    """
    ranks = torch.stack([x.argsort(stable=True).argsort() for x in (left, right)])
    if ranks.shape[1] < 2:
        return 0.0
    return torch.corrcoef(ranks.double())[0, 1].item()
