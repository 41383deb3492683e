"""What is measured of an ensemble, in a file beside its models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch_cormorant.data.files import write_atomically
from torch_cormorant.errors import ModelFileError

__all__ = ["RECORD", "read_measures", "write_measures"]

RECORD = "ensemble.json"


def write_measures(
    path: Path, factors: Mapping[str, float], limits: Mapping[str, float]
) -> None:
    """Write factors and limits beside what else a file holds.

    Args:
        path: The file, whose other entries stay.
        factors: As :class:`.Ensemble` has them.
        limits: As :class:`.Ensemble` has them.
    """
    held = json.loads(path.read_text()) if path.exists() else {}
    held |= {"factors": dict(factors), "limits": dict(limits)}
    text = json.dumps(held, indent=2) + "\n"
    write_atomically(path, lambda stream: stream.write(text.encode()))


def read_measures(path: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Factors and limits of a file, none where there is no file.

    Raises:
        ModelFileError: It is damaged.
    """
    if not path.exists():
        return {}, {}
    try:
        held = json.loads(path.read_text())
        factors, limits = (
            {str(name): float(value) for name, value in held.get(key, {}).items()}
            for key in ("factors", "limits")
        )
    except (OSError, ValueError, AttributeError, TypeError) as error:
        msg = f"{path}: damaged, its factors are not understood ({error})"
        raise ModelFileError(msg) from error
    return factors, limits
