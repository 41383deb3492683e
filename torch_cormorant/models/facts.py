"""Names, units and references of outputs, as a network's ``state_dict`` holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.nn.facts import StatesFacts, decoded, encoded

__all__ = ["OutputFacts"]

INFO = "outputs"


class OutputFacts(StatesFacts):
    """References and scale beside the facts of a network, for a model to inherit.

    They are compared where both sides have some. A model without any takes those that
    come with the weights.
    """

    num_targets: int
    _info: ModelInfo | None = None

    @property
    def info(self) -> ModelInfo:
        """Names, units and normalisation of the outputs; at first nothing."""
        return self._info or ModelInfo.untrained(self.num_targets)

    @info.setter
    def info(self, value: ModelInfo) -> None:
        self._info = value

    def contributions(
        self, z: Tensor, pos: Tensor, batch: Tensor | None = None
    ) -> Tensor:
        r"""Contributions of atoms in the unit of the model, :math:`\sigma f_i(z, r)`.

        What the network says beyond the references: with those and the constant their
        sums are the predictions.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom.
            batch: Molecule of each atom.

        Returns:
            ``[N, num_targets]`` in float64, without gradients.

        Raises:
            ConfigError: The head is no sum over atoms.

        Example:
            >>> import torch
            >>> from torch_cormorant import Cormorant
            >>> model = Cormorant.potential([1, 8], channels=4, num_levels=1)
            >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
            >>> tuple(model.set_units({1: -1.0, 8: -2.0}).contributions(z, pos).shape)
            (2, 1)
        """
        network: Any = self  # or what a holder holds
        with torch.no_grad():
            parts: Tensor = network.atom_contributions(z, pos, batch)
        return parts.double() * self.info.normalisation.scale(parts)

    def replace_head(self, *args: Any, **options: Any) -> Self:
        """As that of a network; what outputs mean is forgotten."""
        inside: Any = super()
        inside.replace_head(*args, **options)
        self._info = None
        return self

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
