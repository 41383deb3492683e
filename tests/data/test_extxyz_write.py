"""What is written as extended XYZ beside the fields of a frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_cormorant.data import read_extxyz, write_extxyz
from torch_cormorant.errors import ConfigError, DataError, ShapeError


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
