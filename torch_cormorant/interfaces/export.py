r"""Energy and forces of a molecule as one graph of tensor operations.

Neighbours are searched, sorted and cut into chunks by ordinary Python that reads the
positions, so no exporter can follow it. For a molecule they need not be searched at
all: with an envelope, pairs beyond the cutoff add exactly nothing, so the graph of all
pairs gives the same energy in every geometry. That graph is fixed, and with it energy
and gradient are one sequence of operations without Python.
"""

from __future__ import annotations

import copy
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from torch_cormorant.data.files import write_atomically
from torch_cormorant.errors import ConfigError, EdgeBudgetError, ExportError
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.models import Cormorant
from torch_cormorant.models.checks import check_molecules
from torch_cormorant.nn.cutoff import envelope
from torch_cormorant.nn.zbl import ZBL, zbl_energy
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.geometry import safe_norm

__all__ = ["export_potential", "load_exported"]

TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-13}
"""Largest error relative to the largest value that an exported graph may have."""
MAX_ATOMS = 300
MOVES = (0.0, 0.02, 0.1)
"""Random displacements in Angstrom of the geometries that are compared."""
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
        Loading needs ``import torch_cormorant`` for its operators. Cells, and molecules
        whose atoms change, need the eager model.
    """
    engine = Engine(model, energy_unit=energy_unit, dtype=pos.dtype)
    _check(engine, z, pos)
    function = _traceable(engine, z.to(engine.device), pos, num_structures)
    example = pos.detach().to(engine.device).repeat(num_structures, 1, 1)
    with _quiet():
        graph = make_fx(function)(example)
        program = torch.export.export(graph, (example,))
        stream = io.BytesIO()
        header = json.dumps({"z": z.tolist(), "num_structures": num_structures})
        torch.export.save(program, stream, extra_files={HEADER: header})
        loaded = torch.export.load(io.BytesIO(stream.getvalue()))
    _compare(loaded.module(), engine, z, example)
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


def _check(engine: Engine, z: Tensor, pos: Tensor) -> None:
    check_molecules(z, pos, None)
    engine.check_species(z.tolist(), "z")
    if not engine.model.head.additive:
        msg = 'export_potential needs a sum of atomic contributions: head="extensive"'
        raise ConfigError(msg)
    networks = [conv.edge_network for conv in engine.model.conv_layers()]
    if engine.cutoff is not None and any(n.envelope_cutoff is None for n in networks):
        msg = (
            "export_potential takes all pairs of the molecule, so a model with a "
            "cutoff must vanish there: make it with envelope=True"
        )
        raise ConfigError(msg)
    if pos.shape[0] > MAX_ATOMS:
        msg = (
            f"export_potential takes all pairs; {pos.shape[0]} atoms are more than "
            f"{MAX_ATOMS}; use the model itself, torch-sim or LAMMPS"
        )
        raise EdgeBudgetError(msg)


def _traceable(engine: Engine, z: Tensor, pos: Tensor, count: int) -> Potential:
    """Energy and forces as a function without decisions that depend on positions."""
    size = z.shape[0]
    atom = torch.arange(count * size, device=engine.device)
    together = (atom // size).unsqueeze(1) == (atom // size).unsqueeze(0)
    target, source = together.nonzero(as_tuple=True)
    index = torch.stack([source, target])
    apart = (source != target).unsqueeze(1)
    numbers = z.repeat(count)
    first = pos.detach().to(engine.device).repeat(count, 1)
    model, units = engine.model, engine.model.info.normalisation
    template = EdgeGeometry(
        index, first[target] - first[source], atom.shape[0], harmonics=model.harmonics
    )
    each = units.atoms(numbers)[:, 0]

    def energies(vec: Tensor) -> Tensor:
        geometry = copy.copy(template)
        geometry.edge_vec, geometry.edge_length = vec, safe_norm(vec)
        geometry._sh = {}  # noqa: SLF001 - the same graph with other vectors
        raw = model.atomwise(model.run_levels(numbers, geometry)).squeeze(1)
        total = raw.double() * units.std[0] + each
        zbl = getattr(model, "zbl", None)
        return total if zbl is None else total + _repulsion(zbl, numbers, index, vec)

    def function(pos: Tensor) -> tuple[Tensor, Tensor]:
        flat = pos.reshape(-1, 3)
        with torch.enable_grad():
            vec = (flat[target] - flat[source]).detach().requires_grad_()
            atoms = energies(vec * apart)
            (slope,) = torch.autograd.grad(atoms.sum(), vec)
        pull = torch.zeros_like(flat).index_add(0, source, slope)
        forces = pull.index_add(0, target, -slope).reshape(pos.shape)
        energy = atoms.detach().reshape(count, size).sum(1) + units.mean[0]
        return energy * engine.factor, forces * engine.factor

    return function


def _repulsion(zbl: ZBL, z: Tensor, index: Tensor, vec: Tensor) -> Tensor:
    """The repulsion of all pairs; far ones add zero instead of being left out."""
    source, target = index
    whole = zbl.hundredths[z[source]] + zbl.hundredths[z[target]]
    last = whole.double() * (zbl.scale / 100)
    squared = vec.double().square().sum(1)
    near = (squared.detach() > 0) & (squared.detach() < last.square())
    length = torch.where(near, squared, last.square()).sqrt()
    energy = zbl_energy(length, z[source], z[target], zbl.unit)
    switched = 0.5 * energy * envelope(length / last, 1.0)
    total = switched.new_zeros(z.shape[0])
    return total.index_add(0, target, torch.where(near, switched, 0.0))


def _compare(found: Potential, engine: Engine, z: Tensor, example: Tensor) -> None:
    """Refuse a graph that differs from the model."""
    count, size = example.shape[:2]
    batch = torch.arange(count, device=example.device).repeat_interleave(size)
    generator = torch.Generator().manual_seed(0)
    for move in MOVES:
        noise = torch.randn(example.shape, generator=generator, dtype=example.dtype)
        pos = example + move * noise.to(example.device)
        energy, forces = found(pos)
        expected = engine(
            z.repeat(count), pos.reshape(-1, 3), batch, num_graphs=count, reuse=False
        )
        if expected.forces is None:
            msg = "the engine was not asked for forces"
            raise ConfigError(msg)
        references = engine.model.info.normalisation.atoms(z)[:, 0].sum()
        free = float(references) * engine.factor
        for name, ours, theirs in (
            ("energy", energy - free, expected.energy - free),
            ("forces", forces.reshape(-1, 3), expected.forces),
        ):
            _check_close(name, ours.double(), theirs, example.dtype, move)


def _check_close(
    name: str, ours: Tensor, theirs: Tensor, dtype: torch.dtype, move: float
) -> None:
    error = float((ours - theirs).abs().max())
    allowed = TOLERANCE[dtype] * max(1.0, float(theirs.abs().max()))
    if not error <= allowed:
        msg = (
            f"the exported {name} differs from the model's by {error:.2g}, allowed are "
            f"{allowed:.2g} (geometry displaced by {move:g} Angstrom); nothing is "
            "written"
        )
        raise ExportError(msg)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporter says about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
