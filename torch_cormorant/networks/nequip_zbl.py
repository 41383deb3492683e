r"""The repulsion that the nequip package adds to its networks."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.envelopes import polynomial_cutoff
from torch_cormorant.nn.zbl import SCREENING

__all__ = ["UNITS", "nequip_zbl"]

UNITS = {"metal": 14.399645, "real": 332.06371}
r""":math:`e^2 / 4 \pi \epsilon_0` as that package rounds it, in eV A and kcal/mol A."""
LENGTH = 0.46850
"""Screening length in Angstrom as that package rounds it."""


def nequip_zbl(
    length: Tensor, x: Tensor, z_source: Tensor, z_target: Tensor, units: str
) -> Tensor:
    r"""Half of the screened repulsion of each pair, switched off at the cutoff.

    As :func:`~torch_cormorant.nn.zbl_energy`, with that package's constants and the
    envelope of the network instead of one that ends at bonds.

    Args:
        length: Lengths in Angstrom.
        x: Lengths as parts of the cutoff.
        z_source: Atomic numbers.
        z_target: Atomic numbers.
        units: ``"metal"`` (eV) or ``"real"`` (kcal/mol).

    Shapes:
        All ``[E]``.

    Raises:
        ConfigError: The units are not known.
    """
    if units not in UNITS:
        msg = f"zbl must be one of {tuple(UNITS)} or None, got {units!r}"
        raise ConfigError(msg)
    first, second = z_target.to(length.dtype), z_source.to(length.dtype)
    scaled = (first**0.23 + second**0.23) * length / LENGTH
    screened = sum(c * torch.exp(-d * scaled) for c, d in SCREENING)
    energy: Tensor = 0.5 * UNITS[units] * first * second / length * screened
    return energy * polynomial_cutoff(x, 6.0)
