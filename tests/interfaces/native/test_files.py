"""Native model files: from Python to C and back."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torch_cormorant import Cormorant, save_model
from torch_cormorant.cli import main
from torch_cormorant.errors import ConfigError, ModelFileError
from torch_cormorant.interfaces.native import NativePotential, native_problem
from torch_cormorant.ops import cpu_kernel

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "native" / "water.c"
WATER = np.array([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])

Make = Callable[..., Any]


@pytest.fixture
def saved(make: Make, tmp_path: Path) -> tuple[NativePotential, Path]:
    native = NativePotential(make(channels=3, num_levels=2))
    path = tmp_path / "model.cormorant"
    native.save(path)
    return native, path


def test_a_file_gives_the_same_numbers(saved: tuple[NativePotential, Path]) -> None:
    native, path = saved
    wanted = native.evaluate([8, 1, 1], WATER)
    read = NativePotential.from_file(path)
    assert torch.equal(read.evaluate([8, 1, 1], WATER).forces, wanted.forces)
    assert (read.unit, read.cutoff, read.dtype) == ("eV", 5.0, torch.float64)
    single = NativePotential.from_file(path, dtype=torch.float32)
    error = (single.evaluate([8, 1, 1], WATER).forces - wanted.forces).abs().max()
    assert 0 < error < 1e-5
    assert path.read_bytes()[:5] == b"CMNV2"


def test_the_command(make: Make, tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("safetensors")
    model, path = make(channels=3, num_levels=2), tmp_path / "model.safetensors"
    save_model(path, model)
    out = tmp_path / "model.cormorant"
    assert main(["native", str(path), str(out)]) == 0
    assert "energies in eV, cutoff 5 Angstrom" in capsys.readouterr().out
    assert NativePotential(model)._block == out.read_bytes()
    save_model(path, Cormorant([1, 6, 8], channels=2, num_levels=1), units=["eV"])
    assert main(["native", str(path), str(out)]) == 2
    assert "does not cover this model: input is" in capsys.readouterr().err


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.cormorant"):
        NativePotential.from_file(tmp_path / "none.cormorant")
    path = tmp_path / "other.safetensors"
    path.write_bytes(bytes(1000))
    with pytest.raises(ModelFileError, match=r"other\.safetensors.*no native model"):
        NativePotential.from_file(path)


def test_a_long_unit_is_refused(make: Make) -> None:
    model = make(channels=2, num_levels=1)
    long = "thousands of Hartree"
    model.info = type(model.info)(**{**vars(model.info), "units": (long,)})
    assert long in native_problem(model)


def test_the_example_in_c(saved: tuple[NativePotential, Path], tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    native, path = saved
    program, library = tmp_path / "water", tmp_path / "libcormorant.so"
    shutil.copy(cpu_kernel.FILE, library)
    subprocess.run(
        [
            *(compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", str(EXAMPLE)),
            *("-I", str(ROOT / "torch_cormorant" / "csrc" / "native")),
            *("-L", str(tmp_path), "-l:libcormorant.so", "-Wl,-rpath,$ORIGIN"),
            *("-o", str(program)),
        ],
        check=True,
    )
    done = subprocess.run(
        [program, path], check=True, capture_output=True, text=True, env={}
    )
    first, *rest = done.stdout.splitlines()
    wanted = native.evaluate([8, 1, 1], WATER)
    assert wanted.forces is not None
    assert first == f"{float(wanted.energy):.17g} eV"
    forces = np.array([[float(x) for x in line.split()] for line in rest])
    assert np.array_equal(forces, wanted.forces.numpy())
    path.write_bytes(path.read_bytes()[:-8])
    broken = subprocess.run(
        [program, path], check=False, capture_output=True, text=True, env={}
    )
    assert broken.returncode == 1
    assert "damaged" in broken.stderr


@pytest.mark.parametrize("cell", [None, 4 * np.eye(3)])
def test_a_skin_changes_rounding_only(make: Make, atoms: Any, cell: Any) -> None:
    model = make(channels=3, num_levels=2, cutoff=3.0)
    plain, kept = NativePotential(model), NativePotential(model, skin=0.6)
    random, (z, pos) = np.random.default_rng(0), atoms(12)
    for turn in range(12):
        pos = pos + 0.08 * random.normal(size=pos.shape)
        if turn == 6:  # a walk around the periodic cell, and another cell
            pos[0] += 4.0
            cell = None if cell is None else cell * 1.01
        wanted = plain.evaluate(z, pos, cell, stress=cell is not None)
        found = kept.evaluate(z, pos, cell, stress=cell is not None)
        assert (found.energy - wanted.energy).abs() < 1e-12
        assert wanted.forces is not None
        scale = wanted.forces.abs().max()
        assert (found.forces - wanted.forces).abs().max() < 1e-12 * scale
    with pytest.raises(ConfigError, match="skin"):
        NativePotential(model, skin=-1.0)
