"""Damaged files end in a typed error, or do no harm; nothing is read in part."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torch_cormorant.data import (
    Frames,
    MiniEthanol,
    read_extxyz,
    read_npz,
    write_extxyz,
)
from torch_cormorant.data.extxyz_format import parse_frame
from torch_cormorant.data.extxyz_pairs import parse_pairs
from torch_cormorant.data.qm9_raw import (
    COLUMNS,
    read_csv,
    read_sdf,
    read_uncharacterized,
)
from torch_cormorant.errors import DataError

FUZZ = settings(
    max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
# No reader may take longer over a small file, however odd (CPU seconds).
PATIENCE = 2.0
Change = tuple[str, float, int, bytes]


@st.composite
def changes(draw: st.DrawFn) -> list[Change]:
    """A few changes: where (a share of the file), how long, and by what."""
    kinds = st.sampled_from(["flip", "cut", "zero", "insert", "repeat"])
    text = st.sampled_from(
        [b"nan", b"-1", b"1e999", b"\n", b" ", b"\0", b'"', b"[", b"99999999", b"\xff"]
    )
    one = st.tuples(kinds, st.floats(0, 1), st.integers(0, 40), text)
    return draw(st.lists(one, min_size=1, max_size=3))


def changed(raw: bytes, wanted: list[Change]) -> bytes:
    """The bytes after the changes."""
    data = bytearray(raw)
    for kind, share, size, text in wanted:
        place = min(int(share * len(data)), max(0, len(data) - 1))
        if kind == "flip" and data:
            data[place] ^= 1 << size % 8
        elif kind == "cut":
            del data[place:]
        elif kind == "zero":
            data[place : place + size] = bytes(len(data[place : place + size]))
        elif kind == "insert":
            data[place:place] = text
        elif kind == "repeat":
            data[place:place] = data[place : place + size]
    return bytes(data)


def read_or_refuse(read: Callable[[], object]) -> object | None:
    """What was read, or ``None`` after a typed error; never anything else."""
    start = time.process_time()
    try:
        return read()
    except DataError as error:
        assert len(str(error)) > 20  # noqa: PT017
        return None
    finally:
        assert time.process_time() - start < PATIENCE


@pytest.fixture(scope="module")
def extxyz() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "x.extxyz")
        write_extxyz(path, MiniEthanol()[:3], info=[{"step": k} for k in range(3)])
        return path.read_bytes()


@pytest.fixture(scope="module")
def npz() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, "x.npz")
        frames = MiniEthanol()[:3]
        np.savez_compressed(
            path,
            z=frames[0].z.numpy(),
            pos=np.stack([frame.pos.numpy() for frame in frames]),
            energy=frames.energies.numpy(),
            energy_unit="eV",
        )
        return path.read_bytes()


@FUZZ
@given(wanted=changes())
def test_extended_xyz(extxyz: bytes, tmp_path: Path, wanted: list[Change]) -> None:
    path = tmp_path / "x.extxyz"
    path.write_bytes(changed(extxyz, wanted))
    found = read_or_refuse(lambda: read_extxyz(path).in_memory())
    if found is not None:
        assert isinstance(found, torch.utils.data.Dataset)
        for data in found:
            assert data.forces.shape == data.pos.shape == (len(data.z), 3)
            assert data.pos.isfinite().all()
            assert data.energy.isfinite().all()


@FUZZ
@given(wanted=changes())
def test_arrays_of_frames(npz: bytes, tmp_path: Path, wanted: list[Change]) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(changed(npz, wanted))
    found = read_or_refuse(lambda: read_npz(path))
    if found is not None:  # a time stamp or the like; every array has a checksum
        assert isinstance(found, Frames)
        assert torch.equal(found.energies, MiniEthanol()[:3].energies)


@FUZZ
@given(place=st.floats(0, 1), bit=st.integers(0, 7), cut=st.booleans())
def test_sdf(
    samples: SimpleNamespace, tmp_path: Path, place: float, bit: int, cut: bool
) -> None:
    raw = bytearray(samples.sdf_text().encode())
    where = min(int(place * len(raw)), len(raw) - 2)
    if cut:
        del raw[where:]
    else:
        raw[where] ^= 1 << bit
    path = tmp_path / "x.sdf"
    path.write_bytes(raw)
    found = read_or_refuse(lambda: read_sdf(path))
    ends = [k for k in range(len(raw) + 1) if raw[:k].rstrip(b"\n").endswith(b"$$$$")]
    if cut and where in ends:
        return  # cut where an entry ends; the table beside it has more rows
    if found is not None:
        assert [len(one.z) for one in found] == [5, 3, 4]  # type: ignore[attr-defined]


@FUZZ
@given(wanted=changes())
def test_sdf_with_any_damage(
    samples: SimpleNamespace, tmp_path: Path, wanted: list[Change]
) -> None:
    path = tmp_path / "x.sdf"
    path.write_bytes(changed(samples.sdf_text().encode(), wanted))
    found = read_or_refuse(lambda: read_sdf(path))
    for molecule in found or ():  # type: ignore[attr-defined]
        assert np.isfinite(molecule.pos).all()
        assert len(molecule.pos) == 3 * len(molecule.z) > 0


@FUZZ
@given(wanted=changes())
def test_tables(samples: SimpleNamespace, tmp_path: Path, wanted: list[Change]) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(changed(samples.csv_text().encode(), wanted))
    found = read_or_refuse(lambda: read_csv(path))
    if found is not None:
        names, values = found  # type: ignore[misc]
        assert np.array(values).shape == (len(names), len(COLUMNS))
        assert np.isfinite(values).all()
    path.write_bytes(changed(samples.list_text(1, 17, 21).encode(), wanted))
    read_or_refuse(lambda: read_uncharacterized(path))


@settings(max_examples=300)
@given(line=st.text(alphabet="ab=\" '{}[]\\,\t1.T", max_size=60))
def test_pairs_of_any_line_are_read_or_refused(line: str) -> None:
    try:
        found, twice = parse_pairs(line)
    except ValueError as error:
        known = "not closed|is there twice|whole value in quotes|follows a closing"
        assert re.search(known, str(error))  # noqa: PT017
        return
    assert all(found)
    assert set(twice) <= set(found)


@pytest.mark.parametrize("letter", ["[", "{", '"', "\\", "=", "a=[", 'a="', "[]", "a="])
def test_long_lines_take_no_longer_than_they_are(letter: str) -> None:
    line = "a=" + letter * (200_000 // len(letter))
    start = time.process_time()
    with contextlib.suppress(ValueError):
        parse_pairs(line)
    assert time.process_time() - start < PATIENCE


@settings(max_examples=60)
@given(
    z=hnp.arrays(np.int64, st.integers(1, 5), elements=st.integers(1, 118)),
    seed=st.integers(0, 1000),
    cell=st.booleans(),
    words=st.dictionaries(
        st.from_regex(r"[a-z_]{1,8}", fullmatch=True),
        st.one_of(
            st.integers(-5, 5),
            st.floats(-1e6, 1e6),
            st.booleans(),
            st.sampled_from(["plain", "two words", 'a "quote"', "back\\slash", "[x"]),
        ),
        max_size=3,
    ),
)
def test_frames_written_by_ase_are_read_as_they_were_meant(
    z: np.ndarray, seed: int, cell: bool, words: dict[str, object]
) -> None:
    io = pytest.importorskip("ase.io")
    from ase import Atoms
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator

    rng = np.random.default_rng(seed)
    atoms = Atoms(z, positions=rng.normal(size=(len(z), 3)))
    if cell:
        atoms.set_cell(rng.normal(size=(3, 3)))
        atoms.set_pbc(rng.integers(0, 2, 3).astype(bool))
    taken = {*all_properties, "pbc", "lattice", "properties"}
    atoms.info = {key: value for key, value in words.items() if key not in taken}
    atoms.calc = SinglePointCalculator(
        atoms,
        energy=rng.normal(),
        forces=rng.normal(size=(len(z), 3)),
        stress=rng.normal(size=6),
        dipole=rng.normal(size=3),
    )
    with TemporaryDirectory() as folder:
        path = Path(folder, "x.extxyz")
        io.write(path, atoms)
        expected = io.read(path)
        data = read_extxyz(
            path, stress="stress", dipole="dipole", dipole_unit="e*Angstrom"
        )[0]
        info = parse_frame(path.read_text()).info
    assert data.z.tolist() == expected.numbers.tolist()
    np.testing.assert_array_equal(data.pos, expected.positions)
    np.testing.assert_array_equal(data.forces, expected.get_forces())
    assert data.energy.item() == expected.get_potential_energy()
    np.testing.assert_array_equal(data.stress[0], expected.get_stress(voigt=False))
    np.testing.assert_array_equal(data.dipole[0], expected.get_dipole_moment())
    if cell:
        np.testing.assert_array_equal(data.cell[0], expected.cell[:])
        np.testing.assert_array_equal(data.pbc[0], expected.pbc)
    assert set(atoms.info) <= set(info)
    for key, value in atoms.info.items():
        if isinstance(value, str):
            assert info[key] == value
        elif isinstance(value, float):
            assert float(info[key]) == value
