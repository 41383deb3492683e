"""``cormorant native``: a model file for C programs and LAMMPS."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["native"]


def native(args: argparse.Namespace) -> None:
    """Write a potential as the native evaluator reads it.

    Args:
        args: ``model`` and ``output``.
    """
    from torch_cormorant.interfaces.native import NativePotential
    from torch_cormorant.models import load_model

    model: Any = load_model(args.model)
    NativePotential(model).save(args.output)
    known = getattr(model, "network", model).features.known
    print(
        f"{args.output}: {len(known)} elements {' '.join(map(str, known))}, energies "
        f"in {model.info.units[0] or 'no unit'}, cutoff {model.cutoff:g} Angstrom"
    )
