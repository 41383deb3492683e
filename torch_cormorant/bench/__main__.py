"""``python -m torch_cormorant.bench``."""

from __future__ import annotations

import sys

from torch_cormorant.bench.cli import main

if __name__ == "__main__":
    sys.exit(main())
