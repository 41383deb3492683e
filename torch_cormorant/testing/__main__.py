"""Run the laws of potentials on a model file.

``python -m torch_cormorant.testing model.safetensors --frames frames.npz --frame 3``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from torch_cormorant.errors import CormorantError, DataError
from torch_cormorant.models import Cormorant, load_model
from torch_cormorant.testing.equivariance import random_molecule
from torch_cormorant.testing.report import check_potential


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line for each law; return 1 if one does not hold, 2 on a bad file."""
    parser = argparse.ArgumentParser(
        prog="python -m torch_cormorant.testing", description=__doc__
    )
    parser.add_argument("model", help="model file (.safetensors)")
    parser.add_argument("--frames", help="npz file with z and pos, of one molecule")
    parser.add_argument("--frame", type=int, default=0, help="frame to take (0)")
    given = parser.parse_args(arguments)
    try:
        model = load_model(given.model)
        z, pos = _structure(model, given.frames, given.frame)
        checks = check_potential(model, z, pos)
    except (CormorantError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for check in checks:
        word = "ok  " if check.passed else "FAIL"
        sys.stdout.write(f"{word} {check.law:48} {check.value:9.2e} ")
        sys.stdout.write(f"(at most {check.limit:.1e})\n")
    return int(not all(check.passed for check in checks))


def _structure(
    model: Cormorant, frames: str | None, frame: int
) -> tuple[Tensor, Tensor]:
    """A frame of a file, or random atoms of the model's elements."""
    if frames is None:
        z, pos = random_molecule(8)
        return torch.tensor(model.features.known)[z % len(model.features.known)], pos
    try:
        with np.load(frames, allow_pickle=False) as archive:
            z = torch.from_numpy(archive["z"].astype(np.int64))
            places = np.asarray(archive["pos"], dtype=np.float64)
    except (KeyError, ValueError, BadZipFile) as error:
        msg = f"{frames}: needs arrays z [N] and pos [N, 3] or [frames, N, 3] ({error})"
        raise DataError(msg) from None
    if places.ndim == 3 and not -len(places) <= frame < len(places):
        msg = f"{frames}: has no frame {frame}, only {len(places)}"
        raise DataError(msg)
    return z, torch.from_numpy(places[frame] if places.ndim == 3 else places)


if __name__ == "__main__":
    sys.exit(main())
