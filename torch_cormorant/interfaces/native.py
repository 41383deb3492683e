"""A potential evaluated by our own C++ code, without PyTorch in between."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Self

from torch_cormorant.data.files import write_atomically
from torch_cormorant.errors import (
    BackendError,
    BlowUpError,
    CellError,
    CoincidentAtomsError,
    ConfigError,
    CormorantError,
    DtypeError,
    EdgeIndexError,
    ModelFileError,
    NonFiniteError,
    ShapeError,
    SpeciesError,
)
from torch_cormorant.interfaces.native_block import parameter_block
from torch_cormorant.interfaces.native_rules import native_problem
from torch_cormorant.models.energy import Result, stress_of
from torch_cormorant.ops import cpu_kernel

__all__ = ["NativePotential", "native_problem"]

Rows: TypeAlias = Tensor | np.ndarray | Sequence[Any]
_P, _I, _L = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_ABI = 2
_NO_THREADS = 10
_ERRORS: dict[int, type[CormorantError]] = {
    1: ModelFileError,
    2: ConfigError,
    3: ConfigError,
    4: SpeciesError,
    5: NonFiniteError,
    6: CoincidentAtomsError,
    7: CellError,
    8: EdgeIndexError,
    9: BackendError,
    _NO_THREADS: BackendError,
    11: ModelFileError,
    12: BlowUpError,
}
"""Errors by the codes of csrc/native/cormorant.h, which has their text."""


_BITS = {None: 0, torch.float32: 32, torch.float64: 64}
RESULTS = ("energy", "energies", "forces", "strain", "strains")


class _Results(ctypes.Structure):
    _fields_ = (
        *((name, _P) for name in RESULTS),
        ("pairs", _L),
    )


@cache
def _library() -> Any:
    library = cpu_kernel.library()
    try:
        found = library.cormorant_native_abi()
    except AttributeError:
        found = None
    if found != _ABI:
        message = (
            "the CPU kernel was built for another version of the native evaluator; "
            f"to enable it: {cpu_kernel.remedy()}"
        )
        raise BackendError(message)
    library.cormorant_error.restype = ctypes.c_char_p
    library.cormorant_create.argtypes = (ctypes.c_char_p, _L, _I, _P)
    library.cormorant_run.argtypes = (_P, _P, _L, _I)
    library.cormorant_unit.restype = ctypes.c_char_p
    library.cormorant_cutoff.restype = ctypes.c_double
    for name in ("unit", "cutoff", "bits"):
        getattr(library, f"cormorant_{name}").argtypes = (_P,)
    library.cormorant_set_skin.argtypes = (_P, ctypes.c_double)
    library.cormorant_set_skin.restype = None
    library.cormorant_destroy.argtypes = (_P,)
    library.cormorant_destroy.restype = None
    library.cormorant_evaluate.argtypes = (_P, _L, _P, _P, _P, _P, _I, _P)
    library.cormorant_evaluate_pairs.argtypes = (
        _P,
        *(_L,) * 2,
        _P,
        _L,
        *(_P,) * 3,
        _I,
        _P,
    )
    return library


def _call(function: Any, *args: Any) -> int:
    status: int = function(*args)
    if status and status != _NO_THREADS:
        raise _ERRORS[status](_library().cormorant_error().decode())
    return status


class NativePotential:
    """Energies, forces and stresses of a potential, many times faster on a CPU.

    A snapshot: the weights, units and references are those that the model has now;
    training it further changes nothing here. Covered is what
    :func:`native_problem` has nothing against, the defaults of
    ``Cormorant.potential`` and most of its options.

    Args:
        model: The potential; it is read and not kept.
        dtype: ``torch.float32`` or ``torch.float64``, the arithmetic inside. Default:
            that of the weights. Positions and results are always float64.
        skin: Search for pairs this much (Angstrom) farther out, and anew only when an
            atom has moved by half of it or the cell has changed. Results change by
            rounding. Default 0: search in every call.

    Attributes:
        unit: Unit of energy.
        cutoff: Cutoff in Angstrom.
        dtype: As above.

    Raises:
        ConfigError: The model has an option that is not covered, which the message
            names, or an argument is out of range.
        BackendError: The package was built without a C++ compiler.

    Note:
        Threads as many as ``torch.get_num_threads()``; results do not depend on their
        number, to the last bit. May be called from several threads at once, copied and
        pickled.

    Example:
        >>> import numpy as np
        >>> from torch_cormorant import Cormorant
        >>> from torch_cormorant.interfaces.native import NativePotential
        >>> model = Cormorant.potential([1, 8], channels=4, num_levels=2)
        >>> water = np.array([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> out = NativePotential(model).evaluate([8, 1, 1], water)
        >>> tuple(out.forces.shape), out.energy.dtype
        ((3, 3), torch.float64)
    """

    skin: float
    _block: bytes
    _bits: int

    def __init__(
        self, model: Any, *, dtype: torch.dtype | None = None, skin: float = 0.0
    ) -> None:
        problem = native_problem(model)
        if problem:
            msg = f"the native evaluator does not cover this model: {problem}"
            raise ConfigError(msg)
        self.__setstate__(_state(parameter_block(model), dtype, skin))

    @classmethod
    def from_file(
        cls,
        path: str | PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        skin: float = 0.0,
    ) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            path: The file.
            dtype: As the class.
            skin: As the class.

        Raises:
            ModelFileError: The file is missing, damaged or no native model.
            ConfigError: Its sizes are not covered, or an argument is out of range.
        """
        try:
            block = Path(path).read_bytes()
        except OSError as error:
            msg = f"{path}: it cannot be read ({error.strerror})"
            raise ModelFileError(msg) from error
        made, state = cls.__new__(cls), _state(block, dtype, skin)
        try:
            made.__setstate__(state)
        except (ConfigError, ModelFileError, NonFiniteError) as error:
            msg = f"{path}: {error}"
            raise type(error)(msg) from error
        return made

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model as a file for C programs, LAMMPS and :meth:`from_file`.

        Args:
            path: The file, by habit with the suffix ``.cormorant``.

        Raises:
            OSError: It cannot be written; an older file is left as it was.

        Example:
            >>> import pathlib, tempfile
            >>> from torch_cormorant import Cormorant
            >>> model = Cormorant.potential([1, 8], channels=4, num_levels=2)
            >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.cormorant"
            >>> NativePotential(model).save(path)
            >>> NativePotential.from_file(path).unit
            'eV'
        """
        write_atomically(Path(path), lambda stream: stream.write(self._block))

    def _open(self) -> None:
        library, self._handle = _library(), _P()
        _call(
            library.cormorant_create,
            *(self._block, len(self._block), self._bits),
            ctypes.addressof(self._handle),
        )
        weakref.finalize(self, library.cormorant_destroy, self._handle.value)
        library.cormorant_set_skin(self._handle, self.skin)
        double = library.cormorant_bits(self._handle) == 64
        self.dtype = torch.float64 if double else torch.float32
        self.unit = library.cormorant_unit(self._handle).decode()
        self.cutoff = float(library.cormorant_cutoff(self._handle))

    def __getstate__(self) -> dict[str, Any]:
        """The numbers; the handle belongs to this process."""
        return {k: v for k, v in self.__dict__.items() if k != "_handle"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a handle of its own."""
        self.__dict__.update(state)
        self._open()

    def __repr__(self) -> str:
        """What computes."""
        name = str(self.dtype).removeprefix("torch.")
        return (
            f"{type(self).__name__}(cutoff {self.cutoff:g} Angstrom, {name}, "
            f"{cpu_kernel.instruction_set()})"
        )

    def evaluate(
        self,
        z: Rows,
        pos: Rows,
        cell: Rows | None = None,
        pbc: Rows | bool | None = None,
        *,
        forces: bool = True,
        stress: bool = False,
    ) -> Result:
        """Energies, atomic energies, forces and stress of one structure.

        Args:
            z: Atomic numbers ``[N]``, a NumPy array or a CPU tensor.
            pos: Positions ``[N, 3]`` in Angstrom.
            cell: Cell vectors in rows ``[3, 3]``, Angstrom; None: nothing repeats.
            pbc: Which of them repeat, ``[3]`` or one for all. Default: all.
            forces: Compute forces. Default True.
            stress: Compute the stress, which needs a cell. Default False.

        Returns:
            As ``model.evaluate``, in float64.

        Raises:
            ShapeError, DtypeError, NonFiniteError, SpeciesError, CoincidentAtomsError,
            CellError, ConfigError: An input does not fit.
        """
        numbers, points = _numbers(z), _rows(pos, "pos")
        if points.shape != (len(numbers), 3):
            msg = (
                f"pos must have shape [{len(numbers)}, 3], one row for each z, got "
                f"{list(points.shape)}"
            )
            raise ShapeError(msg)
        vectors, flags = _cell(cell, pbc)
        out = _Arrays(len(numbers), forces=forces, strain=stress)
        _run(
            _library().cormorant_evaluate,
            self._handle,
            len(numbers),
            numbers.ctypes.data,
            points.ctypes.data,
            None if vectors is None else vectors.ctypes.data,
            None if flags is None else flags.ctypes.data,
            results=out.struct,
        )
        strained = None
        if stress:
            given = None if vectors is None else torch.from_numpy(vectors)
            strained = stress_of(out.tensor("strain").unsqueeze(0), given)
        return out.result(self.unit, strained)

    def evaluate_pairs(
        self,
        z: Rows,
        pairs: Rows,
        vec: Rows,
        num_local: int | None = None,
        *,
        forces: bool = True,
    ) -> tuple[Result, Tensor]:
        """The same on pairs from elsewhere, with ghosts, as other programs have them.

        Args:
            z: Atomic numbers ``[N]`` of all atoms, ghosts last.
            pairs: Undirected pairs ``[2, P]``, each once; those beyond the cutoff are
                left out.
            vec: ``pos[pairs[0]] - pos[pairs[1]]`` with images ``[P, 3]``, Angstrom.
            num_local: How many atoms have an energy. Default: all.
            forces: Compute forces. Default True.

        Returns:
            The result, forces on ghosts included, and the derivative by a strain
            ``[3, 3]`` (the virial is minus it).

        Raises:
            EdgeIndexError: A pair names an atom that does not exist.
            ShapeError, DtypeError, NonFiniteError, SpeciesError, CoincidentAtomsError:
                An input does not fit.
        """
        numbers, vectors = _numbers(z), _rows(vec, "vec")
        ends = _whole(pairs, "pairs")
        if ends.shape != (2, len(vectors)) or vectors.shape != (len(vectors), 3):
            msg = (
                "pairs and vec must have shapes [2, P] and [P, 3], got "
                f"{list(ends.shape)} and {list(vectors.shape)}"
            )
            raise ShapeError(msg)
        first, second = ends
        local = len(numbers) if num_local is None else num_local
        out = _Arrays(len(numbers), forces=forces, strain=forces)
        _run(
            _library().cormorant_evaluate_pairs,
            *(self._handle, len(numbers), local, numbers.ctypes.data, len(vectors)),
            *(first.ctypes.data, second.ctypes.data, vectors.ctypes.data),
            results=out.struct,
        )
        strain = out.tensor("strain") if forces else torch.zeros(3, 3).double()
        return out.result(self.unit, None), strain

    def run_dynamics(self, run: Any, steps: int) -> None:
        """Steps of molecular dynamics, for :class:`.NativeDynamics`.

        Args:
            run: A ``cormorant_dynamics`` of csrc/native/cormorant.h.
            steps: Go on until so many are done.

        Raises:
            BlowUpError: A force is too large.
            CormorantError: A frame does not fit the potential.
        """
        address = ctypes.addressof(run)
        _threaded(_library().cormorant_run, self._handle, address, steps)


class _Arrays:
    """Where the library writes."""

    def __init__(self, atoms: int, *, forces: bool, strain: bool) -> None:
        shapes: dict[str, tuple[int, ...]] = {"energy": (1,), "energies": (atoms,)}
        shapes |= {"forces": (atoms, 3)} if forces else {}
        shapes |= {"strain": (3, 3)} if strain else {}
        self.kept = {name: np.zeros(shape) for name, shape in shapes.items()}
        self.struct = _Results(**{k: v.ctypes.data for k, v in self.kept.items()})

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.kept[name])

    def result(self, unit: str, stress: Tensor | None) -> Result:
        forces = self.tensor("forces") if "forces" in self.kept else None
        return Result(
            self.tensor("energy"), self.tensor("energies"), forces, stress, unit
        )


def _run(function: Any, *args: Any, results: _Results) -> None:
    _threaded(function, *args, last=(ctypes.addressof(results),))


def _threaded(function: Any, *args: Any, last: tuple[Any, ...] = ()) -> None:
    """Call with as many threads as torch has; with one where there are no more."""
    for threads in (torch.get_num_threads(), 1):
        if not _call(function, *args, threads, *last):
            return
    raise BackendError(_library().cormorant_error().decode())


def _state(block: bytes, dtype: torch.dtype | None, skin: float) -> dict[str, Any]:
    """What a potential keeps beside its handle."""
    if dtype not in _BITS:
        msg = f"dtype must be torch.float32 or torch.float64, got {dtype}"
        raise ConfigError(msg)
    if not 0 <= skin < float("inf"):
        msg = f"skin must not be negative, got {skin!r}"
        raise ConfigError(msg)
    return {"_block": block, "_bits": _BITS[dtype], "skin": float(skin)}


def _array(value: Any) -> np.ndarray:
    if isinstance(value, Tensor):
        if value.device.type != "cpu":
            msg = f"the native evaluator takes CPU tensors, got one on {value.device}"
            raise ConfigError(msg)
        value = value.detach().resolve_conj().resolve_neg().numpy()
    return np.asarray(value)


def _whole(value: Any, name: str) -> np.ndarray:
    given = _array(value)
    if given.size and given.dtype.kind not in "iu":
        msg = f"{name} must be whole numbers, got {given.dtype}"
        raise DtypeError(msg)
    found = np.ascontiguousarray(given, np.int32)
    if found.dtype.itemsize < given.dtype.itemsize and not (found == given).all():
        msg = f"{name} holds numbers beyond int32"
        raise DtypeError(msg)
    return found


def _numbers(z: Any) -> np.ndarray:
    found = _whole(z, "z")
    if found.ndim != 1:
        msg = f"z must have shape [N], got {list(found.shape)}"
        raise ShapeError(msg)
    return found


def _rows(value: Any, name: str) -> np.ndarray:
    given = _array(value)
    if given.size and given.dtype.kind not in "fiu":
        msg = f"{name} must be real numbers, got {given.dtype}"
        raise DtypeError(msg)
    found = np.ascontiguousarray(given, np.float64)
    return found.reshape(0, 3) if not found.size else found


def _cell(cell: Any, pbc: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Cell vectors ``[3, 3]`` and which of them repeat ``[3]``."""
    flags = None
    if pbc is not None:
        flags = np.array(_array(pbc), np.int32)
        if flags.shape not in ((), (3,)):
            msg = f"pbc must have shape [3] or be one bool, got {list(flags.shape)}"
            raise ShapeError(msg)
        flags = np.ascontiguousarray(np.broadcast_to(flags, 3))
    if cell is None:
        if flags is not None and flags.any():
            msg = "pbc has a periodic direction but cell is None; give cell= [3, 3]"
            raise ConfigError(msg)
        return None, None
    vectors = _rows(cell, "cell")
    if vectors.shape != (3, 3):
        msg = f"cell must have shape [3, 3], got {list(vectors.shape)}"
        raise ShapeError(msg)
    return vectors, flags
