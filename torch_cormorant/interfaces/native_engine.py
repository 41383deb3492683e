"""The native evaluator with the signature of the engine that other programs call."""

from __future__ import annotations

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
        self.model, self.factor = engine.model, engine.factor
        self.natives = [NativePotential(model) for model in _members(engine.model)]

    def __call__(
        self,
        z: Tensor,
        pos: Tensor,
        batch: Tensor | None = None,
        cell: Tensor | None = None,
        pbc: Tensor | None = None,
        *,
        num_graphs: int = 1,
        stress: bool = False,
        reuse: bool = True,
    ) -> Result:
        """Energies, forces and, if asked for, stresses of all structures."""
        del reuse  # there is no list
        sizes = [len(z)]
        if batch is not None:
            sizes = torch.bincount(batch, minlength=num_graphs).tolist()
        parts = list(zip(z.split(sizes), pos.split(sizes), strict=True))
        found = []
        for native in self.natives:
            rows = [
                native.evaluate(
                    numbers,
                    points,
                    None if cell is None else cell.view(-1, 3, 3)[k],
                    None if pbc is None else pbc.view(-1, 3)[k],
                    stress=stress,
                )
                for k, (numbers, points) in enumerate(parts)
            ]
            found.append(
                Result(
                    torch.cat([out.energy for out in rows]) * self.factor,
                    self._joined([out.energies for out in rows]),
                    self._joined([out.forces for out in rows]),
                    self._joined([out.stress for out in rows]),
                    "eV",
                )
            )
        if isinstance(self.model, Ensemble):
            return self.model.summarised(found)
        return found[0]

    def _joined(self, parts: list[Tensor | None]) -> Tensor | None:
        given = [part for part in parts if part is not None]
        return torch.cat(given) * self.factor if given else None


def _members(model: nn.Module) -> list[nn.Module]:
    """The models of an ensemble, or the one that there is."""
    return list(model.models) if isinstance(model, Ensemble) else [model]


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
