"""Run the laws of potentials on a model file, or on any calculator of ASE.

``python -m torch_cormorant.testing model.safetensors --frames frames.npz --frame 3``
``python -m torch_cormorant.testing --calculator ase.calculators.emt:EMT``
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, CormorantError, DataError
from torch_cormorant.models import Model, load_model
from torch_cormorant.nn.parts import import_part
from torch_cormorant.testing.equivariance import random_molecule
from torch_cormorant.testing.report import Check, check_potential


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line for each law; return 1 if one does not hold, 2 on a bad file."""
    given = _parser().parse_args(arguments)
    try:
        if (given.model is None) == (given.calculator is None):
            msg = "give a model file or --calculator module:factory, one of them"
            raise ConfigError(msg)
        checks = _of_model(given) if given.model else _of_calculator(given)
    except (CormorantError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for check in checks:
        word = "ok  " if check.passed else "FAIL"
        sys.stdout.write(f"{word} {check.law:48} {check.value:9.2e} ")
        sys.stdout.write(f"(at most {check.limit:.1e})\n")
    return int(not all(check.passed for check in checks))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m torch_cormorant.testing",
        description="Measure the laws of potentials: which hold, and how far off.",
    )
    parser.add_argument("model", nargs="?", help="model file (.safetensors)")
    parser.add_argument(
        "--calculator",
        metavar="MODULE:FACTORY",
        help="a calculator of ASE instead: what makes it, without arguments",
    )
    parser.add_argument(
        "--frames",
        help="npz file with z and pos, of one molecule; for a calculator also what ASE "
        "reads (default there: ethanol)",
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        default=[],
        metavar="MODULE:NAME",
        help="own heads and radial functions that the model has",
    )
    parser.add_argument("--frame", type=int, default=0, help="frame to take (0)")
    parser.add_argument(
        "--single",
        action="store_true",
        help="the calculator computes in float32: larger steps and limits",
    )
    parser.add_argument(
        "--no-scans", action="store_true", help="do not pull pairs of atoms apart"
    )
    return parser


def _of_model(given: argparse.Namespace) -> list[Check]:
    model = load_model(given.model, parts=map(import_part, given.parts))
    return check_potential(model, *_structure(model, given.frames, given.frame))


def _of_calculator(given: argparse.Namespace) -> list[Check]:
    try:
        from torch_cormorant.testing.calculators import check_calculator
    except ImportError as error:
        msg = f"--calculator needs ASE ({error}): pip install ase"
        raise ConfigError(msg) from None
    atoms = _atoms(given.frames, given.frame)
    return check_calculator(
        _made(given.calculator),
        atoms,
        precision="single" if given.single else "double",
        scans=not given.no_scans,
    )


def _made(name: str) -> Any:
    """What a factory makes, named as ``module:factory``."""
    module, _, factory = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), factory)()
    except Exception as error:
        msg = (
            f"--calculator {name}: {type(error).__name__}: {error}; expected "
            "module:factory, something to call without arguments"
        )
        raise ConfigError(msg) from error
    if not hasattr(made, "get_potential_energy"):
        msg = f"--calculator {name} made {type(made).__name__}, no calculator of ASE"
        raise ConfigError(msg)
    return made


def _atoms(frames: str | None, frame: int) -> Any:
    from ase import Atoms
    from ase.build import molecule
    from ase.io import read

    if frames is None:
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=0)
        return atoms
    if frames.endswith(".npz"):
        z, pos = _read(frames, frame)
        return Atoms(z.numpy(), pos.numpy())
    try:
        return read(frames, index=frame)
    except Exception as error:  # every format has its own
        msg = f"{frames}: frame {frame} is not read as a structure ({error!r})"
        raise DataError(msg) from error


def _structure(model: Model, frames: str | None, frame: int) -> tuple[Tensor, Tensor]:
    """A frame of a file, or random atoms of the model's elements."""
    if frames is not None:
        return _read(frames, frame)
    z, pos = random_molecule(8)
    return torch.tensor(model.features.known)[z % len(model.features.known)], pos


def _read(frames: str, frame: int) -> tuple[Tensor, Tensor]:
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
