r"""Energy and forces of a molecule as one graph of tensor operations.

The graph is that of all pairs, see ``fixed_graph.py``.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from torch_cormorant.data.files import write_atomically
from torch_cormorant.errors import CoincidentAtomsError, ExportError, ShapeError
from torch_cormorant.graph.checks import check_positions
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.fixed_graph import (
    check_fixed,
    difference,
    fixed_function,
    trace,
)
from torch_cormorant.models.energy import Result
from torch_cormorant.ops.autocast import full_precision
from torch_cormorant.ops.edges import MIN_LENGTH

__all__ = ["export_potential", "load_exported"]

HEADER = "torch_cormorant.json"
DTYPES = {"float32": torch.float32, "float64": torch.float64}

Potential = Callable[[Tensor], Result]


@full_precision
def export_potential(
    model: nn.Module,
    z: Tensor,
    pos: Tensor,
    path: str | PathLike[str],
    *,
    num_structures: int = 1,
    energy_unit: str | None = None,
) -> torch.export.ExportedProgram:
    """Write energy and forces of one molecule as a graph for ``torch.export.load``.

    The file is written only if the graph, read back, gives what the model gives: on the
    given geometry and on displaced ones, up to rounding.

    Args:
        model: A potential or a network with an ``"extensive"`` head and an envelope (or
            without a cutoff), as ``Cormorant.potential`` makes it.
        z: Atomic numbers of the molecule ``[N]``; they belong to the graph.
        pos: A geometry ``[N, 3]`` in Angstrom, to compare at; its type is that of the
            graph.
        path: The file, by habit with the suffix ``.pt2``.
        num_structures: Geometries that the graph takes at once. Default 1.
        energy_unit: Unit of the model's energies. Default: what its file says.

    Returns:
        The exported program, from positions ``[num_structures, N, 3]`` in Angstrom to
        energies ``[num_structures]`` in eV and forces ``[num_structures, N, 3]``.

    Raises:
        ExportError: Exported and eager results differ; nothing is written.
        ConfigError: The model cannot be exported.
        EdgeBudgetError: The molecule is too large for all pairs.

    Note:
        Loading with ``torch.export.load`` needs ``import torch_cormorant.ops`` for the
        operators; :func:`load_exported` brings them. Cells, and molecules
        whose atoms change, need the eager model.
    """
    engine = Engine(model, energy_unit=energy_unit, dtype=pos.dtype)
    check_fixed(engine, z, pos, num_structures)
    function = fixed_function(engine, z, pos, num_structures)
    example = pos.detach().to(engine.device).repeat(num_structures, 1, 1)
    with _quiet():
        graph = trace(lambda pos: tuple(function(pos)[:2]), example)
        program = torch.export.export(graph, (example,))
        stream = io.BytesIO()
        facts = {"z": z.tolist(), "num_structures": num_structures}
        header = json.dumps({**facts, "dtype": str(pos.dtype).removeprefix("torch.")})
        torch.export.save(program, stream, extra_files={HEADER: header})
        loaded = torch.export.load(io.BytesIO(stream.getvalue()))
    wrong = difference(loaded.module(), engine, z, example)
    if wrong:
        msg = f"the exported {wrong}; nothing is written"
        raise ExportError(msg)
    write_atomically(Path(path), lambda file: file.write(stream.getvalue()))
    return program


def load_exported(path: str | PathLike[str]) -> tuple[Potential, list[int]]:
    """Read what :func:`export_potential` wrote.

    Args:
        path: The file.

    Returns:
        The function from positions ``[num_structures, N, 3]`` to a
        :class:`~torch_cormorant.models.Result` in eV and Angstrom (forces of all
        copies one after the other), and the atomic numbers. It raises ShapeError,
        DtypeError, NonFiniteError and CoincidentAtomsError where positions do not fit,
        which the bare graph of ``torch.export.load`` does not.

    Raises:
        ExportError: The file is missing, damaged, or another one.
    """
    extra = {HEADER: ""}
    if not zipfile.is_zipfile(path):  # before torch logs what it thinks of it
        reason = "no archive" if Path(path).exists() else "no such file"
        msg = f"{path}: not read as an exported potential ({reason})"
        raise ExportError(msg)
    try:
        with _quiet():
            program = torch.export.load(str(path), extra_files=extra)
        header = json.loads(extra[HEADER])
        numbers, count = list(header["z"]), int(header["num_structures"])
        dtype = DTYPES[header["dtype"]]
    except Exception as error:
        msg = f"{path}: not read as an exported potential ({error})"
        raise ExportError(msg) from error
    module = program.module()

    @full_precision
    def checked(pos: Tensor) -> Result:
        check_fixed_positions(pos, count, len(numbers))
        energy, forces = module(pos.to(dtype))
        return Result(energy, None, forces.reshape(-1, 3), unit="eV")

    return checked, numbers


def check_fixed_positions(pos: Tensor, count: int, size: int) -> None:
    """Refuse positions that a graph of all pairs would turn into wrong numbers.

    Args:
        pos: Positions in Angstrom.
        count: Geometries B that the graph takes.
        size: Atoms N of the molecule.

    Raises:
        ShapeError, DtypeError: It is no floating point tensor ``[B, N, 3]``.
        NonFiniteError: NaN or infinity.
        CoincidentAtomsError: Two atoms lie at one place.
    """
    given: object = pos
    if not isinstance(given, Tensor) or tuple(pos.shape) != (count, size, 3):
        shape = list(pos.shape) if isinstance(given, Tensor) else type(pos).__name__
        msg = f"pos must be a tensor [{count}, {size}, 3], got {shape}"
        raise ShapeError(msg)
    for number, places in enumerate(pos.detach()):
        check_positions(places, f"pos[{number}]")
        gaps = torch.cdist(
            places, places, compute_mode="donot_use_mm_for_euclid_dist"
        ).fill_diagonal_(torch.inf)
        if bool((gaps < MIN_LENGTH).any()):
            first, second = (gaps < MIN_LENGTH).nonzero()[0].tolist()
            msg = (
                f"pos[{number}]: atoms {first} and {second} are less than "
                f"{MIN_LENGTH:g} Angstrom apart"
            )
            raise CoincidentAtomsError(msg)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
