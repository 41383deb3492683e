"""The figures of a run, and how they are kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.measure import Timing
from torch_cormorant.errors import DataError

FORMAT = 1


@dataclass(frozen=True)
class Row:
    """One measured formulation.

    Attributes:
        section: One of :data:`benchmarks.speed.settings.SECTIONS`.
        graph: What it ran on.
        measured: What was run: ``"forward"``, ``"forward + backward"``, ...
        edges: Number of directed edges.
        formulation: Who computed it.
        threads: Threads of torch; default: as they are set.
        cpu_ms: Median process CPU time in milliseconds; None: not measured.
        wall_ms: Median wall time in milliseconds.
        error: Largest relative difference: of a peer's result and gradients from
            ours; of our result from the plain reference. None: not compared.
        ratio: Time of this formulation over ours; CPU time on one thread, else wall.
        goal: Smallest ratio that is aimed at.
        memory_mb: Growth of the peak resident memory in a fresh process, MB.
        published_s: Time of the published code in seconds on two cores, as a stated
            reference (not measured here).
        exponent: Fitted exponent of the time against the number of edges.
        note: Why something is missing.
        atoms: Number of atoms, where the rate of atoms is asked for.
        parameters: Weights of a whole network.
        channels: Where it varies within a section.
        lmax: Largest degree, where it varies within a section.
    """

    section: str
    graph: str
    measured: str
    edges: int
    formulation: str = ""
    threads: int = field(default_factory=torch.get_num_threads)
    cpu_ms: float | None = None
    wall_ms: float | None = None
    error: float | None = None
    ratio: float | None = None
    goal: float | None = None
    memory_mb: float | None = None
    published_s: float | None = None
    exponent: float | None = None
    note: str = ""
    atoms: int | None = None
    parameters: int | None = None
    channels: int | None = None
    lmax: int | None = None

    def timed(self, timing: Timing, ours: Timing | None = None, **more: Any) -> Row:
        """The same row with its times, their ratio to ours and what else is known."""
        ratio = None if ours is None else timing.over(ours)
        row = replace(self, cpu_ms=timing.cpu_ms, wall_ms=timing.wall_ms, ratio=ratio)
        return replace(row, **more)

    @property
    def atoms_per_s(self) -> float | None:
        """Atoms per second."""
        if self.atoms is None or not self.spent_ms:
            return None
        return 1e3 * self.atoms / self.spent_ms

    @property
    def edges_per_s(self) -> float | None:
        """Directed edges per second."""
        return 1e3 * self.edges / self.spent_ms if self.spent_ms else None

    @property
    def spent_ms(self) -> float | None:
        """CPU time on one thread, else wall time."""
        return self.cpu_ms if self.threads == 1 else self.wall_ms


@dataclass
class Run:
    """All rows of a run and the circumstances they belong to."""

    circumstances: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        content = {
            "format": FORMAT,
            "circumstances": self.circumstances,
            "rows": [
                asdict(row)
                | {"edges_per_s": row.edges_per_s, "atoms_per_s": row.atoms_per_s}
                for row in self.rows
            ],
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def merged(cls, runs: Sequence[Run]) -> Run:
        """All rows of several runs; circumstances that differ are listed."""
        names = dict.fromkeys(name for run in runs for name in run.circumstances)
        joined = {
            name: "; ".join(
                dict.fromkeys(run.circumstances.get(name, "unknown") for run in runs)
            )
            for name in names
        }
        return cls(joined, [row for run in runs for row in run.rows])

    @classmethod
    def load(cls, path: Path) -> Run:
        """Read a file that :meth:`save` wrote.

        Raises:
            DataError: It cannot be read, or is no such file.
        """
        known = {part.name for part in fields(Row)}
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                msg = f"{path} has format {content['format']}, expected {FORMAT}"
                raise DataError(msg)
            rows = [
                Row(**{name: row[name] for name in known if name in row})
                for row in content["rows"]
            ]
            return cls(dict(content["circumstances"]), rows)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            msg = (
                f"{path} cannot be read ({error}); expected a file written with --json"
            )
            raise DataError(msg) from error
