r"""Energy and forces of a molecule as one graph of tensor operations.

The graph is that of all pairs, see ``fixed_graph.py``.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from torch_cormorant.data.files import write_atomically
from torch_cormorant.errors import ExportError
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.fixed_graph import (
    check_fixed,
    difference,
    fixed_function,
    trace,
)
from torch_cormorant.models import Cormorant

__all__ = ["export_potential", "load_exported"]

HEADER = "torch_cormorant.json"

Potential = Callable[[Tensor], tuple[Tensor, Tensor]]


def export_potential(
    model: Cormorant,
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
        model: A :class:`~torch_cormorant.Cormorant` with an ``"extensive"`` head and an
            envelope (or without a cutoff), as ``Cormorant.potential`` makes it.
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
    check_fixed(engine, z, pos)
    function = fixed_function(engine, z, pos, num_structures)
    example = pos.detach().to(engine.device).repeat(num_structures, 1, 1)
    with _quiet():
        graph = trace(lambda pos: tuple(function(pos)[:2]), example)
        program = torch.export.export(graph, (example,))
        stream = io.BytesIO()
        header = json.dumps({"z": z.tolist(), "num_structures": num_structures})
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
        The function from positions to energies and forces, and the atomic numbers.

    Raises:
        ExportError: The file is missing, damaged, or another one.
    """
    extra = {HEADER: ""}
    try:
        with _quiet():
            program = torch.export.load(str(path), extra_files=extra)
        numbers = json.loads(extra[HEADER])["z"]
    except Exception as error:
        msg = f"{path}: not read as an exported potential ({error})"
        raise ExportError(msg) from error
    return program.module(), numbers


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
