"""Weights that other packages wrote: files, whole checkpoints, mappings."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from torch_cormorant.errors import WeightsError

__all__ = ["SUFFIXES", "Weights", "read_state", "unpacked"]

SUFFIXES = (".pt", ".pth", ".ckpt")
PLACES = ("state_dict", "model_state", "model_state_dict")
"""What a checkpoint calls its weights."""
SETTINGS = ("hyper_parameters", "args")
"""What a checkpoint calls the settings of its run."""
Weights: TypeAlias = Mapping[str, Any] | str | os.PathLike[str]


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors by name and settings of a file that PyTorch wrote; nothing is executed.

    Args:
        path: A ``state_dict``, or a checkpoint that holds one.

    Returns:
        The tensors, and what the checkpoint says of the model.

    Raises:
        WeightsError: The file cannot be read, or holds something else.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001 - a damaged file may raise anything
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise WeightsError(
            f"{path}: damaged, or holds more than tensors ({reason}). Where the "
            "package that wrote it is installed: import torch; found = "
            f"torch.load({str(path)!r}, weights_only=False); torch.save("
            'found["state_dict"] if isinstance(found, dict) else found.state_dict(), '
            '"weights.pt")'
        ) from None
    state, settings = _of_checkpoint(content)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) for name in state
    ):
        raise WeightsError(f"{path}: holds no tensors by name")
    return dict(state), settings


def unpacked(weights: Weights) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Weights by name, and the settings that came with them.

    Args:
        weights: Tensors or arrays by name, a whole checkpoint that holds them, or a
            file of either: ``.pt``, ``.pth``, ``.ckpt``, ``.npz``.

    Raises:
        WeightsError: There are none.
    """
    if isinstance(weights, Mapping):
        state, settings = _of_checkpoint(weights)
        return state, settings
    path = Path(weights)
    if path.suffix.lower() != ".npz":
        return read_state(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file), {}
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from None


def _of_checkpoint(content: Any) -> tuple[Any, dict[str, Any]]:
    """The weights and settings of a checkpoint; anything else as it is."""
    if not isinstance(content, Mapping):
        return content, {}
    settings: Any = next((content[s] for s in SETTINGS if s in content), {})
    if isinstance(settings, argparse.Namespace):
        settings = vars(settings)
    for name in PLACES:
        if isinstance(content.get(name), Mapping):
            content = content[name]
    while isinstance(settings, Mapping) and isinstance(settings.get("model"), Mapping):
        settings = settings["model"]
    return content, dict(settings) if isinstance(settings, Mapping) else {}
