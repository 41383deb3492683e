"""Typed errors of the package.

Every message says which argument is wrong, what was given, what was expected and
what to do. All types derive from a built-in one, so ``except ValueError`` works too.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CormorantError(Exception):
    """Base class of every error that this package raises on purpose."""


class CormorantWarning(UserWarning):
    """Something can be computed, but is hardly what was meant."""


class EnsembleSpreadWarning(CormorantWarning):
    """The models of an ensemble disagree more than on structures like their training's.

    The limits are measured with the calibration: see :class:`.Ensemble`.
    """


class ShapeError(CormorantError, ValueError):
    """A tensor has the wrong number of dimensions or the wrong size."""


class DtypeError(CormorantError, TypeError):
    """A tensor or an argument has the wrong type."""


class DeviceError(CormorantError, RuntimeError):
    """Tensors that belong together lie on different devices."""


class EdgeIndexError(CormorantError, ValueError):
    """An edge points to a node that does not exist, or does not fit its graph."""


class NonFiniteError(CormorantError, ValueError):
    """A tensor holds NaN or infinity."""


class CoincidentAtomsError(CormorantError, ValueError):
    """Two different atoms lie at the same place."""


class CellError(CormorantError, ValueError):
    """A periodic cell is zero, flat or not finite."""


class SpeciesError(CormorantError, ValueError):
    """An atomic number is not among those the model was made for."""


class ChargeError(CormorantError, ValueError):
    """A charge, or unpaired electrons, that the model was not made for."""


class DegreeError(CormorantError, ValueError):
    """A degree l or lmax is negative, not an integer, or beyond the shipped tables."""


class ConfigError(CormorantError, ValueError):
    """Arguments are out of range or contradict each other."""


class ArgumentError(CormorantError, TypeError):
    """An argument is missing, or no argument has that name."""


class EdgeBudgetError(CormorantError, RuntimeError):
    """A graph without a cutoff would have more edges than allowed."""


class MemoryBudgetError(CormorantError, RuntimeError):
    """A system does not fit into the memory it was given."""


class BlowUpError(CormorantError, RuntimeError):
    """A simulation left every sensible range of forces, energies or temperatures."""


class ExportError(CormorantError, RuntimeError):
    """An exported graph differs from the model, or cannot be read."""


class InterfaceError(CormorantError, RuntimeError):
    """A program that a potential works in is not set up as the potential needs it."""


class BackendError(CormorantError, RuntimeError):
    """A named backend is missing or cannot do what was asked."""


class WeightsError(CormorantError, ValueError):
    """Weights do not fit the network they are read into."""


class DataError(CormorantError, ValueError):
    """A data file or an entry of it is missing, damaged or not understood."""


class ModelFileError(CormorantError, ValueError):
    """A model file is missing, damaged, foreign, or of another version."""


_OTHERS = {
    "cutoff": "r rc rcut r_cut r_max rmax radius max_radius cutoff_radius cutoff_upper "
    "radial_cutoff",
    "lmax": "l l_max max_l maxl ell_max max_ell max_degree",
    "lmax_sh": "max_sh sh_lmax lmax_edge lmax_attr",
    "channels": "hidden_channels num_channels num_features n_features hidden_irreps "
    "n_atom_basis embedding_size hidden_dim",
    "num_levels": "num_layers n_layers num_interactions n_interactions num_blocks "
    "num_cg_levels num_conv_layers levels",
    "num_basis": "num_rbf n_rbf num_radial num_bessel num_gaussians num_radial_basis",
    "species": "atomic_numbers elements z_table num_elements",
    "num_targets": "out_channels num_outputs out_dim num_tasks",
    "num_mpnn_layers": "num_mpnn_levels",
}
OTHER_NAMES = {other: ours for ours, text in _OTHERS.items() for other in text.split()}
"""What other libraries call our arguments."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The nearest of some names as a question, for the end of a message.

    Args:
        name: What was given.
        known: What exists.

    Returns:
        ``"; did you mean ...?"``, or nothing where no name is near.

    Example:
        >>> nearest("chanels", ["channels", "lmax"])
        "; did you mean 'channels'?"
        >>> nearest("r_max", ["lmax", "cutoff"])
        "; did you mean 'cutoff'?"
    """
    known = list(known)
    ours = OTHER_NAMES.get(name.lower(), "")
    if ours in known:
        return f"; did you mean {ours!r}?"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_keywords(
    given: Iterable[str],
    known: Iterable[str],
    owner: str,
    allowed: Iterable[str] | None = None,
) -> None:
    """Refuse keywords that do not exist.

    Args:
        given: Names that were given.
        known: Names to suggest from.
        owner: What they were given to.
        allowed: Names that are accepted. Default: all that are known.

    Raises:
        ArgumentError: If a name does not exist; the message names the nearest one.

    Example:
        >>> check_keywords(["lmax"], ["lmax", "cutoff"], "Cormorant")
    """
    known = list(known)
    for name in given:
        if name not in (known if allowed is None else list(allowed)):
            raise ArgumentError(
                f"{owner} has no argument {name!r}{nearest(name, known)}"
            )
