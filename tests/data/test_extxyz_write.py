"""What is written as extended XYZ, and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_cormorant.data import (
    MiniEthanol,
    read_extxyz,
    reference_energies,
    write_extxyz,
)
from torch_cormorant.errors import ConfigError, DataError, ShapeError

CRYSTAL = """2
Lattice="4 0 0 0 4.5 0 0.5 0 5" pbc="T T F" Properties=species:S:1:pos:R:3 \
energy=-3 stress="1 2 3 4 5 6 7 8 9" dipole="0.1 0.2 0.3"
Si 0 0 0
Ge 2 2 2
"""


def test_what_was_written_is_read_bitwise(tmp_path: Path) -> None:
    path = tmp_path / "new" / "ethanol.extxyz"
    source = MiniEthanol()[:20]
    write_extxyz(path, source, info=[{"step": k, "label": 'a "b"'} for k in range(20)])
    dataset = read_extxyz(path)
    for one, other in zip(dataset, source, strict=True):
        for name in ("z", "pos", "energy", "forces"):
            assert torch.equal(one[name], other[name])
    assert dataset.file.parsed(7).info["step"] == "7"
    assert dataset.file.parsed(7).info["label"] == 'a "b"'
    memory = dataset[[3, 1]].in_memory()
    assert torch.equal(memory[0].pos, source[3].pos)
    assert len(memory.digest) == 64
    assert "H, C, O" in dataset.describe()
    fit = reference_energies(dataset)
    assert fit.unit == "eV"
    assert fit.mae < 1.0


def test_all_fields_survive_a_round_trip(tmp_path: Path) -> None:
    (tmp_path / "a.extxyz").write_text(CRYSTAL)
    labels = {"forces": None, "stress": "stress", "dipole": "dipole"}
    dataset = read_extxyz(tmp_path / "a.extxyz", **labels, unit="kcal/mol")
    write_extxyz(tmp_path / "b.extxyz", dataset, unit="kcal/mol")
    again = read_extxyz(tmp_path / "b.extxyz", **labels, unit="kcal/mol")
    for name in ("pos", "energy", "stress", "dipole", "cell"):
        torch.testing.assert_close(again[0][name], dataset[0][name], rtol=1e-15, atol=0)
    assert torch.equal(again[0].pbc, dataset[0].pbc)
    # Nine numbers named stress stand column by column, an uneven one too.
    data = read_extxyz(tmp_path / "a.extxyz", **labels)
    assert data[0].stress[0, 0].tolist() == [1, 4, 7]
    write_extxyz(tmp_path / "b.extxyz", data)
    again = read_extxyz(tmp_path / "b.extxyz", **labels)
    assert torch.equal(again[0].stress, data[0].stress)


def frame(**fields: torch.Tensor) -> Data:
    usual = {"z": torch.tensor([1, 1]), "pos": torch.eye(3)[:2].double()}
    return Data(**{**usual, **fields})


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (frame(pos=torch.zeros(3, 3)), ShapeError, r"frame 1: 'pos': shape \(3, 3\)"),
        (frame(forces=torch.zeros(1, 3)), ShapeError, "frame 1: 'forces': shape"),
        (frame(z=torch.tensor([1, 0])), DataError, "frame 1: 'z': atom 1 has atomic"),
        (
            frame(energy=torch.tensor([torch.nan])),
            DataError,
            "frame 1: 'energy': holds",
        ),
        (Data(z=torch.tensor([1])), DataError, "frame 1: 'pos' is missing"),
    ],
)
def test_nothing_is_written_when_a_frame_is_wrong(
    tmp_path: Path, bad: Data, error: type[Exception], message: str
) -> None:
    path = tmp_path / "x.extxyz"
    path.write_text("old")
    with pytest.raises(error, match=message):
        write_extxyz(path, [frame(), bad])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_names_and_number_of_further_values_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "x.extxyz"
    with pytest.raises(ConfigError, match="info: 1 entries for 2 frames"):
        write_extxyz(path, [frame(), frame()], info=[{}])
    with pytest.raises(ConfigError, match="'a b' cannot be a name"):
        write_extxyz(path, [frame()], info=[{"a b": 1.0}])
    (tmp_path / "taken").touch()
    with pytest.raises(DataError, match="cannot be written"):
        write_extxyz(tmp_path / "taken" / "x.extxyz", [frame()])
    assert not path.exists()


def test_numbers_of_numpy_and_torch_are_written_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    pos = np.array([[0.0, 0, 0], [0, 0, 1]])
    frame = Data(z=np.array([8, 1]), pos=pos, energy=-1.5)
    info = {"a": np.float64(0.1), "b": np.bool_(True), "c": torch.tensor(2)}
    write_extxyz(path, [frame], info=[info])  # type: ignore[list-item]
    written = read_extxyz(path, forces=None)
    assert written[0].energy.item() == -1.5
    assert written.file.info(0) == {"energy": "-1.5", "a": "0.1", "b": "T", "c": "2"}
    for wrong in (torch.zeros(2), [1.0], None):
        with pytest.raises(ConfigError, match="'a': expected one number or a text"):
            write_extxyz(path, [frame], info=[{"a": wrong}])  # type: ignore[dict-item]
    with pytest.raises(DataError, match="frame 0: 'energy': a str, not a tensor"):
        write_extxyz(path, [Data(z=frame.z, pos=pos, energy="low")])


def test_a_cell_alone_is_written_as_periodic(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    cell = 4 * torch.eye(3, dtype=torch.float64)[None]
    write_extxyz(path, [Data(z=torch.tensor([8]), pos=torch.zeros(1, 3), cell=cell)])
    data = read_extxyz(path, energy=None, forces=None)[0]
    assert torch.equal(data.cell, cell)
    assert data.pbc.all()


def test_values_of_atoms_are_written_as_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    frame = Data(z=torch.tensor([8, 1]), pos=torch.eye(3)[:2])
    vectors = torch.randn(2, 3, dtype=torch.float64)
    write_extxyz(path, [frame], arrays=[{"mine": vectors, "q": torch.ones(2)}])
    read = read_extxyz(path, energy=None, forces="mine")
    assert torch.equal(read[0].forces, vectors)
    for values, error, message in (
        ({"q": torch.zeros(3)}, ShapeError, r"frame 0: 'q': shape \(3,\), expected"),
        ({"pos": torch.zeros(2)}, ConfigError, "'pos' is the name of another column"),
        ({"a b": torch.zeros(2)}, ConfigError, "'a b' cannot be a name"),
        ({"q": torch.full((2,), torch.nan)}, DataError, "holds NaN"),
    ):
        with pytest.raises(error, match=message):
            write_extxyz(path, [frame], arrays=[values])
    with pytest.raises(ConfigError, match="arrays: 2 entries for 1 frames"):
        write_extxyz(path, [frame], arrays=[{}, {}])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("energy", 2.0),
        ("forces", 2.0),
        ("mine", 2.0),
        ("Lattice", "5 0 0 0 5 0 0 0 5"),
        ("lattice", "5 0 0 0 5 0 0 0 5"),
        ("pbc", "T T T"),
        ("Properties", "species:S:1:pos:R:3"),
    ],
)
def test_what_the_frame_itself_says_is_no_name_of_another_value(
    tmp_path: Path, name: str, value: float | str
) -> None:
    frame = Data(z=torch.tensor([8]), pos=torch.zeros(1, 3), energy=torch.ones(1))
    frame.forces = torch.zeros(1, 3)
    arrays = [{"mine": torch.zeros(1)}]
    with pytest.raises(ConfigError, match=f"info: '{name}' is what the frame itself"):
        write_extxyz(tmp_path / "a", [frame], info=[{name: value}], arrays=arrays)
    for column in ("positions", "Z", "symbols", "Species", "forces"):
        with pytest.raises(ConfigError, match="the name of another column"):
            write_extxyz(tmp_path / "a", [frame], arrays=[{column: torch.zeros(1)}])
    assert not (tmp_path / "a").exists()


def test_odd_texts_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.extxyz"
    frame = Data(z=torch.tensor([8]), pos=torch.zeros(1, 3))
    texts = ["", " ", "a=b", "back\\slash", "\\n", 'say "so"', "two\nlines", "a\\", "é"]
    info = {f"text{number}": text for number, text in enumerate(texts)}
    write_extxyz(path, [frame], info=[info])
    assert read_extxyz(path, energy=None, forces=None).file.info(0) == info
