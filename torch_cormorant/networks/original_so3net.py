r"""SO3Net of SchNetPack: names, and the size of its harmonics.

Their harmonics are orthonormal on the sphere, :math:`\sqrt{(2l + 1) / 4 \pi}` times
ours: the rows of the filters of degree l take that factor. Axes and tables are ours.
Their edges point the other way, so odd features have the other sign; no energy changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.networks.original import OriginalWeights
from torch_cormorant.networks.original_schnetpack import (
    BODY,
    OriginalSchNetPack,
    linear_names,
)

__all__ = ["OriginalSO3Net"]

FILTERS = f"{BODY}.so3convs.0.filternet.weight"
MIXINGS = ("first", "second", "third")


class OriginalSO3Net(OriginalSchNetPack):
    """``schnetpack.representation.SO3net`` with an ``Atomwise`` head.

    SchNetPack keeps its tables and the coefficients of its harmonics in single
    precision, also in a double precision network; ours are exact. Energies then differ
    by 1e-9 of their size.
    """

    anchor = FILTERS
    settings = (*OriginalSchNetPack.settings, "lmax")
    ignored = rf"{BODY}\.so3convs\.\d+\.Widx"

    def sizes(self, weights: OriginalWeights) -> dict[str, int]:
        """Channels, levels, degrees and radial functions."""
        channels = weights.shape(f"{BODY}.embedding.weight")[1]
        rows, num_basis = weights.shape(FILTERS)
        if rows % channels:
            msg = f"{FILTERS} has {rows} rows, no multiple of {channels} channels"
            raise WeightsError(msg)
        return {
            "n_atom_basis": channels,
            "n_interactions": weights.count(BODY + ".so3convs.{}.filternet.weight"),
            "n_rbf": num_basis,
            "lmax": rows // channels - 1,
        }

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Sizes from the shapes; the settings must not say otherwise."""
        if config.get("shared_filters"):
            raise ConfigError("shared_filters: SO3net of SchNetPack has no such option")
        lmax = self.sizes(weights)["lmax"]
        return {**super().arguments(weights, config), "lmax": lmax}

    def fold(
        self, weights: OriginalWeights, network: Any, config: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Other names, and a factor for every degree of the filters."""
        state = super().fold(weights, network, config)
        return {**state, **_scaled(state, network, 1)}

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`."""
        result = super().unfold(network)
        scaled = _scaled(network.state_dict(), network, -1)
        pairs = self.names(network, every_level=True)
        return result | {
            theirs: scaled[ours] for ours, theirs in pairs if ours in scaled
        }

    def names(
        self, network: Any, *, every_level: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Our name and theirs of every weight of the levels."""
        own = len(network.convs)
        for k in range(network.num_levels if every_level else own):
            here = f"convs.{min(k, own - 1)}.mixing"
            ours = f"filters.{min(k, own - 1)}"
            yield from linear_names(ours, f"{BODY}.so3convs.{k}.filternet")
            yield from linear_names(f"{here}.gate", f"{BODY}.gatings.{k}.scaling")
            for j, name in enumerate(MIXINGS):
                yield f"{here}.{name}.weight", f"{BODY}.mixings{j + 1}.{k}.weight"


def _scaled(state: Mapping[str, Tensor], network: Any, power: int) -> dict[str, Tensor]:
    """Filters times a power of the size of their harmonics, by our names."""
    degrees = torch.arange(network.lmax + 1, dtype=torch.float64)
    sizes = ((2 * degrees + 1) / (4 * math.pi)) ** (power / 2)
    rows = sizes.repeat_interleave(network.channels)
    found = {name: v for name, v in state.items() if name.startswith("filters.")}
    return {
        name: v * rows.to(v).view(-1, *[1] * (v.ndim - 1)) for name, v in found.items()
    }
