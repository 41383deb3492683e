"""The small embedded set of structures with forces."""

from __future__ import annotations

from pathlib import Path

from torch_cormorant.data.arrays import read_arrays
from torch_cormorant.data.frames import Frames
from torch_cormorant.data.npz import frames_of
from torch_cormorant.data.units import unit_factor

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
        names = {name: name for name in ("z", "pos", "energy", "forces")}
        file = read_arrays(_PATH, [*names, "level_of_theory"])
        factor = unit_factor("eV", unit or "eV")
        frames = frames_of(file, names)
        super().__init__(
            frames.scaled({"energy": factor, "forces": factor}),
            name="MiniEthanol (not MD17)",
            energy_unit=unit or "eV",
            source=str(_PATH),
            digest=file.digest,
            level_of_theory=str(file.text("level_of_theory")),
        )
