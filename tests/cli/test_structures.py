"""Files of structures: any bytes are read or refused with their place."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_cormorant.cli.structures import read_structures
from torch_cormorant.data import MiniEthanol, write_extxyz
from torch_cormorant.errors import CormorantError

pytest.importorskip("rdkit", reason="needs rdkit")
SDF = """water
  by hand

  3  2  0  0  0  0            999 V2000
    0.0000    0.0000    0.1000 O   0  0
    0.0000    0.7600   -0.4700 H   0  0
    0.0000   -0.7600   -0.4700 H   0  0
  1  2  1  0
  1  3  1  0
M  END
$$$$
"""
CSV = "name,smiles\na,O\nb,CC\n"


def test_sdf_and_smiles(tmp_path: Path) -> None:
    (tmp_path / "a.sdf").write_text(SDF + SDF)
    found = read_structures(tmp_path / "a.sdf")
    assert list(found.names) == ["water", "water"]
    assert found.frames[1].z.tolist() == [8, 1, 1]
    expected = torch.tensor([0.0, 0.76, -0.47], dtype=torch.float64)
    assert torch.equal(found.frames[1].pos[1], expected)
    (tmp_path / "a.csv").write_text(CSV)
    first, again = (read_structures(tmp_path / "a.csv") for _ in range(2))
    assert first.frames[0].z.tolist() == [8, 1, 1]
    assert torch.equal(first.frames[1].pos, again.frames[1].pos), "the same each time"


def test_extxyz_keeps_order(tmp_path: Path) -> None:
    data = MiniEthanol()
    write_extxyz(tmp_path / "a.extxyz", [data[5], data[2]])
    found = read_structures(tmp_path / "a.extxyz")
    assert torch.equal(found.frames[1].pos, data[2].pos)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.sdf", "", "entry 1 is not understood"),
        ("a.sdf", SDF.replace("  3  2", "  9  2"), "entry 1 is not understood"),
        ("a.sdf", SDF + SDF.replace(" O  ", " Qq "), "entry 2"),
        ("a.csv", "", "no column 'smiles'"),
        ("a.csv", "x\n1\n", "no column 'smiles'"),
        ("a.csv", "smiles\nCC\nC(\n", r"line 3: 'C\(' is no SMILES"),
        ("a.mol", "", "entry 1 is not understood"),
        ("a.strange", "hello", "ASE does not know this format"),
        ("a.csv", "smiles,SMILES\nC,CC\n", "two columns 'smiles'"),
        ("a.csv", "smiles\n", "holds no structure"),
    ],
)
def test_mistakes_name_the_entry(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(CormorantError, match=message):
        read_structures(tmp_path / name)


@settings(max_examples=60)
@given(
    kind=st.sampled_from([("a.sdf", SDF), ("a.csv", CSV)]),
    place=st.integers(0, 400),
    cut=st.integers(0, 30),
    put=st.binary(max_size=6),
)
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    kind: tuple[str, str],
    place: int,
    cut: int,
    put: bytes,
) -> None:
    name, text = kind
    path = tmp_path_factory.getbasetemp() / name
    raw = text.encode()
    path.write_bytes(raw[:place] + put + raw[place + cut :])
    try:
        found = read_structures(path)
    except CormorantError:
        return
    for frame in found.frames:
        assert frame.pos.shape == (len(frame.z), 3)
        assert bool(frame.pos.isfinite().all())


def test_smiles_of_a_table_a_file_and_the_command_line(
    tmp_path: Path, cormorant: Callable[..., str], gap: Path
) -> None:
    pytest.importorskip("rdkit")
    (tmp_path / "a.csv").write_text("name,smiles,price\nwater,O,=1\n,CC,2\n")
    (tmp_path / "a.smi").write_text("# two\nO water\n\nCC\n")
    outputs = []
    for number, source in enumerate(("a.csv", "a.smi", "CC")):
        cormorant("predict", gap, source, "-o", f"{number}.csv")
        text = (tmp_path / f"{number}.csv").read_text()
        outputs.append(list(csv.DictReader(io.StringIO(text))))
    assert list(outputs[0][0]) == ["smiles", "name", "price", "gap [eV]"]
    assert [row["price"] for row in outputs[0]] == ["'=1", "2"]
    assert [row["name"] for row in outputs[1]] == ["water", "CC"]
    values = [[float(row["gap [eV]"]) for row in rows] for rows in outputs]
    assert values[0] == values[1]
    assert values[2] == pytest.approx(values[0][1:], rel=1e-6)
    assert "no such file" in cormorant("predict", gap, "a.sdf", "-o", "b.csv", code=2)
    (tmp_path / "b.smi").write_text("O\nC(\n")
    error = cormorant("predict", gap, "b.smi", "-o", "b.csv", code=2)
    assert "b.smi: line 2: 'C(' is no SMILES" in error
