"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import torch

from benchmarks import machine
from benchmarks.speed import cases, report
from benchmarks.speed.measure import peak_growth_mb
from benchmarks.speed.results import Run
from benchmarks.speed.settings import SECTIONS, Settings
from torch_cormorant.errors import BackendError, ConfigError, CormorantError

FEWEST_EDGES = 160
"""Of the sparse graph, so that its atoms have neighbours to choose from."""


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        msg = f"{text} is not at least 1"
        raise argparse.ArgumentTypeError(msg)
    return value


def _graph(text: str) -> str:
    found = re.fullmatch(r"[1-9]\d*x([1-9]\d*)|([1-9]\d*)", text)
    if not found or found[1] == "1" or (found[2] and int(found[2]) < FEWEST_EDGES):
        msg = (
            f"no graph {text!r}; expected 25x18 (molecules x atoms) or 20000 (edges, "
            f"at least {FEWEST_EDGES})"
        )
        raise argparse.ArgumentTypeError(msg)
    return text


def _sections(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        msg = f"no section {unknown[0]!r}; expected some of {','.join(SECTIONS)}"
        raise argparse.ArgumentTypeError(msg)
    return chosen


def _parser() -> Parser:
    parser = Parser(
        prog="python -m benchmarks.speed",
        description="Speed and memory beside peers and the published algorithm.",
    )
    add = parser.add_argument
    add(
        "--only",
        type=_sections,
        default=SECTIONS,
        metavar="A,B",
        help="sections to run: " + ",".join(SECTIONS),
    )
    add(
        "--threads",
        type=_positive,
        nargs="+",
        default=[1],
        metavar="N",
        help="threads of torch, a round of all sections for each; default 1",
    )
    add(
        "--repeat",
        type=_positive,
        default=5,
        metavar="N",
        help="timed repeats after a warm-up; default 5",
    )
    add(
        "--quick",
        action="store_true",
        help="tiny inputs, no memory: shows in seconds that it runs",
    )
    add(
        "--graphs",
        dest="chosen",
        type=_graph,
        nargs="+",
        default=[],
        metavar="G",
        help="graphs of aggregation, layer and harmonics: 25x18 (molecules x atoms, "
        "all pairs) or a number of edges; default 25x18 20000",
    )
    add(
        "--compiled",
        action="store_true",
        help="also e3nn and ours under torch.compile: many minutes more",
    )
    add(
        "--structures",
        type=Path,
        metavar="FOLDER",
        help="structures of the networks (dhfr.npz, ...); default: random clusters",
    )
    add("--systems", nargs="+", default=[], metavar="NAME", help="only these of them")
    add(
        "--peers",
        nargs="+",
        default=[],
        metavar="NAME",
        help="only these networks of other packages: SchNet ViSNet NequIP MACE",
    )
    add(
        "--no-memory",
        dest="memory",
        action="store_false",
        help="no fresh processes for memory",
    )
    add(
        "--inputs",
        type=Path,
        metavar="NPZ",
        help="speed_inputs.npz, the clusters of the training steps; default: generated",
    )
    add("--json", type=Path, metavar="FILE", help="write all figures")
    add("--png", type=Path, metavar="FILE", help="write a picture (needs matplotlib)")
    add(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write tables for the documentation",
    )
    add(
        "--load",
        type=Path,
        nargs="+",
        metavar="JSON",
        help="measure nothing, take the figures of earlier runs",
    )
    add("--memory-of", metavar="CASE", help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Args:
        arguments: Command line; default: that of the process.

    Returns:
        Exit status: 0, or 2 after a mistake in the arguments. Speed never changes it.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    try:
        if options.memory_of is not None:
            _print_memory(options)
        else:
            _check_outputs(options)
            run = _measure(options, given) if options.load is None else _load(options)
            _write(run, options)
    except CormorantError as error:
        sys.stderr.write(f"python -m benchmarks.speed: error: {error}\n")
        return 2
    return 0


def _settings(options: argparse.Namespace) -> Settings:
    given = {part.name: getattr(options, part.name) for part in fields(Settings)}
    lists = {name: tuple(v) for name, v in given.items() if isinstance(v, list)}
    return Settings(**(given | lists))


def _check_outputs(options: argparse.Namespace) -> None:
    """Complain before measuring for minutes."""
    for path in (options.json, options.png, options.markdown):
        if path is not None and not path.absolute().parent.is_dir():
            msg = f"the folder of {path} does not exist; make it first"
            raise ConfigError(msg)
    if options.png is not None and find_spec("matplotlib") is None:
        msg = "--png needs matplotlib: pip install matplotlib"
        raise BackendError(msg)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _print_memory(options: argparse.Namespace) -> None:
    with _threads(options.threads[0]):
        step = cases.make_step(options.memory_of, _settings(options))
        sys.stdout.write(f"{peak_growth_mb(step):.3f}\n")


def _load(options: argparse.Namespace) -> Run:
    run = Run.merged([Run.load(path) for path in options.load])
    shown = ""
    for row in run.rows:
        if row.section != shown:
            shown = row.section
            _say(report.line(None, shown))
        _say(report.line(row))
    return run


def _measure(options: argparse.Namespace, given: Sequence[str]) -> Run:
    settings = _settings(options)
    run = Run(machine.circumstances(given))
    for name, value in run.circumstances.items():
        _say(f"{name}: {value}")
    for number in settings.threads:
        with _threads(number):
            for section in settings.only:
                _say(report.line(None, section))
                for row in cases.RUNS[section](settings):
                    run.rows.append(row)
                    _say(report.line(row))
                if options.json is not None:
                    run.save(options.json)  # what is measured survives an interruption
    run.circumstances["load at end"] = machine.load()
    return run


def _write(run: Run, options: argparse.Namespace) -> None:
    if options.json is not None:
        run.save(options.json)
    if options.markdown is not None:
        options.markdown.write_text(report.markdown(run), encoding="utf-8")
    if options.png is not None:
        from benchmarks.speed.plots import plot

        plot(run, options.png)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
