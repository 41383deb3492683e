"""The two published networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from typing_extensions import Self

from torch_cormorant.errors import ConfigError
from torch_cormorant.models.cormorant import Cormorant
from torch_cormorant.models.original import (
    arrays_of,
    as_parity_names,
    as_state_dict_names,
    load_arrays,
    preset_arguments,
    read_config,
    told_settings,
)
from torch_cormorant.networks import register_network
from torch_cormorant.networks.building import MPNN_CUTOFF
from torch_cormorant.networks.weight_files import Weights, unpacked

PUBLISHED: dict[str, Any] = {
    "radial": "power_trig",
    "init": "published",
    "gain": 5.0,
    "envelope": False,
    "mpnn_cutoff": MPNN_CUTOFF,
}


class _Published(Cormorant):
    """What both published networks share."""

    original: str

    @classmethod
    def from_original(
        cls, weights: Weights, config: Mapping[str, Any] | None = None
    ) -> Self:
        """A network with weights of the original code.

        Args:
            weights: Arrays by name (``edge0_weight_l0``, ...), a ``state_dict`` of the
                original code, a whole checkpoint of it, or a file of either (nothing
                in it is executed). Complex arrays, or real ones with a last axis (re,
                im). float64 weights give a float64 model.
            config: ``maxl``, ``max_sh``, ``num_channels``, ``num_cg_levels``,
                ``species``, ``charge_power``, ``charge_scale``, ``basis_set``,
                ``cutoff_type``, ``hard_cut_rad``, ``num_mpnn_layers``,
                ``sph_normalize``, ``gaussian_mask``. Missing keys take the published
                configuration; a missing ``sph_normalize`` means solid harmonics. A
                checkpoint brings those of its run; what is given here counts more.

        Returns:
            The network.

        Raises:
            WeightsError: If an array is missing, unknown or of the wrong shape.
            ConfigError: If a key of the configuration is unknown.
        """
        found, told = unpacked(weights)
        arrays = as_parity_names(found)
        settings = read_config({**told_settings(told), **(config or {})}, cls.original)
        with torch.random.fork_rng(devices=[]):  # its own weights are thrown away
            model = cls(**preset_arguments(settings, cls.original))
        if any(a.dtype in (np.float64, np.complex128) for a in arrays.values()):
            model.double()
        load_arrays(model, arrays)
        return model

    def to_original(self, names: str = "parity") -> dict[str, Any]:
        """The weights as the original code orders them.

        Args:
            names: ``"parity"``: numpy arrays, complex where the original has (re, im);
                ``"state_dict"``: tensors under the original's ``state_dict`` names.

        Returns:
            Arrays by name.

        Raises:
            ConfigError: If ``names`` is something else.
        """
        if names not in ("parity", "state_dict"):
            msg = f'names must be "parity" or "state_dict", got {names!r}'
            raise ConfigError(msg)
        arrays = arrays_of(self)
        return arrays if names == "parity" else as_state_dict_names(arrays)


@register_network("CormorantQM9")
class CormorantQM9(_Published):
    """The network published for QM9: 299,808 parameters.

    Message-passing input, four levels (three with lmax 3, the last with scalars only),
    16 channels, MLP, sum over atoms, MLP. Anderson et al. 2019, section 5; the count
    is that of the supplement.

    Args:
        num_targets: Outputs per molecule. Default 1.
        species: Atomic numbers. Default H C N O F.
        channels: Channels of every level. Default 16.
        num_levels: Default 4.
        lmax: Default (3, 3, 3, 0).
        cutoff: None (default): all pairs of a molecule, as published; the soft masks
            make far pairs nominal, so ``cutoff=5.0`` loses little and is faster.
        **kwargs: As :class:`~torch_cormorant.Cormorant`; published settings by default
            (gain 5, unit harmonics, learnable cutoffs, no envelope).

    Example:
        >>> from torch_cormorant import CormorantQM9
        >>> sum(p.numel() for p in CormorantQM9().parameters() if p.requires_grad)
        299808
    """

    original = "qm9"
    default_head = "published"

    def __init__(
        self,
        num_targets: int = 1,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        channels: int | Sequence[int] = 16,
        num_levels: int = 4,
        lmax: int | Sequence[int] = (3, 3, 3, 0),
        cutoff: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            species,
            num_targets=num_targets,
            channels=channels,
            num_levels=num_levels,
            lmax=lmax,
            cutoff=cutoff,
            **{**PUBLISHED, "input": "mpnn", **kwargs},
        )


@register_network("CormorantMD17")
class CormorantMD17(_Published):
    """The network published for MD17: 154,241 parameters with three species.

    Linear input, four levels with lmax 3, 16 channels, sum over atoms, one linear
    readout. Anderson et al. 2019, section 5; trained on energies there.

    Args:
        species: Atomic numbers of the molecule. Default H C O.
        num_targets: Outputs per molecule. Default 1.
        channels: Channels of every level. Default 16.
        num_levels: Default 4.
        lmax: Default 3.
        cutoff: None (default): all pairs of a molecule, as published.
        **kwargs: As :class:`~torch_cormorant.Cormorant`; published settings by default.

    Example:
        >>> from torch_cormorant import CormorantMD17
        >>> model = CormorantMD17(species=[1, 6, 8])
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        154241
    """

    original = "md17"
    default_head = "linear"

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 8),
        num_targets: int = 1,
        *,
        channels: int | Sequence[int] = 16,
        num_levels: int = 4,
        lmax: int | Sequence[int] = 3,
        cutoff: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            species,
            num_targets=num_targets,
            channels=channels,
            num_levels=num_levels,
            lmax=lmax,
            cutoff=cutoff,
            **{**PUBLISHED, "input": "linear", **kwargs},
        )
