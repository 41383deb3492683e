r"""Heads that pool atoms first and then apply an MLP."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.heads.base import Head, HeadInput
from torch_cormorant.nn.mlp import MLP
from torch_cormorant.ops.autocast import weights_precision

__all__ = ["PooledHead"]

POOLS = ("mean", "sum", "max")


class PooledHead(Head):
    r"""Pool the invariants of all atoms of a molecule, then an MLP with biases.

    .. math:: y = \mathrm{MLP}(\mathrm{pool}_i \, s_i)

    As the published SEGNN and SE(3)-Transformer. Not additive over molecules; a
    molecule without atoms has invariants of zero.

    Args:
        inputs: Number of invariants :math:`s_i` per atom.
        num_targets: Number of outputs. Default 1.
        pool: ``"mean"`` (default), ``"sum"`` or ``"max"``.
        layers: Widths of the hidden layers. Default: one as wide as the input.
        act: Activation. Default ``"silu"``.

    Raises:
        ConfigError: ``pool`` is none of these words.
    """

    kind = "pooled"
    from_network = ("sizes", "inputs")

    def __init__(
        self,
        inputs: int,
        num_targets: int = 1,
        *,
        pool: str = "mean",
        layers: Sequence[int] | None = None,
        act: str = "silu",
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise ConfigError(f"pool must be one of {POOLS}, got {pool!r}")
        self.pool, self.shape = pool, (num_targets,)
        hidden = [inputs] if layers is None else layers
        self.mlp = MLP([inputs, *hidden, num_targets], act, bias=True)

    def pooled(self, atoms: HeadInput) -> Tensor:
        """Invariants of molecules ``[B, I]``."""
        if self.pool == "max":
            values = atoms.values
            start = values.new_zeros(atoms.num_graphs, values.shape[1])
            index = atoms.batch.unsqueeze(1).expand_as(values)
            return start.scatter_reduce(0, index, values, "amax", include_self=False)
        if self.pool == "sum":
            return atoms.sum(atoms.values)
        return atoms.mean(atoms.values)

    @weights_precision
    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, num_targets]``."""
        result: Tensor = self.mlp(self.pooled(atoms))
        return result

    def last_layers(self) -> list[nn.Linear]:
        """The last layer of the MLP."""
        return self.mlp.linears[-1:]
