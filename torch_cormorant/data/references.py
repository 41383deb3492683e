"""Thermochemical references of single atoms, as QM9 publishes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.errors import DataError

__all__ = ["ATOM_REFERENCES", "atom_reference_sums"]

#: Reference per property and atomic number. Source: ``atomref.txt`` of the QM9 data
#: set (Ramakrishnan et al., Sci. Data 1, 140022, 2014), B3LYP/6-31G(2df,p).
#: Hartree, except ``cv``: cal/(mol K).
ATOM_REFERENCES: dict[str, dict[int, float]] = {
    "zpve": {1: 0.0, 6: 0.0, 7: 0.0, 8: 0.0, 9: 0.0},
    "u0": {1: -0.500273, 6: -37.846772, 7: -54.583861, 8: -75.064579, 9: -99.71873},
    "u298": {1: -0.498857, 6: -37.845355, 7: -54.582445, 8: -75.063163, 9: -99.717314},
    "h298": {1: -0.497912, 6: -37.844411, 7: -54.581501, 8: -75.062219, 9: -99.71637},
    "g298": {1: -0.510927, 6: -37.861317, 7: -54.598897, 8: -75.079532, 9: -99.733544},
    "cv": {1: 2.981, 6: 2.981, 7: 2.981, 8: 2.981, 9: 2.981},
}


def atom_reference_sums(
    z: NDArray[np.int64], offset: NDArray[np.integer], key: str
) -> NDArray[np.float64]:
    r"""Sum of the atom references of every molecule.

    .. math:: R_k = \sum_{i \in k} \mathrm{ref}(z_i)

    Args:
        z: Atomic numbers of all molecules, one after the other.
        offset: Molecule ``k`` owns atoms ``offset[k]:offset[k+1]``; none is empty.
        key: A key of :data:`ATOM_REFERENCES`.

    Shapes:
        z ``[N]``, offset ``[n + 1]``, result ``[n]``.

    Returns:
        The sums in float64, Hartree (``cv``: cal/(mol K)).

    Raises:
        DataError: The key or an element has no reference.

    Example:
        >>> import numpy as np
        >>> water = atom_reference_sums(np.array([8, 1, 1]), np.array([0, 3]), "u0")
        >>> round(float(water[0]), 6)
        -76.065125
    """
    if key not in ATOM_REFERENCES:
        raise DataError(
            f"key: no atom references named {key!r}; there are "
            f"{', '.join(ATOM_REFERENCES)}"
        )
    per_element = ATOM_REFERENCES[key]
    unknown = sorted(set(np.unique(z).tolist()) - set(per_element))
    if unknown:
        raise DataError(
            f"z: no atom reference {key!r} for atomic number {unknown[0]}; QM9 has "
            f"{sorted(per_element)}; load the data without subtracting references"
        )
    table = np.zeros(max(per_element) + 1)
    for element, value in per_element.items():
        table[element] = value
    sums: NDArray[np.float64] = np.add.reduceat(table[z], offset[:-1])
    return sums
