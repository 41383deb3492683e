"""What a run of the benchmark is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SECTIONS = (
    "aggregation",
    "layer",
    "harmonics",
    "step",
    "network",
    "scaling",
    "large",
)


@dataclass(frozen=True)
class Settings:
    """Sizes and effort of a run.

    Attributes:
        only: Sections to run.
        threads: Threads of torch; each number gets a round of all sections.
        repeat: Timed repeats after one warm-up.
        quick: Tiny inputs that take seconds; the figures mean nothing.
        memory: Measure memory in fresh processes (Linux).
        compiled: Also e3nn and ours under ``torch.compile``, which takes minutes.
        structures: Folder with structures (``dhfr.npz``, ...) for the networks, or
            None: random clusters.
        systems: Which of them; default: five of 22 to 2,489 atoms.
        peers: Which networks of other packages; default: all.
        chosen: Graphs of the aggregation, the layer and the harmonics; default:
            ``25x18`` (25 molecules of 18 atoms, all pairs) and ``20000`` (edges).
        inputs: ``speed_inputs.npz`` with the clusters of the training steps, or None:
            clusters are generated.
    """

    only: tuple[str, ...] = SECTIONS
    threads: tuple[int, ...] = (1,)
    repeat: int = 5
    quick: bool = False
    memory: bool = True
    compiled: bool = False
    structures: Path | None = None
    systems: tuple[str, ...] = ()
    peers: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    inputs: Path | None = None

    @property
    def lmax(self) -> int:
        """Largest degree."""
        return 2 if self.quick else 3

    @property
    def channels(self) -> int:
        """Complex channels."""
        return 4 if self.quick else 16

    @property
    def graphs(self) -> tuple[str, ...]:
        """Graphs of the aggregation and of the layer, as ``graphs.make`` reads them."""
        if self.chosen:
            return self.chosen
        return ("3x6", "320") if self.quick else ("25x18", "20000")

    @property
    def steps(self) -> tuple[str, ...]:
        """Clusters of the training steps."""
        if self.quick:
            return ("2x5", "1x8")
        return ("25x18", "1x50", "1x100", "1x200", "1x400")

    @property
    def large(self) -> tuple[int, ...]:
        """Atoms of the radius graphs, ascending."""
        return (40, 120) if self.quick else (1000, 3000, 10_000)

    @property
    def networks(self) -> tuple[int, ...]:
        """Atoms of the radius graphs that a whole network runs on."""
        return (40,) if self.quick else (1000,)

    @property
    def network_structures(self) -> tuple[str, ...]:
        """Structures of the section ``network``."""
        if self.structures is None:
            return ("12 atoms",) if self.quick else ("100 atoms", "1000 atoms")
        if self.systems:
            return self.systems
        if self.quick:
            return ("alanine_dipeptide",)
        return (
            "alanine_dipeptide",
            "chignolin",
            "water_192_pbc",
            "crystal_Si",
            "dhfr",
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the section ``scaling``."""
        return (2, 4) if self.quick else (4, 8, 16, 32, 64)

    @property
    def degrees(self) -> tuple[int, ...]:
        """Largest degrees of the section ``scaling``."""
        return (1, 2) if self.quick else (1, 2, 3, 4, 5)

    @property
    def cutoff(self) -> float:
        """Radius of those graphs in Angstrom."""
        return 5.0
