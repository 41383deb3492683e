"""The covariant step of tensor heads: levels weighted by what atoms know."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.heads.base import SCALE, HeadInput, LevelSizes
from torch_cormorant.nn.readout import two_layers
from torch_cormorant.ops.autocast import weights_precision


class Contraction(nn.Module):
    r"""Sums of the SO3-vectors of an atom, with invariant weights of that atom.

    .. math::
        u_i^{l} = \frac{1}{\sqrt{K_l}} \sum_{k=1}^{K_l} a_k^{l}(s_i) \, F_{i,k}^{l},
        \qquad a(s_i) = \tfrac{1}{10} \mathrm{MLP}(s_i)

    where k runs over the channels and planes of all levels that have degree l. For
    l = 0 the MLP gives the number itself. Weights are invariant, so the sums turn as
    their parts do.

    Args:
        sizes: Sizes of the levels.
        degrees: Degrees of the results, one or several, repeated if wanted.
        copies: Number of independent results of every degree. Default 1.
        hidden: Width of the hidden layer. Default 256.
        act: Activation. Default ``"silu"``.

    Shapes:
        a tuple of ``[N, 2l + 1, copies]``, one for every degree.

    Raises:
        ConfigError: If no level has one of the degrees.
    """

    def __init__(
        self,
        sizes: LevelSizes,
        degrees: Sequence[int],
        copies: int = 1,
        *,
        hidden: int = 256,
        act: str = "silu",
    ) -> None:
        super().__init__()
        self.degrees, self.copies = tuple(degrees), copies
        self.counts = [sizes.columns(l) if l else 1 for l in self.degrees]
        for l, count in zip(self.degrees, self.counts, strict=True):
            if not count:
                msg = (
                    f"the head reads degree {l}, but the levels end at lmax "
                    f"{max(sizes.lmax)}; make the model with lmax={l} or more, "
                    "or of a network whose last level keeps its degrees"
                )
                raise ConfigError(msg)
        outputs = copies * sum(self.counts)
        self.mlp = two_layers(sizes.scalars, hidden, outputs, act)

    @property
    def last(self) -> nn.Linear:
        """The layer in which all results are linear."""
        layer = self.mlp[-1]
        if not isinstance(layer, nn.Linear):
            msg = "the last module of an MLP must be linear"
            raise TypeError(msg)
        return layer

    @weights_precision
    def forward(self, atoms: HeadInput) -> tuple[Tensor, ...]:
        """Shapes as above."""
        sizes = [self.copies * count for count in self.counts]
        weights = (SCALE * self.mlp(atoms.values)).split(sizes, dim=-1)
        results = []
        for l, count, weight in zip(self.degrees, self.counts, weights, strict=True):
            split = weight.unflatten(-1, (count, self.copies)) / count**0.5
            results.append(_of_degree(atoms.levels, l) @ split if l else split)
        return tuple(results)


def _of_degree(levels: Sequence[Tensor], l: int) -> Tensor:
    """Components of degree l, ``[N, 2l + 1, all planes and channels]``."""
    parts = [
        level[:, l * l : (l + 1) ** 2].flatten(2)
        for level in levels
        if level.shape[1] >= (l + 1) ** 2
    ]
    return torch.cat(parts, dim=-1)
