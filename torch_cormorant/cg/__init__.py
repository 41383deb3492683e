"""Exact Clebsch-Gordan tables in the real and the Condon-Shortley basis."""

from __future__ import annotations

from torch_cormorant.cg.exact import MAX_DEGREE
from torch_cormorant.cg.tables import clebsch_gordan, exact_entries, max_degree, paths

__all__ = ["MAX_DEGREE", "clebsch_gordan", "exact_entries", "max_degree", "paths"]
