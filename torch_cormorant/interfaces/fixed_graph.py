"""Energy and forces of a molecule without decisions that depend on positions.

Neighbours are searched, sorted and cut into chunks by ordinary Python that reads the
positions, so nothing can trace it. For a molecule they need not be searched at all:
with an envelope, pairs beyond the cutoff add exactly nothing, so the graph of all
pairs gives the same energy in every geometry. That graph is fixed, and with it energy
and gradient are one sequence of operations without Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from torch_cormorant.errors import ConfigError, EdgeBudgetError, ShapeError
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.folding import fold_constants
from torch_cormorant.models.energy import atom_energies, with_constant
from torch_cormorant.networks.checks import check_counts, check_molecules
from torch_cormorant.nn.cutoff import envelope
from torch_cormorant.nn.zbl import ZBL, zbl_energy
from torch_cormorant.ops import EdgeGeometry

MAX_ATOMS = 300
MOVES = (0.0, 0.02, 0.1)
"""Random displacements in Angstrom of the geometries that are compared."""
TOLERANCE = {torch.float32: 5e-6, torch.float64: 1e-13}
"""Largest error relative to the largest value that a traced graph may have."""


class FixedOutput(NamedTuple):
    """In eV and Angstrom; ``shortest`` is the square of the shortest distance."""

    energy: Tensor  # [B]
    forces: Tensor  # [B, N, 3]
    energies: Tensor  # [B, N]
    shortest: Tensor


FixedFunction = Callable[[Tensor], FixedOutput]


def trace(function: Callable[..., object], example: Tensor) -> GraphModule:
    """A function as a graph of tensor operations, its constants computed.

    Args:
        function: From a tensor to tensors.
        example: Its argument; the graph belongs to its shape and type.

    Returns:
        The graph. It ends in the same tensors as the function.
    """
    return fold_constants(make_fx(function)(example))


def check_fixed(engine: Engine, z: Tensor, pos: Tensor, count: int) -> None:
    """Refuse models and molecules that all pairs do not fit.

    Raises:
        ConfigError: The energy is no sum over atoms, or jumps at the cutoff, or there
            are no copies.
        ShapeError: There are no atoms.
        EdgeBudgetError: The molecule is too large.
    """
    check_counts({"num_structures": count})
    check_molecules(z, pos, None)
    if pos.shape[0] == 0:
        msg = "pos has no atoms; a fixed graph needs at least one"
        raise ShapeError(msg)
    engine.check_species(z.tolist(), "z")
    if not engine.model.head.additive:
        msg = 'a fixed graph needs a sum of atomic contributions: head="extensive"'
        raise ConfigError(msg)
    networks = [conv.edge_network for conv in engine.model.conv_layers()]
    if engine.cutoff is not None and any(n.envelope_cutoff is None for n in networks):
        msg = (
            "a fixed graph takes all pairs of the molecule, so a model with a "
            "cutoff must vanish there: make it with envelope=True"
        )
        raise ConfigError(msg)
    if pos.shape[0] > MAX_ATOMS:
        msg = (
            f"a fixed graph takes all pairs; {pos.shape[0]} atoms are more than "
            f"{MAX_ATOMS}; use the model itself, torch-sim or LAMMPS"
        )
        raise EdgeBudgetError(msg)


def fixed_function(
    engine: Engine, z: Tensor, pos: Tensor, count: int = 1
) -> FixedFunction:
    """Energy and forces of copies of a molecule, as a function that can be traced.

    Args:
        engine: What computes.
        z: Atomic numbers of the molecule ``[N]``.
        pos: Any geometry without coincident atoms ``[N, 3]``.
        count: Number of copies B.

    Returns:
        A function of positions ``[B, N, 3]`` in Angstrom.
    """
    size = z.shape[0]
    index, apart = _all_pairs(size, count, engine.device)
    source, target = index
    numbers = z.long().to(engine.device).repeat(count)
    model, units = engine.model, engine.model.info.normalisation
    first = pos.detach().to(engine.device).repeat(count, 1)
    vectors = (first[target] - first[source]).to(model.dtype)
    template = EdgeGeometry(index, vectors, count * size, harmonics=model.harmonics)
    each = units.atoms(numbers)[:, 0]

    def energies(vec: Tensor) -> Tensor:
        geometry = template.moved(vec.to(model.dtype))
        raw = model.atomwise(model.run_levels(numbers, geometry)).squeeze(1)
        zbl = getattr(model, "zbl", None)
        extra = None if zbl is None else _repulsion(zbl, numbers, index, vec)
        return atom_energies(raw, each, units, extra)

    def function(pos: Tensor) -> FixedOutput:
        flat = pos.reshape(-1, 3)
        with torch.enable_grad():
            vec = (flat[target] - flat[source]).detach().requires_grad_()
            atoms = energies(vec * apart)
            (slope,) = torch.autograd.grad(atoms.sum(), vec)
        pull = torch.zeros_like(flat).index_add(0, source, slope)
        forces = pull.index_add(0, target, -slope).reshape(pos.shape)
        atoms = atoms.detach().reshape(count, size)
        energy, atoms = with_constant(atoms.sum(1), atoms, size, units)
        squared = vec.detach().square().sum(1, keepdim=True)
        shortest = torch.where(apart, squared, torch.inf).amin()
        factor = engine.factor
        return FixedOutput(energy * factor, forces * factor, atoms * factor, shortest)

    return function


def _all_pairs(size: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Edges ``[2, E]`` of all pairs of every copy and of atoms with themselves."""
    atom = torch.arange(count * size, device=device)
    together = (atom // size).unsqueeze(1) == (atom // size).unsqueeze(0)
    target, source = together.nonzero(as_tuple=True)
    return torch.stack([source, target]), (source != target).unsqueeze(1)


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


def difference(
    found: Callable[[Tensor], tuple[Tensor, ...]],
    engine: Engine,
    z: Tensor,
    example: Tensor,
) -> str | None:
    """How a fixed graph differs from the model, on several geometries.

    Args:
        found: From positions ``[B, N, 3]`` to energies and forces.
        engine: What the graph was made from.
        z: Atomic numbers ``[N]``.
        example: Positions ``[B, N, 3]``.

    Returns:
        None, or what differs by more than rounding.
    """
    count, size = example.shape[:2]
    batch = torch.arange(count, device=example.device).repeat_interleave(size)
    generator = torch.Generator().manual_seed(0)
    references = engine.model.info.normalisation.atoms(z)[:, 0].sum()
    free = float(references) * engine.factor
    for move in MOVES:
        noise = torch.randn(example.shape, generator=generator, dtype=example.dtype)
        pos = example + move * noise.to(example.device)
        energy, forces = found(pos)[:2]
        expected = engine(
            z.repeat(count), pos.reshape(-1, 3), batch, num_graphs=count, reuse=False
        )
        if expected.forces is None:
            msg = "the engine was not asked for forces"
            raise ConfigError(msg)
        for name, ours, theirs in (
            ("energy", energy - free, expected.energy - free),
            ("forces", forces.reshape(-1, 3), expected.forces),
        ):
            allowed = TOLERANCE[engine.dtype] * max(1.0, float(theirs.abs().max()))
            allowed += 8 * torch.finfo(torch.float64).eps * abs(free)
            text = _apart(ours.double(), theirs, allowed)
            if text:
                where = f"(geometry displaced by {move:g} Angstrom)"
                return f"{name} differs from the model's by {text} {where}"
    return None


def _apart(ours: Tensor, theirs: Tensor, allowed: float) -> str | None:
    error = float((ours - theirs).abs().max())
    return None if error <= allowed else f"{error:.2g}, allowed are {allowed:.2g}"
