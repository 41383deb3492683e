r"""First features: one-hot elements times powers of the charge, then an input layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from numbers import Integral

import torch
from torch import Tensor, nn

from torch_cormorant.errors import SpeciesError
from torch_cormorant.nn.cutoff import SoftCutoff, envelope
from torch_cormorant.nn.radial import PowerTrig
from torch_cormorant.nn.readout import two_layers
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.segment import scatter_sum

MPNN_BASIS = (3, 3)
"""Basis of the input layer's radial filter, whatever the model's."""


class AtomFeatures(nn.Module):
    r"""``[Z_i = species_s] (Z_i / Z_max)^p`` for all species s and p = 0..charge_power.

    Args:
        species: Atomic numbers that the model knows.
        charge_power: Largest power. Default 2.
        charge_scale: Z_max. Default: the largest of ``species``.

    Shapes:
        ``z`` ``[N]`` to ``[N, len(species) * (charge_power + 1)]``.

    Raises:
        SpeciesError: If an atomic number is not among the species.
    """

    species: Tensor

    def __init__(
        self,
        species: Sequence[int],
        charge_power: int = 2,
        charge_scale: float | None = None,
    ) -> None:
        super().__init__()
        numbers = species if isinstance(species, Iterable) else [None]
        if not all(isinstance(number, Integral) for number in numbers):
            msg = f"species must be atomic numbers such as (1, 6, 8), got {species!r}"
            raise SpeciesError(msg)
        known = sorted({int(s) for s in species})
        if not known or known[0] < 1 or len(known) != len(species):
            msg = f"species must be different atomic numbers >= 1, got {list(species)}"
            raise SpeciesError(msg)
        scale = float(known[-1] if charge_scale is None else charge_scale)
        if charge_power < 0 or not 0 < scale < math.inf:
            msg = (
                "charge_power must be at least 0 and charge_scale positive, got "
                f"{charge_power} and {charge_scale}"
            )
            raise SpeciesError(msg)
        self.register_buffer("species", torch.tensor(known), persistent=False)
        self.known = tuple(known)
        self.charge_power = charge_power
        self.charge_scale = scale
        self.out_features = len(known) * (charge_power + 1)

    def check(self, z: Tensor) -> None:
        """Refuse elements that the model was not made for."""
        known = self.species
        if known.device != z.device:  # batches that a captured step gets on the CPU
            known = torch.tensor(self.known, device=z.device)
        found = torch.isin(z, known)
        if not bool(found.all()):
            atom = int((~found).nonzero()[0])
            msg = (
                f"z holds atomic number {int(z[atom])} (atom {atom}), but the model "
                f"knows {list(self.known)}; make it with species= that include it"
            )
            raise SpeciesError(msg)

    @weights_precision
    def forward(self, z: Tensor, dtype: torch.dtype) -> Tensor:
        """Features in the given dtype."""
        one_hot = (z.unsqueeze(-1) == self.species).to(dtype)
        power = torch.arange(self.charge_power + 1, device=z.device, dtype=dtype)
        charge = (z.to(dtype) / self.charge_scale).unsqueeze(-1) ** power
        return (one_hot.unsqueeze(-1) * charge.unsqueeze(1)).flatten(1)

    def types_of(self, features: Tensor) -> Tensor:
        """Which of the species each atom is ``[N]``, from its features."""
        each = features.unflatten(1, (len(self.known), self.charge_power + 1))
        found: Tensor = each[..., 0].argmax(1)  # the power 0 of its charge is one
        return found

    def extra_repr(self) -> str:
        """Species and sizes."""
        return f"species={list(self.known)}, out_features={self.out_features}"


class LinearInput(nn.Module):
    """One linear map of the atom features: the published MD17 input."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    @weights_precision
    def forward(self, h: Tensor, geometry: EdgeGeometry) -> Tensor:
        """``[N, inputs]`` to ``[N, outputs]``; the geometry is not read."""
        del geometry
        result: Tensor = self.linear(h)
        return result


class MPNNInput(nn.Module):
    r"""Message passing with learned radial filters: the published QM9 input.

    .. math::
        w_{ij} = (B \rho(r_{ij}) + b) \, [r_{ij} < r_{hard}] \,
        \sigma((1.73 - r_{ij}) / 0.2), \qquad
        h_i' = \mathrm{MLP}\Big[\sum_j w_{ij} h_j \oplus h_i\Big]

    Args:
        inputs: Number of atom features.
        outputs: Number of features that leave the last layer.
        num_layers: Default 1.
        hidden: Width of the MLP. Default 256.
        inner: Width between layers. Default: ``outputs / 2`` or ``inputs``, the larger.
        hard_radius: r_hard in Angstrom. Default 1.73.
        soft_radius: Radius of the sigmoid. Default 1.73.
        soft_width: Width of the sigmoid. Default 0.2.
        learn_mask: Learn radius and width, one of each for a layer, from these starts,
            as the paper's supplement has it (1.4.2). As in the published code they are
            fixed. Default False.
        smooth: Multiply the filters by the envelope that vanishes smoothly at
            ``hard_radius``; as published they jump there. Default False.
        act: Activation. Default ``"leaky_relu"``.

    Note:
        Self edges belong to the sum: an atom sends itself ``b * h_i``.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        num_layers: int = 1,
        hidden: int = 256,
        inner: int | None = None,
        hard_radius: float = 1.73,
        soft_radius: float = 1.73,
        soft_width: float = 0.2,
        learn_mask: bool = False,
        smooth: bool = False,
        act: str = "leaky_relu",
    ) -> None:
        super().__init__()
        width = max(outputs // 2, inputs) if inner is None else inner
        sizes = [inputs, *[width] * (num_layers - 1), outputs]
        self.hard_radius, self.smooth = hard_radius, smooth
        self.soft_radius, self.soft_width = soft_radius, soft_width
        radials = [PowerTrig(MPNN_BASIS, complex=False) for _ in range(num_layers)]
        self.radials = nn.ModuleList(radials)
        self.filters = nn.ModuleList(
            nn.Linear(radial.out_channels, size)
            for radial, size in zip(radials, sizes, strict=False)
        )
        self.masks = nn.ModuleList(
            SoftCutoff(1, soft_radius=soft_radius, soft_width=soft_width)
            for _ in range(num_layers if learn_mask else 0)
        )
        self.mlps = nn.ModuleList(
            two_layers(2 * a, hidden, b, act) for a, b in pairwise(sizes)
        )

    @weights_precision
    def forward(self, h: Tensor, geometry: EdgeGeometry) -> Tensor:
        """``[N, inputs]`` to ``[N, outputs]``."""
        source, target = geometry.edge_index[0], geometry.edge_index[1]
        length = geometry.edge_length
        near = ~(length >= self.hard_radius)  # NaN stays NaN
        if not (length.is_cuda or torch.compiler.is_compiling()):
            # how many there are must be known here: a GPU would have to be waited for
            rows = near.nonzero().squeeze(-1)
            source, target, length, near = (
                part[rows] for part in (source, target, length, near)
            )
        layers = zip(self.radials, self.filters, self.mlps, strict=True)
        for k, (radial, filters, mlp) in enumerate(layers):
            mask = self._mask(k, length, near)
            messages = filters(radial(length)) * mask * h[source]
            total = scatter_sum(messages, target, h.shape[0], validate=False)
            h = mlp(torch.cat([total, h], dim=-1))
        return h

    def _mask(self, k: int, length: Tensor, near: Tensor) -> Tensor:
        """The sigmoid of a layer, ended at the hard radius ``[E, 1]``."""
        if len(self.masks):
            mask: Tensor = self.masks[k](length)[:, 0]
        else:  # plain numbers: a buffer would round 1.73 to float32 in float64 models
            mask = torch.sigmoid((self.soft_radius - length) / self.soft_width)
        if self.smooth:
            mask = mask * envelope(length, self.hard_radius)
        return torch.where(near, mask, 0.0).unsqueeze(-1)
