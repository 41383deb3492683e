"""Predictions in units, from any network."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from torch_cormorant.models.batched import in_batches
from torch_cormorant.models.domain import check_batch, check_data
from torch_cormorant.models.holder import Holder
from torch_cormorant.networks.checks import refuse_cells

__all__ = ["Predictor"]


class Predictor(Holder):
    r"""Predictions of any network in the units of its outputs.

    .. math:: y = \sigma f(z, r) + \mu + \sum_i w_{z_i}

    with scale, constant and references of ``info``. What is not found here, such as
    ``head`` and ``cutoff``, is asked of the network.

    Args:
        network: A :class:`~torch_cormorant.networks.Network`.
        info: Names, units and normalisation of its outputs. Default: that of the
            network where it has one, else none: the numbers of the network.

    Attributes:
        network: The network.
        info: A :class:`~torch_cormorant.models.ModelInfo`.

    Example:
        >>> from torch_cormorant.data import MiniQM9
        >>> from torch_cormorant.models import ModelInfo, Normalisation, Predictor
        >>> from torch_cormorant.networks import CormorantNetwork
        >>> network = CormorantNetwork(channels=4, num_levels=1, lmax=1)
        >>> info = ModelInfo(("gap",), ("eV",), Normalisation((6.9,), (1.3,)))
        >>> tuple(Predictor(network, info).predict(MiniQM9("gap")[:10]).shape)
        (10, 1)
    """

    def predict(
        self,
        z: Any,
        pos: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        num_graphs: int | None = None,
        batch_size: int = 64,
    ) -> Tensor:
        """Predict in the units of ``info.units``, without gradients.

        Calling the network itself gives numbers of order one, which training compares
        with normalised labels; this undoes the normalisation.

        Args:
            z: Atomic numbers ``[N]``; or a PyG ``Data``, a ``Batch``, a list or a data
                set with ``z`` and ``pos``.
            pos: Positions ``[N, 3]`` in Angstrom.
            batch: Molecule of each atom ``[N]``; None: one molecule.
            num_graphs: Number of molecules. Default: the largest of ``batch`` plus 1.
            batch_size: Molecules at once, of a list or a data set. Default 64.

        Returns:
            ``[num_graphs, *head.shape]`` in float64, or ``[N, *head.shape]`` per atom;
            of a data set on the CPU.

        Raises:
            ConfigError: There are no structures, or one of them is periodic.
            CormorantError: A structure does not fit; its number is named.
        """
        if isinstance(z, Tensor):
            with torch.no_grad():
                output = self.network(z, pos, batch, num_graphs=num_graphs)
            check_batch(self, z, batch, num_graphs or 1)
            units, per_atom = self.info.normalisation, self.network.head.per_atom
            return units.restore(output, z, batch, per_atom=per_atom)

        def call(found: Any) -> Tensor:
            refuse_cells(found)
            count = cast("int", found.num_graphs)
            return self.predict(found.z, found.pos, found.batch, num_graphs=count).cpu()

        device = next(self.parameters()).device
        return torch.cat(
            in_batches(z, call, batch_size, device, partial(check_data, self))
        )
