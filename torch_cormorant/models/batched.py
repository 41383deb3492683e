"""Structures of a list or a data set, some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import torch
from torch_geometric.data import Batch, Data

from torch_cormorant.errors import ConfigError, CormorantError

__all__ = ["bare", "in_batches", "raise_first"]

T = TypeVar("T")


def bare(structure: Data) -> Data:
    """A structure without its labels, which need not be the same in all of them."""
    keep = ("z", "pos", "cell", "pbc")
    found = Data(**{k: structure[k] for k in keep if structure.get(k) is not None})
    if "cell" in found:
        found.cell = found.cell.view(1, 3, 3)
    if "pbc" in found:
        found.pbc = torch.as_tensor(found.pbc).expand(1, 3)
    return found


def in_batches(
    structures: Any,
    call: Callable[[Any], T],
    batch_size: int,
    device: torch.device,
    look: Callable[[Data, str], None] | None = None,
) -> list[T]:
    """Call a function with structures in batches, and name the one that does not fit.

    Args:
        structures: A PyG ``Data``, a ``Batch`` (taken as it is), a list, a data set.
        call: Gets a ``Batch`` on the device.
        batch_size: Structures at once.
        device: Where the batches go.
        look: Looks at each structure with all that it holds, and its name.

    Returns:
        What the calls return.

    Raises:
        ConfigError: There are no structures, or something else is given.
        CormorantError: A structure does not fit; its number is named.
    """
    if isinstance(structures, Batch):
        _look_at(look, structures.to_data_list() if look else ())
        return [call(structures.to(device))]
    if isinstance(structures, Data):
        structures = [structures]
    if batch_size < 1:
        msg = f"batch_size must be at least 1, got {batch_size}"
        raise ConfigError(msg)
    if not isinstance(structures, Iterable) or not len(rows := _listed(structures)):
        msg = (
            "structures must be a Data, a Batch, a list of Data or a data set with at "
            f"least one of them, got {structures!r}"
        )
        raise ConfigError(msg)
    _look_at(look, rows)
    found = []
    for start in range(0, len(rows), batch_size):
        group = [bare(row) for row in rows[start : start + batch_size]]
        try:
            found.append(call(Batch.from_data_list(group).to(device)))
        except CormorantError as error:
            calls = (
                (f"structure {k}", partial(_one, call, row, device))
                for k, row in enumerate(group, start)
            )
            raise_first(calls)
            where = f"structures {start} to {start + len(group) - 1}"
            raise type(error)(f"{where}: {error}") from error
    return found


def _look_at(look: Callable[[Data, str], None] | None, rows: Iterable[Data]) -> None:
    if look is not None:
        for number, row in enumerate(rows):
            look(row, f"structure {number}")


def _one(call: Callable[[Any], Any], structure: Data, device: torch.device) -> Any:
    return call(Batch.from_data_list([structure]).to(device))


def raise_first(
    calls: Iterable[tuple[str, Callable[[], Any]]],
    kinds: tuple[type[CormorantError], ...] = (CormorantError,),
) -> None:
    """Raise the error of the first structure that has one, with its name before it.

    Numbers of atoms in an error of a batch are those of the batch; a user counts anew
    in each structure.

    Args:
        calls: Names of the structures, and what evaluates each alone.
        kinds: Errors to be named.

    Raises:
        CormorantError: The first one, of its own kind.
    """
    for name, call in calls:
        try:
            call()
        except kinds as error:
            msg = f"{name}: {error}"
            raise type(error)(msg) from error


def _listed(structures: Iterable[Any]) -> list[Data]:
    rows = list(structures)
    odd = [row for row in rows if not isinstance(row, Data)]
    if odd:
        msg = f"structures must be PyG's Data, got {type(odd[0]).__name__}"
        raise ConfigError(msg)
    return rows
