"""``cormorant models``."""

from __future__ import annotations

import argparse

from torch_cormorant.models import Shipped, pretrained_models
from torch_cormorant.models.measures import RECORD

__all__ = ["models"]


def models(args: argparse.Namespace) -> None:
    """Print the weights that come with the package.

    Args:
        args: Nothing.
    """
    del args
    found = pretrained_models()
    if not found:
        print("no trained weights come with this version")
        return
    print("\n\n".join(map(_text, found.values())))
    print(f"\ncormorant predict {next(iter(found))} molecules.smi")


def _text(one: Shipped) -> str:
    """What there is to know of one of them."""
    low, high = one.charge
    charge = "neutral" if low == high == 0 else f"charges {low:+d} to {high:+d}"
    shells = "closed shells" if not one.unpaired else f"{one.unpaired} unpaired"
    errors = [f"{what} {error}" for what, error in one.errors.items()]
    count = len(one.files)
    kind = "an ensemble of" if (one.folder / RECORD).exists() else "networks:"
    members = "one network" if count == 1 else f"{kind} {count}"
    rows = {
        "theory": one.level_of_theory,
        "elements": f"{' '.join(one.elements)}; {charge}, {shells}",
        "errors": "; ".join(errors) or "not stated",
        "files": f"{members}, {one.size / 1e6:.2f} MB",
    }
    lines = [f"{one.name}: {one.description}"]
    return "\n".join([*lines, *(f"  {k + ':':<10}{v}" for k, v in rows.items())])
