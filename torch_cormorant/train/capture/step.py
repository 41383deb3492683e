"""A training step of fixed sizes, captured once on a GPU, replayed for each batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from torch_cormorant.errors import BackendError, ConfigError, NonFiniteError
from torch_cormorant.models import Cormorant
from torch_cormorant.models.evaluation import Edges, run_on
from torch_cormorant.networks import CormorantNetwork
from torch_cormorant.networks.checks import refuse_cells
from torch_cormorant.train.base import Regression
from torch_cormorant.train.capture.optimizer import CapturedAdamW
from torch_cormorant.train.capture.padding import PaddedBatch, PaddedSizes, pad_batch
from torch_cormorant.train.metrics import Rows
from torch_cormorant.train.potential_module import PotentialRegression

__all__ = ["CapturedStep", "check_capturable", "padded_terms"]

WARM_UP = 3
"""Steps that are taken, and taken back, before the capture."""


class CapturedStep:
    r"""Forward, loss, backward, clipping, optimiser and averaged weights as one replay.

    In small batches a GPU waits for the processor, which starts some thousand small
    kernels one by one. Here every batch is filled up to the same sizes
    (:class:`PaddedSizes`), so that the whole step can be recorded as one CUDA graph and
    started by a single call. Losses, gradients and weights are those of the ordinary
    step up to round-off. The batch is filled up on the CPU while the GPU still works on
    the one before; nothing waits for the GPU.

    On a CPU the same filled-up step runs without a capture, for tests.

    Args:
        module: What is trained and how: network, loss, learning rate, schedule, weight
            decay and averaged weights. Where its network lies the step runs.
        sizes: Sizes that the batches are filled up to.
        clip: Largest norm of the gradient; 0 (default): no limit.
        total_steps: Length of the run, for the cosine schedule. Default 0.
        optimizer: An optimiser of the module's weights that is there already.

    Attributes:
        optimizer: AMSGrad with the state of :class:`torch.optim.AdamW`.
        taken: Steps taken so far.
        unfit: Steps taken in the ordinary way, because the batch was too large.

    Raises:
        ConfigError: The network is no :class:`~torch_cormorant.Cormorant`, stresses are
            learned, several processes train together, or the cosine has no length.

    Example:
        >>> from torch_cormorant import CormorantQM9
        >>> from torch_cormorant.data import MiniQM9
        >>> from torch_cormorant.train import PropertyRegression
        >>> from torch_geometric.loader import DataLoader
        >>> data = MiniQM9("gap")[:20]
        >>> module = PropertyRegression(CormorantQM9(), mean=0.0, std=1.0)
        >>> sizes = PaddedSizes.of(module.model, data, batch_size=10)
        >>> step = CapturedStep(module, sizes, clip=1.0)
        >>> losses = [step(batch) for batch in DataLoader(data, batch_size=10)]
        >>> step.taken, step.unfit, sorted(step.read())
        (2, 0, ['loss', 'mae'])

    Note:
        Deterministic. Call it with batches on the CPU: those on a GPU are copied back
        first, which waits. A loss that is not finite is noticed by :meth:`read`.
        No switch of the process is changed.
    """

    def __init__(
        self,
        module: Regression,
        sizes: PaddedSizes,
        *,
        clip: float = 0.0,
        total_steps: int = 0,
        optimizer: CapturedAdamW | None = None,
    ) -> None:
        check_capturable(module, clip)
        if optimizer is None and module.schedule == "cosine" and total_steps < 1:
            raise ConfigError("total_steps: the cosine schedule needs their number")
        self.module, self.sizes, self.clip = module, sizes, float(clip)
        self.total_steps, self.taken, self.unfit = total_steps, 0, 0
        self.device = next(module.model.parameters()).device
        self.optimizer = CapturedAdamW(module) if optimizer is None else optimizer
        self.optimizer.program = self._run
        self.names = ["loss", *module.error_names]
        numbers: dict[str, Any] = {"dtype": torch.float64, "device": self.device}
        self.totals = torch.zeros(len(self.names), 2, **numbers)
        self._forgotten = torch.zeros((), **numbers)
        self._loss = torch.zeros((), **numbers)
        self._static: PaddedBatch | None = None
        self._waiting: Any = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._places: list[int] = []

    # ---------------------------------------------------------------- stepping

    def __call__(self, batch: Any) -> Tensor:
        """Take one step.

        Args:
            batch: Molecules with their labels, on the CPU; or a :class:`PaddedBatch`
                of these sizes, as the processes of a loader can make it.

        Returns:
            The loss before the step, on the device of the network, without a gradient;
            0 for a batch without molecules, which takes no step.

        Raises:
            BackendError: The step cannot be captured on this device.
            ShapeError, DtypeError, NonFiniteError, SpeciesError, CoincidentAtomsError:
                The batch is not as a network wants it.
        """
        if not batch.num_graphs:
            return torch.zeros((), dtype=torch.float64, device=self.device)
        factor = self.module.rate_at(self.taken, self.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = self.module.lr * factor
        self.load(batch)
        self.optimizer.step()
        return self.loss

    @property
    def loss(self) -> Tensor:
        """Loss of the latest step, a tensor of its own."""
        return self._loss.clone()

    def load(self, batch: Any) -> None:
        """Fill up the batch of the next step and start copying it.

        Args:
            batch: As for a call.
        """
        module: Any = self.module
        padded: PaddedBatch | None = batch
        if not isinstance(batch, PaddedBatch):
            if not isinstance(module, PotentialRegression):
                refuse_cells(batch)
            padded = pad_batch(module.model, batch, self.sizes, module.label_names)
        if padded is None:
            self._waiting = batch.to(self.device)
            return
        self._waiting = None
        if self._static is None:
            self._static = padded.empty(self.device)
        self._static.fill(padded)

    def _run(self) -> None:
        """Step on what was loaded."""
        self._forgotten.fill_(1.0 - self.module.decay_at(self.taken))
        self.optimizer.fill_rate()
        if self._waiting is not None:
            self._whole(self.module.terms, self._waiting)
            self._waiting = None
            self.unfit += 1
        elif self.device.type != "cuda":
            self._whole(self._padded, self._static)
        else:
            if self.optimizer.replaced or self._places != self._pointers():
                self._graph = None
            graph = self._capture() if self._graph is None else self._graph
            graph.replay()
        self.taken += 1

    def _padded(self, batch: PaddedBatch) -> tuple[Tensor, Rows]:
        return padded_terms(self.module, batch)

    def _whole(self, terms: Callable[..., Any], batch: Any) -> None:
        """All that a step does, in the order of the ordinary loop."""
        for parameter in self.module.model.parameters():
            parameter.grad = None
        # Validation may have left it otherwise.
        with torch.enable_grad():
            loss, rows = terms(batch)
            loss.backward()
        self._loss.copy_(loss.detach())
        count = self.module.row_weights(batch).sum()
        self._add({"loss": (self._loss, count), **rows})
        if self.clip:
            nn.utils.clip_grad_norm_(self.module.model.parameters(), self.clip)
        self.optimizer.update()
        self._average()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights; the buffers of a network never change."""
        if self.module.averaged is None:
            return
        means: Any = list(self.module.averaged.parameters())
        weights: Any = list(self.module.model.parameters())
        moves: Any = torch._foreach_sub(weights, means)  # noqa: SLF001
        torch._foreach_mul_(moves, self._forgotten.to(moves[0].dtype))
        torch._foreach_add_(means, moves)

    # ---------------------------------------------------------------- capture

    def _pointers(self) -> list[int]:
        """Where the weights lie, which a graph remembers."""
        return [p.data_ptr() for p in self.module.parameters()]

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Record the step on the batch that lies in the static tensors."""
        try:
            with self._taken_back(), torch.cuda.device(self.device):
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    for _ in range(WARM_UP):
                        self._whole(self._padded, self._static)
                torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            for parameter in self.module.model.parameters():
                parameter.grad = None
            # Other threads, such as those that pin memory, may go on meanwhile.
            with (
                torch.cuda.device(self.device),
                torch.cuda.graph(
                    graph, stream=stream, capture_error_mode="thread_local"
                ),
            ):
                self._whole(self._padded, self._static)
        except RuntimeError as error:
            raise BackendError(
                f"the step cannot be captured as a CUDA graph ({error}); train without "
                "capture"
            ) from error
        self._graph, self._places = graph, self._pointers()
        self.optimizer.replaced = False
        return graph

    @contextmanager
    def _taken_back(self) -> Iterator[None]:
        """Put weights, averages, optimiser and sums back after the warm-up."""
        kept = [(tensor, tensor.detach().clone()) for tensor in self._changed()]
        before = {id(tensor) for tensor, _ in kept}
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, old in kept:
                    tensor.copy_(old)
                for tensor in self._changed():
                    if id(tensor) not in before:  # moments that were not there are zero
                        tensor.zero_()

    def _changed(self) -> list[Tensor]:
        found: list[Tensor] = list(self.module.model.parameters())
        if self.module.averaged is not None:
            found += list(self.module.averaged.parameters())
        for state in self.optimizer.state.values():
            found += [value for value in state.values() if isinstance(value, Tensor)]
        return [*found, self.totals, self._loss]

    # ---------------------------------------------------------------- sums

    def _add(self, rows: Rows) -> None:
        """Add to the sums over the steps, which stay on the device."""
        sums = [
            torch.stack([(errors * weights).sum(), weights.sum()])
            for errors, weights in (rows[name] for name in self.names)
        ]
        self.totals += torch.stack(sums)

    def read(self) -> dict[str, tuple[float, float]]:
        """Means since the last call, and what they are the means of; waits for a GPU.

        Returns:
            ``loss`` over molecules, ``mae`` of the property or the energy in the unit
            of the data, ``force_mae`` over atoms, each with its count.

        Raises:
            NonFiniteError: A loss was NaN or infinite; the weights are lost then.
        """
        rows = self.totals.tolist()
        self.totals.zero_()
        found = {
            name: (total / max(count, 1.0), count)
            for name, (total, count) in zip(self.names, rows, strict=True)
        }
        broken = [name for name, (mean, _) in found.items() if not math.isfinite(mean)]
        if broken:
            raise NonFiniteError(
                f"{broken[0]}: became {found[broken[0]][0]} in one of the steps up to "
                f"number {self.taken}; go back to the last checkpoint and try a "
                "smaller learning rate or gradient clipping"
            )
        return found

    def state_dict(self) -> dict[str, Any]:
        """Optimiser, sums and number of steps; weights are those of the module."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "taken": self.taken,
            "unfit": self.unfit,
            "sums": self.totals.tolist(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The reverse.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.optimizer.load_state_dict(state["optimizer"])
        self.taken, self.unfit = int(state["taken"]), int(state["unfit"])
        self.totals.copy_(torch.tensor(state["sums"], dtype=torch.float64))


def padded_terms(module: Regression, batch: PaddedBatch) -> tuple[Tensor, Rows]:
    """Loss and errors of a batch that was filled up; see :meth:`Regression.terms_of`.

    Args:
        module: The training.
        batch: The batch, on the device of the network.
    """
    model, vec = cast("Cormorant", module.model), batch.vectors()
    if isinstance(module, PotentialRegression):
        vec = vec.detach().requires_grad_()
        output: Any = run_on(
            model,
            batch.z,
            batch.pos,
            batch.batch,
            batch.num_graphs,
            Edges(batch.edge_index, vec),
            batch.geometry(vec.to(model.dtype), model.harmonics),
            forces=module.weights["forces"] > 0,
        )
    else:
        output, _ = model.forward_features(
            model.features(batch.z, model.dtype),
            batch.geometry(vec.to(model.dtype), model.harmonics),
            batch.batch,
            batch.num_graphs,
            z=batch.z,
            pos=batch.pos,
            check=False,
        )
    return module.terms_of(batch, output)


def check_capturable(module: Regression, clip: float) -> None:
    """Refuse trainings that a captured step cannot take over.

    Args:
        module: The training.
        clip: Largest norm of the gradient.

    Raises:
        ConfigError: See :class:`CapturedStep`.
    """
    if not isinstance(getattr(module.model, "network", module.model), CormorantNetwork):
        raise ConfigError(
            f"captured: the network is a {type(module.model).__name__}, and only "
            "Cormorant networks tell which atoms are connected; train without capture"
        )
    if getattr(module.model.head, "per_atom", False):
        raise ConfigError(
            "captured: labels of atoms are not supported; train without capture"
        )
    if isinstance(module, PotentialRegression) and module.weights["stress"]:
        raise ConfigError(
            "captured: stresses are not supported; train without capture, or with "
            "stress_weight=0"
        )
    if module.world_size > 1:
        raise ConfigError(
            f"captured: {module.world_size} processes train together; one is supported"
        )
    if not 0 <= clip < float("inf"):
        raise ConfigError(f"clip: {clip}, expected at least 0; 0 means no limit")
