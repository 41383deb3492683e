"""Own files: extended XYZ by our reader, other formats by ASE."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from torch_cormorant.data import (
    Frames,
    MiniEthanol,
    frame_index,
    read_extxyz,
    reference_energies,
    unit_factor,
    write_extxyz,
)
from torch_cormorant.errors import ConfigError, DataError

TWO = """3
Properties=species:S:1:pos:R:3:forces:R:3 energy=-20.5 config_type="bulk water"
O 0.0 0.0 0.1 0.5 0.25 0.125
H 0.0 0.76 -0.5 -0.5 0.0 1e-3
H 0.0 -0.76 -0.5 0.0 -0.25 -1e-3
1
Properties=species:S:1:pos:R:3:forces:R:3 energy=-13.6 config_type=IsolatedAtom
H 1 2 3 0 0 0
"""
CRYSTAL = """2
Lattice="4 0 0 0 4.5 0 0.5 0 5" pbc="T T F" Properties=species:S:1:pos:R:3 \
energy=-3 stress="1 6 5 6 2 4 5 4 3" dipole="0.1 0.2 0.3" virial="1 0 0 0 1 0 0 0 1"
Si 0 0 0
Ge 2 2 2
"""


@pytest.fixture
def two(tmp_path: Path) -> Path:
    path = tmp_path / "two.extxyz"
    path.write_text(TWO)
    return path


@pytest.fixture
def crystal(tmp_path: Path) -> Path:
    path = tmp_path / "crystal.extxyz"
    path.write_text(CRYSTAL)
    return path


def opened(folder: Path, text: str, **options: Any) -> Frames:
    """Return the frames of a text, without energies and forces unless asked for."""
    (folder / "a.extxyz").write_text(text)
    return read_extxyz(
        folder / "a.extxyz", **{"energy": None, "forces": None, **options}
    )


def test_comments_may_say_a_word_twice(tmp_path: Path) -> None:
    comment = "1\nE = -1.0 after, E = -0.9 before\nH 0 0 0\n"
    assert opened(tmp_path, comment)[0].z.tolist() == [1]
    same = "1\nProperties=species:S:1:pos:R:3 energy=1.0 energy=1.00\nH 0 0 0\n"
    assert opened(tmp_path, same, energy="energy")[0].energy.item() == 1.0


def test_frames_have_the_promised_fields(two: Path) -> None:
    dataset = read_extxyz(two)
    assert len(dataset) == 2
    data = dataset[0]
    assert data.z.tolist() == [8, 1, 1]
    assert data.pos[1].tolist() == [0.0, 0.76, -0.5]
    assert data.energy.tolist() == [-20.5]
    assert data.forces[0].tolist() == [0.5, 0.25, 0.125]
    for name in ("pos", "energy", "forces"):
        assert data[name].dtype == torch.float64
    assert data.z.dtype == torch.int64
    assert "cell" not in data
    assert dataset.species == (1, 8)
    assert dataset.energies.tolist() == [-20.5, -13.6]
    assert dataset.element_counts().tolist() == [[2, 1], [1, 0]]
    assert dataset[[1]].element_counts().tolist() == [[1, 0]]
    assert dataset[[1]].energies.tolist() == [-13.6]
    assert dataset.isolated_energies == {1: -13.6}
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert batch.forces.shape == (4, 3)
    assert batch.energy.tolist() == [-20.5, -13.6]


def test_cell_stress_and_dipole(crystal: Path) -> None:
    labels = {"forces": None, "stress": "stress", "dipole": "dipole"}
    data = read_extxyz(crystal, **labels, dipole_unit="e*A")[0]
    assert data.cell.tolist() == [[[4, 0, 0], [0, 4.5, 0], [0.5, 0, 5]]]
    assert data.pbc.tolist() == [[True, True, False]]
    assert data.stress.tolist() == [[[1, 6, 5], [6, 2, 4], [5, 4, 3]]]
    assert data.dipole.tolist() == [[0.1, 0.2, 0.3]]
    debye = read_extxyz(crystal, forces=None, dipole="dipole")[0].dipole
    assert debye[0, 0] == pytest.approx(0.1 * 4.803204712570263, rel=1e-9)
    virial = read_extxyz(crystal, forces=None, virial="virial")[0].stress
    np.testing.assert_allclose(virial[0], -np.eye(3) / 90, rtol=1e-14)
    with pytest.raises(ConfigError, match="stress, virial: give one"):
        read_extxyz(crystal, stress="stress", virial="virial")


def test_six_numbers_are_a_stress_in_the_order_of_voigt(tmp_path: Path) -> None:
    text = CRYSTAL.replace("1 6 5 6 2 4 5 4 3", "1 2 3 4 5 6")
    stress = opened(tmp_path, text, stress="stress")[0].stress
    assert stress.tolist() == [[[1, 6, 5], [6, 2, 4], [5, 4, 3]]]


def test_names_and_units_are_mapped(two: Path) -> None:
    two.write_text(TWO.replace("energy=", "dft_E=").replace("forces", "F"))
    kcal = {"energy": "kcal/mol", "pos": "nm"}
    dataset = read_extxyz(two, energy="dft_E", forces="F", units=kcal)
    data, factor = dataset[0], unit_factor("kcal/mol", "eV")
    assert data.energy.item() == pytest.approx(-20.5 * factor, rel=1e-14)
    assert data.forces[0, 0].item() == pytest.approx(0.05 * factor, rel=1e-14)
    assert data.pos[1].tolist() == pytest.approx([0.0, 7.6, -5.0])
    own = read_extxyz(two, energy="dft_E", forces="F", units=kcal, unit="kcal/mol")
    assert own.energies.tolist() == [-20.5, -13.6]
    assert own.energy_unit == "kcal/mol"
    with pytest.raises(ConfigError, match="units: 'force' is not one of pos, energy"):
        read_extxyz(two, units={"force": "eV"})
    with pytest.raises(ConfigError, match="measure different things"):
        read_extxyz(two, units={"forces": "eV"})


def test_plain_xyz_needs_no_properties(tmp_path: Path) -> None:
    path = tmp_path / "plain.xyz"
    path.write_text("2\nhydrogen, made up\nH 0 0 0 0.1\nh 0 0 0.7\t0.2\r\n\n")
    dataset = read_extxyz(path, energy=None, forces=None)
    assert dataset[0].z.tolist() == [1, 1]
    assert dataset[0].pos[1].tolist() == [0, 0, 0.7]
    assert dataset.energy_unit is None
    with pytest.raises(DataError, match="'energy' is missing, there is nothing"):
        read_extxyz(path)[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("energy=-20.5", "E=-20.5", "frame 0: 'energy' is missing, there is E, config"),
        (":forces:R:3 energy=-13", ":F:R:3 energy=-13", "frame 1: 'forces' is missing"),
        ("energy=-13.6", "energy=nan", "frame 1: 'energy': found nan, expected finite"),
        ("energy=-13.6", "energy=none", "frame 1: 'energy': 'none' holds no numbers"),
        ("energy=-13.6", 'energy="1 2"', "frame 1: 'energy': 2 numbers, expected 1"),
        ("H 1 2 3", "H 1 inf 3", r"frame 1: 'pos': atom 0 has \[1.0, inf, 3.0\]"),
        ("1e-3", "nan", "frame 0: 'forces': atom 1 has .*nan"),
        ("H 1 2 3", "Xx 1 2 3", "frame 1: 'species': atom 0: 'Xx' is no element"),
        ("H 1 2 3", "H 1 2,5 3", "frame 1: 'pos': atom 0: '2,5' is no number"),
        ("H 1 2 3", "H 1 2", "frame 1: atom 0: 6 fields, expected 7"),
        ("H 1 2 3", "H 1 2 3 4", "frame 1: atom 0: 8 fields, expected 7"),
        ("forces:R:3 energy=-13", "forces:R:2:q:R:1 energy=-13", "frame 1: .* 2 col"),
        (
            "pos:R:3:forces:R:3 energy=-13",
            "pos:X:3 energy=-13",
            "frame 1: 'Properties'",
        ),
        (
            "species:S:1:pos:R:3:forces:R:3 energy=-13",
            "s:S:1:pos:R:3:forces:R:3 energy=-13",
            "frame 1: .*species",
        ),
        ('"bulk water"', '"bulk water', "frame 0: a quote is not closed"),
        ('"bulk water"', "{bulk water", "frame 0: a bracket is not closed"),
        (
            "energy=-13.6",
            'label=pbc="F F F"',
            "frame 1: 'label': 'pbc=\"F' holds a quote",
        ),
        (
            "energy=-13.6",
            "note=config_type=A",
            "frame 1: 'note': .* holds another pair",
        ),
        ("energy=-13.6", 'energy="-13.6"x', "frame 1: text follows a closing"),
        ("energy=-13.6", "energy=-13.6 energy=1", "frame 1: 'energy' is there twice"),
        ("energy=-13.6", "energy=-1_3.6", "frame 1: 'energy': '-1_3.6' holds no num"),
        ("energy=-13.6", 'energy=-13.6 pbc="T T"', "frame 1: 'pbc': 'T T', expected"),
        ("energy=-13.6", 'energy=1 pbc="T T T"', "frame 1: 'cell': missing"),
        ("energy=-13.6", 'energy=1 Lattice="1 2 3"', "frame 1: 'Lattice': 3 numbers"),
        ("energy=-20.5", 'energy=1 forces="1 2 3"', "frame 0: 'forces' is there twice"),
    ],
)
def test_what_is_wrong_is_named_with_frame_and_field(
    two: Path, old: str, new: str, message: str
) -> None:
    assert TWO.count(old) >= 1
    two.write_text(TWO.replace(old, new))
    dataset = read_extxyz(two)
    with pytest.raises(DataError, match=rf"two\.extxyz: .*{message}"):
        dataset.in_memory()


@pytest.mark.parametrize(
    ("lattice", "message"),
    [
        ("0 0 0 0 0 0 0 0 0", "'cell': the periodic vectors"),
        ("1 0 0 2 0 0 0 0 1", "'cell': the periodic vectors"),
        ("5 0 0 0 5 0 0 0 0", "'virial': .* cell of three vectors"),
    ],
)
def test_cells_without_a_volume_are_refused(
    tmp_path: Path, lattice: str, message: str
) -> None:
    text = CRYSTAL.replace("4 0 0 0 4.5 0 0.5 0 5", lattice)
    virial = "virial" if "virial" in message else None
    with pytest.raises(DataError, match=f"frame 0: {message}"):
        opened(tmp_path, text, virial=virial)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no frame"),
        ("\n\n", "holds no frame"),
        ("0\n\n", "frame 0: has 0 atoms, expected at least 1"),
        ("-3\n\n", "frame 0: has -3 atoms"),
        ("water\n", "frame 0: expected the number of atoms, found 'water'"),
        ("2\n\nH 0 0 0\n", "frame 0: ends after 1 of 2 atoms; the file is cut off"),
        ("1\n\nH 0 0 0\n2\n\nH 0 0 0\n", "frame 1: ends after 1 of 2 atoms"),
        ("1\n\nH 0 0 0\n\n1\n\nH 0 0 0\n", "frame 1: an empty line where"),
        ("1\n\nH 0 0 0\nH 0 0 0\n", "frame 1: expected the number of atoms, found 'H"),
        ("999999999999\n\nH 0 0 0\n", "frame 0: ends after 1 of 999999999999"),
    ],
)
def test_files_that_are_cut_off_or_empty_are_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=rf"a\.extxyz: {message}"):
        opened(tmp_path, text)


def test_missing_files_are_named(tmp_path: Path) -> None:
    for name in ("none.extxyz", "none.traj"):
        with pytest.raises(DataError, match=f"{name}: no such file"):
            read_extxyz(tmp_path / name)
    with pytest.raises(DataError, match="cannot be read"):
        read_extxyz(tmp_path, format="extxyz")


def test_mixed_frames_with_and_without_cell_make_one_batch(tmp_path: Path) -> None:
    dataset = opened(tmp_path, "1\nenergy=1\nHe 0 0 0\n" + CRYSTAL)
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert batch.pbc.tolist() == [[False] * 3, [True, True, False]]
    assert batch.cell[0].abs().sum() == 0
    whole = dataset.in_memory()
    assert torch.equal(whole[1].cell, dataset[1].cell)
    assert whole[0].pbc.tolist() == [[False] * 3]


def test_the_index_of_a_large_file_is_kept_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_index, "_CACHE_FROM", 0)
    path = tmp_path / "two.extxyz"
    path.write_text(TWO)
    kept = tmp_path / ".two.extxyz.index.npz"
    read_extxyz(path, cache=False)
    assert not kept.exists()
    first = read_extxyz(path)
    assert kept.exists()
    scans: list[Path] = []
    monkeypatch.setattr(frame_index, "_scanned", scans.append)
    second = read_extxyz(path)
    assert not scans
    assert torch.equal(first[1].pos, second[1].pos)
    monkeypatch.undo()
    monkeypatch.setattr(frame_index, "_CACHE_FROM", 0)
    path.write_text(TWO * 2)
    assert len(read_extxyz(path)) == 4
    kept.write_bytes(kept.read_bytes()[:-50])
    assert len(read_extxyz(path)) == 4


def test_a_file_that_changes_under_our_feet_is_noticed(two: Path) -> None:
    dataset = read_extxyz(two)
    two.write_text(TWO[: len(TWO) // 2])
    with pytest.raises(DataError, match="frame 1: the file was changed or repl"):
        dataset[1]
    two.write_text("3\nanother\n" * 40)  # longer, and no frame of it is asked for
    with pytest.raises(DataError, match=r"frame 0: .* after it was opened"):
        dataset[0]
    two.write_text(TWO.replace("-20.5", "-30.5"))  # as long, so only the time tells
    os.utime(two, ns=(0, 1))
    with pytest.raises(DataError, match="open it again"):
        dataset[0]
    assert read_extxyz(two)[0].energy.item() == -30.5
    two.unlink()
    with pytest.raises(DataError, match="no such file"):
        dataset[0]


def test_frames_are_read_when_they_are_asked_for(two: Path) -> None:
    two.write_text(TWO.replace("H 1 2 3", "H 1 x 3"))
    dataset = read_extxyz(two)
    assert dataset[0].energy.item() == -20.5
    with pytest.raises(DataError, match="frame 1"):
        dataset[1]


def test_other_formats_are_read_by_ase(tmp_path: Path) -> None:
    io = pytest.importorskip("ase.io")
    source = MiniEthanol()[:5]
    write_extxyz(tmp_path / "a.extxyz", source)
    images = io.read(tmp_path / "a.extxyz", index=":")
    io.write(tmp_path / "a.traj", images)
    dataset = read_extxyz(tmp_path / "a.traj")
    assert len(dataset) == 5
    for one, other in zip(dataset, source, strict=True):
        assert torch.equal(one.pos, other.pos)
        assert torch.equal(one.forces, other.forces)
        assert torch.equal(one.energy, other.energy)
    (tmp_path / "a.cif").write_text("no crystal")
    with pytest.raises(DataError, match=r"a\.cif: (ASE cannot read it|holds no frame)"):
        read_extxyz(tmp_path / "a.cif")
    (tmp_path / "a.strange").write_text("hello")
    with pytest.raises(DataError, match="ASE does not know this format"):
        read_extxyz(tmp_path / "a.strange")


class Harm:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("name", ["a.traj", "a.gpw", "a.bundle", "a.extxyz", "a.pckl"])
@pytest.mark.parametrize("format", [None, "traj", "bundletrajectory", "gpw"])
def test_nothing_is_unpickled(tmp_path: Path, name: str, format: str | None) -> None:
    pytest.importorskip("ase.io")
    trace = tmp_path / "trace"
    (tmp_path / name).write_bytes(pickle.dumps(Harm(trace), protocol=0))
    with pytest.raises((DataError, ConfigError)):
        read_extxyz(tmp_path / name, format=format)
    assert not trace.exists()


def test_exponents_of_fortran_are_read(tmp_path: Path) -> None:
    text = (
        '2\nLattice="1.0D+01 0 0 0 1.0d1 0 0 0 .1D02" energy=-1.5D-03 '
        "Properties=species:S:1:pos:R:3:forces:R:3\n"
        "H 0 0 0 1.0D-03 0 0\nH -7.4D-01 0 1.d0 -1D-3 0 0\n"
    )
    frame = opened(tmp_path, text, energy="energy", forces="forces")[0]
    assert frame.energy.tolist() == [-1.5e-3]
    assert frame.forces[:, 0].tolist() == [1e-3, -1e-3]
    assert frame.pos[1].tolist() == [-0.74, 0.0, 1.0]
    assert torch.equal(frame.cell[0], 10 * torch.eye(3, dtype=torch.float64))
    for word in ("1.0D", "D3", "1.0D-3D", "1_0D2"):
        found = rf"frame 0: 'pos': atom 0: '{word}' is no number"
        with pytest.raises(DataError, match=found):
            opened(tmp_path, f"1\n\nH 0 {word} 0\n")[0]


@pytest.mark.parametrize("name", ["lattice", "LATTICE"])
def test_a_cell_in_other_letters_is_not_lost(tmp_path: Path, name: str) -> None:
    text = f'1\n{name}="5 0 0 0 5 0 0 0 5" properties=species:S:1:pos:R:3\nH 0 0 0\n'
    data = opened(tmp_path, text)[0]
    assert torch.equal(data.cell[0], 5 * torch.eye(3, dtype=torch.float64))
    assert data.pbc.all()
    if name == "lattice":
        with pytest.raises(DataError, match="'lattice' and 'Lattice' are both there"):
            opened(tmp_path, text.replace("properties", "Lattice=T properties"))[0]


def test_the_unit_of_dipoles_is_kept_and_stated(tmp_path: Path) -> None:
    text, options = '1\ndipole="0 0 1"\nH 0 0 0\n', {"dipole_unit": "e Angstrom"}
    data = opened(tmp_path, text, dipole="dipole", **options)
    assert data[0].dipole.tolist() == [[0.0, 0.0, 1.0]]
    assert "dipoles:         e Angstrom" in data.describe()
    assert data.in_memory().dipole_unit == "e Angstrom"
    assert "dipoles:         e Angstrom" in data.in_memory().describe()


def test_frames_read_by_ase_do_not_change_with_what_was_handed_out(
    tmp_path: Path,
) -> None:
    ase = pytest.importorskip("ase")
    path = tmp_path / "a.json"
    ase.Atoms("OH", positions=[[0, 0, 0], [0, 0, 1]]).write(path)
    dataset = read_extxyz(path, energy=None, forces=None)
    dataset[0].z.add_(1)
    assert dataset[0].z.tolist() == [8, 1]


def test_a_lazy_set_tells_what_one_in_memory_does(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    write_extxyz(path, MiniEthanol()[:4])
    lazy = read_extxyz(path)
    memory = lazy.in_memory()
    assert (lazy.file is not None, memory.file) == (True, None)
    assert memory.in_memory() is memory
    assert lazy.fields == memory.fields
    assert lazy.force_unit == memory.force_unit == "eV/Angstrom"
    assert (
        lazy[:2].compositions() == memory.compositions() == [{"1": 6, "6": 2, "8": 1}]
    )
    assert reference_energies(lazy) == reference_energies(memory)
    # Workers of a loader get a copy of either.
    for dataset in (lazy, memory):
        again = pickle.loads(pickle.dumps(dataset[1:]))  # noqa: S301  our own
        assert torch.equal(again[2].forces, memory[3].forces)
        assert torch.equal(again.energies, memory.energies[1:])


def test_an_empty_value_does_not_swallow_the_next_pair(tmp_path: Path) -> None:
    start = '1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3'
    data = opened(
        tmp_path,
        f'{start} label= pbc="F F F" energy=1\nH 0 0 0\n'
        "1\nProperties=species:S:1:pos:R:3 note= config_type=IsolatedAtom "
        "energy= -13.6 flag= done last=\nH 0 0 0\n",
        energy="energy",
    )
    assert not data[0].pbc.any()
    assert data.file.info(0) == {"label": "", "energy": "1"}
    assert data.isolated_energies == {1: -13.6}
    expected = {"note": "", "config_type": "IsolatedAtom", "energy": "-13.6"}
    assert data.file.info(1) == {**expected, "flag": "", "done": "T", "last": ""}


@pytest.mark.parametrize(
    "pairs",
    [
        "energy=-999 energy=-309 Properties=species:S:1:pos:R:3",
        "energy=-999 properties=species:S:1:pos:R:3 energy=-309",
        'energy=-999 energy=-309 Lattice="9 0 0 0 9 0 0 0 9"',
        "energy=-999 energy=-309",  # a comment, until the energy is asked for
        'Lattice="9 0 0 0 9 0 0 0 9" Lattice="8 0 0 0 8 0 0 0 8" energy=1',
        'pbc="T T T" pbc="F F F" energy=1',
        "Properties=species:S:1:pos:R:3 energy=1.0 energy=1.001",
    ],
)
def test_two_values_for_one_thing_are_refused_wherever_they_stand(
    tmp_path: Path, pairs: str
) -> None:
    with pytest.raises(DataError, match=r"frame 0: '[a-zA-Z]*' is there twice: "):
        opened(tmp_path, f"1\n{pairs}\nH 0 0 0\n", energy="energy")[0]


@pytest.mark.parametrize(
    ("columns", "row", "bad"),
    [
        ("species:S:1:Z:I:1:pos:R:3", "O 8 0 0 0", "H 8 0 0 0"),
        ("Z:I:1:species:S:1:pos:R:3", "8 O 0 0 0", "1 O 0 0 0"),
        ("species:S:1:element:S:1:pos:R:3", "O o 0 0 0", "O H 0 0 0"),
        ("species:S:1:pos:R:3:positions:R:3", "O 0 0 1 0 0 1", "O 0 0 1 0 1 0"),
    ],
)
def test_columns_that_say_the_same_must_agree(
    tmp_path: Path, columns: str, row: str, bad: str
) -> None:
    start = f"1\nProperties={columns}\n"
    assert opened(tmp_path, f"{start}{row}\n")[0].z.tolist() == [8]
    with pytest.raises(DataError, match=r"frame 0: columns .* contradict each other"):
        opened(tmp_path, f"{start}{bad}\n")[0]


def test_labels_of_atoms_and_words_of_the_user_are_no_contradiction(
    tmp_path: Path,
) -> None:
    pairs = "Properties=species:S:1:pos:R:3:symbol:S:1 lattice=fcc PBC=7"
    data = opened(tmp_path, f"1\n{pairs}\nC 0 0 0 CA2\n")
    assert data[0].z.tolist() == [6]
    assert "cell" not in data[0] or not data[0].cell.any()
    assert data.file.info(0) == {"lattice": "fcc", "PBC": "7"}


def test_two_energies_of_one_isolated_atom_are_refused(two: Path) -> None:
    frame = TWO[TWO.index("1\n") :]
    two.write_text(frame * 2)
    assert read_extxyz(two).isolated_energies == {1: -13.6}
    two.write_text(frame + frame.replace("-13.6", "-13.7"))
    with pytest.raises(DataError, match="frame 1: another energy of the isolated"):
        _ = read_extxyz(two).isolated_energies


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        ({"pos": "bohr", "energy": "Hartree"}, ("Hartree/bohr", "Hartree/bohr^3")),
        ({"energy": "Hartree"}, ("Hartree/Angstrom", "Hartree/Angstrom^3")),
        ({"pos": "bohr"}, ("eV/bohr", "eV/bohr^3")),
        (
            {"pos": "bohr", "energy": "Hartree", "forces": "eV/A", "stress": "GPa"},
            ("eV/Angstrom", "GPa"),
        ),
    ],
)
def test_units_of_forces_and_stress_follow_from_energy_and_length(
    crystal: Path, units: dict[str, str], expected: tuple[str, str]
) -> None:
    lines = CRYSTAL.replace("pos:R:3", "pos:R:3:forces:R:3").splitlines()
    crystal.write_text("\n".join([*lines[:2], *(f"{x} 1 0 0" for x in lines[2:])]))
    data = read_extxyz(crystal, stress="stress", units=units)[0]
    factors = [unit_factor(expected[0], "eV/A"), unit_factor(expected[1], "eV/A^3")]
    found = [data.forces[0, 0].item(), data.stress[0, 0, 0].item()]
    assert found == pytest.approx(factors, rel=1e-14)
    if expected[0] == "Hartree/bohr":
        assert found[0] == pytest.approx(51.422067, rel=1e-7)


@pytest.mark.parametrize("suffix", [".xyz", ".xyz.gz", ".xyz.bz2", ".extxyz.xz"])
def test_compressed_files_are_read_by_the_same_reader(
    tmp_path: Path, suffix: str
) -> None:
    pack: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".bz2": bz2.compress,
        ".xz": lzma.compress,
    }
    packed = pack.get(Path(suffix).suffix, bytes)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(packed(b"\xef\xbb\xbf" + TWO.replace("\n", "\r\n").encode()))
    data = read_extxyz(path)
    assert data.energies.tolist() == [-20.5, -13.6]
    assert data.isolated_energies == {1: -13.6}
    path.write_bytes(packed(TWO.replace("energy=-13.6", "energy=1 energy=2").encode()))
    with pytest.raises(DataError, match="frame 1: 'energy' is there twice"):
        read_extxyz(path).in_memory()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"a{suffix}: "):
        read_extxyz(path).in_memory()


def test_other_encodings_and_line_ends_are_named(two: Path) -> None:
    for raw, message in (
        (TWO.encode("utf-16"), "is text in UTF-16"),
        (TWO.replace("\n", "\r").encode(), "carriage returns alone"),
        (b"1\n" + b"x" * (1 << 20) + b"\nH 0 0 0\n", "the second line is too long"),
    ):
        two.write_bytes(raw)
        with pytest.raises(DataError, match=f"frame 0: .*{message}"):
            read_extxyz(two)
    two.write_bytes(b"\xef\xbb\xbf" + TWO.encode() + b"\xef\xbb\xbf" + TWO.encode())
    assert len(read_extxyz(two).in_memory()) == 4
