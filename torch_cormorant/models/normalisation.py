"""From the output of a network, of order one, to the unit of the data and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.ops.segment import scatter_sum

__all__ = ["Normalisation"]

MAX_Z = 118


@dataclass(frozen=True)
class Normalisation:
    r"""Scale, constant and a value for every atom, one set for each target.

    .. math:: y = \sigma f(z, r) + \mu + \sum_i w_{z_i}

    Plain numbers instead of buffers: ``model.float()`` must not round them. Everything
    is computed in float64. The components of a vector or tensor share one scale.

    Args:
        mean: Constant :math:`\mu` of each target.
        std: Scale :math:`\sigma` of each target.
        atom_values: Values :math:`w_z` of each target by atomic number; an element
            that is not named adds nothing.

    Raises:
        ConfigError: Lengths differ, a number is not finite, or a scale not positive.

    Example:
        >>> import torch
        >>> water = torch.tensor([8, 1, 1])
        >>> units = Normalisation((1.0,), (0.5,), {1: (-13.6,), 8: (-2041.0,)})
        >>> units.restore(torch.tensor([[2.0]]), water)
        tensor([[-2066.2000]], dtype=torch.float64)
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    atom_values: Mapping[int, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be undone."""
        if not self.mean or len(self.mean) != len(self.std):
            raise ConfigError(
                f"mean, std: {len(self.mean)} and {len(self.std)} numbers, expected "
                "one of each for every target"
            )
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if not all(math.isfinite(number) for number in numbers):
                raise ConfigError(f"{name}: {numbers} is not finite")
        if min(self.std) <= 0:
            raise ConfigError(f"std: {self.std} is not positive")
        for number, values in self.atom_values.items():
            if not 0 <= number <= MAX_Z or len(values) != len(self.mean):
                raise ConfigError(
                    f"atom_values: {number}: {values}, expected an atomic number and "
                    f"{len(self.mean)} values"
                )
            if not all(math.isfinite(value) for value in values):
                raise ConfigError(f"atom_values: {number}: {values} is not finite")

    @classmethod
    def none(cls, num_targets: int = 1) -> Self:
        """The network's output as it is."""
        return cls((0.0,) * num_targets, (1.0,) * num_targets)

    @property
    def num_targets(self) -> int:
        """Number of targets."""
        return len(self.mean)

    def atoms(self, z: Tensor) -> Tensor:
        """Values of the atoms.

        Args:
            z: Atomic numbers ``[N]``.

        Returns:
            ``[N, T]`` in float64.
        """
        # uint8 would be taken for a mask
        return self._tables(z.device)[2][z.long()]

    def reference(
        self, z: Tensor, batch: Tensor | None = None, num_graphs: int = 1
    ) -> Tensor:
        """What the network does not see: constants and values of the atoms.

        Args:
            z: Atomic numbers ``[N]``.
            batch: Molecule of each atom ``[N]``; None: one molecule.
            num_graphs: Number of molecules.

        Returns:
            ``[num_graphs, T]`` in float64.
        """
        constant = self._tables(z.device)[0]
        if not self.atom_values:
            return constant.repeat(num_graphs, 1)
        if batch is None:
            batch = torch.zeros_like(z)
        batch = batch.long()
        # on a GPU a check of the molecule numbers would wait for the device
        check = not z.is_cuda
        return scatter_sum(self.atoms(z), batch, num_graphs, check) + constant

    def scale(self, like: Tensor) -> Tensor:
        """The scales ``[T]`` in float64 beside another tensor."""
        return self._tables(like.device)[1]

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Constants, scales and values of all elements on a device, copied once.

        Made anew in every step they would be copied, and a GPU waited for.
        """
        kept = self.__dict__.setdefault("_kept", {})
        if device not in kept:
            zeros = (0.0,) * self.num_targets
            rows = [self.atom_values.get(z, zeros) for z in range(MAX_Z + 1)]
            with torch.inference_mode(mode=False):
                kept[device] = tuple(
                    torch.tensor(numbers, dtype=torch.float64, device=device)
                    for numbers in (self.mean, self.std, rows)
                )
        found: tuple[Tensor, Tensor, Tensor] = kept[device]
        return found

    def __getstate__(self) -> dict[str, Any]:
        """The numbers alone, without what was copied to devices."""
        return {k: v for k, v in self.__dict__.items() if k != "_kept"}

    def restore(
        self,
        output: Tensor,
        z: Tensor,
        batch: Tensor | None = None,
        *,
        per_atom: bool = False,
    ) -> Tensor:
        """Values in the unit of the data, in float64.

        Args:
            output: What the network returned: ``[B, T]``, and with more axes for
                vectors and tensors: ``[B, 3]`` or ``[B, 3, 3]`` with one target, else
                ``[B, T, 3]`` and so on.
            z: Atomic numbers ``[N]``.
            batch: Molecule of each atom; None: one molecule.
            per_atom: Whether the rows are atoms, not molecules. Default False.

        Returns:
            As ``output``.

        Raises:
            ShapeError: ``output`` has no axis of the targets.
        """
        scale, reference = self._beside(output, z, batch, per_atom=per_atom)
        return output.double() * scale + reference

    def normalise(
        self,
        values: Tensor,
        z: Tensor,
        batch: Tensor | None = None,
        *,
        per_atom: bool = False,
    ) -> Tensor:
        """What the network has to return for given values, in float64.

        Args:
            values: In the unit of the data, shaped as for :meth:`restore`.
            z: Atomic numbers ``[N]``.
            batch: Molecule of each atom; None: one molecule.
            per_atom: As for :meth:`restore`.

        Returns:
            As ``values``.

        Raises:
            ShapeError: ``values`` has no axis of the targets.
        """
        scale, reference = self._beside(values, z, batch, per_atom=per_atom)
        return (values.double() - reference) / scale

    def _beside(
        self, rows: Tensor, z: Tensor, batch: Tensor | None, *, per_atom: bool
    ) -> tuple[Tensor, Tensor]:
        """Scales ``[T, 1, ...]`` and references ``[B or N, T, 1, ...]`` for rows."""
        several = self.num_targets
        if rows.ndim < 2 or (several > 1 and rows.shape[1] != several):
            raise ShapeError(
                f"rows of shape {tuple(rows.shape)}, expected [rows, {several}] or, "
                f"for vectors and tensors, [rows, {several}, ...]"
            )
        if per_atom:
            reference = self.reference(z, torch.arange(len(z), device=z.device), len(z))
        else:
            reference = self.reference(z, batch, rows.shape[0])
        components = [1] * (rows.ndim - 2)
        return (
            self.scale(rows).view(several, *components),
            reference.view(-1 if len(reference) else 0, several, *components),
        )

    def covering(self, species: Iterable[int]) -> Self:
        """With values for all of some elements: 0 for those that have none yet.

        Args:
            species: Atomic numbers.

        Returns:
            The normalisation itself where no element has a value.

        Example:
            >>> units = Normalisation((0.0,), (1.0,), {8: (2.0,)})
            >>> units.covering([1, 8]).atom_values
            {1: (0.0,), 8: (2.0,)}
        """
        if not self.atom_values:
            return self
        zeros = (0.0,) * self.num_targets
        table = dict.fromkeys(species, zeros) | dict(self.atom_values)
        return replace(self, atom_values=dict(sorted(table.items())))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "mean": list(self.mean),
            "std": list(self.std),
            "atom_values": {str(z): list(v) for z, v in self.atom_values.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of :meth:`as_dict`.

        Raises:
            ConfigError: A part is missing or not a number.
        """
        try:
            names = {field.name for field in fields(cls)}
            if set(values) != names:
                odd = min(names ^ set(values))
                raise ConfigError(f"normalisation: not understood ({odd!r})")
            given = values["atom_values"].items()
            atoms = {_atomic_number(z): _numbers(v) for z, v in given}
            return cls(_numbers(values["mean"]), _numbers(values["std"]), atoms)
        except (TypeError, AttributeError, OverflowError) as error:
            raise ConfigError(f"normalisation: not understood ({error!r})") from error


def _numbers(values: Sequence[Any]) -> tuple[float, ...]:
    for value in values:
        if type(value) not in (int, float):
            raise TypeError(f"{value!r} is no number")
    return tuple(float(value) for value in values)


def _atomic_number(text: str) -> int:
    if not (text.isdecimal() and str(int(text)) == text):
        raise TypeError(f"{text!r} is no atomic number")
    return int(text)
