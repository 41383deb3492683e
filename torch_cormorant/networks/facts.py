"""What decides the numbers of a network beside its weights."""

from __future__ import annotations

from typing import Any, cast

from torch_cormorant.nn.facts import StatesFacts
from torch_cormorant.nn.inputs import AtomFeatures

__all__ = ["CONVENTION", "NetworkFacts"]

CONVENTION = "cormorant-real-1"
"""Tag of the conventions that weights belong to."""


class NetworkFacts(StatesFacts):
    """Species, cutoff and conventions of a network, for it to inherit."""

    cutoff: float | None
    harmonics: str

    def facts(self) -> dict[str, Any]:
        """Plain values by name; see ``StatesFacts``."""
        features = cast("AtomFeatures", self.features)
        return {
            "convention": CONVENTION,
            "species": list(features.known),
            "charge_power": features.charge_power,
            "charge_scale": features.charge_scale,
            "cutoff": self.cutoff,
            "harmonics": self.harmonics,
        }
