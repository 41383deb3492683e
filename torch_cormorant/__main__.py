"""``python -m torch_cormorant``: the command line."""

from __future__ import annotations

import sys

from torch_cormorant.cli import main

if __name__ == "__main__":
    sys.exit(main())
