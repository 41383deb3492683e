"""Settings beside weights that other packages wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch_cormorant.errors import ConfigError

__all__ = ["read_settings"]


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
