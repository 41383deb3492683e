"""What decides the numbers of a module beside its weights travels with the weights."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.errors import WeightsError
from torch_cormorant.nn.activations import ShiftedSoftplus

__all__ = ["EXTRA", "StatesFacts", "activations_of", "decoded", "encoded"]

EXTRA = "_extra_state"
"""PyTorch's name for it in a ``state_dict``."""
TOLERANCE = 1e-8
"""Relative difference of numbers that were computed anew, by a fit for example."""


class StatesFacts(nn.Module):
    """A module that says in its ``state_dict`` what the weights were made for.

    ``load_state_dict`` compares that and raises
    :class:`~torch_cormorant.errors.WeightsError` where it differs, with
    ``strict=False`` too: other numbers would come out. A ``state_dict`` without facts
    is loaded as it is; leave the key out to load weights in spite of a difference. The
    facts are JSON in a tensor of bytes, which every program that handles tensors by
    name keeps.
    """

    def facts(self) -> dict[str, Any]:
        """Plain values by name. Sizes are left out: they show in the weights."""
        raise NotImplementedError

    def get_extra_state(self) -> Tensor:
        """The facts as PyTorch stores them."""
        return encoded(self.facts())

    def set_extra_state(self, state: Any) -> None:
        """Compare facts of a ``state_dict`` with those of the module.

        Raises:
            WeightsError: Something differs, or the facts are not understood.
        """
        given = decoded(state)
        if given is not None:
            self.check_facts(given)

    def check_facts(self, given: dict[str, Any]) -> None:
        """Refuse facts that differ; what only one side knows is not compared."""
        own = json.loads(json.dumps(self.facts()))
        self.compare(own, {name: given.get(name, own[name]) for name in own})

    def compare(self, own: dict[str, Any], given: dict[str, Any]) -> None:
        """Refuse what differs between the module and the weights, and name it."""
        texts = [
            f"{name} is {own.get(name)!r}, in the weights {given.get(name)!r}"
            for name in {**own, **given}
            if not _same(own.get(name), given.get(name))
        ]
        if texts:
            msg = (
                f"the weights were made for another {type(self).__name__}: "
                f"{'; '.join(texts)}; make it as the weights need it, or leave every "
                f"key that ends in {EXTRA!r} out of the state_dict to load them "
                "nevertheless"
            )
            raise WeightsError(msg)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        *others: Any,
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, *others
        )
        if prefix + EXTRA in missing_keys:  # written before there were facts
            missing_keys.remove(prefix + EXTRA)


def encoded(facts: dict[str, Any]) -> Tensor:
    """Facts as a tensor of bytes, whatever the default device is."""
    text = json.dumps(facts, sort_keys=True)
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def decoded(state: Any) -> dict[str, Any] | None:
    """Facts from what a ``state_dict`` holds; None where there is nothing to read.

    Raises:
        WeightsError: They are not understood.
    """
    if state is None or (isinstance(state, Tensor) and state.is_meta):
        return None
    try:
        if isinstance(state, Tensor):
            state = json.loads(bytes(state.to("cpu", torch.uint8).tolist()))
        return dict(state)
    except (ValueError, TypeError) as error:
        msg = f"{EXTRA}: not understood ({error}); the weights are damaged or foreign"
        raise WeightsError(msg) from None


def activations_of(module: nn.Module) -> list[str]:
    """Names of the activations inside of a module."""
    kinds = (nn.LeakyReLU, nn.ReLU, nn.SiLU, nn.Sigmoid, nn.Tanh, ShiftedSoftplus)
    return sorted({type(m).__name__ for m in module.modules() if isinstance(m, kinds)})


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, dict) and isinstance(right, dict):
        keys = left.keys() & right.keys()
        return left.keys() == right.keys() and all(
            _same(left[k], right[k]) for k in keys
        )
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    numbers = (int, float)
    if isinstance(left, numbers) and isinstance(right, numbers):
        return math.isclose(left, right, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(left == right)
