"""What every network has: species, a graph, levels, a head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from typing_extensions import Self

from torch_cormorant.errors import ArgumentError, ConfigError
from torch_cormorant.graph import all_pairs, radius_graph
from torch_cormorant.networks.checks import (
    check_atoms,
    check_edge_tensors,
    check_output,
    check_structures,
    count_graphs,
    refuse_arguments,
)
from torch_cormorant.networks.config import plain_config
from torch_cormorant.networks.edges import own_edges
from torch_cormorant.networks.facts import NetworkFacts
from torch_cormorant.nn.heads import (
    Head,
    HeadInput,
    HeadSpec,
    LevelSizes,
    make_head,
    targets_of,
)
from torch_cormorant.nn.inputs import AtomFeatures
from torch_cormorant.nn.parts import Part, Registry, known, parts_in
from torch_cormorant.nn.readout import scalars
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import check_weights, dtype_of, full_precision
from torch_cormorant.ops.finite import refuse_nonfinite
from torch_cormorant.ops.radial_basis import check_cutoff

__all__ = ["NETWORK_PARTS", "Network", "register_network"]

MAX_EDGES = 4_000_000
"""Edges that a network without a cutoff accepts."""


class Network(NetworkFacts, Part):
    """Base class of networks: from atomic numbers and a graph to levels and a head.

    A class writes :meth:`run_levels` and, at the end of its constructor, calls
    :meth:`set_head`. It knows nothing of forces, cells, units and files: for those any
    network goes into a ``Potential`` or a ``Predictor``, without a line changed. Its
    constructor takes plain values; they are kept in ``config``, as a model file needs.

    Args:
        species: Atomic numbers that may occur.
        cutoff: Radius of the graph in Angstrom; None: all pairs of a molecule.
        charge_power: Powers of the charge in the atom features. Default 2.
        charge_scale: Charge that counts as one. Default: the largest of ``species``.
        max_edges: With all pairs: edges per call beyond which an error is raised.

    Attributes:
        self_edges: Whether every atom is its own neighbour once, with a zero vector.
            A class says it. Default True.
        hops: How many cutoffs far the numbers of an atom look, one for every round of
            messages; None: not told, and programs that need it (LAMMPS) refuse.
        smooth_cutoff: Whether an edge at the cutoff adds nothing, so that more edges
            than those within it may be given. A class says it. Default False.
        harmonics: What ``geometry.harmonics`` holds, ``"unit"`` or ``"solid"``.
        features: One-hot elements times powers of the charge, ``features(z, dtype)``.
        head: The head.
        num_targets: Outputs per molecule.
        config: The arguments of the constructor as plain values.

    Raises:
        ConfigError, SpeciesError: An argument is out of range.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import Network
        >>> from torch_cormorant.nn.heads import LevelSizes
        >>> class Neighbours(Network):
        ...     self_edges, hops = False, 1
        ...     def __init__(self, species, cutoff=3.0, width=8):
        ...         super().__init__(species, cutoff)
        ...         self.start = torch.nn.Linear(self.features.out_features, width)
        ...         self.set_head("extensive", LevelSizes.of_scalars(width))
        ...     def run_levels(self, z, geometry):
        ...         source, target = geometry.edge_index
        ...         h = self.start(self.features(z, self.dtype))
        ...         w = torch.cos(torch.pi / 2 * geometry.edge_length / self.cutoff)
        ...         return [h.index_add(0, target, h[source] * w[:, None] ** 4).tanh()]
        >>> network = Neighbours([1, 8])
        >>> pos = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
        >>> tuple(network(torch.tensor([8, 1, 1]), pos).shape)
        (1, 1)
    """

    self_edges = True
    hops: int | None = None
    smooth_cutoff = False
    harmonics = "unit"
    backend = "auto"
    head: Head

    def __init__(
        self,
        species: Sequence[int],
        cutoff: float | None,
        *,
        charge_power: int = 2,
        charge_scale: float | None = None,
        max_edges: int = MAX_EDGES,
    ) -> None:
        super().__init__()
        self.config = plain_config(self.made_with)
        self.cutoff = None if cutoff is None else check_cutoff(cutoff)
        self.max_edges = max_edges
        self.features = AtomFeatures(species, charge_power, charge_scale)

    def set_head(
        self,
        head: HeadSpec | Sequence[HeadSpec],
        sizes: LevelSizes,
        num_targets: int = 1,
        **options: Any,
    ) -> None:
        """Give the network its head.

        Args:
            head: As :func:`~torch_cormorant.nn.make_head` takes it.
            sizes: Sizes of what :meth:`run_levels` returns.
            num_targets: Outputs, of each head if there are several.
            **options: ``hidden``, ``middle``, ``act``, for heads that have them.
        """
        self.head = make_head(head, sizes, num_targets, **options)
        self.num_targets = targets_of(self.head)

    def again(self, **changes: Any) -> Self:
        """A new network of the same class and arguments, with new weights.

        Args:
            **changes: Arguments of the constructor that are to differ.

        Raises:
            ConfigError: The constructor has no such argument, or refuses it.
        """
        try:
            with known(parts_in(self)):
                made = type(self)(**{**self.config, **changes})
        except TypeError as error:
            msg = f"{type(self).__name__} cannot be made with {sorted(changes)}"
            raise ConfigError(f"{msg}: {error}") from error
        weight = next(self.parameters())
        return made.to(weight.device, weight.dtype).train(self.training)

    def take_head(self, other: Self) -> None:
        """Have the head of another network, which :meth:`again` made."""
        self.head, self.num_targets = other.head, other.num_targets
        self.config, self.made_with = other.config, other.made_with

    def replace_head(
        self,
        head: HeadSpec | Sequence[HeadSpec],
        num_targets: int = 1,
        **options: Any,
    ) -> Self:
        """Another head with new weights on the same levels, for fine-tuning.

        What a model says of names, units and references of its outputs is forgotten,
        but for a potential, which stays one of the same energy.

        Args:
            head: As the constructor takes it.
            num_targets: Outputs, of each head if there are several. Default 1.
            **options: Further arguments of the constructor that heads read, such as
                ``hidden``.

        Returns:
            The network or model itself.

        Raises:
            ConfigError: The head does not fit, and nothing is changed.

        Example:
            >>> from torch_cormorant import Cormorant
            >>> model = Cormorant([1, 8], head="extensive", channels=4, num_levels=1)
            >>> model.replace_head("dipole").head.kind, model.config["head"]
            ('dipole', 'dipole')
        """
        self.take_head(self.again(head=head, num_targets=num_targets, **options))
        return self

    def run_levels(self, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """What the head reads: the one thing that a class must write.

        Everything that depends on positions must come from ``geometry``: forces are
        taken by its vectors.

        Args:
            z: Atomic numbers ``[N]``.
            geometry: The edges, with self edges if the class says so.

        Returns:
            One or several tensors, SO3-vectors ``[N, M, P, C]`` with M packed
            components, P planes and C channels, or scalars ``[N, C]``.
        """
        raise NotImplementedError(
            f"{type(self).__name__} defines no run_levels(z, geometry)"
        )

    def invariants(self, levels: Sequence[Tensor]) -> Tensor:
        """The numbers of every atom that a head starts from ``[N, I]``.

        Scalars as they are, of SO3-vectors those of
        ``torch_cormorant.nn.readout.scalars``. A class that reads something else
        tells its head so with ``LevelSizes(..., inputs=I)``.
        """
        flat = [level for level in levels if level.ndim == 2]
        rest = [level for level in levels if level.ndim != 2]
        values = [scalars(rest, self.backend)] if rest else []
        return torch.cat([*flat, *values], dim=-1) if flat else values[0]

    # ---------------------------------------------------------------- forward

    @property
    def dtype(self) -> torch.dtype:
        """Floating point type of the weights."""
        return cast("torch.dtype", dtype_of(self))  # masks of explanations are none

    @full_precision
    def forward(
        self,
        z: Tensor,
        pos: Tensor | None = None,
        batch: Tensor | None = None,
        *,
        num_graphs: int | None = None,
        return_levels: bool = False,
        **others: Any,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Predict from atomic numbers and positions.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom; never left out.
            batch: Molecule of each atom ``[N]``; None: one molecule.
            num_graphs: Number of molecules. Default: the largest of ``batch`` plus 1.
                A number that no atom has is a molecule without atoms: its row is what
                the head makes of an empty sum.
            return_levels: Also return the output of every level.
            **others: Refused; for cells there is ``evaluate`` of a potential.

        Returns:
            ``[num_graphs, *head.shape]``, and with ``return_levels`` what
            :meth:`run_levels` returns.
        """
        if others:
            refuse_arguments(others)
        if pos is None:
            msg = (
                f"the model needs z and pos, got one {type(z).__name__}; call "
                "model(batch.z, batch.pos, batch.batch)"
            )
            raise ArgumentError(msg)
        check_weights(self.dtype)
        z, batch = check_structures(z, pos, batch)
        self.features.check(z)
        count = count_graphs(batch, pos.shape[0], num_graphs)
        index = self.make_edges(pos, batch)
        geometry = self.geometry(index, pos[index[1]] - pos[index[0]], pos.shape[0])
        out, levels = self._run(z, geometry, batch, count, pos)
        return (out, levels) if return_levels else out

    @full_precision
    def forward_edges(
        self,
        z: Tensor,
        edge_index: Tensor,
        edge_vec: Tensor,
        *,
        batch: Tensor | None = None,
        num_graphs: int | None = None,
        pos: Tensor | None = None,
        return_levels: bool = False,
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Predict from an edge list: the core that :meth:`forward` builds a graph for.

        Args:
            z: Atomic numbers ``[N]``.
            edge_index: ``[2, E]``, row 0 = source, row 1 = target. Self edges with a
                zero vector may be present or not: they are made as the network needs.
            edge_vec: ``pos[target] - pos[source]`` (+ cell shift) ``[E, 3]``, Angstrom.
            batch: As in :meth:`forward`.
            num_graphs: As in :meth:`forward`.
            pos: Positions ``[N, 3]`` in Angstrom, for heads that read them
                (``"dipole"``, ``"spatial_extent"``, ``"polarizability"``).
            return_levels: As in :meth:`forward`.

        Returns:
            As :meth:`forward`.
        """
        check_weights(self.dtype)
        check_edge_tensors(edge_index, edge_vec)
        num_nodes = z.shape[0] if isinstance(z, Tensor) else 0
        z, batch = check_atoms(z, batch, num_nodes, edge_vec.device)
        if pos is not None:
            z, batch = check_structures(z, pos, batch)
        self.features.check(z)
        count = count_graphs(batch, num_nodes, num_graphs)
        edges = own_edges(edge_index, edge_vec, num_nodes, loop=self.self_edges)
        geometry = self.geometry(*edges, num_nodes)
        out, levels = self._run(z, geometry, batch, count, pos)
        return (out, levels) if return_levels else out

    def _run(
        self,
        z: Tensor,
        geometry: EdgeGeometry,
        batch: Tensor | None,
        count: int,
        pos: Tensor | None,
    ) -> tuple[Tensor, list[Tensor]]:
        levels = self.run_levels(z, geometry)
        return self.read_out(levels, geometry, batch, count, z=z, pos=pos), levels

    def make_edges(self, pos: Tensor, batch: Tensor | None) -> Tensor:
        """The graph of a batch ``[2, E]``, sorted by target; self edges as needed."""
        if self.cutoff is None:
            return all_pairs(
                batch,
                pos.shape[0],
                loop=self.self_edges,
                max_edges=self.max_edges,
                device=pos.device,
            )
        return radius_graph(pos.detach(), self.cutoff, batch, loop=self.self_edges)

    def geometry(
        self, edge_index: Tensor, edge_vec: Tensor, num_nodes: int
    ) -> EdgeGeometry:
        """What :meth:`run_levels` reads of edges, in the type of the weights."""
        vec = edge_vec.to(self.dtype)
        return EdgeGeometry(edge_index, vec, num_nodes, harmonics=self.harmonics)

    # ---------------------------------------------------------------- read-out

    @full_precision
    def read_out(
        self,
        levels: Sequence[Tensor],
        geometry: EdgeGeometry,
        batch: Tensor | None,
        num_graphs: int,
        *,
        z: Tensor | None = None,
        pos: Tensor | None = None,
        check: bool = True,
    ) -> Tensor:
        """From levels to what the head predicts, finite or refused.

        Args:
            levels: As :meth:`run_levels` returns them.
            geometry: The edges, for the message of an error.
            batch: Molecule of each atom.
            num_graphs: Number of molecules.
            z: Atomic numbers, for heads that read them.
            pos: Positions, for heads that read them.
            check: Refuse outputs that are not finite, which waits for a GPU (a graph
                compiled for one returns NaN instead). Default True.
        """
        out: Tensor = self.head(self.head_input(levels, batch, num_graphs, z, pos))
        if check and torch.compiler.is_compiling():
            out = out if out.is_cuda else refuse_nonfinite(out, self.head.rows)
        elif check:
            check_output(out, geometry, rows=self.head.rows)
        return out

    def head_input(
        self,
        levels: Sequence[Tensor],
        batch: Tensor | None,
        num_graphs: int = 1,
        z: Tensor | None = None,
        pos: Tensor | None = None,
    ) -> HeadInput:
        """What the head reads; scalars ``[N, C]`` as levels of degree 0."""
        if batch is None:
            batch = levels[0].new_zeros(levels[0].shape[0], dtype=torch.int64)
        wide = [v[:, None, None] if v.ndim == 2 else v for v in levels]
        return HeadInput(self.invariants(levels), wide, batch, num_graphs, z, pos)

    @full_precision
    def atomwise(self, levels: Sequence[Tensor], z: Tensor | None = None) -> Tensor:
        """Contribution of every atom to an extensive prediction, from the levels.

        Args:
            levels: Outputs of all levels, as ``return_levels`` gives.
            z: Atomic numbers ``[N]``, for heads that read them.

        Returns:
            ``[N, num_targets]``; their sums over molecules are the prediction.

        Raises:
            ConfigError: If the head is no sum over atoms.
        """
        if not self.head.additive:
            msg = (
                f"the head must be a sum over atoms, this model has "
                f"{self.head.kind!r}; make it with head='extensive'"
            )
            raise ConfigError(msg)
        given = self.head_input(levels, None, z=z)
        result: Tensor = self.head(given, summed=False)
        return result

    def atom_contributions(
        self, z: Tensor, pos: Tensor, batch: Tensor | None = None
    ) -> Tensor:
        """Contribution of every atom to an extensive prediction.

        Args:
            z: Atomic numbers ``[N]``.
            pos: Positions ``[N, 3]`` in Angstrom.
            batch: Molecule of each atom.

        Returns:
            ``[N, num_targets]``; their sums over molecules are what the model returns,
            without units: of a potential take ``evaluate(...).energies``.

        Raises:
            ConfigError: If the head is no sum over atoms.
        """
        _, levels = self.forward(z, pos, batch, return_levels=True)
        return self.atomwise(list(levels), z)


NETWORK_PARTS: Registry[Network] = Registry("network", Network, {})
N = TypeVar("N", bound=Network)


def register_network(name: str) -> Callable[[type[N]], type[N]]:
    """Give a class of networks a name, as a decorator: model files then need no more.

    Args:
        name: The name.

    Raises:
        ConfigError: Another class has that name.
    """
    add: Any = NETWORK_PARTS.register(name)
    return cast("Callable[[type[N]], type[N]]", add)
