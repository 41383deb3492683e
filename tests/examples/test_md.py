"""The examples of potentials as a user starts them, with few steps."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write

from torch_cormorant.ops import cpu_kernel

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module", autouse=True)
def _needs() -> None:
    pytest.importorskip("ase")
    pytest.importorskip("safetensors")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{name}_example", EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("engine", ["ase", "native"])
@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_dynamics_write_a_trajectory_and_a_drift_plot(
    ensemble: str, engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if engine == "native" and cpu_kernel.problem():
        pytest.skip(f"the CPU kernel is {cpu_kernel.problem()}")
    example = load("md.py")
    out = tmp_path / "out"
    arguments = f"--ensemble {ensemble} --engine {engine} --ps 0.03 --out {out}"
    assert example.main(arguments.split()) == 0
    text = capsys.readouterr().out
    assert text.startswith("NVE," if ensemble == "nve" else "Langevin,")
    assert ("drift" in text) == (ensemble == "nve")
    expected = {"trajectory.extxyz", "energies.csv", "drift.png", "results.json"}
    assert names(out) == expected
    frames = read(out / "trajectory.extxyz", ":")
    assert len(frames) == 7
    assert set(frames[0].info) == {"time_ps"}, "no words of the comment of --start"
    results = json.loads((out / "results.json").read_text())
    assert results["steps"] == 60
    if ensemble == "nve":
        assert results["total_energy"]["fluctuation"] < 1e-4


def test_a_run_that_goes_on_is_the_run_in_one_piece(tmp_path: Path) -> None:
    example = load("md.py")
    arguments = "--every 5 --temperature 600 --dtype float64 --out"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert example.main(f"--ps 0.02 {arguments} {whole}".split()) == 0
    assert example.main(f"--ps 0.01 {arguments} {parts}".split()) == 0
    # a run that was killed may have noted one energy more than frames
    with (parts / "energies.csv").open("a") as table:
        table.write("0.012500,0,0,0\n")
    assert example.main(f"--resume --ps 0.01 {arguments} {parts}".split()) == 0
    for name in (whole, parts):
        assert len(read(name / "trajectory.extxyz", ":")) == 9
    one, two = (
        np.genfromtxt(name / "energies.csv", delimiter=",", names=True)
        for name in (whole, parts)
    )
    assert one["time_ps"].tolist() == two["time_ps"].tolist()
    np.testing.assert_allclose(one["potential_eV"], two["potential_eV"], atol=1e-5)
    first, last = (read(name / "trajectory.extxyz") for name in (whole, parts))
    np.testing.assert_allclose(first.positions, last.positions, atol=1e-5)
    results = json.loads((parts / "results.json").read_text())
    assert results["ps"] == 0.02


def test_a_run_cannot_go_on_from_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("md.py")
    assert example.main(f"--resume --out {tmp_path}".split()) == 2
    assert "trajectory.extxyz: no such file" in capsys.readouterr().err
    still = read(EXAMPLES / "models" / "ethanol.xyz")
    write(tmp_path / "trajectory.extxyz", still)
    assert example.main(f"--resume --out {tmp_path}".split()) == 2
    assert "no velocities" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["md.py", "relax.py", "vibrations.py"])
def test_files_that_are_no_structures_are_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load(name)
    path = tmp_path / "start.xyz"
    for text, words in (
        (None, "no such file"),
        ("", "not read as a structure"),
        ("3\n\nH 0 0 0\n", "not read as a structure"),
        ("0\n\n", "holds no atoms"),
    ):
        if text is not None:
            path.write_text(text)
        assert example.main(f"--start {path} --out {tmp_path}".split()) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"{name}: error: {path}: ")
        assert words in error


def test_a_run_that_blows_up_ends_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("md.py")
    start, out = tmp_path / "start.xyz", tmp_path / "out"
    atoms = read(EXAMPLES / "models" / "ethanol.xyz")
    atoms.positions[1] = atoms.positions[0] + (0.02, 0.0, 0.0)
    write(start, atoms)
    assert example.main(f"--start {start} --ps 0.1 --out {out}".split()) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("md.py: error: the run blew up at step")
    assert (out / "last_good.xyz").exists()


def test_an_unknown_element_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("md.py")
    atoms = read(EXAMPLES / "models" / "ethanol.xyz")
    atoms.symbols[2] = "S"
    write(tmp_path / "start.xyz", atoms)
    out = tmp_path / "out"
    assert example.main(f"--start {tmp_path}/start.xyz --out {out}".split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("md.py: error: atoms: atom 2 has atomic number 16")
    assert "blew up" not in error
    assert names(out) == set()


def test_several_runs_at_once_and_bad_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("md_gates.py")
    runs = ["nve:300:0.5", "nve:300:0.25", "langevin:600:0.5"]
    arguments = f"--ps 0.02 --every 5 --out {tmp_path} --runs"
    assert example.main([*arguments.split(), *runs]) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert [row["run"] for row in found[:-1]] == runs
    assert found[0]["ps"] == pytest.approx(0.02)
    assert found[1]["ps"] == pytest.approx(0.01)
    assert found[0]["fluctuation"] < 1e-4
    with np.load(tmp_path / "energies.npz") as series:
        assert series["runs"].tolist() == runs
        assert series["total_eV"].shape == (8, 3)
        np.testing.assert_allclose(series["time_ps"][-1], [0.02, 0.01, 0.02])
    assert example.main(["--runs", "nvt:300:1"]) == 2
    assert "is not like nve:300:0.5" in capsys.readouterr().err


def test_gates_by_the_engine_agree_with_the_traced_graph(tmp_path: Path) -> None:
    example = load("md_gates.py")
    found = []
    for name, more in (("traced", []), ("engine", ["--engine"])):
        arguments = f"--ps 0.012 --every 1 --out {tmp_path / name} --runs".split()
        runs = ["nve:300:0.5", "nve:1000:0.25"]
        assert example.main([*arguments, *runs, *more]) == 0
        text = (tmp_path / name / "results.json").read_text()
        found.append(json.loads(text)[:-1])
    for ours, theirs in zip(*found, strict=True):
        for key in ("mean_K", "fluctuation", "stretch"):
            assert ours[key] == pytest.approx(theirs[key], rel=1e-6)
        assert ours["error"] >= 0


def test_gates_of_a_periodic_box_need_the_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("md_gates.py")
    box = read(EXAMPLES / "models" / "ethanol.xyz")
    box.set_cell([7.0, 7.5, 8.0])
    box.pbc = True
    box.positions += 3.0  # across the border, as in a liquid
    box.wrap()
    write(tmp_path / "box.extxyz", box)
    arguments = f"--start {tmp_path}/box.extxyz --ps 0.01 --every 2 --out {tmp_path}"
    assert example.main([*arguments.split(), "--runs", "nve:300:0.5"]) == 2
    assert "is periodic; use --engine" in capsys.readouterr().err
    more = ["--engine", "--runs", "nve:300:0.5", "nve:300:0.25"]
    assert example.main([*arguments.split(), *more]) == 0
    found = json.loads((tmp_path / "results.json").read_text())
    assert found[0]["fluctuation"] < 1e-4
    assert 1.0 < found[0]["stretch"] < 1.3


def test_the_error_of_a_drift_counts_slow_waves() -> None:
    example = load("md_gates.py")
    times = torch.linspace(0, 10, 2000, dtype=torch.float64)
    slow = torch.randn(40, generator=torch.Generator().manual_seed(0)).double()
    waves = slow.repeat_interleave(50)
    plain = example.linear_drift(times.tolist(), waves.tolist(), 1)["error"]
    assert 3 * plain < example.block_error(times, waves, 1) < 10 * plain
    assert example.block_error(times[:10], waves[:10], 1) == 0


def test_a_molecule_relaxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = load("relax.py")
    arguments = f"--rattle 0.02 --fmax 0.05 --out {tmp_path}"
    assert example.main(arguments.split()) == 0
    assert capsys.readouterr().out.startswith("relaxed after")
    assert names(tmp_path) == {"relaxed.xyz", "relax.extxyz", "relax.png"}


def test_vibrations_of_ethanol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("vibrations.py")
    assert example.main(f"--ps 0.02 --out {tmp_path}".split()) == 0
    line = capsys.readouterr().out.splitlines()[0]
    modes = [float(word) for word in line.split(":")[1].split()]
    assert len(modes) == 21
    assert modes[0] > 50, "a minimum"
    assert 3000 < modes[-1] < 4200, "the O-H bond"
    assert {"vibrations.png", "vibrations.csv"} <= names(tmp_path)
    box = read(EXAMPLES / "models" / "ethanol.xyz")
    box.set_cell([9.0, 9, 9])
    box.pbc = True
    write(tmp_path / "box.extxyz", box)
    arguments = f"--start {tmp_path}/box.extxyz --out {tmp_path}"
    assert example.main(arguments.split()) == 2
    assert "without a periodic cell" in capsys.readouterr().err


def test_a_spectrum_has_its_peak_where_the_oscillation_is() -> None:
    example = load("vibrations.py")
    time = np.arange(4000) * 0.5
    wave = 1500 / 1e13 * 299_792_458.0  # cycles per fs
    speeds = np.cos(2 * np.pi * wave * time)[:, None, None] * np.ones((1, 2, 3))
    found, power = example.spectrum(speeds, np.ones(2), 0.5)
    assert found[power.argmax()] == pytest.approx(1500, abs=20)


@pytest.mark.parametrize("suffix", ["pdb", "xyz", "extxyz", "npz"])
def test_large_molecules_of_every_format(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("large_molecule.py")
    path = tmp_path / f"water.{suffix}"
    atoms = Atoms("OHH" * 4, np.random.default_rng(0).uniform(0, 9, (12, 3)))
    if suffix == "npz":
        np.savez(path, z=atoms.numbers, pos=atoms.positions)
    else:
        kind = "proteindatabank" if suffix == "pdb" else suffix
        write(path, atoms, format=kind)
    small = "--channels 2 --levels 1 --lmax 1 --memory 200MiB"
    assert example.main([str(path), *small.split(), "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "12 atoms" in text
    assert "atoms/s" in text
    assert torch.isfinite(torch.tensor(float(text.split("largest force ")[1])))


def test_a_slab_of_a_large_system_stays_periodic(tmp_path: Path) -> None:
    example = load("large_molecule.py")
    slab = Atoms("OHH", np.eye(3), cell=np.diag([6.0, 6, 0]), pbc=(True, True, False))
    write(tmp_path / "slab.extxyz", slab)
    found = example.read_system(tmp_path / "slab.extxyz")
    assert found.pbc.tolist() == [True, True, False]
    slab.set_cell(np.eye(3))
    slab.pbc = True
    write(tmp_path / "dummy.pdb", slab)
    assert example.read_system(tmp_path / "dummy.pdb").cell is None


def test_the_scaling_is_drawn_and_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("large_molecule.py")
    small = f"--channels 2 --levels 1 --lmax 1 --out {tmp_path}".split()
    assert example.main(["--scaling", "50", "100", *small]) == 0
    assert (tmp_path / "scaling.png").exists()
    assert "to the power" in capsys.readouterr().out
    (tmp_path / "zero.xyz").write_text("0\n\n")
    np.savez(tmp_path / "zero.npz", z=np.zeros(0), pos=np.zeros((0, 3)))
    for bad, text in (
        ([str(tmp_path / "none.pdb")], "no such file"),
        ([str(tmp_path / "zero.xyz")], "holds no atoms"),
        ([str(tmp_path / "zero.npz")], "do not fit"),
        (["--scaling", "500", "--memory", "1MiB"], "MiB, the budget is 1 MiB"),
    ):
        assert example.main([*bad, *small]) == 2
        assert text in capsys.readouterr().err


def test_arrays_of_a_large_molecule_are_not_misread(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example = load("large_molecule.py")
    atoms = Atoms("OHH" * 4, np.random.default_rng(0).uniform(0, 9, (12, 3)))
    base = {"z": atoms.numbers, "pos": atoms.positions}
    cell = np.eye(3) * 9
    np.savez(tmp_path / "cell.npz", **base, cell=cell)
    system = example.read_system(tmp_path / "cell.npz")
    assert system.pbc is not None
    assert system.pbc.all(), "a cell without pbc repeats"
    np.savez(tmp_path / "open.npz", **base, cell=cell, pbc=np.zeros(3))
    assert example.read_system(tmp_path / "open.npz").cell is None
    pos = np.stack([atoms.positions] * 2)
    np.savez(tmp_path / "run.npz", z=atoms.numbers, pos=pos)
    assert len(example.read_system(tmp_path / "run.npz").pos) == 12
    assert "run.npz: frame 0 of 2" in capsys.readouterr().out
    np.savez(tmp_path / "many.npz", **base, offset=[0, 6, 12])
    assert example.main([str(tmp_path / "many.npz")]) == 2
    assert "holds 2 structures" in capsys.readouterr().err
