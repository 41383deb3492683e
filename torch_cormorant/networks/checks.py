"""Checks of what a user hands to a model."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import (
    ArgumentError,
    ConfigError,
    DeviceError,
    DtypeError,
    EdgeIndexError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.graph.checks import check_positions
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.edges import check_edge_vec
from torch_cormorant.ops.finite import nonfinite_row

SHORT = 0.5
"""Shorter than any bond, in Angstrom."""
RESOLUTION = 0.01
"""Coarsest spacing of coordinates that is accepted, in Angstrom."""


def refuse_arguments(names: Iterable[str]) -> None:
    """Refuse what a call of a network does not take; a cell has its own methods."""
    name = min(names)
    hint = "it takes z, pos, batch, num_graphs and return_levels"
    if name in {"cell", "pbc", "edge_shift"}:
        hint = (
            "periodic structures are for model.energy_and_forces(z, pos, batch, cell, "
            "pbc) and model.evaluate(...)"
        )
    elif name in {"edge_index", "edge_vec"}:
        hint = (
            "for your own edges there is model.forward_edges(z, edge_index, edge_vec)"
        )
    msg = f"calling a model: no argument {name!r}; {hint}"
    raise ArgumentError(msg)


def check_structures(
    z: Tensor, pos: Tensor, batch: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Check atomic numbers, positions and the batch vector against each other.

    Returns:
        ``z`` and ``batch`` as ``int64``.
    """
    check_positions(pos)
    rows = f"row of pos {tuple(pos.shape)}"
    z, batch = check_atoms(z, batch, pos.shape[0], pos.device, rows)
    _check_resolution(pos)
    return z, batch


def _check_resolution(pos: Tensor) -> None:
    """Refuse coordinates so large that their type cannot tell near atoms apart."""
    if not pos.numel():
        return
    largest = float(pos.detach().abs().max())
    step = largest * torch.finfo(pos.dtype).eps
    if step > RESOLUTION:
        msg = (
            f"pos reaches {largest:.3g} Angstrom, where {pos.dtype} resolves only "
            f"{step:.2g} Angstrom; move the molecules to the origin or use float64"
        )
        raise DtypeError(msg)


def check_atoms(
    z: Tensor,
    batch: Tensor | None,
    num_nodes: int,
    device: torch.device,
    rows: str = "atom",
) -> tuple[Tensor, Tensor | None]:
    """Check the per-atom integers; ``rows`` says what there is one entry for.

    Returns:
        Both as ``int64``: tables are read by them, where PyTorch takes ``uint8`` for a
        mask and refuses ``int16``.
    """
    named = {"z": z} if batch is None else {"z": z, "batch": batch}
    for name, value in named.items():
        _check_tensor(value, name)
        if value.ndim != 1 or value.shape[0] != num_nodes:
            msg = (
                f"{name} must have shape [{num_nodes}], one entry for each {rows}, "
                f"got {tuple(value.shape)}"
            )
            raise ShapeError(msg)
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            msg = f"{name} must be an integer tensor, got {value.dtype}"
            raise DtypeError(msg)
        if value.device != device:
            msg = f"{name} lies on {value.device}, the positions on {device}"
            raise DeviceError(msg)
    if batch is not None and num_nodes and int(batch.min()) < 0:
        msg = f"batch holds {int(batch.min())}; molecules are numbered from 0"
        raise ShapeError(msg)
    return z.long(), None if batch is None else batch.long()


def check_edge_tensors(edge_index: Tensor, edge_vec: Tensor) -> None:
    """Check shapes and types of an edge list before anything is done with it."""
    _check_tensor(edge_index, "edge_index")
    _check_tensor(edge_vec, "edge_vec")
    check_edge_vec(edge_vec, edge_index)
    if edge_vec.dtype not in (torch.float32, torch.float64):
        msg = (
            "edge_vec must be a floating point tensor, float32 or float64, got "
            f"{edge_vec.dtype}"
        )
        raise DtypeError(msg)


def check_given_edges(
    edge_index: Tensor,
    edge_shift: Tensor | None,
    batch: Tensor | None,
    pbc: Tensor | None,
    *,
    boxed: bool,
) -> None:
    """Check a user's edges against the graphs and the directions that repeat.

    Args:
        edge_index: ``[2, E]``, checked.
        edge_shift: ``[E, 3]`` or None.
        batch: Graph of each atom ``[N]``; None: one graph.
        pbc: ``[B, 3]`` bool, or None where nothing repeats.
        boxed: Whether there is a cell at all.
    """
    source, target = edge_index
    if batch is not None:
        _refuse_first(
            batch[source] != batch[target],
            "edge_index connects atoms of two graphs in column",
            "edges belong to one graph; see batch",
        )
    if edge_shift is None:
        if pbc is not None and edge_index.numel():
            msg = (
                "edge_index comes without edge_shift, so nobody knows which edges "
                "cross the boundaries of the cell; give both, as neighbour_list does "
                "(zeros where no edge crosses)"
            )
            raise EdgeIndexError(msg)
        return
    _check_tensor(edge_shift, "edge_shift")
    if tuple(edge_shift.shape) != (edge_index.shape[1], 3):
        msg = (
            f"edge_shift must have shape [{edge_index.shape[1]}, 3], one row for each "
            f"edge, got {list(edge_shift.shape)}"
        )
        raise ShapeError(msg)
    if edge_shift.device != edge_index.device:
        msg = (
            f"edge_shift lies on {edge_shift.device}, edge_index on {edge_index.device}"
        )
        raise DeviceError(msg)
    _refuse_first(
        (edge_shift != edge_shift.round()).any(1),
        "edge_shift holds no whole numbers in row",
        "it counts cell vectors; for vectors in Angstrom there is forward_edges",
    )
    crosses = edge_shift != 0
    if not boxed and bool(crosses.any()):
        msg = "edge_shift counts cell vectors, but cell is None; give cell= [3, 3]"
        raise ConfigError(msg)
    if pbc is not None:
        graph = 0 if batch is None else batch[target]
        crosses = crosses & ~pbc[graph]
    _refuse_first(
        crosses.any(1),
        "edge_shift counts a cell vector that does not repeat in row",
        "see pbc",
    )


def _refuse_first(bad: Tensor, what: str, hint: str) -> None:
    if bool(bad.any()):
        msg = f"{what} {int(bad.nonzero()[0])}; {hint}"
        raise EdgeIndexError(msg)


def check_output(out: Tensor, geometry: EdgeGeometry, rows: str = "molecule") -> None:
    """Refuse outputs that are not finite, and name what they come from most often."""
    row = nonfinite_row(out)
    if row is None:
        return
    source, target = geometry.edge_index
    length = geometry.edge_length.detach()
    length = torch.where(source == target, torch.inf, length)
    hint = "the weights may have grown too large; try a smaller learning rate"
    if length.numel() and bool(length.min() < SHORT):
        edge = int(length.argmin())
        hint = (
            f"atoms {int(source[edge])} and {int(target[edge])} are "
            f"{float(length[edge]):.3g} Angstrom apart; are the positions in Angstrom?"
        )
    msg = f"the output for {rows} {row} is not finite: {hint}"
    raise NonFiniteError(msg)


def check_counts(values: dict[str, int]) -> None:
    """Refuse sizes below one."""
    for name, value in values.items():
        given: object = value  # users pass strings and fractions too
        if not isinstance(given, Integral) or value < 1:
            msg = f"{name} must be an integer of at least 1, got {value!r}"
            raise ConfigError(msg)


def _check_tensor(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        msg = f"{name} must be a tensor, got {type(value).__name__}"
        raise DtypeError(msg)


def count_graphs(batch: Tensor | None, num_nodes: int, num_graphs: int | None) -> int:
    """Number of molecules; an empty last one needs ``num_graphs``."""
    if batch is None:
        found = 1 if num_graphs is None else num_graphs
        needed = 1 if num_nodes else 0
    else:
        needed = int(batch.max()) + 1 if num_nodes else 0
        found = needed if num_graphs is None else num_graphs
    if found < needed:
        msg = f"num_graphs is {found}, but batch numbers {needed} molecules"
        raise ShapeError(msg)
    return found


def refuse_cells(batch: Any) -> None:
    """Refuse periodic structures where the network would not see their images.

    Args:
        batch: Structures, perhaps with ``cell`` and ``pbc``.

    Raises:
        ConfigError: One of them is periodic.
    """
    periodic = getattr(batch, "pbc", None)
    if periodic is None:
        periodic = getattr(batch, "cell", None)
    if periodic is not None and bool(torch.as_tensor(periodic).any()):
        raise ConfigError(
            "pbc: properties are of molecules, and the structure is periodic; leave "
            "out cell and pbc if they mean nothing, or train a potential"
        )
