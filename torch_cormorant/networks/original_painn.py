"""PaiNN of SchNetPack: names and settings; no number changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import WeightsError
from torch_cormorant.networks.original import OriginalWeights
from torch_cormorant.networks.original_schnetpack import (
    BODY,
    OriginalSchNetPack,
    linear_names,
)

__all__ = ["OriginalPaiNN"]

FILTERS = f"{BODY}.filter_net"


class OriginalPaiNN(OriginalSchNetPack):
    """``schnetpack.representation.PaiNN`` with an ``Atomwise`` head.

    A ``state_dict`` does not hold ``epsilon`` (1e-8 if it is not given).
    """

    anchor = f"{BODY}.interactions.0.interatomic_context_net.0.weight"

    def sizes(self, weights: OriginalWeights) -> dict[str, int]:
        """Channels, levels and radial functions."""
        names = BODY + ".interactions.{}.interatomic_context_net.0.bias"
        return {
            "n_atom_basis": weights.shape(f"{BODY}.embedding.weight")[1],
            "n_interactions": weights.count(names),
            "n_rbf": weights.shape(f"{FILTERS}.weight")[1],
        }

    def arguments(
        self, weights: OriginalWeights, config: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Sizes from the shapes; the settings must not say otherwise."""
        found = super().arguments(weights, config)
        levels, rows = found["num_levels"], weights.shape(f"{FILTERS}.weight")[0]
        one = levels > 1 and rows == 3 * found["channels"]
        if levels > 1 and config.get("shared_filters", one) != one:
            msg = f"shared_filters does not fit filter_net of {rows} rows"
            raise WeightsError(msg)
        epsilon = float(config.get("epsilon", 1e-8))
        return {**found, "epsilon": epsilon, "shared_filters": one}

    def fold(
        self, weights: OriginalWeights, network: Any, config: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Other names; filters of all levels stand in one tensor there."""
        state = super().fold(weights, network, config)
        for name in ("weight", "bias"):
            rows = weights.take(f"{FILTERS}.{name}").chunk(len(network.filters))
            state |= {f"filters.{k}.{name}": part for k, part in enumerate(rows)}
        return state

    def unfold(self, network: Any) -> dict[str, Tensor]:
        """The inverse of :meth:`fold`."""
        result, state = super().unfold(network), network.state_dict()
        for name in ("weight", "bias"):
            rows = [state[f"filters.{k}.{name}"] for k in range(len(network.filters))]
            result[f"{FILTERS}.{name}"] = torch.cat(rows)
        return result

    def names(
        self, network: Any, *, every_level: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Our name and theirs of every weight of the levels."""
        own = len(network.convs)
        for k in range(network.num_levels if every_level else own):
            here, mixing = f"convs.{min(k, own - 1)}", f"{BODY}.mixing.{k}"
            nets = {
                here: f"{BODY}.interactions.{k}.interatomic_context_net",
                f"{here}.mixing": f"{mixing}.intraatomic_context_net",
            }
            for ours, theirs in nets.items():
                for j in (0, 1):
                    yield from linear_names(f"{ours}.context.{2 * j}", f"{theirs}.{j}")
            yield f"{here}.mixing.vectors.0.weight", f"{mixing}.mu_channel_mix.weight"
