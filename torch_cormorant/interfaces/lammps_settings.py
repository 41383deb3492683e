"""What LAMMPS has been told, read back: its commands can be given at any time."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from torch_cormorant.errors import InterfaceError

__all__ = ["Settings", "check_settings", "ghost_command", "read_settings"]

PATTERNS = {
    "cutoff": r"Communication cutoff\s*=\s*(\S+)",
    "pair": r"Atoms\s*=.*style\s*=\s*(\S+)",
}
DIGITS = 1e-5
"""LAMMPS prints six digits."""


class Settings(NamedTuple):
    """Settings that decide whether the forces are exact.

    Attributes:
        cutoff: How far ghosts are communicated, in Angstrom; None: not equally far for
            all types.
        pair: The pair style.
        externals: Names of the fixes of style ``external`` that act on all atoms.
    """

    cutoff: float | None
    pair: str
    externals: tuple[str, ...]


def ghost_command(halo: float) -> str:
    """The command with which LAMMPS keeps ghosts as far as a halo in Angstrom."""
    return f"comm_modify mode single cutoff {halo}"


def read_settings(lmp: Any, comm: Any) -> Settings:
    """Read them out of LAMMPS's ``info``, which writes in the first process only.

    Args:
        lmp: A ``lammps.lammps`` object.
        comm: Its communicator, or None for one process.

    Raises:
        InterfaceError: The report says something else than it used to.
    """
    several = lmp.extract_setting("comm_mode") != 0
    # LAMMPS of 2025 crashes where it should print several cutoffs
    topics = "system fixes" if several else "comm system fixes"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "info.txt"
        lmp.command(f'info {topics} out overwrite "{path}"')
        text = path.read_text(encoding="utf-8") if path.exists() else ""
    if comm is not None:
        text = comm.bcast(text)
    found = {name: re.search(pattern, text) for name, pattern in PATTERNS.items()}
    words = {name: match.group(1) for name, match in found.items() if match}
    needed = ("pair",) if several else ("pair", "cutoff")
    missing = [name for name in needed if name not in words]
    if missing:
        msg = (
            f"LAMMPS's info does not tell the {missing[0]} as expected; this version "
            f"of LAMMPS ({lmp.version()}) is not known to work"
        )
        raise InterfaceError(msg)
    fixes = re.findall(r"Fix\[.*\]:\s*(\S+),\s*style = external,\s*group = all", text)
    cutoff = None if several else float(words["cutoff"])
    return Settings(cutoff, words["pair"], tuple(fixes))


def check_settings(found: Settings, fix_id: str, halo: float) -> None:
    """Refuse what was changed after ``attach()`` and would change the forces.

    Args:
        found: The settings.
        fix_id: Name of the fix of the potential.
        halo: How far ghosts are needed, in Angstrom.

    Raises:
        InterfaceError: Names the setting and the command that repairs it.
    """
    needed = ghost_command(halo)
    if fix_id not in found.externals:
        msg = (
            f"LAMMPS has no fix {fix_id} of style external on all atoms any more "
            "(unfix or clear?); call attach() again"
        )
    elif found.cutoff is None:
        msg = (
            "the communication mode of LAMMPS was changed to multi; exact forces need "
            f"ghosts of every type equally far: {needed}"
        )
    elif found.cutoff < halo * (1 - DIGITS):
        msg = (
            f"the communication cutoff of LAMMPS is {found.cutoff:g} Angstrom, below "
            f"the halo of {halo:g} Angstrom that exact forces need: {needed}"
        )
    elif found.pair != "zero" and not found.pair.startswith("hybrid"):
        msg = (
            f"pair style {found.pair} was given after attach(), and LAMMPS would add "
            "its forces to those of the potential; call attach() again, or say that "
            "both are meant: pair_style hybrid/overlay with zero as the first one"
        )
    else:
        return
    raise InterfaceError(msg)
