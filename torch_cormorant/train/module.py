"""Regression of molecular properties as a Lightning module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn

from torch_cormorant.errors import ConfigError, NonFiniteError, ShapeError
from torch_cormorant.models import Normalisation
from torch_cormorant.networks.checks import refuse_cells
from torch_cormorant.train.base import MoleculeBatch, Regression
from torch_cormorant.train.graphs import GraphStore
from torch_cormorant.train.metrics import Rows, mean_metric, row_means, weights_of

__all__ = ["PropertyRegression"]


class PropertyRegression(Regression):
    r"""Fits properties with the mean squared error of their normalised values.

    .. math::
        \mathcal L = \Bigl( f(z, r) - \bigl(y - \mu - \textstyle\sum_i w_{z_i}\bigr)
        / \sigma \Bigr)^2

    Optimised with Adam in its AMSGrad form, as in the paper. Errors are logged as
    ``train_mae`` and ``valid_mae`` in the unit of ``y`` (of several targets: the mean
    of the errors over :math:`\sigma`, and each target's own as ``valid_mae_k``);
    normalisation and errors are computed in float64, the network in the type of its
    parameters.

    Labels and outputs may have more axes, ``[B, 3]`` for a vector, ``[B, 3, 3]`` for a
    tensor, and those of a model with a head per atom have one row for every atom; their
    components share one scale.

    Args:
        model: Called as ``model(z, pos, batch, num_graphs=B)``, returns ``[B, T]``.
        mean: Mean :math:`\mu` of the training values, or the constant of a reference;
            one number, or one for each target.
        std: Standard deviation :math:`\sigma` of the training values around it.
        atom_values: Part :math:`w_z` of the reference of every atom, by atomic number;
            default none, as published.
        **training: Optimiser, schedule and averaging, as :class:`Regression`.

    Raises:
        ConfigError: A number is out of range or the schedule is unknown.

    Example:
        >>> import torch
        >>> class Constant(torch.nn.Module):
        ...     def __init__(self) -> None:
        ...         super().__init__()
        ...         self.value = torch.nn.Parameter(torch.ones(1))
        ...     def forward(self, z, pos, batch, num_graphs):
        ...         return self.value.expand(num_graphs, 1)
        >>> module = PropertyRegression(Constant(), mean=2.0, std=0.5)
        >>> from torch_geometric.data import Batch, Data
        >>> methane = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3))
        >>> module(Batch.from_data_list([methane]))
        tensor([[2.5000]], dtype=torch.float64, grad_fn=<AddBackward0>)
    """

    def __init__(
        self,
        model: nn.Module,
        mean: float | Sequence[float],
        std: float | Sequence[float],
        *,
        atom_values: Mapping[int, Any] | None = None,
        **training: Any,
    ) -> None:
        atoms = {z: _numbers(values) for z, values in (atom_values or {}).items()}
        units = Normalisation(_numbers(mean), _numbers(std), atoms)
        super().__init__(model, units, **training)
        self.save_hyperparameters(ignore=["model"])
        self.valid_mae = mean_metric()
        several = units.num_targets if units.num_targets > 1 else 0
        self.target_maes = nn.ModuleList(mean_metric() for _ in range(several))

    @property
    def per_atom(self) -> bool:
        """Whether rows of labels and predictions are atoms."""
        return bool(getattr(getattr(self.model, "head", None), "per_atom", False))

    def normalised(self, batch: MoleculeBatch) -> Tensor:
        """The network's own output ``[B, T]``: mean 0 and deviation 1 over the data."""
        return self.predicted(self.network, batch)

    def predicted(self, network: Any, batch: Any) -> Tensor:
        """Normalised properties ``[B, T]``, see :class:`Regression`."""
        refuse_cells(batch)
        output: Tensor = network(
            batch.z,
            batch.pos.to(next(self.model.parameters()).dtype),
            batch.batch,
            num_graphs=batch.num_graphs,
        )
        return output

    def predicted_on(self, network: Any, graph: Any) -> Tensor:
        """Normalised properties, see :class:`Regression`."""
        vec = graph.vectors().to(network.dtype)
        geometry = graph.geometry(vec, network.harmonics)
        output: Tensor = network.read_out(
            network.run_levels(graph.z, geometry),
            geometry,
            graph.batch,
            graph.num_graphs,
            z=graph.z,
            pos=graph.pos,
            check=False,
        )
        return output

    def graph_store(self) -> GraphStore | None:
        """See :class:`Regression`; networks of properties know no cells."""
        store = super().graph_store()
        if store is not None:
            store.cells = False
        return store

    def forward(self, batch: MoleculeBatch) -> Tensor:
        """Predictions ``[B, T]`` in the unit of ``y``, float64."""
        return self._restored(self.normalised(batch), batch)

    def reference(self, batch: MoleculeBatch) -> Tensor:
        """What is not learned, ``[B, T]``: a constant and a value for every atom."""
        return self.normalisation.reference(batch.z, batch.batch, batch.num_graphs)

    label_names = ("y",)

    def terms_of(self, batch: Any, output: Tensor) -> tuple[Tensor, Rows]:
        """Mean squared error of the normalised properties, and errors in their unit."""
        y, weights = self._labels(batch, output), self.row_weights(batch)
        wanted = self.normalisation.normalise(
            y, batch.z, batch.batch, per_atom=self.per_atom
        )
        squares = row_means((output - wanted.to(output.dtype)).square())
        wrong = self._sizes(self._restored(output.detach(), batch) - y)
        return self.weighted((squares, weights))[0], {"mae": (wrong, weights)}

    def evaluation_step(self, batch: MoleculeBatch, part: str) -> None:
        """Error of one batch in the unit of ``y``, see :class:`Regression`.

        Raises:
            NonFiniteError: A prediction or a label is NaN or infinite; the mean would
                leave it out.
        """
        predicted = self(batch)
        weights, size = self.row_weights(batch), batch.num_graphs
        errors = predicted - self._labels(batch, predicted)
        # Before the first step there is nothing to go by yet.
        early = getattr(self.trainer_or_none, "sanity_checking", False)
        if not early and not bool(errors.isfinite().all()):
            raise NonFiniteError(
                f"{part}: a prediction or a label is not finite in epoch "
                f"{self.current_epoch + 1}"
            )
        self.note(f"{part}_mae", self._sizes(errors), weights, size, "valid_mae")
        for k in range(len(self.target_maes)):
            own = row_means(errors[:, k].abs())
            self.note(f"{part}_mae_{k}", own, weights, size, f"target_maes.{k}")

    def predict_step(self, batch: MoleculeBatch) -> Tensor:
        """Predictions of one batch ``[B, T]`` on the CPU, float64, in the unit of y."""
        return cast("Tensor", self(batch)).cpu()

    def _sizes(self, errors: Tensor) -> Tensor:
        """One size for the errors of every row."""
        if self.normalisation.num_targets > 1:
            # Different units: counted in standard deviations.
            scale = self.normalisation.scale(errors)
            errors = errors / scale.view(-1, *[1] * (errors.ndim - 2))
        return row_means(errors.abs())

    def _restored(self, output: Tensor, batch: Any) -> Tensor:
        return self.normalisation.restore(
            output, batch.z, batch.batch, per_atom=self.per_atom
        )

    def row_weights(self, batch: Any) -> Tensor:
        """Weight of every row: of molecules, or of atoms."""
        weights = weights_of(batch)
        return weights[batch.batch] if self.per_atom else weights

    @staticmethod
    def _labels(batch: Any, output: Tensor) -> Tensor:
        y: Tensor = batch.y
        if y.shape != output.shape:
            raise ShapeError(
                f"y: shape {tuple(y.shape)}, the model returns "
                f"{tuple(output.shape)}; both must be [num_graphs, num_targets], or "
                "what the head returns"
            )
        return y.double()


def _numbers(values: float | Sequence[float]) -> tuple[float, ...]:
    if isinstance(values, (int, float)):
        return (float(values),)
    try:
        return tuple(float(value) for value in values)
    except TypeError:
        raise ConfigError(f"{values!r} is neither a number nor several") from None
