"""What the composition alone explains of an energy, and what is left for a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from torch_cormorant.data.baselines import (
    CompositionBaseline,
    MeanBaseline,
    mean_absolute_error,
)
from torch_cormorant.data.describe import symbol
from torch_cormorant.data.frames import Frames
from torch_cormorant.data.molecules import Molecules
from torch_cormorant.errors import ConfigError, ShapeError, SpeciesError

__all__ = ["ReferenceEnergies", "reference_energies"]


@dataclass(frozen=True)
class ReferenceEnergies:
    r"""A value for every element, whose sum is a first guess of a property.

    .. math:: \hat y = b + \sum_{i} w_{z_i}

    Args:
        per_element: Value :math:`w` by atomic number.
        constant: Value :math:`b` of every structure; 0 for potentials, whose energies
            must be sums over atoms.
        unit: Unit of all values.
        source: Where they come from, for reports.
        mae: Mean of :math:`|y - \hat y|` over the structures that were given.
        std: Standard deviation of :math:`y - \hat y` over them.
        mean_mae: Mean of :math:`|y - \bar y|`: what guessing the mean leaves.
    """

    per_element: Mapping[int, float] = field(hash=False)
    constant: float
    unit: str
    source: str
    mae: float
    std: float
    mean_mae: float

    def per_atom(self, z: Tensor) -> Tensor:
        """The value of every atom ``[N]``, float64.

        Args:
            z: Atomic numbers ``[N]``.

        Raises:
            SpeciesError: An element has no value.
        """
        table = torch.full((max(self.per_element, default=0) + 1,), torch.nan).double()
        for element, value in self.per_element.items():
            table[element] = value
        found = z.cpu().long()  # uint8 would be taken for a mask
        inside = (found >= 0) & (found < len(table))
        values = table[found.clamp(0, len(table) - 1)]
        missing = values.isnan() | ~inside
        if missing.any():
            raise SpeciesError(
                f"z: no reference energy for atomic number {int(found[missing][0])}; "
                f"there are {sorted(self.per_element)}"
            )
        return values.to(z.device)

    def sums(self, z: Tensor, batch: Tensor | None = None) -> Tensor:
        """First guess for every structure ``[B]``, float64.

        Args:
            z: Atomic numbers ``[N]``.
            batch: Structure of every atom ``[N]``; default all in one.

        Raises:
            ShapeError: ``batch`` has another length than ``z``.
            SpeciesError: An element has no value.
        """
        if batch is None:
            batch = torch.zeros_like(z)
        if batch.shape != z.shape:
            raise ShapeError(
                f"batch: shape {tuple(batch.shape)}, expected that of z, "
                f"{tuple(z.shape)}"
            )
        count = int(batch.max()) + 1 if len(batch) else 0
        sums = torch.zeros(count, dtype=torch.float64, device=z.device)
        return sums.index_add_(0, batch.long(), self.per_atom(z)) + self.constant

    def describe(self) -> str:
        """The values and what they explain, as lines of text."""
        rows = [f"reference energies in {self.unit}, {self.source}"]
        rows += [
            f"  {symbol(z):2} {value:.6f}" for z, value in self.per_element.items()
        ]
        if self.constant:
            rows.append(f"  constant {self.constant:.6f}")
        rows.append(
            f"  mean absolute rest {self.mae:.4g} {self.unit}; around the mean alone "
            f"{self.mean_mae:.4g} {self.unit}"
        )
        return "\n".join(rows)


def reference_energies(
    dataset: Molecules | Frames,
    rows: Sequence[int] | None = None,
    *,
    isolated: Mapping[int, float] | None = None,
    constant: bool = False,
) -> ReferenceEnergies:
    """Reference energies of the elements, by least squares or from isolated atoms.

    The least-squares values are those whose sums over the atoms come nearest to the
    energies of the structures; of several solutions the one of least norm, as when all
    structures have the same composition. Everything is computed in float64.

    The same tool is the composition baseline of property sets: with ``constant=True``
    its ``mae`` is what a network has to beat, and the right number to hold against the
    mean baseline ``mean_mae``, which flatters.

    Elements that none of these rows holds have no value, so that asking for one is an
    error instead of a zero.

    Args:
        dataset: Structures with energies, or molecules with one property.
        rows: Training rows; default all. Never let test rows in.
        isolated: Energies of single atoms by atomic number, to use in place of the
            fit (``dataset.isolated_energies`` where the source has them).
        constant: Whether to fit a constant too.

    Returns:
        The references and what they leave unexplained on these rows.

    Raises:
        ConfigError: The data set holds several properties or no energies, or there are
            no rows.
        SpeciesError: An element has no isolated energy.

    Example:
        >>> from torch_cormorant.data import MiniQM9
        >>> found = reference_energies(MiniQM9("energy"), constant=True)
        >>> round(found.per_element[6] / 27.2114, 1), found.unit
        (-38.1, 'eV')
    """
    part = dataset if rows is None else dataset[list(rows)]
    if len(part) == 0:
        raise ConfigError("rows: there are none; give at least one")
    values, unit = part.values, str(part.unit)
    counts = part.element_counts()
    present = counts.any(dim=0)
    counts = counts[:, present]
    species = [
        z for z, there in zip(part.species, present.tolist(), strict=True) if there
    ]
    if isolated is not None:
        source = "isolated atoms"
        per_element = _isolated_of(isolated, species)
        b = 0.0
    else:
        source = f"least squares over {len(part):,} structures"
        weights = CompositionBaseline.fit(counts, values, constant=constant).weights
        fitted = weights[:, 0].tolist()
        b = fitted[-1]
        per_element = dict(zip(species, fitted[:-1], strict=True))
    column = torch.tensor(list(per_element.values()), dtype=torch.float64)
    guess = (counts @ column + b)[:, None]
    mean = MeanBaseline.fit(values).predict(len(values))
    return ReferenceEnergies(
        per_element=per_element,
        constant=b,
        unit=unit,
        source=source,
        mae=mean_absolute_error(guess, values),
        std=float((values - guess).std(correction=0)),
        mean_mae=mean_absolute_error(mean, values),
    )


def _isolated_of(
    isolated: Mapping[int, float], species: Sequence[int]
) -> dict[int, float]:
    missing = [element for element in species if element not in isolated]
    if missing:
        raise SpeciesError(
            f"isolated: no energy for atomic number {missing[0]}; there are "
            f"{sorted(isolated)}"
        )
    return {element: float(isolated[element]) for element in species}
