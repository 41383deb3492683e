"""What every head reads and promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.facts import StatesFacts, activations_of
from torch_cormorant.nn.init import writable
from torch_cormorant.nn.parts import Part, text_of
from torch_cormorant.nn.readout import num_scalars
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.segment import scatter_sum

SCALE = 0.1
"""Factor on the result of every MLP of an unpublished head.

Labels have variance one and a molecule has 5 to 30 atoms, so an atom adds about that
much. First predictions are near zero, and the first steps of Adam, which move every
weight by the learning rate, do not throw them far off: AMSGrad would remember it.
"""


class LevelSizes(NamedTuple):
    """Sizes of the levels that a head reads.

    Args:
        channels: Channels of every level.
        lmax: Largest degree of every level.
        planes: 2 for complex levels, 1 for real ones.
        inputs: Number of invariants of an atom, where a network makes them in its own
            way. Default 0: all invariants of the levels.
    """

    channels: tuple[int, ...]
    lmax: tuple[int, ...]
    planes: int
    inputs: int = 0

    @classmethod
    def of_scalars(cls, *channels: int) -> LevelSizes:
        """Sizes of levels ``[N, C]`` that hold scalars only, read as they are.

        Args:
            *channels: Channels of every level.

        Example:
            >>> LevelSizes.of_scalars(8, 8).scalars
            16
        """
        return cls(channels, (0,) * len(channels), 1, sum(channels))

    @property
    def scalars(self) -> int:
        """Number of invariants per atom."""
        return self.inputs or num_scalars(self.channels, self.lmax, self.planes)

    def columns(self, l: int) -> int:
        """Number of real SO3-vectors of degree l per atom, over all levels."""
        held = zip(self.channels, self.lmax, strict=True)
        return self.planes * sum(c for c, top in held if top >= l)


class HeadInput(NamedTuple):
    """What a head predicts from.

    Args:
        values: Invariants of all levels ``[N, I]``.
        levels: Outputs of all levels, each ``[N, M_s, P, C]``.
        batch: Molecule of each atom ``[N]``.
        num_graphs: Number of molecules B.
        z: Atomic numbers ``[N]``, where they are known.
        pos: Positions ``[N, 3]`` in Angstrom, where they are known.
    """

    values: Tensor
    levels: Sequence[Tensor]
    batch: Tensor
    num_graphs: int
    z: Tensor | None = None
    pos: Tensor | None = None

    def sum(self, rows: Tensor) -> Tensor:
        """Sum rows of atoms over every molecule, ``[N, ...]`` to ``[B, ...]``."""
        # on a GPU a check of the molecule numbers would wait for the device
        check = not self.batch.is_cuda
        return scatter_sum(rows, self.batch, self.num_graphs, validate=check)

    def mean(self, rows: Tensor) -> Tensor:
        """Mean over every molecule; zero for one without atoms."""
        count = self.sum(rows.new_ones(rows.shape[0])).clamp_min(1)
        return self.sum(rows) / count.view(-1, *[1] * (rows.ndim - 1))

    def positions(self, kind: str) -> Tensor:
        """The positions, or an error that says which head needs them."""
        if self.pos is None:
            msg = (
                f"the head {kind!r} needs positions: call model(z, pos, batch), or "
                "give pos= to forward_edges"
            )
            raise ConfigError(msg)
        return self.pos

    def numbers(self, kind: str) -> Tensor:
        """The atomic numbers, or an error that says which head needs them."""
        if self.z is None:
            msg = f"the head {kind!r} needs atomic numbers: give z="
            raise ConfigError(msg)
        return self.z


class Head(StatesFacts, Part):
    """Base class of what turns the levels of a network into predictions.

    The constructor of a head takes ``sizes`` (:class:`LevelSizes`) or ``inputs`` (the
    number of invariants of an atom) from the network; ``num_targets``, ``hidden``,
    ``middle`` and ``act`` are those of the network where a head has them.

    Attributes:
        kind: Name of the head.
        shape: Shape of one row of the result.
        per_atom: Rows are atoms, not molecules.
        scale_only: The result has a zero that must stay: labels may be scaled, but no
            mean or composition reference may be subtracted from them.
        additive: The result is a sum of atomic contributions, see :class:`SumHead`.
        smooth: Forces that follow from it are continuous (with smooth activations).
        reference: What may be subtracted from the labels: ``"composition"``,
            ``"mean"`` or ``"none"``. Default None: nothing where ``scale_only``, the
            composition where ``additive``, else the mean.
        nonnegative: The result is never negative, so labels must not be.
        symmetric: The result is a symmetric tensor, so labels must be.
    """

    from_network: tuple[str, ...] = ("sizes", "inputs")
    shape: tuple[int, ...] = (1,)
    per_atom: bool = False
    scale_only: bool = False
    additive: bool = False
    smooth: bool = True
    reference: str | None = None
    nonnegative: bool = False
    symmetric: bool = False

    @property
    def rows(self) -> str:
        """What a row of the result is, ``"atom"`` or ``"molecule"``."""
        return "atom" if self.per_atom else "molecule"

    def facts(self) -> dict[str, Any]:
        """What decides the numbers beside the weights; see ``StatesFacts``."""
        return {
            "head": self.kind,
            "shape": list(self.shape),
            "per_atom": self.per_atom,
            "options": text_of(self),
            "activation": activations_of(self),
        }

    def forward(self, atoms: HeadInput) -> Tensor:
        """From levels to ``[B, *shape]``, or ``[N, *shape]`` per atom."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward(atoms)")

    def last_layers(self) -> list[nn.Linear]:
        """Linear layers in which the result is linear together.

        Raises:
            ConfigError: The class does not say; only rescaling needs it.
        """
        msg = (
            f"the head {self.kind!r} cannot be rescaled: {type(self).__name__} does "
            "not define last_layers, which names its last linear layers"
        )
        raise ConfigError(msg)

    @torch.no_grad()
    def rescale(self, factor: float) -> None:
        """Multiply the result by a factor, for good.

        Args:
            factor: The factor; weights and biases of the last layers are multiplied.
        """
        for layer in self.last_layers():
            for name in ("weight", "bias"):
                writable(layer, name).mul_(factor)


class SumHead(Head):
    """Base class of heads that sum one contribution of every atom.

    Far fragments then add up, and energies of atoms exist: what potentials need. A
    class defines :meth:`contributions`.
    """

    additive = True

    def contributions(self, values: Tensor) -> Tensor:
        """Contribution of every atom.

        Args:
            values: Invariants of the atoms ``[N, I]``.

        Returns:
            ``[N, num_targets]``.
        """
        raise NotImplementedError(
            f"{type(self).__name__} defines no contributions(values)"
        )

    @weights_precision
    def forward(self, atoms: HeadInput, *, summed: bool = True) -> Tensor:
        """``[B, num_targets]``; not summed, contributions ``[N, num_targets]``."""
        rows = self.contributions(atoms.values)
        return atoms.sum(rows) if summed else rows


def targets_of(head: Head) -> int:
    """Number of outputs of a head."""
    return int(head.made_with.get("num_targets", 1))


def rows_of(num_targets: int, *shape: int) -> tuple[int, ...]:
    """Shape of one row of a tensor head: no axis for a single target."""
    return shape if num_targets == 1 else (num_targets, *shape)
