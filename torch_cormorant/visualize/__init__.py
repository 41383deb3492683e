"""Pictures of the algebra, of networks and of predictions; each a matplotlib figure.

Needs matplotlib, part of the extra ``train``: ``pip install "torch-cormorant[train]"``.
"""

from __future__ import annotations

from importlib.util import find_spec

from torch_cormorant.errors import BackendError

if find_spec("matplotlib") is None:
    raise BackendError(
        "torch_cormorant.visualize needs matplotlib: "
        'pip install "torch-cormorant[train]"'
    )

from torch_cormorant.visualize.algebra import (
    plot_cg_blocks,
    plot_harmonics,
)
from torch_cormorant.visualize.molecule import (
    find_bonds,
    plot_contributions,
)
from torch_cormorant.visualize.network import (
    plot_activations,
    plot_radial,
)

__all__ = [
    "find_bonds",
    "plot_activations",
    "plot_cg_blocks",
    "plot_contributions",
    "plot_harmonics",
    "plot_radial",
]
