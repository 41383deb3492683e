"""A read-out for dipole moments that needs no vectors: charges at the atoms."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_cormorant.nn import Head, HeadInput
from torch_cormorant.nn.mlp import MLP

SCALE = 0.1
"""What is learned is small at first beside labels of variance one, as in the package's
heads."""
PAULING = {1: 2.20, 6: 2.55, 7: 3.04, 8: 3.44, 9: 3.98}
"""Electronegativity of the elements of QM9."""
START = 0.5
"""Charge for a unit of it, beside labels of variance one."""


class ChargeDipole(Head):
    r"""Length of the dipole moment of neutral charges.

    .. math:: y = \Big| \sum_i (q_i - \bar q) \, r_i \Big|, \qquad
        q_i = \tfrac{1}{10} \mathrm{MLP}(s_i) - \tfrac12 \chi_i

    Charges start at the electronegativity of their elements. A length does not tell the
    sign of charges: from zero, training can give a kind of nitrogen the wrong one, and
    stays there. The head ``"dipole_norm"`` has dipoles of atoms besides, which lead out
    of that; they need degree 1, and all networks have the invariants s.

    Args:
        inputs: Number of invariants of an atom.
        num_targets: Number of outputs. Default 1.
        hidden: Width of the hidden layer. Default 256, as in the package's heads.
    """

    kind = "charge_dipole"
    scale_only = True
    nonnegative = True

    def __init__(self, inputs: int, num_targets: int = 1, *, hidden: int = 256) -> None:
        super().__init__()
        self.shape = (num_targets,)
        self.mlp = MLP([inputs, hidden, num_targets], bias=True)

    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, num_targets]``."""
        charge = SCALE * self.mlp(atoms.values)
        charge = charge - START * electronegativity(atoms.numbers(self.kind), charge)
        charge = charge - atoms.mean(charge)[atoms.batch]
        pos = atoms.positions(self.kind).to(charge)
        square = atoms.sum(pos.unsqueeze(-1) * charge.unsqueeze(1)).square().sum(1)
        length: Tensor = square.clamp_min(1e-12).sqrt()  # slopes end at zero
        return length


def electronegativity(z: Tensor, like: Tensor) -> Tensor:
    """By atomic number ``[N]``, one column."""
    known = like.new_zeros(max(PAULING) + 1)
    known[torch.tensor(list(PAULING))] = like.new_tensor(list(PAULING.values()))
    return known[z].unsqueeze(1)
