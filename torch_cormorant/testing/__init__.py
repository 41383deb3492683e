"""Checks for this package and for code built on it: symmetry, and laws of potentials.

``python -m torch_cormorant.testing MODEL`` runs the laws on a trained potential.
"""

from __future__ import annotations

from torch_cormorant.testing.equivariance import (
    Output,
    assert_equivariant,
    assert_invariant,
    equivariance_error,
    random_molecule,
)
from torch_cormorant.testing.potentials import (
    DiatomicScan,
    assert_forces_match_differences,
    diatomic_scan,
    force_difference_error,
    force_jacobian_asymmetry,
    net_force_and_torque,
    stress_difference_error,
    work_error,
)
from torch_cormorant.testing.report import Check, check_potential

__all__ = [
    "Check",
    "DiatomicScan",
    "Output",
    "assert_equivariant",
    "assert_forces_match_differences",
    "assert_invariant",
    "check_potential",
    "diatomic_scan",
    "equivariance_error",
    "force_difference_error",
    "force_jacobian_asymmetry",
    "net_force_and_torque",
    "random_molecule",
    "stress_difference_error",
    "work_error",
]
