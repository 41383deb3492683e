"""Whether training has said what a composition costs."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import CormorantWarning

__all__ = ["warn_of_composition"]

KEY = "compositions"
"""Where the training record names independent compositions of its structures."""


def warn_of_composition(model: Any, z: Tensor, where: str) -> bool:
    """Warn of a composition that the training structures did not span.

    Training on one molecule fixes the sum of its atoms' energies, not the energy of
    each element: those of another composition are then arbitrary by many eV, while
    forces and differences at one composition are not touched.

    Args:
        model: A potential; a training record without compositions is fine.
        z: Atomic numbers of one structure ``[N]``.
        where: Name of the structure, the beginning of the message.

    Returns:
        Whether there was a warning.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> warn_of_composition(Cormorant.potential([1, 8]), torch.tensor([8]), "O")
        False
    """
    known = model.info.training.get(KEY)
    if not isinstance(known, list) or not known:
        return False
    asked = {str(n): int((z == n).sum()) for n in z.unique().tolist()}
    elements = sorted({*asked, *(name for entry in known for name in entry)})
    rows = [[float(entry.get(name, 0)) for name in elements] for entry in known]
    given = torch.tensor(rows, dtype=torch.float64)
    new = torch.tensor([float(asked.get(name, 0)) for name in elements]).double()
    # Supercells are large numbers: what counts is the direction.
    joined = torch.cat([given, new[None] / new.sum() * given.sum(1).mean()])
    if int(torch.linalg.matrix_rank(joined, rtol=1e-9)) == int(
        torch.linalg.matrix_rank(given, rtol=1e-9)
    ):
        return False
    text = (
        f"{where}: the training structures do not tell the energies of the elements "
        f"apart as composition {asked} (by atomic number) needs: the total energy may "
        "be off by many eV; compare energies of equal compositions only, or train on "
        "more of them"
    )
    warnings.warn(text, CormorantWarning, stacklevel=2)
    return True
