"""Checks of what users hand to the neighbour searches."""

from __future__ import annotations

import math
import numbers

import torch
from torch import Tensor

from torch_cormorant.errors import (
    ConfigError,
    DeviceError,
    DtypeError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.ops.radial_basis import check_cutoff
from torch_cormorant.ops.transforms import refuse_batched

__all__ = ["check_batch", "check_positions", "rounded_cutoff"]

INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_positions(pos: object, name: str = "pos") -> None:
    """Refuse anything but finite ``float32`` or ``float64`` points ``[N, 3]``.

    Args:
        pos: Positions in Angstrom.
        name: How the message calls the tensor.

    Shapes:
        ``pos``: ``[N, 3]``.

    Raises:
        DtypeError: Not a tensor, or not ``float32`` or ``float64``.
        ShapeError: Not ``[N, 3]``.
        NonFiniteError: NaN or infinity; the message names the first bad row.

    Example:
        >>> import torch
        >>> check_positions(torch.zeros(4, 3))
    """
    if not isinstance(pos, Tensor):
        message = (
            f"{name} must be a tensor, got {type(pos).__name__}; "
            f"convert it with torch.as_tensor({name})"
        )
        raise DtypeError(message)
    if pos.dtype not in (torch.float32, torch.float64):
        message = (
            f"{name} must be a floating point tensor, float32 or float64, got "
            f"{pos.dtype}: distances in Angstrom need that precision; convert with "
            f"{name}.float()"
        )
        raise DtypeError(message)
    if pos.dim() != 2 or pos.shape[1] != 3:
        message = f"{name} must have shape [N, 3] (Angstrom), got {tuple(pos.shape)}"
        raise ShapeError(message)
    refuse_batched(name, pos)
    if not bool(torch.isfinite(pos).all()):
        row = int((~torch.isfinite(pos)).any(dim=1).nonzero()[0])
        message = (
            f"{name} is not finite at atom {row} (row {row}): {pos[row].tolist()}; "
            "every coordinate must be a number"
        )
        raise NonFiniteError(message)


def rounded_cutoff(cutoff: object, dtype: torch.dtype) -> float:
    """Refuse anything but a positive, finite cutoff and round it to ``dtype``.

    Args:
        cutoff: Cutoff radius in Angstrom.
        dtype: The type of the positions.

    Returns:
        The cutoff, rounded to ``dtype``.

    Raises:
        DtypeError: Not a real number.
        ConfigError: Not positive, or not finite in ``dtype``.

    Example:
        >>> import torch
        >>> rounded_cutoff(5, torch.float64)
        5.0
    """
    if isinstance(cutoff, bool) or not isinstance(cutoff, numbers.Real):
        message = (
            f"cutoff must be a number in Angstrom, got {type(cutoff).__name__} "
            f"({cutoff!r})"
        )
        raise DtypeError(message)
    check_cutoff(float(cutoff))
    rounded = float(torch.tensor(float(cutoff), dtype=dtype))
    if rounded == 0.0 or math.isinf(rounded):
        message = f"cutoff {cutoff} is not representable in the {dtype} of pos"
        raise ConfigError(message)
    return rounded


def check_batch(
    batch: object,
    num_nodes: int | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Refuse anything but one non-negative whole molecule number per atom.

    Args:
        batch: Molecule number of each atom; any order, gaps allowed.
        num_nodes: Number of atoms that it must match.
        device: Device that it must lie on.

    Shapes:
        ``batch``: ``[N]``.

    Returns:
        ``batch`` as ``int64``, the only type by which PyTorch reads every table.

    Raises:
        DtypeError: Not a tensor of whole numbers.
        ShapeError: Not one-dimensional, or of the wrong length.
        DeviceError: On another device than the positions.
        ConfigError: A negative entry.

    Example:
        >>> import torch
        >>> check_batch(torch.tensor([0, 0, 2], dtype=torch.uint8), num_nodes=3)
        tensor([0, 0, 2])
    """
    if not isinstance(batch, Tensor) or batch.dtype not in INTEGERS:
        given = batch.dtype if isinstance(batch, Tensor) else type(batch).__name__
        message = (
            f"batch must be an integer tensor [N], got {given}; convert it with "
            "torch.as_tensor(batch, dtype=torch.int64)"
        )
        raise DtypeError(message)
    if batch.dim() != 1:
        message = f"batch must have shape [N], got {list(batch.shape)}"
        raise ShapeError(message)
    if num_nodes is not None and batch.shape[0] != num_nodes:
        message = (
            f"batch has {batch.shape[0]} entries, expected {num_nodes}: one per "
            "row of pos"
        )
        raise ShapeError(message)
    if device is not None and batch.device != device:
        message = (
            f"batch lies on {batch.device} but pos on {device}; move it with "
            "batch.to(pos.device)"
        )
        raise DeviceError(message)
    if batch.shape[0] > 0 and int(batch.min()) < 0:
        row = int((batch < 0).nonzero()[0])
        message = (
            f"batch holds a negative molecule number, first in row {row}: "
            f"{int(batch[row])}; molecule numbers start at 0"
        )
        raise ConfigError(message)
    return batch.long()
