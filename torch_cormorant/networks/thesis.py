r"""The five networks of the e3nn thesis by their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch_cormorant.networks.base import register_network
from torch_cormorant.networks.kernel_net import KernelNet

__all__ = ["ARandNet", "BRandNet", "L0Net", "L1Net", "L2Net"]

RANDOM_WIDTH = (2.87 / (2 * 51)) ** 0.5
"""Width of the Gaussians of BRandNet: their exponent is number / radius."""


@register_network("l0net")
class L0Net(KernelNet):
    r"""Scalars alone, a SchNet with full filters: table 3.1 of the thesis.

    ``irreps="128x0"``; everything else as in :class:`KernelNet`. 8,520,192 weights.
    """

    published: ClassVar[Mapping[str, Any]] = {"irreps": "128x0"}


@register_network("l1net")
class L1Net(KernelNet):
    r"""Scalars and vectors: table 3.1 of the thesis.

    ``irreps="64x0 + 21x1"``; everything as in :class:`KernelNet`. 5,661,312 weights.
    """


@register_network("l2net")
class L2Net(KernelNet):
    r"""Degrees up to 2: section 3.1.1 of the thesis.

    ``irreps="42x0 + 14x1 + 8x2"``; everything else as in :class:`KernelNet`. 4,066,816
    weights.
    """

    published: ClassVar[Mapping[str, Any]] = {"irreps": "42x0 + 14x1 + 8x2"}


@register_network("arandnet")
class ARandNet(KernelNet):
    r"""The best of the random search of the thesis, table 3.4; 1,677,194 weights.

    Different from :class:`KernelNet`: ``irreps="20x0 + 29x1"``, ``embedding=93``,
    ``num_levels=2``, ``num_basis=84``, ``radius=11.1``, ``radial=(101, 101)``,
    ``out_channels=67``, ``out_layers=1``. The table does not tell ``beta``, nor does
    the code of the search set ``residual``.
    """

    published: ClassVar[Mapping[str, Any]] = {
        "irreps": "20x0 + 29x1",
        "embedding": 93,
        "num_levels": 2,
        "num_basis": 84,
        "radius": 11.1,
        "radial": (101, 101),
        "out_irreps": "5x0 + 28x1",
        "out_channels": 67,
        "out_layers": 1,
    }


@register_network("brandnet")
class BRandNet(KernelNet):
    r"""The second of the random search of the thesis, table 3.4; 4,018,104 weights.

    Different from :class:`KernelNet`: ``irreps="94x0 + 1x1"``, ``embedding=80``, 51
    Gaussians to ``radius=2.87``, ``radial=(100,)``, ``out_channels=51``,
    ``out_layers=2``. Its Gaussians are three spacings wide, as the code has them.
    """

    published: ClassVar[Mapping[str, Any]] = {
        "irreps": "94x0 + 1x1",
        "embedding": 80,
        "basis": {"kind": "gaussian_basis", "width": RANDOM_WIDTH},
        "num_basis": 51,
        "radius": 2.87,
        "radial": (100,),
        "out_irreps": "48x0 + 12x1",
        "out_channels": 51,
        "out_layers": 2,
    }
