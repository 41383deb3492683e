"""Write the exact Clebsch-Gordan tables: ``python -m torch_cormorant.cg.generate``.

The build does this by itself. By hand it is needed only where the file is missing or
damaged, or for degrees above those that are shipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from torch_cormorant.cg.exact import FILE_NAME, MAX_DEGREE, write

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the tables that the command line asks for.

    Args:
        arguments: Command line without the program's name; ``None``: the process's.

    Returns:
        The exit code, 0.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     main(["--lmax", "1", "--output", folder + "/t.bin"])
        0
    """
    parser = argparse.ArgumentParser(
        prog="python -m torch_cormorant.cg.generate",
        description="Compute the exact Clebsch-Gordan tables with Sympy.",
    )
    parser.add_argument("--lmax", type=int, default=MAX_DEGREE, help="highest degree")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path(__file__).with_name(FILE_NAME),
        help="file to write (default: the one that the package reads)",
    )
    options = parser.parse_args(arguments)
    if options.lmax < 0:
        parser.error(f"--lmax must be 0 or more, got {options.lmax}")
    write(options.output, options.lmax)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
