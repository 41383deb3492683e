"""What a model was made for besides its elements: charges and unpaired electrons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_cormorant.errors import ChargeError, DataError

__all__ = [
    "Electrons",
    "check_batch",
    "check_data",
    "check_electrons",
    "check_record",
    "said_of",
]

KEY = "domain"
"""Where the training record says it: ``{"charge": [0, 0], "unpaired": 0}``."""
SMALLEST = 3
"""Atoms and pairs of them may have an odd number of electrons; trainings hold such."""
PARTIAL = 0.1
"""Sums of partial charges are rounded."""


class Electrons(NamedTuple):
    """What is said of a structure: its total charge and its unpaired electrons."""

    charge: float = 0.0
    unpaired: float = 0.0


def said_of(info: Mapping[str, Any], where: str = "atoms") -> Electrons:
    """Charge and unpaired electrons that the words beside a structure tell.

    Args:
        info: ``charge`` (or ``total_charge``); ``multiplicity``; ``spin``, which some
            programs take for the multiplicity and others for the unpaired electrons, so
            that 0 and 1 both mean none.
        where: Name of the structure in messages.

    Raises:
        DataError: One of them is no number.

    Example:
        >>> said_of({"charge": "-1", "spin": 1})
        Electrons(charge=-1.0, unpaired=0.0)
    """
    held = {name: _number(info[name], name, where) for name in NAMES if name in info}
    charge = held.get("charge", held.get("total_charge", 0.0))
    multiplicity = held.get("multiplicity", held.get("spin", 1.0))
    return Electrons(charge, max(multiplicity - 1.0, 0.0))


NAMES = ("charge", "total_charge", "multiplicity", "spin")


def _number(value: Any, name: str, where: str) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        msg = f"{where}: {name}: {value!r}, expected a number"
        raise DataError(msg)
    return found


def check_electrons(
    model: Any,
    z: Tensor,
    where: str,
    said: Electrons | None = None,
) -> None:
    """Refuse charges and unpaired electrons that a model does not know.

    A network sees elements and positions only and would answer for the neutral
    molecule. Models whose training record says nothing of it are not asked.

    Args:
        model: Any, with ``info``.
        z: Atomic numbers ``[N]``; what an odd number of electrons means follows.
        where: Name of the structure, the beginning of the message.
        said: What is said of it; default: nothing.

    Raises:
        ChargeError: It is beyond what the model was trained on.

    Example:
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1)
        >>> check_electrons(model, torch.tensor([8, 1]), "OH-", Electrons(charge=-1))
    """
    domain = model.info.training.get(KEY)
    if not isinstance(domain, Mapping):
        return
    charge, unpaired = said or Electrons()
    low, high = domain["charge"]
    if not low - PARTIAL < charge < high + PARTIAL:
        known = f"{low:+d} to {high:+d}" if low != high else f"{low:+d}"
        known = "neutral structures" if low == high == 0 else f"charges of {known}"
        raise ChargeError(
            f"{where}: a total charge of {charge:+g}; the model was trained on "
            f"{known} only and cannot see the charge: use one that can"
        )
    if unpaired > domain["unpaired"] + PARTIAL:
        raise ChargeError(
            f"{where}: unpaired electrons: {unpaired:g}; the model was trained on at "
            f"most {domain['unpaired']} and cannot see them"
        )
    count = int(z.sum()) - round(charge)
    if len(z) >= SMALLEST and count % 2 and not domain["unpaired"]:
        raise ChargeError(
            f"{where}: {count} electrons, an odd number, so that one is unpaired (a "
            "radical, or a charge is not told); the model was trained on closed shells "
            "only: add the missing atom, or use another model"
        )


def check_batch(model: Any, z: Tensor, batch: Tensor | None, count: int) -> None:
    """Refuse odd numbers of electrons, as :func:`check_electrons`.

    Args:
        model: Any, with ``info``.
        z: Atomic numbers ``[N]``.
        batch: Structure of each atom ``[N]``; None: one.
        count: Number of structures.
    """
    domain = model.info.training.get(KEY)
    if not isinstance(domain, Mapping) or domain["unpaired"]:
        return
    rows = torch.zeros_like(z) if batch is None else batch
    sizes = torch.bincount(rows, minlength=count)
    totals = torch.zeros_like(sizes).index_add_(0, rows, z.to(sizes.dtype))
    odd = (totals % 2 == 1) & (sizes >= SMALLEST)
    if bool(odd.any()):
        first = int(odd.nonzero()[0])
        check_electrons(model, z[rows == first], f"structure {first}")


def check_data(model: Any, structure: Data, where: str) -> None:
    """Refuse a structure by what it says of itself, as :func:`check_electrons`.

    Args:
        model: Any, with ``info``.
        structure: With ``z``, and perhaps ``charge`` and the like.
        where: Its name, the beginning of the message.
    """
    if KEY in model.info.training:
        held = {name: structure[name] for name in NAMES if name in structure}
        check_electrons(model, structure.z, where, said_of(held, where))


def check_record(training: Mapping[str, Any]) -> None:
    """Refuse a training record whose entry is not understood.

    Args:
        training: The record.

    Raises:
        ValueError: It is not.
    """
    if KEY not in training:
        return
    domain = training[KEY]
    try:
        low, high = domain["charge"]
        numbers = [low, high, domain["unpaired"]]
        fine = all(type(n) is int for n in numbers) and low <= high and numbers[2] >= 0
    except (TypeError, KeyError, ValueError):
        fine = False
    if not fine:
        text = repr(domain)[:100]
        raise ValueError(
            f"training: {KEY}: {text}, expected charge: [lowest, highest] and unpaired"
        )
