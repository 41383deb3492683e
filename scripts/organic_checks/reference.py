"""GFN2-xTB's side of a part, in a Python that has tblite.

python -m organic_checks.reference PART STARTS.npz OUTPUT.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from organic_gfn2.gfn2 import Gfn2

from organic_checks.geometry import Floats, Integers, Potential
from organic_checks.sides import PARTS


def make(z: Integers) -> Potential:
    """GFN2-xTB of these atoms, each call from the charges of the last one."""
    potential = Gfn2(z)

    def call(pos: Floats) -> tuple[float, Floats]:
        try:
            return potential(pos, warm=True)
        except RuntimeError:  # charges of far away mislead
            return potential(pos)

    return call


def main() -> None:
    """Compute and write."""
    part, given, output = sys.argv[1:]
    with np.load(given) as file:
        arrays = dict(file)
    np.savez(Path(output), **PARTS[part].compute(make, arrays))


if __name__ == "__main__":
    main()
