"""MD17 from its raw files."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from torch_cormorant.data import md17, read_md17, reference_energies, unit_factor
from torch_cormorant.data.download import RemoteFile
from torch_cormorant.errors import ConfigError, DataError

Arrays = dict[str, np.ndarray]


@pytest.fixture
def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "nuclear_charges": np.array([8, 1, 1], dtype=np.uint8),
        "coords": rng.normal(size=(6, 3, 3)),
        "energies": rng.normal(size=6) - 97000,
        "forces": rng.normal(size=(6, 3, 3)),
        "split01_train": np.array([5, 0, 2]),
        "split01_test": np.array([1, 3]),
    }


def save(path: Path, arrays: Arrays) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def test_revised_frames_are_those_of_the_file(tmp_path: Path, arrays: Arrays) -> None:
    save(tmp_path / "raw/rmd17/npz_data/rmd17_ethanol.npz", arrays)
    dataset = read_md17(tmp_path, download=False)
    assert dataset.title == "revised MD17 ethanol"
    assert dataset.energy_unit == "kcal/mol"
    assert dataset.level_of_theory == "PBE/def2-SVP"
    for k, data in enumerate(dataset):
        np.testing.assert_array_equal(data.pos, arrays["coords"][k])
        np.testing.assert_array_equal(data.forces, arrays["forces"][k])
        assert data.energy.tolist() == [arrays["energies"][k]]
        assert data.energy.dtype == data.forces.dtype == torch.float64
    split = dataset.official_split(1, valid=1)
    assert [part.tolist() for part in split.parts] == [[5, 0], [2], [1, 3]]


def test_original_frames_are_those_of_the_file(tmp_path: Path, arrays: Arrays) -> None:
    raw = {
        "z": arrays["nuclear_charges"],
        "R": arrays["coords"],
        "E": arrays["energies"][:, None],
        "F": arrays["forces"],
        "name": np.array(b"ethanol"),
    }
    save(tmp_path / "ethanol/raw/md17_ethanol.npz", raw)
    dataset = read_md17(tmp_path, revised=False, download=False)
    assert dataset.title == "MD17 ethanol"
    assert dataset.energies.tolist() == arrays["energies"].tolist()
    assert not dataset.official_splits
    with pytest.raises(ConfigError, match="has the official splits none, not 1"):
        dataset.official_split()


def test_units_and_references_are_exact_in_float64(
    tmp_path: Path, arrays: Arrays
) -> None:
    path = save(tmp_path / "x.npz", arrays)
    factor = unit_factor("kcal/mol", "eV")
    ev = read_md17(npz=path, unit="eV")
    torch.testing.assert_close(
        ev.energies, torch.from_numpy(arrays["energies"]) * factor, rtol=1e-15, atol=0
    )
    np.testing.assert_allclose(ev[3].forces, arrays["forces"][3] * factor, rtol=1e-15)
    mean = read_md17(npz=path, reference="mean")
    expected = arrays["energies"] - arrays["energies"].mean()
    np.testing.assert_allclose(mean.energies, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(mean.energies + mean.energy_shift, arrays["energies"])
    per_element = read_md17(npz=path, reference={1: -1000.0, 8: -95000.0})
    assert torch.equal(
        per_element.energies, torch.from_numpy(arrays["energies"] + 97000)
    )
    number = read_md17(npz=path, reference=-97000.0)
    assert torch.equal(number.energies, per_element.energies)
    fitted = reference_energies(read_md17(npz=path))
    rest = read_md17(npz=path, reference=fitted)
    assert rest.energies.mean().abs() < 1e-9
    with pytest.raises(ConfigError, match="in kcal/mol, but the energies are in eV"):
        read_md17(npz=path, reference=fitted, unit="eV")
    with pytest.raises(ConfigError, match="no value for atomic number 8"):
        read_md17(npz=path, reference={1: 0.0})
    with pytest.raises(ConfigError, match="'median' is not understood"):
        read_md17(npz=path, reference="median")


def test_a_molecule_that_is_not_that_of_the_file_is_refused(
    tmp_path: Path, arrays: Arrays
) -> None:
    named, other = tmp_path / "rmd17_uracil.npz", tmp_path / "mine.npz"
    for path in (save(named, arrays), save(other, arrays)):
        with pytest.raises(
            ConfigError, match=r"of 'uracil', not of 'asp|holds H2O, but 'asp"
        ):
            read_md17(npz=path, molecule="aspirin")
    assert read_md17(npz=named).title == "revised MD17 uracil"
    with pytest.raises(ConfigError, match="holds H2O, but 'ethanol' is C2H6O"):
        read_md17(npz=other, molecule="ethanol")
    ethanol = dict(arrays, nuclear_charges=np.array([6, 6, 8] + 6 * [1]))
    ethanol["coords"] = np.random.default_rng(0).normal(size=(6, 9, 3))
    ethanol["forces"] = np.zeros((6, 9, 3))
    found = read_md17(npz=save(other, ethanol), molecule="ethanol")
    assert found.title == "revised MD17 ethanol"


def test_names_of_molecules_are_those_of_pyg(tmp_path: Path, arrays: Arrays) -> None:
    save(tmp_path / "rmd17_salicylic.npz", arrays)
    for name in ("salicylic acid", "revised salicylic acid", "Salicylic"):
        found = read_md17(tmp_path, molecule=name, download=False)
        assert found.title == "revised MD17 salicylic acid"
    found = read_md17(npz=tmp_path / "rmd17_salicylic.npz")
    assert found.title == "revised MD17 salicylic acid"
    with pytest.raises(ConfigError, match="has no 'etanol'; did you mean 'ethanol'"):
        read_md17(tmp_path, molecule="etanol")
    with pytest.raises(ConfigError, match="root, npz: give one of them"):
        read_md17()
    with pytest.raises(DataError, match=r"rmd17_uracil\.npz: no such file"):
        read_md17(tmp_path, molecule="uracil", download=False)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("coords", np.zeros((6, 2, 3)), "'coords': shape"),
        ("energies", np.zeros(5), "'energies': 5 values for 6 frames"),
        ("forces", np.zeros((6, 3)), "'forces': shape"),
        ("forces", np.full((6, 3, 3), np.nan), "frame 0: 'forces': atom 0 has"),
        ("energies", np.array(["a"] * 6), "'energies': expected real numbers"),
        (
            "split01_test",
            np.array([6]),
            "'split01_test': expected row numbers from 0 to 5",
        ),
        ("split01_test", np.array([2]), "'split01_train': frames are in both parts"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, arrays: Arrays, name: str, value: np.ndarray, message: str
) -> None:
    path = save(tmp_path / "bad.npz", arrays | {name: value})
    with pytest.raises(DataError, match=rf"bad\.npz.*{message}"):
        read_md17(npz=path)


def test_a_part_of_the_training_frames_must_remain(
    tmp_path: Path, arrays: Arrays
) -> None:
    dataset = read_md17(npz=save(tmp_path / "x.npz", arrays))
    for valid in (0, 3):
        with pytest.raises(ConfigError, match=f"valid: {valid} of 3"):
            dataset.official_split(valid=valid)


def test_the_archive_is_fetched_with_its_splits(
    tmp_path: Path,
    arrays: Arrays,
    served: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (folder, address), root = served, tmp_path / "root"
    splits = {name: arrays.pop(name) for name in list(arrays) if "split" in name}
    npz = save(folder / "rmd17_ethanol.npz", arrays)
    entries = {"rmd17/npz_data/rmd17_ethanol.npz": npz.read_bytes()}
    for name, rows in splits.items():
        number, kind = name.removeprefix("split").split("_")
        text = "".join(f"{row}\n" for row in rows)
        entries[f"rmd17/splits/index_{kind}_{number}.csv"] = text.encode()
    with tarfile.open(folder / "rmd17.tar.bz2", "w:bz2") as archive:
        for name, content in entries.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    content = (folder / "rmd17.tar.bz2").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    remote = RemoteFile(
        "rmd17.tar.bz2", f"{address}/rmd17.tar.bz2", len(content), digest
    )
    monkeypatch.setitem(md17.MD17_FILES, "revised", remote)
    dataset = read_md17(root)
    with pytest.raises(DataError, match="does not hold the file of 'uracil'"):
        read_md17(root, molecule="uracil")
    assert len(dataset) == 6
    split = dataset.official_split(valid=1)
    assert [part.tolist() for part in split.parts] == [[5, 0], [2], [1, 3]]


def test_real_frames_are_those_of_pyg(shared: Path, tmp_path: Path) -> None:
    from torch_geometric import datasets

    source = shared / "data/md17/rmd17_benzene.npz"
    raw = tmp_path / "raw/rmd17/npz_data/rmd17_benzene.npz"
    raw.parent.mkdir(parents=True)
    raw.write_bytes(source.read_bytes())
    ours = read_md17(tmp_path, molecule="benzene")
    theirs = datasets.MD17(str(tmp_path), "revised benzene")
    assert len(ours) == len(theirs)
    for k in range(0, len(ours), 97):
        one, other = ours[k], theirs[k]
        assert torch.equal(one.pos.float(), other.pos)
        assert torch.equal(one.energy.float(), other.energy.reshape(1))
        assert torch.equal(one.forces.float(), other.force)
    assert ours.official_splits == (1, 2)
    split = ours.official_split(2)
    assert [len(part) for part in split.parts] == [950, 50, 1000]


def test_a_file_of_another_name_is_told_by_its_composition(
    tmp_path: Path, arrays: Arrays
) -> None:
    rng = np.random.default_rng(0)
    benzene = {
        "nuclear_charges": np.array([6] * 6 + [1] * 6),
        "coords": rng.normal(size=(3, 12, 3)),
        "energies": rng.normal(size=3),
        "forces": np.zeros((3, 12, 3)),
    }
    found = read_md17(npz=save(tmp_path / "mine.npz", benzene))
    assert found.title == "revised MD17 benzene"
    water = read_md17(npz=save(tmp_path / "water.npz", arrays))
    assert water.title == "water"
    assert water.level_of_theory == "unknown"


def test_contradictions_and_odd_references_are_named(
    tmp_path: Path, arrays: Arrays
) -> None:
    with pytest.raises(ConfigError, match="'revised ethanol' with revised=False"):
        read_md17(tmp_path, molecule="revised ethanol", revised=False, download=False)
    path = save(tmp_path / "x.npz", arrays)
    with pytest.raises(ConfigError, match="reference: a list is not understood"):
        read_md17(npz=path, reference=[1.0])  # type: ignore[arg-type]


def test_an_empty_unit_is_named_and_forces_may_have_their_own(tmp_path: Path) -> None:
    path = tmp_path / "h2.npz"
    pos = np.zeros((2, 2, 3))
    pos[:, 1, 2] = 0.7
    arrays = {"z": [1, 1], "R": pos, "E": np.ones(2), "F": np.ones((2, 2, 3))}
    for text in ("", np.array([], dtype="U1"), " "):
        np.savez(path, **arrays, energy_unit=text)
        with pytest.raises(DataError, match=r"h2\.npz: array 'energy_unit': "):
            read_md17(npz=path)
    np.savez(path, **arrays, energy_unit="Hartree", force_unit="Hartree/bohr")
    force = read_md17(npz=path, unit="eV")[0].forces[0, 0].item()
    assert force == pytest.approx(51.422067, rel=1e-7)
