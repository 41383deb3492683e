"""QM9 from its published forms."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from torch_cormorant.data import (
    HARTREE_TO_EV,
    QM9_TARGETS,
    qm9_files,
    read_qm9,
)
from torch_cormorant.data.download import RemoteFile
from torch_cormorant.errors import ConfigError, DataError

ANY = pytest.mark.parametrize("form", ["pyg", "xyz"])


def write(samples: SimpleNamespace, form: str, folder: Path, *failed: int) -> Path:
    path: Path = getattr(samples, f"write_{form}")(folder, *failed)
    return path


@ANY
def test_every_value_is_that_of_the_file_in_the_units_of_pyg(
    samples: SimpleNamespace, tmp_path: Path, form: str
) -> None:
    dataset = read_qm9(write(samples, form, tmp_path), subtract_references=False)
    assert dataset.values.shape == (3, 19)
    names = list(QM9_TARGETS)
    for data, (number, (symbols, pos, values)) in zip(
        dataset, samples.rows().items(), strict=True
    ):
        assert data.idx.item() == number
        assert len(data.z) == len(symbols)
        tolerance = 5.1e-5 if form == "pyg" else 1e-9
        np.testing.assert_allclose(data.pos, pos, rtol=0, atol=tolerance)
        found = dict(zip(names, data.y[0].tolist(), strict=True))
        assert found["A"] == values[0]
        assert found["mu"] == values[3]
        assert found["gap"] == values[7] * HARTREE_TO_EV
        assert found["G"] == values[13] * HARTREE_TO_EV
        assert found["Cv"] == values[14]
        expected = samples.atomisation(symbols, values)[0] * 0.04336414
        assert found["U0_atom"] == pytest.approx(expected, rel=1e-13)


@ANY
def test_uncharacterized_molecules_are_left_out(
    samples: SimpleNamespace, tmp_path: Path, form: str
) -> None:
    root = write(samples, form, tmp_path, 17)
    assert [data.idx.item() for data in read_qm9(root, target="mu")] == [1, 21]
    assert [data.z.tolist() for data in read_qm9(root)][1] == [7, 1, 1, 1]
    whole = read_qm9(root, target="mu", keep_uncharacterized=True)
    assert [data.idx.item() for data in whole] == [1, 17, 21]


@ANY
def test_what_was_read_is_kept_and_read_again_when_a_file_changes(
    samples: SimpleNamespace, tmp_path: Path, form: str
) -> None:
    root = write(samples, form, tmp_path)
    first = read_qm9(root)
    (cache,) = (root / "processed").iterdir()
    second = read_qm9(root)
    assert torch.equal(first.values, second.values)
    assert first.digest == second.digest
    cache.write_bytes(cache.read_bytes()[:-100])
    assert torch.equal(read_qm9(root).values, first.values)
    (root / "raw" / "uncharacterized.txt").write_text(samples.list_text(1))
    assert len(read_qm9(root)) == 2


def test_a_folder_that_cannot_be_written_is_read(
    samples: SimpleNamespace, tmp_path: Path
) -> None:
    root = write(samples, "pyg", tmp_path)
    (root / "processed").touch()  # a file where the folder should be
    assert len(read_qm9(root)) == 3


def test_files_may_lie_in_the_root_itself(
    samples: SimpleNamespace, tmp_path: Path
) -> None:
    write(samples, "pyg", tmp_path)
    assert len(read_qm9(tmp_path / "raw", download=False)) == 3


def test_several_targets_come_in_the_order_asked_for(
    samples: SimpleNamespace, tmp_path: Path
) -> None:
    root = write(samples, "pyg", tmp_path)
    dataset = read_qm9(root, target=["Cv", "u298", "MU"])
    assert [target.name for target in dataset.targets] == ["Cv", "U", "mu"]
    assert dataset[0].y.shape == (1, 3)
    with pytest.raises(ConfigError, match="names a property twice"):
        read_qm9(root, target=["U", "u298"])
    with pytest.raises(ConfigError, match="empty list"):
        read_qm9(root, target=[])


def test_one_source_is_needed(tmp_path: Path) -> None:
    for arguments in ({}, {"root": tmp_path, "npz": tmp_path}):
        with pytest.raises(ConfigError, match="root, npz: give one of them"):
            read_qm9(**arguments)
    with pytest.raises(ConfigError, match="source: 'sdf' is not one of pyg, xyz"):
        read_qm9(tmp_path, source="sdf")
    with pytest.raises(DataError, match=r"gdb9\.sdf: no such file; download=True"):
        read_qm9(tmp_path, download=False)


def test_values_are_those_of_pyg(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("rdkit")
    from torch_geometric import datasets

    (tmp_path / "raw").mkdir()
    for file in (shared / "data/qm9/pyg_raw_sample").iterdir():
        (tmp_path / "raw" / file.name).write_bytes(file.read_bytes())
    ours, theirs = (
        read_qm9(tmp_path, subtract_references=False),
        datasets.QM9(str(tmp_path)),
    )
    assert len(ours) == len(theirs) == 1000
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.z, other.z)
        assert f"gdb_{one.idx.item()}" == other.name
        torch.testing.assert_close(one.pos.float(), other.pos, rtol=0, atol=0)
        # They round to float32 before they multiply by the factor.
        torch.testing.assert_close(one.y.float(), other.y, rtol=2.5e-7, atol=0)


def test_both_forms_and_the_arrays_agree(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for file in (shared / "data/qm9/pyg_raw_sample").iterdir():
        (tmp_path / "raw" / file.name).write_bytes(file.read_bytes())
    raw = read_qm9(tmp_path)
    arrays = read_qm9(npz=shared / "data/qm9/qm9_labelled.npz")
    row = {number: k for k, number in enumerate(arrays._data.idx.tolist())}
    other = arrays[[row[data.idx.item()] for data in raw]]
    # The table's atomisation energies come from another source, with more digits.
    torch.testing.assert_close(raw.values, other.values, rtol=1e-9, atol=1e-9)
    for one, two in zip(raw, other, strict=True):
        torch.testing.assert_close(one.pos, two.pos, rtol=0, atol=5.1e-5)


@ANY
def test_missing_files_are_fetched(
    samples: SimpleNamespace,
    tmp_path: Path,
    served: tuple[Path, str],
    form: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, address = served
    raw = write(samples, form, tmp_path / "there", 1) / "raw"
    with zipfile.ZipFile(raw / "qm9.zip", "w") as archive:
        for file in sorted(raw.glob("gdb9*")):
            archive.write(file, file.name)
    for key, remote in qm9_files.QM9_FILES.items():
        source = raw / remote.name
        if not source.exists():
            continue
        content = source.read_bytes()
        (folder / remote.name).write_bytes(content)
        local = RemoteFile(
            remote.name,
            f"{address}/{remote.name}",
            len(content),
            hashlib.sha256(content).hexdigest(),
        )
        monkeypatch.setitem(qm9_files.QM9_FILES, key, local)
    root = tmp_path / "root"
    dataset = read_qm9(root, target="mu", source=form)
    assert [data.idx.item() for data in dataset] == [17, 21]
    kept = sorted(file.name for file in (root / "raw").iterdir())
    assert kept == sorted(qm9_files.QM9_SOURCES[form])
    assert torch.equal(read_qm9(root, target="mu").values, dataset.values)


def test_an_archive_without_the_files_is_named(
    tmp_path: Path, served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    with zipfile.ZipFile(folder / "qm9.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    local = RemoteFile("qm9.zip", f"{address}/qm9.zip")
    monkeypatch.setitem(qm9_files.QM9_FILES, "pyg", local)
    with pytest.raises(DataError, match=r"qm9\.zip: does not hold gdb9\.sdf"):
        read_qm9(tmp_path / "root")


def test_known_files_have_pinned_digests_and_verified_addresses() -> None:
    for remote in qm9_files.QM9_FILES.values():
        assert remote.url.startswith("https://")
    for key in ("xyz", "uncharacterized"):
        assert len(qm9_files.QM9_FILES[key].sha256 or "") == 64


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "gdb9.sdf",
            " O  ",
            " Q  ",
            r"gdb9\.sdf: molecule 'gdb_17': 'Q' is no element",
        ),
        (
            "gdb9.sdf",
            "0.9775",
            "0.9x75",
            "molecule 'gdb_17': line .*: expected an atom",
        ),
        ("gdb9.sdf", "0.9775", "   nan", "'gdb_17': a coordinate is not finite"),
        ("gdb9.sdf", "V2000", "V3000", "molecule 'gdb_1': line 4: expected a V2000"),
        ("gdb9.sdf", "  3  1  0", "  0  1  0", "molecule 'gdb_17': has no atoms"),
        ("gdb9.sdf", "  3  1  0", "  2  1  0", "'gdb_17': line .*: expected M  END"),
        ("gdb9.sdf", "$$$$\ngdb_17", "gdb_17", "another entry before"),
        ("gdb9.sdf", "gdb_17", "water", "row 2 is molecule 'gdb_17', but .* 'water'"),
        ("gdb9.sdf.csv", "gdb_17", "gdb_18", "row 2 is molecule 'gdb_18'"),
        ("gdb9.sdf.csv", "gdb_17,", "gdb_17,inf", r"'gdb_17': 'A': 'inf.*' is no fin"),
        ("gdb9.sdf.csv", "gdb_17,", "gdb_17,1,", "'gdb_17': 21 fields, expected 20"),
        ("gdb9.sdf.csv", "mol_id", "name", "line 1: expected the columns mol_id,A,B"),
        ("uncharacterized.txt", "    17", "   one", "line 10: expected a molecule's"),
        ("uncharacterized.txt", "heading\n", "", "has only"),
    ],
)
def test_damage_is_named(
    samples: SimpleNamespace,
    tmp_path: Path,
    file: str,
    old: str,
    new: str,
    message: str,
) -> None:
    root = write(samples, "pyg", tmp_path, 17)
    path = root / "raw" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=message):
        read_qm9(root)


@pytest.mark.parametrize("form", ["gdb9.sdf", "gdb9.sdf.csv"])
def test_a_file_that_is_cut_off_is_never_read_in_part(
    samples: SimpleNamespace, tmp_path: Path, form: str
) -> None:
    root = write(samples, "pyg", tmp_path)
    path = root / "raw" / form
    text = path.read_text()
    for length in range(0, len(text), 7):
        path.write_text(text[:length])
        with pytest.raises(DataError, match="gdb9"):
            read_qm9(root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gdb 17", "gdb x", "expected a name such as gdb_17"),
        ("gdb 17", "gdb 21", "a molecule comes twice"),
        ("O\t", "Q\t", r"molecule 'gdb_17': 'Q' is no element"),
        ("O\t", "Cl\t", "'gdb_17': has an element that QM9 does not"),
        ("3\n", "9\n", "'gdb_17': .* do not hold '9' atoms"),
        ("0.9775", "0.97.75", "'gdb_17': .*atom"),
        ("gdb 17\t", "gdb 17\t1\t", "'gdb_17': .*16 properties, expected 15"),
        ("gdb 17\t", "gdb 17\tnan", "'gdb_17': 'A': 'nan.*' is no finite number"),
    ],
)
def test_damage_in_the_archive_is_named(
    samples: SimpleNamespace, tmp_path: Path, old: str, new: str, message: str
) -> None:
    root = write(samples, "xyz", tmp_path)
    path = root / "raw" / "dsgdb9nsd.xyz.tar.bz2"
    with tarfile.open(path, "w:bz2") as archive:
        for number in samples.rows():
            text = samples.xyz_text(number)
            if number == 17:
                assert old in text
                text = text.replace(old, new, 1)
            member = tarfile.TarInfo(f"dsgdb9nsd_{number:06}.xyz")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    with pytest.raises(DataError, match=message):
        read_qm9(root)
