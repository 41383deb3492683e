"""The command line: ``cormorant``, or ``python -m torch_cormorant``."""

from __future__ import annotations

from torch_cormorant.cli.main import main

__all__ = ["main"]
