"""One molecule, evaluated again and again as fast as Python allows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from torch_cormorant.errors import (
    ConfigError,
    ExportError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.fixed_graph import (
    FixedOutput,
    check_fixed,
    difference,
    fixed_function,
    trace,
)
from torch_cormorant.models.energy import Result
from torch_cormorant.ops.autocast import full_precision

__all__ = ["TracedPotential"]


class TracedPotential:
    """Energies and forces of one molecule as a graph that was traced once.

    For molecular dynamics of small molecules, where the time goes into starting
    operations and not into computing: no search, no checks of the graph, no autograd,
    no work that depends on the weights alone. All pairs are edges, so it pays up to
    some tens of atoms; larger ones and periodic cells are for the engine itself.

    Args:
        engine: What to trace.
        z: Atomic numbers of the molecule ``[N]``.
        pos: A geometry ``[N, 3]`` in Angstrom. The graph is compared with the engine
            there and at displaced geometries.
        num_structures: Copies B that are evaluated together. Default 1.
        compiled: Also compile the graph with ``torch.compile``: about twice as fast
            again, after a minute or two of compilation, so for runs of more than some
            ten thousand steps. Needs a C++ compiler. Default False.

    Raises:
        ConfigError: The head is no sum over atoms, or the model has a cutoff without
            an envelope, or the graph cannot be compiled here.
        EdgeBudgetError: The molecule has more than 300 atoms.
        ExportError: The graph differs from the engine by more than rounding.
        SpeciesError, ShapeError, NonFiniteError: The molecule does not fit.

    Example:
        >>> import torch
        >>> from torch_cormorant import Cormorant
        >>> from torch_cormorant.interfaces.engine import Engine
        >>> model = Cormorant.potential(species=[1, 8], channels=2, num_levels=1)
        >>> z = torch.tensor([8, 1, 1])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> traced = TracedPotential(Engine(model), z, pos)
        >>> traced(pos + 0.01).forces.shape
        torch.Size([3, 3])
    """

    @full_precision
    def __init__(
        self,
        engine: Engine,
        z: Tensor,
        pos: Tensor,
        num_structures: int = 1,
        *,
        compiled: bool = False,
    ) -> None:
        check_fixed(engine, z, pos, num_structures)
        self.engine, self.num_structures = engine, num_structures
        self.z = z.detach().long().to(engine.device).clone()
        function = fixed_function(engine, self.z, pos, num_structures)
        example = pos.detach().double().to(engine.device).repeat(num_structures, 1, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch's tracer says about itself
            self.graph = trace(function, example)
        self._call: Callable[[Tensor], tuple[Tensor, ...]] = self.graph
        if compiled:
            self._call = _compiled(self.graph, example)
        with torch.inference_mode():
            wrong = difference(self._call, engine, self.z, example)
        if wrong:
            msg = f"the traced {wrong}; use the engine without tracing"
            raise ExportError(msg)

    @full_precision
    def __call__(self, pos: Tensor) -> Result:
        """Energies, atomic energies and forces.

        Args:
            pos: Positions ``[B, N, 3]`` or ``[B * N, 3]`` in Angstrom, not changed.

        Returns:
            As :class:`~torch_cormorant.interfaces.engine.Engine` gives them.

        Raises:
            ShapeError: The number of atoms is another one.
            CoincidentAtomsError, NonFiniteError: As the engine.
        """
        size = self.z.shape[0]
        if pos.shape[-1:] != (3,) or pos.numel() != 3 * size * self.num_structures:
            msg = (
                f"pos has shape {list(pos.shape)}, the traced molecule needs "
                f"[{self.num_structures}, {size}, 3]; trace again for another one"
            )
            raise ShapeError(msg)
        given = pos.detach().double().to(self.engine.device)
        with torch.inference_mode():
            out = FixedOutput(*self._call(given.view(self.num_structures, size, 3)))
        if not bool(out.forces.isfinite().all() & (out.shortest > 0)):
            self._explain(given)
        # copies made here are ordinary tensors, not ones of inference mode
        forces = out.forces.view(-1, 3).clone()
        energies = out.energies.view(-1).clone()
        return Result(out.energy.clone(), energies, forces, unit="eV")

    def _explain(self, pos: Tensor) -> None:
        """Let the engine name what is wrong with the positions."""
        count = self.num_structures
        batch = torch.arange(count, device=pos.device).repeat_interleave(len(self.z))
        numbers = self.z.repeat(count)
        self.engine(numbers, pos.reshape(-1, 3), batch, num_graphs=count, reuse=False)
        msg = "forces of the traced molecule are not finite; its energy is too steep"
        raise NonFiniteError(msg)


def _compiled(graph: GraphModule, example: Tensor) -> Callable[[Tensor], Any]:
    """The graph as generated code; it is compiled here, not in the first step."""
    function: Callable[[Tensor], Any] = torch.compile(graph, dynamic=False)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # complex numbers are left to PyTorch
            function(example)
    except Exception as error:
        msg = f"torch.compile failed here ({error}); use compiled=False"
        raise ConfigError(msg) from error
    return function
