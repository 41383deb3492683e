"""The native evaluator with the signature of the engine that other programs call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from torch_cormorant.backends import POTENTIALS, choose_backend
from torch_cormorant.errors import ConfigError
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.native import NativePotential, native_problem
from torch_cormorant.models.energy import Result
from torch_cormorant.models.ensemble import Ensemble

__all__ = ["NativeEngine", "choose_engine"]


class NativeEngine:
    """Structures one by one in eV and Angstrom; arguments as :class:`.Engine` has.

    Args:
        engine: Whose model is taken, as it is now.

    Raises:
        ConfigError: The model is not covered.
    """

    def __init__(self, engine: Engine) -> None:
        skin = 0.0 if engine.edges is None else engine.edges.skin
        self.model, self.factor = engine.model, engine.factor
        self.natives = [
            NativePotential(model, skin=skin) for model in _members(engine.model)
        ]

    def __call__(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        *,
        num_graphs: int = 1,
        forces: bool = True,
        stress: bool = False,
        reuse: bool = True,
    ) -> Result:
        """Energies, forces and, if asked for, stresses of all structures."""
        del reuse  # a list that does not fit is not used
        cells, flags = _each(cell, (3, 3), num_graphs), _each(pbc, (3,), num_graphs)
        sizes = [len(z)]
        if batch is not None:
            sizes = torch.bincount(batch, minlength=num_graphs).tolist()
        rows = list(zip(z.split(sizes), pos.split(sizes), cells, flags, strict=True))
        found = [
            self._in_ev(
                [native.evaluate(*row, forces=forces, stress=stress) for row in rows]
            )
            for native in self.natives
        ]
        if isinstance(self.model, Ensemble):
            whole = self.model.summarised(found)
            self.model.look(whole, batch, factor=self.factor)
            return whole
        return found[0]

    def _in_ev(self, parts: list[Result]) -> Result:
        out = parts[0] if len(parts) == 1 else Result.joined(parts)
        scaled: dict[str, Any] = {
            name: value * self.factor for name, value in out.tensors().items()
        }
        return replace(out, **scaled, unit="eV")


def _members(model: nn.Module) -> list[nn.Module]:
    """The models of an ensemble, or the one that there is."""
    return list(model.models) if isinstance(model, Ensemble) else [model]


def _each(
    value: Tensor | None, shape: tuple[int, ...], count: int
) -> Tensor | list[None]:
    """One for every structure."""
    if value is None:
        return [None] * count
    return value.reshape(-1, *shape).expand(count, *shape)


def choose_engine(
    engine: Engine, backend: str, *, traced: bool
) -> tuple[str, Engine | NativeEngine]:
    """The backend that is used, and what computes.

    Args:
        engine: The engine of the model.
        backend: ``"auto"``, ``"native"`` or ``"model"``.
        traced: Whether a traced graph of the model is asked for.

    Raises:
        ConfigError: ``"native"`` is asked for and cannot be had; the message says why.
        BackendError: No backend has that name.
    """
    choose_backend(POTENTIALS, backend)
    if backend == "model" or (backend == "auto" and traced):
        return "model", engine
    problem = next(filter(None, map(native_problem, _members(engine.model))), "")
    if engine.device.type != "cpu":
        problem = f"the model is on {engine.device}, a CPU is covered"
    if traced:
        problem = "traced graphs are of the model"
    if not problem:
        return "native", NativeEngine(engine)
    if backend == "native":
        msg = f'backend="native" cannot be used: {problem}; "auto" takes what can'
        raise ConfigError(msg)
    return "model", engine
