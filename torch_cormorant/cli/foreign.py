"""Weights that other packages wrote, and settings beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch_cormorant.errors import ConfigError, WeightsError

__all__ = ["SUFFIXES", "read_settings", "read_state"]

SUFFIXES = (".pt", ".pth", ".ckpt")


def read_state(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors by name and settings of a file that PyTorch wrote; nothing is executed.

    Args:
        path: A ``state_dict``, or a checkpoint that holds one.

    Returns:
        The tensors, and what the checkpoint says of the model.

    Raises:
        WeightsError: The file cannot be read, or holds something else.
    """
    import torch

    try:
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
    settings: Any = {}
    if isinstance(content, Mapping):
        settings = content.get("hyper_parameters", {})
        for name in ("state_dict", "model_state"):
            content = content.get(name, content)
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) for name in content
    ):
        raise WeightsError(f"{path}: holds no tensors by name")
    while isinstance(settings, Mapping) and isinstance(settings.get("model"), Mapping):
        settings = settings["model"]
    return dict(content), dict(settings) if isinstance(settings, Mapping) else {}


def read_settings(path: Path) -> dict[str, Any]:
    """Settings from a JSON or YAML file.

    Args:
        path: The file.

    Raises:
        ConfigError: It cannot be read, or holds no names with values.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            found = json.loads(text)
        else:
            import yaml

            found = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except Exception as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise ConfigError(f"{path}: not understood ({reason})") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: names with values are expected, found {found!r}")
    return found
