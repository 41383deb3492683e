"""The benchmark runs, compares before it measures, and writes what it says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.speed import Row, Run, cases, formulations, main, report
from benchmarks.speed.measure import memory_is_measurable
from benchmarks.speed.settings import SECTIONS, Settings

FLOAT32_ERROR = 3e-5
OURS = "torch-cormorant, portable"
PEERS = ["e3nn", "e3nn uvu", "dense (published algorithm)"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sections once, with every output."""
    folder = tmp_path_factory.mktemp("bench")
    outputs = ["--json", str(folder / "b.json"), "--markdown", str(folder / "b.md")]
    assert main(["--quick", "--repeat", "1", *outputs]) == 0
    return folder


@pytest.fixture(scope="module")
def rows(written: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((written / "b.json").read_text())["rows"]
    return found


def test_every_section_is_measured(rows: list[dict[str, Any]]) -> None:
    assert {row["section"] for row in rows} == set(SECTIONS)
    for row in rows:
        if not row["note"]:
            assert row["cpu_ms"] >= 0
            assert row["wall_ms"] > 0
            assert row["edges"] > 0


def test_the_aggregation_is_compared_with_its_peers(
    rows: list[dict[str, Any]],
) -> None:
    for graph in Settings(quick=True).graphs:
        for measured in ("forward", "forward + backward"):
            names = [
                row["formulation"]
                for row in rows
                if (row["section"], row["graph"], row["measured"])
                == ("aggregation", graph, measured)
                and not row["note"]
            ]
            assert names.count(OURS) == 1
            dense = graph == "3x6"
            assert [name for name in PEERS if name in names] == PEERS[: 2 + dense]


def test_all_formulations_agree(rows: list[dict[str, Any]]) -> None:
    compared = [row for row in rows if row["error"] is not None]
    sections = {row["section"] for row in compared}
    assert sections == {"aggregation", "layer", "harmonics", "step", "large"}
    for row in compared:
        assert row["error"] < FLOAT32_ERROR, row


def test_a_dense_formulation_of_a_sparse_graph_is_refused_visibly(
    rows: list[dict[str, Any]],
) -> None:
    sparse = Settings(quick=True).graphs[1]
    notes = [
        row["note"]
        for row in rows
        if row["graph"] == sparse and row["formulation"] == PEERS[-1]
    ]
    assert notes
    assert all("not run" in note for note in notes)


def test_the_largest_graph_carries_the_fitted_exponent(
    rows: list[dict[str, Any]],
) -> None:
    fitted = [row for row in rows if row["exponent"] is not None]
    assert {row["formulation"] for row in fitted} == {"radius_graph", "CormorantConv"}
    assert all(math.isfinite(row["exponent"]) for row in fitted)


def test_a_written_run_is_read_again(
    written: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = written / "again.md"
    assert main(["--load", str(written / "b.json"), "--markdown", str(again)]) == 0
    assert again.read_text() == (written / "b.md").read_text()
    out = capsys.readouterr().out
    assert "Neighbour sum alone" in out
    assert "Radius graphs" in out
    assert Run.load(written / "b.json").circumstances["torch"] == torch.__version__


def test_several_runs_are_shown_as_one(written: Path) -> None:
    run = Run.load(written / "b.json")
    other = Run(run.circumstances | {"torch": "0.1"}, run.rows[:1])
    merged = Run.merged([run, other])
    assert merged.rows == [*run.rows, run.rows[0]]
    assert merged.circumstances["torch"] == f"{torch.__version__}; 0.1"
    assert merged.circumstances["cpu"] == run.circumstances["cpu"]


def test_whole_networks_say_their_rate_and_size(rows: list[dict[str, Any]]) -> None:
    found = [row for row in rows if row["section"] == "network" and not row["note"]]
    names = {row["formulation"] for row in found}
    assert {"Cormorant, portable", "SchNet", "ViSNet"} <= names
    for row in found:
        assert row["atoms"] == 12
        assert row["parameters"] > 10_000
        assert row["atoms_per_s"] == pytest.approx(12e3 / row["cpu_ms"])


def test_growth_with_channels_and_degree_is_measured(
    rows: list[dict[str, Any]],
) -> None:
    ours = [
        (row["channels"], row["lmax"])
        for row in rows
        if row["section"] == "scaling" and row["formulation"] == "torch-cormorant"
    ]
    assert ours == [(2, 2), (4, 2), (4, 1)]


@pytest.mark.parametrize(
    ("load", "warned"), [("0.1", False), ("unknown", False), ("0.2; 3.0", True)]
)
def test_a_busy_machine_is_said(load: str, warned: bool) -> None:
    run = Run({"cpu": "any", "load at start": load})
    assert ("Other programs ran" in report.markdown(run)) == warned


def test_a_picture_is_drawn(written: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = written / "b.png"
    assert main(["--load", str(written / "b.json"), "--png", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_panels_show_growth_with_threads_channels_and_degree(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure_module = pytest.importorskip("matplotlib.figure")
    from benchmarks.speed.plots import plot

    kept: list[Any] = []
    save = figure_module.Figure.savefig

    def keep(figure: Any, *arguments: Any, **options: Any) -> None:
        kept.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(figure_module.Figure, "savefig", keep)
    run = Run.load(written / "b.json")
    doubled = [replace(row, threads=2) for row in run.rows]
    plot(Run(run.circumstances, [*run.rows, *doubled]), written / "t.png")
    labels = [axes.get_xlabel() for axes in kept[0].axes]
    assert labels == [
        "times as long as our kernel (orange: goal)",
        "ordered pairs of atoms in a batch",
        "edges of the radius graph",
        "channels (lmax 2)",
        "lmax (4 channels)",
        "atoms",
        "threads",
        "",
        "",
    ]
    ours = next(iter(kept[0].axes[3].lines))
    assert list(ours.get_xdata()) == [2, 4]
    plot(Run(run.circumstances, []), written / "empty.png")
    assert not kept[1].axes[0].lines


def test_a_missing_peer_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(formulations, "find_spec", lambda _: None)
    arguments = ["--quick", "--repeat", "1", "--only", "aggregation,layer"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    missing = [line for line in lines if "e3nn not installed" in line]
    # Two graphs: four ways of the aggregation, one beside the whole layer.
    assert len(missing) == 10


def test_what_does_not_compile_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> Any:
        def call(*_: object, **__: object) -> None:
            raise RuntimeError("no compiler here\nand more")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    arguments = ["--quick", "--repeat", "1", "--only", "aggregation,layer,network"]
    few = ["--graphs", "2x3", "--peers", "SchNet"]
    assert main([*arguments, "--compiled", *few]) == 0
    lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if "not compiled: RuntimeError" in line]
    # Two ways of e3nn, one layer and one network of ours.
    assert len(said) == 4
    assert all(line.endswith("no compiler here") for line in said)


def test_missing_matplotlib_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("benchmarks.speed.cli.find_spec", lambda _: None)
    assert main(["--quick", "--png", str(tmp_path / "b.png")]) == 2
    captured = capsys.readouterr()
    assert "pip install matplotlib" in captured.err
    assert not captured.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "everything"], "no section 'everything'"),
        (["--threads", "0"], "not at least 1"),
        (["--repeat", "many"], "--repeat"),
        (["--graphs", "dhfr"], "no graph 'dhfr'"),
        (["--graphs", "3x1"], "no graph '3x1'"),
        (["--graphs", "20"], "at least 160"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--json", "nowhere/b.json"], "does not exist"),
        (["--load", "absent.json"], "cannot be read"),
        (["--quick", "--only", "step", "--inputs", "absent.npz"], "does not hold"),
        (["--memory-of", "weather/today"], "no section 'weather'"),
        (["--quick", "--only", "network", "--structures", "."], "does not hold z"),
        (["--quick", "--only", "network", "--peers", "GAP"], "no network 'GAP'"),
    ],
)
def test_missing_files_are_one_line_and_exit_code_2(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1


def test_a_file_of_another_format_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.json").write_text('{"format": 0}')
    assert main(["--load", str(tmp_path / "old.json")]) == 2
    assert "expected 1" in capsys.readouterr().err


def test_graphs_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--repeat", "1", "--only", "harmonics"]
    assert main([*arguments, "--graphs", "2x3", "160"]) == 0
    lines = capsys.readouterr().out.split("formulation")[1].splitlines()[1:]
    assert {line.split()[0] for line in lines} == {"2x3", "160"}


def test_peers_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--repeat", "1", "--only", "network"]
    assert main([*arguments, "--peers", "SchNet"]) == 0
    out = capsys.readouterr().out
    assert "SchNet" in out
    assert "Cormorant, portable" in out
    assert "ViSNet" not in out


@pytest.mark.skipif(not memory_is_measurable(), reason="Linux only")
@pytest.mark.parametrize(
    "case",
    [
        "aggregation/3x6/dense",
        "layer/3x6/stack",
        "step/2x5",
        "network/12 atoms/SchNet",
        "large/40/Cormorant",
    ],
)
def test_memory_of_one_step_is_printed(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--memory-of", case, "--quick"]) == 0
    grown = float(capsys.readouterr().out)
    assert 0 <= grown < 1000


def test_every_number_of_threads_gets_a_round_and_the_old_one_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []

    def spy(_: Settings) -> Iterator[Row]:
        seen.append(torch.get_num_threads())
        return iter(())

    monkeypatch.setitem(cases.RUNS, "step", spy)
    before = torch.get_num_threads()
    assert main(["--only", "step", "--threads", "1", str(before + 1)]) == 0
    assert seen == [1, before + 1]
    assert torch.get_num_threads() == before


def test_both_steps_of_the_captured_row_run() -> None:
    from benchmarks.speed import captured

    made = captured.steps_of("2x5", Settings(quick=True), "cpu")
    assert list(made) == [captured.EAGER, captured.CAPTURED]
    for step in made.values():
        step()
