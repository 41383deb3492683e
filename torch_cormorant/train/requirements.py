"""A clear message where the training packages are missing."""

from __future__ import annotations

from importlib.util import find_spec

from torch_cormorant.errors import BackendError

__all__ = ["require_extra"]


def require_extra(
    packages: tuple[str, ...] = ("lightning", "torchmetrics", "matplotlib"),
) -> None:
    """Raise unless every package of the extra ``train`` is installed.

    Args:
        packages: Names to look for; nothing is imported.

    Raises:
        BackendError: One is missing; the message holds the command that installs it.

    Example:
        >>> require_extra(("numpy",))
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise BackendError(
            f"torch_cormorant.train needs {', '.join(missing)}: "
            'pip install "torch-cormorant[train]"'
        )
