"""Structures with energies and forces from plain arrays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from torch_cormorant.data import (
    FrameArrays,
    Frames,
    MiniEthanol,
    frame_parts,
    read_npz,
    unit_factor,
)
from torch_cormorant.errors import (
    ConfigError,
    CormorantWarning,
    DataError,
)

Arrays = dict[str, np.ndarray]


@pytest.fixture
def same() -> Arrays:
    """Four frames of one water molecule in a cell."""
    rng = np.random.default_rng(0)
    return {
        "z": np.array([8, 1, 1], dtype=np.uint8),
        "pos": rng.normal(size=(4, 3, 3)),
        "energy": rng.normal(size=4) - 400,
        "forces": rng.normal(size=(4, 3, 3)).astype(np.float32),
        "stress": rng.normal(size=(4, 3, 3)),
        "dipole": rng.normal(size=(4, 3)),
        "cell": np.eye(3) * 9 + rng.normal(size=(4, 3, 3)),
        "energy_unit": np.array("eV"),
    }


@pytest.fixture
def ragged() -> Arrays:
    """Three different systems."""
    rng = np.random.default_rng(1)
    return {
        "z": np.array([8, 1, 1, 6, 14, 14]),
        "pos": rng.normal(size=(6, 3)),
        "offset": np.array([0, 3, 4, 6]),
        "energy": rng.normal(size=(3, 1)),
        "forces": rng.normal(size=(6, 3)),
        "split": np.array(["train", "test", "train"]),
        "units": np.array("pos Angstrom; energy kcal/mol; forces kcal/mol/Angstrom"),
    }


def write(path: Path, arrays: Arrays) -> Path:
    np.savez(path / "f.npz", **arrays)
    return path / "f.npz"


def test_frames_of_one_system_have_the_promised_fields(
    tmp_path: Path, same: Arrays
) -> None:
    dataset = read_npz(write(tmp_path, same))
    assert len(dataset) == 4
    assert dataset.energy_unit == "eV"
    assert dataset.force_unit == "eV/Angstrom"
    for k, data in enumerate(dataset):
        assert data.z.tolist() == [8, 1, 1]
        assert data.z.dtype == torch.int64
        for name in ("pos", "forces"):
            np.testing.assert_array_equal(data[name], same[name][k])
            assert data[name].dtype == torch.float64
        for name in ("stress", "dipole", "cell", "energy"):
            np.testing.assert_array_equal(data[name][0], same[name][k])
            assert data[name].dtype == torch.float64
            assert len(data[name]) == 1
        assert data.pbc.tolist() == [[True, True, True]]
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch.energy.shape == (3,)
    assert batch.forces.shape == (9, 3)
    assert batch.stress.shape == batch.cell.shape == (3, 3, 3)
    assert batch.pbc.shape == batch.dipole.shape == (3, 3)
    assert batch.batch.tolist() == [0] * 3 + [1] * 3 + [2] * 3


def test_different_systems_and_their_parts(tmp_path: Path, ragged: Arrays) -> None:
    path = write(tmp_path, ragged)
    assert frame_parts(path) == ["test", "train"]
    whole, train = read_npz(path), read_npz(path, "train")
    assert [len(data.z) for data in whole] == [3, 1, 2]
    assert [data.z.tolist() for data in train] == [[8, 1, 1], [14, 14]]
    np.testing.assert_array_equal(train[1].pos, ragged["pos"][4:])
    np.testing.assert_array_equal(train[1].forces, ragged["forces"][4:])
    assert train.energies.tolist() == ragged["energy"][[0, 2], 0].tolist()
    assert whole.species == (1, 6, 8, 14)
    expected = [[2, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 2]]
    assert whole.element_counts().tolist() == expected
    assert whole[[2, 0]].element_counts().tolist() == [expected[2], expected[0]]
    assert torch.equal(whole[[2, 0]].energies, whole.energies[[2, 0]])
    assert whole.title == "f"
    assert train.title == "f, train"
    with pytest.raises(ConfigError, match="the parts test, train; 'valid' is not one"):
        read_npz(path, "valid")


def test_parts_with_prefixes(tmp_path: Path, same: Arrays) -> None:
    arrays = {
        "z": same["z"],
        "hot_pos": same["pos"],
        "hot_energy": same["energy"],
        "cold_pos": same["pos"][:2] + 1,
        "energy_unit": same["energy_unit"],
        "isolated_z": np.array([1, 8]),
        "isolated_energy": np.array([-13.6, -2041.0]),
    }
    path = write(tmp_path, arrays)
    assert frame_parts(path) == ["cold", "hot"]
    assert len(read_npz(path, "hot")) == 4
    cold = read_npz(path, "cold", unit="meV")
    np.testing.assert_array_equal(cold[1].pos, same["pos"][1] + 1)
    assert cold.fields == ("z", "pos")
    assert cold.isolated_energies == pytest.approx({1: -13600.0, 8: -2041000.0})
    with pytest.raises(ConfigError, match="holds no energies"):
        _ = cold.energies
    with pytest.raises(ConfigError, match="the parts cold, hot; give one"):
        read_npz(path)


def test_a_single_structure(tmp_path: Path, same: Arrays) -> None:
    arrays = {"z": same["z"], "pos": same["pos"][0].astype(np.float32)}
    data = read_npz(write(tmp_path, arrays))[0]
    assert data.pos.dtype == torch.float64
    assert "cell" not in data
    arrays |= {"cell": np.zeros((3, 3)), "pbc": np.zeros(3, dtype=bool)}
    assert "cell" not in read_npz(write(tmp_path, arrays))[0]
    slab = {"cell": np.diag([3.0, 4.0, 0.0]), "pbc": np.array([True, True, False])}
    data = read_npz(write(tmp_path, arrays | slab))[0]
    assert data.pbc.tolist() == [[True, True, False]]
    assert data.cell[0].diagonal().tolist() == [3, 4, 0]


def test_energies_forces_and_stress_change_units_together(
    tmp_path: Path, same: Arrays
) -> None:
    path = write(tmp_path, same)
    ev, kcal = read_npz(path), read_npz(path, unit="kcal/mol")
    factor = unit_factor("eV", "kcal/mol")
    assert kcal.force_unit == "kcal/mol/Angstrom"
    for name in ("energy", "forces", "stress"):
        torch.testing.assert_close(
            kcal[2][name], ev[2][name] * factor, rtol=1e-14, atol=0
        )
    assert torch.equal(kcal[2].dipole, ev[2].dipole)


def test_a_unit_must_be_known(tmp_path: Path, same: Arrays) -> None:
    same["energy_unit"] = np.array("Angstrom")
    with pytest.raises(ConfigError, match=r"f\.npz: unit .* 'Angstrom' is none of"):
        read_npz(write(tmp_path, same))
    same["energy_unit"] = np.array("evv")
    with pytest.warns(CormorantWarning, match=r"f\.npz: 'evv' is not understood"):
        assert read_npz(write(tmp_path, same)).energy_unit == "evv"
    del same["energy_unit"]
    with pytest.raises(ConfigError, match="file_unit: 'Debye' is none of energy"):
        read_npz(write(tmp_path, same), file_unit="Debye")
    path = write(tmp_path, same)
    with pytest.raises(DataError, match=r"f\.npz: neither 'energy_unit' nor 'units'"):
        read_npz(path)
    assert read_npz(path, file_unit="Hartree").energy_unit == "Hartree"
    with pytest.raises(ConfigError, match="'parsec' is not understood"):
        read_npz(path, file_unit="Hartree", unit="parsec")
    frames = FrameArrays(
        np.array([1]), np.zeros((1, 3)), np.array([0, 1]), np.array([1.0])
    )
    with pytest.raises(DataError, match="the unit of the energies is not known"):
        Frames(frames, name="x", energy_unit=None)


def _set(name: str, value: object) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name] = np.asarray(value)

    return change


def _poke(name: str, place: tuple[int, ...], value: float) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        arrays[name][place] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_poke("pos", (2, 1, 0), np.nan), r"frame 2: 'pos': atom 1 has \[nan, "),
        (_poke("forces", (3, 2, 1), np.inf), "frame 3: 'forces': atom 2 has "),
        (
            _poke("energy", (1,), np.nan),
            "frame 1: 'energy': found nan, expected finite",
        ),
        (_poke("stress", (0, 1, 1), np.nan), "frame 0: 'stress': found "),
        (_poke("z", (1,), 0), "frame 0: 'z': atom 1 has atomic number 0, expected 1"),
        (_poke("z", (1,), 119), "frame 0: 'z': atom 1 has atomic number 119"),
        (_set("cell", np.zeros((3, 3))), "frame 0: 'cell': the periodic vectors .* no"),
        (_set("cell", np.ones((4, 3, 3))), "frame 0: 'cell': the periodic vectors"),
        (_set("cell", np.eye(2)), r"'cell': shape \(2, 2\), expected \(4, 3, 3\)"),
        (_set("pos", np.zeros((4, 2, 3))), r"'pos': shape \(4, 2, 3\), expected \[fr"),
        (_set("forces", np.zeros((4, 3))), r"'forces': shape \(4, 3\), expected \(12"),
        (_set("energy", np.zeros(3)), r"'energy': shape \(3,\), expected \(4,\)"),
        (_set("energy", ["a"] * 4), "array 'energy': expected real numbers, found <U1"),
        (_set("energy_unit", 3), "array 'energy_unit': expected one text"),
        (_set("pbc", np.zeros((2, 3), bool)), "array 'pbc': expected three truth"),
        (_set("pos", np.zeros((0, 3, 3))), "holds no frame"),
        (_set("z", []), "holds no frame|has no atom|shape"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, same: Arrays, change: Callable[[Arrays], None], message: str
) -> None:
    change(same)
    with pytest.raises(DataError, match=message) as caught:
        read_npz(write(tmp_path, same))
    assert "f.npz" in str(caught.value)


def test_atoms_at_the_same_place_are_named(tmp_path: Path, same: Arrays) -> None:
    same["pos"][1, :, 0] = 0.5  # planar molecules share a coordinate
    same["pos"][2, 1, :2] = same["pos"][2, 2, :2]
    assert len(read_npz(write(tmp_path, same))) == 4
    same["pos"][3] = same["pos"][1]  # another frame may look the same
    assert len(read_npz(write(tmp_path, same))) == 4
    same["pos"][2, 1] = same["pos"][2, 2]
    with pytest.raises(DataError, match="frame 2: 'pos': atoms 1 and 2 lie at the"):
        read_npz(write(tmp_path, same))


def test_a_periodic_frame_needs_a_cell(tmp_path: Path, same: Arrays) -> None:
    del same["cell"]
    same["pbc"] = np.array([True, False, False])
    with pytest.raises(DataError, match="frame 0: 'cell': missing, but the frame"):
        read_npz(write(tmp_path, same))


@pytest.mark.parametrize("part", [None, "train"])
@pytest.mark.parametrize("offset", [[0, 3, 3, 6], [0, 3, 5], [1, 3, 6], [0, 7, 6], [6]])
def test_offsets_must_rise_to_the_end(
    tmp_path: Path, ragged: Arrays, offset: list[int], part: str | None
) -> None:
    ragged["offset"] = np.array(offset)
    with pytest.raises(DataError, match=r"'offset': .* expected to rise from 0 to 6"):
        read_npz(write(tmp_path, ragged), part)


def test_fields_of_a_divided_file_must_fit(tmp_path: Path, ragged: Arrays) -> None:
    ragged["energy"] = ragged["energy"][:2]
    with pytest.raises(DataError, match=r"'energy': shape \(2,\), expected \(3,\)"):
        read_npz(write(tmp_path, ragged), "train")


def test_rows_are_kept_in_the_order_asked_for(ragged: Arrays) -> None:
    frames = FrameArrays(
        z=ragged["z"],
        pos=ragged["pos"],
        offset=ragged["offset"],
        energy=ragged["energy"][:, 0],
        cell=np.arange(27.0).reshape(3, 3, 3),
        pbc=np.eye(3, dtype=bool),
    )
    kept = frames.keep(np.array([2, 0]))
    assert kept.z.tolist() == [14, 14, 8, 1, 1]
    assert kept.offset.tolist() == [0, 2, 5]
    np.testing.assert_array_equal(kept.pos[2:], ragged["pos"][:3])
    assert kept.cell is not None
    assert kept.pbc is not None
    assert kept.cell[0, 0, 0] == 18
    assert kept.pbc[0].tolist() == [False, False, True]
    assert kept.forces is None


def test_the_text_about_a_set_names_what_it_is(tmp_path: Path, ragged: Arrays) -> None:
    dataset = read_npz(write(tmp_path, ragged), level_of_theory="invented")
    text = dataset.describe()
    for part in ("structures:", "1 to 3", "H, C, O, Si", "kcal/mol", "invented"):
        assert part in text
    assert dataset.digest in text


def test_embedded_ethanol_is_what_its_text_says() -> None:
    dataset = MiniEthanol()
    assert len(dataset) == 2000
    assert dataset.species == (1, 6, 8)
    assert dataset.energy_unit == "eV"
    assert dataset.level_of_theory.startswith("GFN2-xTB")
    assert "not MD17" in dataset.title
    forces = dataset._data.forces.view(2000, 9, 3)
    assert forces.sum(1).abs().max() < 9 * 0.5e-5  # each is rounded
    pos = dataset._data.pos.view(2000, 9, 3)
    torque = torch.linalg.cross(pos, forces).sum(1)
    assert torque.abs().max() < 2e-4  # eV; what the SCF cycle leaves
    kcal = MiniEthanol("kcal/mol")
    assert kcal.energies[0] / dataset.energies[0] == pytest.approx(23.0605, rel=1e-5)


def test_embedded_energies_and_forces_belong_together() -> None:
    # Along neighbouring frames the energy changes by the work of the mean force, up to
    # third order in the step; the steps here are large, so only a correlation is asked.
    dataset = MiniEthanol()
    pos = dataset._data.pos.view(2000, 27)
    forces = dataset._data.forces.view(2000, 27)
    work = -((pos[1:] - pos[:-1]) * (forces[1:] + forces[:-1]) / 2).sum(1)
    change = dataset.energies[1:] - dataset.energies[:-1]
    near = (pos[1:] - pos[:-1]).norm(dim=1) < 1.0
    assert near.sum() > 100
    pair = torch.stack([work[near], change[near]])
    assert torch.corrcoef(pair)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("name", "part", "count", "elements"),
    [
        ("md17/extra/3bpa", "train_300K", 500, (1, 6, 7, 8)),
        ("md17/extra/acac", "test_dihedral", 45, (1, 6, 8)),
        ("structures/water_192_pbc", None, 400, (1, 8)),
        ("structures/crystal_Li", "test", 29, (3,)),
        ("structures/dhfr", None, 1, (1, 6, 7, 8, 16)),
    ],
)
def test_known_files_are_read(
    shared: Path, name: str, part: str | None, count: int, elements: tuple[int, ...]
) -> None:
    dataset = read_npz(shared / f"data/{name}.npz", part)
    assert len(dataset) == count
    assert dataset.species == elements


def hydrogen(**fields: object) -> FrameArrays:
    known = {
        "z": np.array([1, 1]),
        "pos": np.array([[0.0, 0, 0], [0, 0, 0.74]]),
        "offset": np.array([0, 2]),
    }
    return FrameArrays(**{**known, **fields})  # type: ignore[arg-type]


def test_arrays_of_the_caller_are_copied_and_made_float64() -> None:
    pos = np.array([[0.0, 0, 0], [0, 0, 0.74]])
    frames = hydrogen(
        z=np.array([1, 1], dtype=np.int32), pos=pos, forces=pos.astype(np.float32)
    )
    dataset = Frames(frames, name="hydrogen", energy_unit=None)
    pos[1, 2] = 9.0
    assert dataset[0].pos[1, 2] == 0.74
    dataset[0].pos.mul_(0.0)
    assert pos[1, 2] == 9.0
    assert dataset[0].z.dtype == torch.int64
    assert dataset[0].forces.dtype == torch.float64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"offset": np.array([0, 1])},
            "'offset': runs from 0 to 1, expected to rise from 0 to 2",
        ),
        (
            {"offset": np.array([1, 2])},
            "'offset': runs from 1 to 2, expected to rise from 0 to 2",
        ),
        ({"offset": np.array(2)}, r"'offset': shape \(\), expected \[n\]"),
        ({"offset": np.array([], int)}, "'offset': is empty, expected to rise"),
        ({"z": np.array([[1, 1]])}, r"'z': shape \(1, 2\), expected \[n\]"),
        ({"z": np.array([1.0, 1.0])}, "'z': expected whole numbers, got float64"),
        ({"pos": np.array([["a"]])}, "'pos': expected real numbers, got <U1"),
        ({"pos": [[0.0], [0.0, 1.0]]}, "'pos': not an array"),
    ],
)
def test_arrays_that_are_none_or_do_not_fit_are_named(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Frames(hydrogen(**fields), name="hydrogen", energy_unit=None)


def test_a_shift_for_every_frame_is_asked_for() -> None:
    with pytest.raises(DataError, match=r"'energy_shift': shape \(3,\)"):
        Frames(hydrogen(), name="a", energy_unit=None, energy_shift=np.zeros(3))


def test_an_empty_subset_says_so() -> None:
    empty = MiniEthanol()[[]]
    assert empty.energies.shape == (0,)
    assert "atoms each:      none" in empty.describe()


def test_another_unit_than_the_file_says_is_refused(
    tmp_path: Path, same: Arrays
) -> None:
    path = write(tmp_path, same)
    assert read_npz(path, file_unit="eV").energy_unit == "eV"
    with pytest.raises(ConfigError, match=r"file_unit: 'Hartree', but .* says 'eV'"):
        read_npz(path, file_unit="Hartree")


def arrays(**changed: object) -> dict[str, object]:
    """Two frames of two atoms."""
    pos = np.zeros((2, 2, 3))
    pos[:, 1, 2] = 0.7
    usual = {"z": [1, 1], "pos": pos, "energy": np.ones(2), "energy_unit": "eV"}
    return {**usual, "forces": np.ones((2, 2, 3)), **changed}


def test_forces_may_have_a_unit_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **arrays(force_unit="Hartree/bohr"))
    assert read_npz(path)[0].forces[0, 0].item() == pytest.approx(51.422067, rel=1e-7)
    np.savez(path, **arrays(units="energy eV; forces meV/A; pos Angstrom"))
    assert read_npz(path)[0].forces[0, 0].item() == pytest.approx(1e-3, rel=1e-14)
    np.savez(path, **arrays(force_unit="eV/A"))
    assert read_npz(path)[0].forces[0, 0].item() == 1.0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"energy_unit": ""}, "'energy_unit': the text is empty"),
        ({"level_of_theory": ""}, "'level_of_theory': the text is empty"),
        ({"energy_unit": np.array([], dtype="U2")}, "'energy_unit': expected one text"),
        (
            {"units": "energy Ha"},
            "'energy_unit': 'eV', but 'units' says 'Ha' of energy",
        ),
        ({"units": "pos bohr"}, "'pos': in bohr, expected Angstrom"),
        ({"length_unit": "nm"}, "'pos': in nm, expected Angstrom"),
        ({"force_unit": "eV"}, "'force_unit': .* measure different things"),
        (
            {"isolated_z": [1, 1], "isolated_energy": [1.0, 2.0]},
            "'isolated_energy': two for atomic number 1",
        ),
    ],
)
def test_texts_and_units_that_contradict_are_refused(
    tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays(**changed))
    with pytest.raises(DataError, match=rf"a\.npz: array {message}"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("split", [["train"], [b"train", b"test"], [0, 1]])
def test_parts_are_one_word_for_each_frame(tmp_path: Path, split: list[object]) -> None:
    np.savez(tmp_path / "a.npz", **arrays(split=split))
    with pytest.raises(DataError, match="'split': expected"):
        read_npz(tmp_path / "a.npz", part="train")
