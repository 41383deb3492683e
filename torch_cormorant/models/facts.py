"""What decides the numbers of a network beside its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.nn.facts import StatesFacts, activations_of, decoded, encoded

if TYPE_CHECKING:
    from torch_cormorant.models.cormorant import Cormorant

__all__ = ["CONVENTION", "NetworkFacts"]

CONVENTION = "cormorant-real-1"
"""Tag of the conventions that weights belong to."""
INFO = "outputs"


class NetworkFacts(StatesFacts):
    """Species, cutoff, conventions and references of a network, for it to inherit.

    References and scales are compared where both sides have some. A network without
    any takes those that come with the weights.
    """

    info: ModelInfo

    def facts(self) -> dict[str, Any]:
        """Plain values by name; see :class:`.StatesFacts`."""
        network = cast("Cormorant", self)
        radius = getattr(network.input, "hard_radius", None)
        return {
            "convention": CONVENTION,
            "species": list(network.features.known),
            "charge_power": network.features.charge_power,
            "charge_scale": network.features.charge_scale,
            "cutoff": network.cutoff,
            "harmonics": network.harmonics,
            "input": type(network.input).__name__,
            "input_cutoff": radius,
            "input_envelope": getattr(network.input, "smooth", False),
            "input_activation": activations_of(network.input),
            "repulsion": str(getattr(network, "zbl", None)),
        }

    def get_extra_state(self) -> Any:
        """The facts, and names, units and normalisation of the outputs."""
        return encoded({**self.facts(), INFO: _plain(self.info)})

    def set_extra_state(self, state: Any) -> None:
        """Compare; take the references over where the network has none.

        Raises:
            WeightsError: Something differs, or is not understood.
        """
        given = decoded(state)
        if given is None:
            return
        self.check_facts(given)
        if INFO in given:
            self._check_info(_info(given[INFO]))

    def _check_info(self, given: ModelInfo) -> None:
        own = self.info
        if not (_stated(given) or _refers(given)):
            return  # a network whose outputs nobody has named yet
        if _stated(given) and _stated(own) and given.units != own.units:
            self.compare({"units": own.units}, {"units": given.units})
        if _refers(own):
            self.compare(_numbers(own.normalisation), _numbers(given.normalisation))
            return
        self.info = replace(
            own,
            targets=given.targets,
            units=given.units,
            normalisation=given.normalisation,
        )


def _stated(info: ModelInfo) -> bool:
    return any(info.units)


def _refers(info: ModelInfo) -> bool:
    units = info.normalisation
    return units.as_dict() != Normalisation.none(units.num_targets).as_dict()


def _plain(info: ModelInfo) -> dict[str, Any]:
    return {
        "targets": list(info.targets),
        "units": list(info.units),
        "normalisation": info.normalisation.as_dict(),
    }


def _info(values: Any) -> ModelInfo:
    try:
        return ModelInfo(
            _strings(values["targets"]),
            _strings(values["units"]),
            Normalisation.from_dict(values["normalisation"]),
        )
    except (KeyError, TypeError, ConfigError) as error:
        msg = f"the weights say of their outputs what is not understood ({error})"
        raise WeightsError(msg) from None


def _strings(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(value) for value in values)


def _numbers(units: Normalisation) -> dict[str, Any]:
    """Scale, constant and reference of every element, by names for a message."""
    values = units.as_dict()
    atoms = {f"reference of element {z}": v for z, v in values["atom_values"].items()}
    return {"scale": values["std"], "constant": values["mean"], **atoms}
