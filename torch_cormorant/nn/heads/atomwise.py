r"""Energies of atoms with scales and shifts of their species."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.heads.base import HeadInput, SumHead
from torch_cormorant.nn.mlp import MLP
from torch_cormorant.nn.species import SpeciesIndex
from torch_cormorant.ops.autocast import weights_precision

__all__ = ["AtomwiseHead"]

KINDS = (None, "shared", "species")


class AtomwiseHead(SumHead):
    r"""Sum of atomic energies as the networks of the literature make them.

    .. math:: y = \sum_i \sigma_{z_i} \, \mathrm{MLP}(s_i) + \mu_{z_i} + \bar\mu

    Scales start at one and shifts at zero; weights of other packages bring their own.
    For new networks the normalisation of a potential does the same in float64.

    Args:
        inputs: Number of invariants :math:`s_i` per atom.
        num_targets: Number of outputs. Default 1.
        species: Atomic numbers that have a scale and a shift.
        layers: Widths of the hidden layers. Default: none, one linear map. None: no map
            either, the network makes the atomic energies itself.
        act: Activation. Default ``"silu"``.
        bias: Whether the layers have biases. Default True.
        scale: None (default), ``"shared"`` or ``"species"``: no :math:`\sigma`, one, or
            one for each species.
        shift: The same for :math:`\mu`.
        constant: Whether there is a :math:`\bar\mu` beside it. Default False.
        trainable: Which of ``"scale"`` and ``"shift"`` are learned. Default: none.
        pair: The last invariant is an energy that is added as it is. Default False.

    Raises:
        ConfigError: ``scale`` or ``shift`` is none of these words, there are no
            species, or ``layers=None`` and there are not as many inputs as targets.

    Example:
        >>> from torch_cormorant import Cormorant
        >>> model = Cormorant(head={"kind": "atomwise", "layers": [8]}, num_levels=1)
        >>> model.head.mlp
        MLP(
          (0): Linear(in_features=160, out_features=8, bias=True)
          (1): LeakyReLU(negative_slope=0.01)
          (2): Linear(in_features=8, out_features=1, bias=True)
        )
    """

    kind = "atomwise"
    from_network = ("sizes", "inputs", "species")
    scale: Tensor | None
    shift: Tensor | None
    constant: Tensor | None

    def __init__(
        self,
        inputs: int,
        num_targets: int = 1,
        *,
        species: Sequence[int] = (),
        layers: Sequence[int] | None = (),
        act: str = "silu",
        bias: bool = True,
        scale: str | None = None,
        shift: str | None = None,
        constant: bool = False,
        trainable: Sequence[str] = (),
        pair: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.pair = (num_targets,), pair
        self.mlp: MLP | None = None
        if layers is not None:
            self.mlp = MLP([inputs - pair, *layers, num_targets], act, bias=bias)
        elif inputs - pair != num_targets:
            msg = (
                f"layers=None needs as many invariants as targets, {num_targets}, the "
                f"network has {inputs - pair}; give layers=[]"
            )
            raise ConfigError(msg)
        self.index = SpeciesIndex(species)
        kinds = {"scale": scale, "shift": shift}
        kinds["constant"] = "shared" if constant else None
        for name, kind in kinds.items():
            if kind not in KINDS:
                msg = f"{name} must be one of {KINDS}, got {kind!r}"
                raise ConfigError(msg)
            if kind == "species" and not species:
                msg = f'{name} is "species": give the head species=[1, 6, ...]'
                raise ConfigError(msg)
            rows = len(species) if kind == "species" else 1
            start = torch.full((rows, num_targets), float(name == "scale"))
            if name in trainable and kind:
                self.register_parameter(name, nn.Parameter(start))
            else:
                self.register_buffer(name, start if kind else None)

    def contributions(self, values: Tensor) -> Tensor:
        """What the MLP says of every atom, ``[N, I]`` to ``[N, num_targets]``."""
        values = values[:, : values.shape[1] - self.pair]
        return values if self.mlp is None else self.mlp(values)

    @weights_precision
    def forward(self, atoms: HeadInput, *, summed: bool = True) -> Tensor:
        """``[B, num_targets]``; not summed, contributions ``[N, num_targets]``."""
        rows = self.contributions(atoms.values)
        if self.scale is not None:
            rows = rows * self._of(self.scale, atoms)
        for part in (self.shift, self.constant):
            if part is not None:
                rows = rows + self._of(part, atoms)
        if self.pair:
            rows = rows + atoms.values[:, -1:]
        return atoms.sum(rows) if summed else rows

    def _of(self, table: Tensor, atoms: HeadInput) -> Tensor:
        """Rows of the species of all atoms, or the row of all."""
        if table.shape[0] == 1:
            return table
        return table.index_select(0, self.index(atoms.numbers(self.kind)))

    def last_layers(self) -> list[nn.Linear]:
        """The last layer of the MLP, if nothing is added behind it."""
        added = self.pair or self.shift is not None or self.constant is not None
        if added or self.mlp is None:
            msg = (
                "the head 'atomwise' cannot be rescaled with shifts or pair energies, "
                "or with layers=None: make it without them"
            )
            raise ConfigError(msg)
        return self.mlp.linears[-1:]
