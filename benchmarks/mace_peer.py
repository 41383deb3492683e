"""MACE and its input, for this Python and for one that has PyTorch and MACE alone."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def make_mace(
    species: Sequence[int],
    cutoff: float,
    *,
    neighbours: float,
    channels: int = 64,
    lmax: int = 1,
    **sizes: Any,
) -> Any:
    """MACE (Batatia et al. 2022) on e3nn's tensor products, without compilation.

    Args:
        species: Atomic numbers that may occur.
        cutoff: Radius of the graph in Angstrom.
        neighbours: Mean number of neighbours, which sums are divided by.
        channels: Of every degree. Default 64.
        lmax: Largest degree of the features. Default 1.
        **sizes: More arguments of ``mace.modules.MACE``.
    """
    modules: Any = importlib.import_module("mace.modules")  # first: lets e3nn load
    o3: Any = importlib.import_module("e3nn.o3")
    block = modules.interaction_classes["RealAgnosticResidualInteractionBlock"]
    hidden = [f"{channels}x{degree}{'eo'[degree % 2]}" for degree in range(lmax + 1)]
    torch.set_default_dtype(torch.float32)
    return modules.MACE(
        r_max=cutoff,
        num_bessel=8,
        num_polynomial_cutoff=5,
        max_ell=3,
        interaction_cls=block,
        interaction_cls_first=block,
        num_interactions=2,
        num_elements=len(species),
        hidden_irreps=o3.Irreps("+".join(hidden)),
        MLP_irreps=o3.Irreps("16x0e"),
        atomic_energies=np.zeros(len(species)),
        avg_num_neighbors=neighbours,
        atomic_numbers=list(species),
        correlation=3,
        gate=torch.nn.functional.silu,
        **sizes,
    )


def mace_input(
    kinds: Tensor,
    num_kinds: int,
    pos: Tensor,
    batch: Tensor,
    edge_index: Tensor,
    shift: Tensor,
    cells: Tensor,
) -> dict[str, Tensor]:
    """Structures as MACE is told of them.

    Args:
        kinds: Which element ``[N]``.
        num_kinds: How many there are.
        pos: Positions ``[N, 3]``.
        batch: Structure of every atom ``[N]``.
        edge_index: Source and target ``[2, E]``.
        shift: Whole numbers of cell vectors ``[E, 3]``.
        cells: Cell of every structure ``[G, 3, 3]``.
    """
    edge_cells = cells[batch[edge_index[1]]]
    counts = torch.bincount(batch, minlength=len(cells))
    return {
        "positions": pos,
        "node_attrs": nn.functional.one_hot(kinds, num_kinds).to(pos),
        "edge_index": edge_index,
        "shifts": torch.einsum("ei,eij->ej", shift, edge_cells),
        "unit_shifts": shift,
        "cell": cells.reshape(-1, 3),
        "batch": batch,
        "ptr": nn.functional.pad(counts.cumsum(0), (1, 0)),
    }
