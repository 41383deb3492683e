"""The small embedded sets: molecules, and structures with forces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from torch_cormorant.data.arrays import read_arrays
from torch_cormorant.data.fixed_point import part_names, with_values
from torch_cormorant.data.frame_arrays import molecules_of
from torch_cormorant.data.frames import Frames
from torch_cormorant.data.molecules import Molecules
from torch_cormorant.data.npz import frames_of
from torch_cormorant.data.targets import MINI_TARGETS, chosen_targets
from torch_cormorant.data.units import unit_factor

__all__ = ["MiniEthanol", "MiniQM9"]

_QM9 = Path(__file__).with_name("mini_qm9.npz")
_ETHANOL = Path(__file__).with_name("ethanol_xtb.npz")


class MiniQM9(Molecules):
    """310 molecules of H, C, N, O, F computed by this project; no download.

    Every closed-shell molecule of up to four heavy atoms that
    ``scripts/generate_mini_qm9.py`` enumerates and a sample with five. The labels have
    QM9's level of theory, but the geometries are relaxed with GFN2-xTB and energies
    hold no vibrational part: **these are not QM9 entries**, and errors on them must
    not be compared with errors on QM9. 310 molecules are a smoke test and a first
    run, not a benchmark.

    Args:
        target: One or several of ``energy_atom`` (energy minus atom references, eV),
            ``energy`` (total, eV), ``homo``, ``lumo``, ``gap`` (eV), ``mu`` (norm of
            the dipole, Debye), ``r2`` (about the centre of nuclear charge, bohr^2);
            default all of them, in this order.

    Shapes:
        Per molecule of N atoms: z ``[N]`` int64, pos ``[N, 3]`` float64 in Angstrom,
        y ``[1, T]`` float64 for T targets (7 in all), dipole ``[1, 3]`` (x, y, z
        in Debye) float64.

    Raises:
        DataError: Unknown target.
        ConfigError: A target comes twice, or the list is empty.

    Example:
        >>> dataset = MiniQM9("mu")
        >>> water = next(data for data in dataset if data.smiles == "O")
        >>> round(water.y.item(), 2), dataset.target.unit
        (1.8, 'Debye')
    """

    def __init__(self, target: str | Sequence[str] | None = None) -> None:
        targets = chosen_targets(target, MINI_TARGETS, "MiniQM9")
        stored = ("energy_atom", "energy", "homo", "lumo", "dipole", "r2")
        texts = ("smiles", "level_of_theory")
        file = read_arrays(_QM9, ("z", "pos", "offset", *stored, *texts))
        columns = {name: file.reals(name) for name in stored}
        columns["gap"] = columns["lumo"] - columns["homo"]
        columns["mu"] = np.linalg.norm(columns["dipole"], axis=1)
        super().__init__(
            replace(molecules_of(file), dipole=columns["dipole"]),
            targets,
            np.stack([t.factor * columns[t.column] for t in targets], axis=1),
            smiles=file.texts("smiles"),
            name="MiniQM9 (not QM9)",
            source=str(file.path),
            digest=file.digest,
            level_of_theory=str(file.text("level_of_theory")),
        )


class MiniEthanol(Frames):
    """2,000 frames of ethanol with energies and forces, computed by this project.

    GFN2-xTB energies and forces along a Langevin trajectory at 500 K, one frame every
    10 fs, made by ``scripts/generate_mini_ethanol.py``; positions and forces are
    rounded to 1e-5 Angstrom and 1e-5 eV/Angstrom. **It is not MD17 and its errors
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
        parts = (*part_names("pos"), *part_names("forces"))
        stored = read_arrays(_ETHANOL, ["z", "energy", *parts, "level_of_theory"])
        file = with_values(stored, "pos", "forces")
        factor = unit_factor("eV", unit or "eV")
        frames = frames_of(file, names)
        super().__init__(
            frames.scaled({"energy": factor, "forces": factor}),
            name="MiniEthanol (not MD17)",
            energy_unit=unit or "eV",
            source=str(_ETHANOL),
            digest=file.digest,
            level_of_theory=str(file.text("level_of_theory")),
        )
