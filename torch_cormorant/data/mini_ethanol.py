"""The small embedded set of structures with forces."""

from __future__ import annotations

from pathlib import Path

from torch_cormorant.data.frames import Frames

__all__ = ["MiniEthanol"]

_PATH = Path(__file__).with_name("ethanol_xtb.npz")


class MiniEthanol(Frames):
    """2,000 frames of ethanol with energies and forces, computed by this project.

    GFN2-xTB energies and forces along a Langevin trajectory at 500 K, one frame every
    10 fs, made by ``scripts/generate_mini_ethanol.py``. **It is not MD17 and its errors
    are not comparable with errors on MD17**: another method, another sampling. Take
    frames for testing from :func:`~torch_cormorant.data.split_indices`, which permutes
    them; neighbouring frames are alike.

    Args:
        unit: Unit of the energies, forces are per Angstrom; default eV.

    Shapes:
        Per frame: z ``[9]`` int64, pos ``[9, 3]`` float64 in Angstrom, energy ``[1]``
        float64 in eV, forces ``[9, 3]`` float64 in eV/Angstrom.

    Example:
        >>> dataset = MiniEthanol()
        >>> dataset[0]
        Data(z=[9], pos=[9, 3], forces=[9, 3], energy=[1])
        >>> dataset.level_of_theory
        'GFN2-xTB, Langevin 500 K, frames 10 fs apart'
    """

    def __init__(self, unit: str | None = None) -> None:
        super().__init__(_PATH, unit=unit, name="MiniEthanol (not MD17)")
