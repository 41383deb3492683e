r"""Heads for numbers: sums, means and attention over atoms."""

from __future__ import annotations

from torch import Tensor, nn

from torch_cormorant.nn.heads.base import SCALE, Head, HeadInput, SumHead
from torch_cormorant.nn.readout import two_layers
from torch_cormorant.ops.autocast import weights_precision


class PublishedHead(Head):
    """Per-atom MLP, sum over the molecule, MLP: the published QM9 readout.

    Section 1.5 of the supplement of Anderson et al. 2019. Not additive over molecules.

    Args:
        inputs: Number of invariants per atom.
        num_targets: Number of outputs. Default 1.
        hidden: Width of the hidden layers. Default 256.
        middle: Width between the two MLPs. Default 64.
        act: Activation. Default ``"leaky_relu"``.
    """

    kind = "published"
    reference = "composition"

    def __init__(
        self,
        inputs: int,
        num_targets: int = 1,
        *,
        hidden: int = 256,
        middle: int = 64,
        act: str = "leaky_relu",
    ) -> None:
        super().__init__()
        self.shape = (num_targets,)
        self.mlp1 = two_layers(inputs, hidden, middle, act)
        self.mlp2 = two_layers(middle, hidden, num_targets, act)

    @weights_precision
    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, num_targets]``."""
        result: Tensor = self.mlp2(atoms.sum(self.mlp1(atoms.values)))
        return result

    def last_layers(self) -> list[nn.Linear]:
        """The last layer of the second MLP."""
        return [_last(self.mlp2)]


class LinearHead(Head):
    """Sum over the molecule, then one linear map: the published MD17 readout.

    Args:
        inputs: Number of invariants per atom.
        num_targets: Number of outputs. Default 1.
    """

    kind = "linear"
    reference = "composition"

    def __init__(self, inputs: int, num_targets: int = 1) -> None:
        super().__init__()
        self.shape = (num_targets,)
        self.linear = nn.Linear(inputs, num_targets)

    @weights_precision
    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, num_targets]``."""
        result: Tensor = self.linear(atoms.sum(atoms.values))
        return result

    def last_layers(self) -> list[nn.Linear]:
        """The only layer."""
        return [self.linear]


class ExtensiveHead(SumHead):
    r"""Sum of atomic contributions: additive over far fragments.

    .. math:: y = \sum_i \tfrac{1}{10} \mathrm{MLP}(s_i)

    For energies and everything that doubles with two copies of the molecule.

    Args:
        inputs: Number of invariants :math:`s_i` per atom.
        num_targets: Number of outputs. Default 1.
        hidden: Width of the hidden layer. Default 256.
        act: Activation. Default ``"silu"``.
    """

    kind = "extensive"

    def __init__(
        self, inputs: int, num_targets: int = 1, *, hidden: int = 256, act: str = "silu"
    ) -> None:
        super().__init__()
        self.shape = (num_targets,)
        self.mlp = two_layers(inputs, hidden, num_targets, act)

    @weights_precision
    def contributions(self, values: Tensor) -> Tensor:
        """Contribution of every atom, ``[N, I]`` to ``[N, num_targets]``."""
        result: Tensor = SCALE * self.mlp(values)
        return result

    def last_layers(self) -> list[nn.Linear]:
        """The last layer of the MLP."""
        return [_last(self.mlp)]


class MeanHead(Head):
    r"""Mean of atomic values: intensive, two copies of a molecule give the same.

    .. math:: y = \frac1N \sum_i \tfrac{1}{10} \mathrm{MLP}(s_i)

    Zero for a molecule without atoms.

    Args:
        inputs: Number of invariants :math:`s_i` per atom.
        num_targets: Number of outputs. Default 1.
        hidden: Width of the hidden layer. Default 256.
        act: Activation. Default ``"silu"``.
    """

    kind = "mean"

    def __init__(
        self, inputs: int, num_targets: int = 1, *, hidden: int = 256, act: str = "silu"
    ) -> None:
        super().__init__()
        self.shape = (num_targets,)
        self.mlp = two_layers(inputs, hidden, num_targets, act)

    @weights_precision
    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, num_targets]``."""
        return atoms.mean(SCALE * self.mlp(atoms.values))

    def last_layers(self) -> list[nn.Linear]:
        """The last layer of the MLP."""
        return [_last(self.mlp)]


class AttentionHead(Head):
    r"""Weighted mean of atomic values, the weights learned: intensive.

    .. math::
        y = \sum_i w_i v_i, \qquad w_i = \frac{e^{a_i}}{\sum_j e^{a_j}}, \qquad
        (v_i, a_i) = \tfrac{1}{10} \mathrm{MLP}(s_i)

    For orbital energies and gaps, which few atoms decide. Each target has weights of
    its own; sums run over the atoms of one molecule. Zero for one without atoms.

    Args:
        inputs: Number of invariants :math:`s_i` per atom.
        num_targets: Number of outputs. Default 1.
        hidden: Width of the hidden layer. Default 256.
        act: Activation. Default ``"silu"``.
    """

    kind = "attention"

    def __init__(
        self, inputs: int, num_targets: int = 1, *, hidden: int = 256, act: str = "silu"
    ) -> None:
        super().__init__()
        self.shape = (num_targets,)
        self.value = two_layers(inputs, hidden, num_targets, act)
        self.score = two_layers(inputs, hidden, num_targets, act)

    @weights_precision
    def weights(self, atoms: HeadInput) -> Tensor:
        """Share of every atom ``[N, num_targets]``; shares of a molecule sum to one."""
        score: Tensor = SCALE * self.score(atoms.values)
        # The largest score of a molecule is a constant that drops out of the weights.
        index = atoms.batch.unsqueeze(-1).expand_as(score)
        start = score.new_zeros(atoms.num_graphs, score.shape[1])
        largest = start.scatter_reduce(
            0, index, score.detach(), "amax", include_self=False
        )
        weight = (score - largest[atoms.batch]).exp()
        return weight / atoms.sum(weight)[atoms.batch]

    @weights_precision
    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, num_targets]``."""
        return atoms.sum(self.weights(atoms) * (SCALE * self.value(atoms.values)))

    def last_layers(self) -> list[nn.Linear]:
        """The last layer of the values."""
        return [_last(self.value)]


def _last(mlp: nn.Sequential) -> nn.Linear:
    layer = mlp[-1]
    if not isinstance(layer, nn.Linear):
        msg = "the last module of an MLP must be linear"
        raise TypeError(msg)
    return layer
