"""Own molecules with own properties from extended XYZ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from torch_cormorant.data import (
    CompositionBaseline,
    ExtXYZProperties,
    MiniQM9,
    Target,
    unit_factor,
    write_extxyz,
)
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.models import head_for_target

UNITS = {"gap": "eV", "dipole": "Debye", "alpha": "bohr^3", "q": "e", "v": "1"}


def labels(seed: int = 0, count: int = 6) -> list[dict[str, Tensor]]:
    """Random labels of every kind for the first molecules."""
    rng = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    return [
        {
            "gap": random(1),
            "mu": random(1),
            "dipole": random(3),
            "alpha": random(3, 3),
            "five": random(5),
            "q": random(data.z.numel(), 1),
            "v": random(data.z.numel(), 3),
        }
        for data in MiniQM9("mu")[20 : 20 + count]
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with labels of every kind."""
    path = tmp_path / "own.extxyz"
    found = labels()
    frames = [Data(z=d.z, pos=d.pos) for d in MiniQM9("mu")[20:26]]
    per_molecule = ("gap", "mu", "dipole", "alpha", "five")
    info = [
        {k: " ".join(map(repr, one[k].flatten().tolist())) for k in per_molecule}
        for one in found
    ]
    arrays = [{k: one[k] for k in ("q", "v")} for one in found]
    write_extxyz(path, frames, info=info, arrays=arrays)
    return path


@pytest.mark.parametrize(
    ("name", "shape", "per_atom"),
    [
        ("gap", (), False),
        ("dipole", (3,), False),
        ("alpha", (3, 3), False),
        ("five", (5,), False),
        ("q", (), True),
        ("v", (3,), True),
    ],
)
def test_every_kind_is_read_to_the_last_bit(
    file: Path, name: str, shape: tuple[int, ...], per_atom: bool
) -> None:
    data = ExtXYZProperties(file, name, {name: "foo"})
    assert (data.target.shape, data.target.per_atom) == (shape, per_atom)
    assert data.target.unit == "foo"
    rows = [one[name] if per_atom else one[name][None] for one in labels()]
    for k, row in enumerate(rows):
        assert torch.equal(data[k].y, row)
        assert data[k].y.dtype == torch.float64
    assert torch.equal(data.values, torch.cat(rows))
    species = torch.tensor(data.species)
    # A subset in another order, and batches of it.
    order = [4, 1, 5]
    part = data[torch.tensor(order)]
    wanted = torch.cat([rows[k] for k in order])
    assert torch.equal(part.values, wanted)
    batch = next(iter(DataLoader(part, batch_size=3)))
    assert torch.equal(batch.y, wanted)
    counts = part.row_counts()
    if per_atom:
        z = torch.cat([one.z for one in part])
        assert torch.equal(counts.argmax(dim=1), torch.searchsorted(species, z))
        assert torch.equal(counts.sum(dim=1), torch.ones_like(counts[:, 0]))
    else:
        expected = [(one.z[:, None] == species).sum(dim=0).tolist() for one in part]
        assert counts.tolist() == expected
    assert part[torch.tensor([], dtype=torch.long)].values.shape[0] == 0
    assert name in data.describe()


def test_several_numbers_stand_side_by_side(file: Path) -> None:
    data = ExtXYZProperties(file, ["mu", "gap"], {"gap": "eV", "mu": "Debye"})
    wanted = torch.stack([torch.cat([one["mu"], one["gap"]]) for one in labels()])
    assert torch.equal(data.values, wanted)
    assert [target.name for target in data.targets] == ["mu", "gap"]
    # Known ones are shown as QM9's, without its published errors.
    assert data.targets[1].shown_unit == "meV"
    assert data.targets[0].paper_mae is None


def test_units_are_converted_and_names_mapped(file: Path) -> None:
    data = ExtXYZProperties(
        file,
        "homo",
        {"homo": "Hartree", "pos": "bohr"},
        unit={"homo": "eV"},
        names={"homo": "gap"},
        name="mine",
        level_of_theory="guess",
    )
    plain = ExtXYZProperties(file, "gap", {"gap": "Hartree"})
    torch.testing.assert_close(
        data.values, plain.values * unit_factor("Hartree", "eV"), rtol=1e-15, atol=0
    )
    torch.testing.assert_close(
        data[2].pos, plain[2].pos * unit_factor("bohr", "Angstrom"), rtol=1e-15, atol=0
    )
    assert (data.title, data.level_of_theory, data.is_qm9) == ("mine", "guess", False)


def test_composition_of_atoms_is_the_mean_of_each_element(file: Path) -> None:
    data = ExtXYZProperties(file, "q", {"q": "e"})
    z = torch.cat([one.z for one in data])
    fit = CompositionBaseline.fit(data.row_counts(), data.values)
    predicted = fit.predict(data.row_counts())
    for number in data.species:
        mean = data.values[z == number].mean()
        torch.testing.assert_close(
            predicted[z == number], mean.expand(int((z == number).sum()), 1)
        )


@pytest.mark.parametrize(
    ("target", "options", "error", "words"),
    [
        ("gap", {"units": {}}, ConfigError, r"none is given for 'gap'"),
        ("gap", {"units": {"gap": ""}}, ConfigError, r"none is given for 'gap'"),
        ([], {"units": {}}, ConfigError, "name each property once"),
        (["gap", "gap"], {}, ConfigError, "name each property once"),
        ("gap", {"unit": {"gp": "eV"}}, ConfigError, "unit: 'gp' is not one"),
        ("gap", {"units": {"gap": "eV", "poss": "A"}}, ConfigError, "'poss' is not in"),
        ("gap", {"units": "eV"}, ConfigError, "units: 'eV'; expected a text for each"),
        ("gap", {"units": {"gap": 1}}, ConfigError, "expected a text for each name"),
        ("gap", {"unit": "meV"}, ConfigError, "unit: 'meV'; expected"),
        ("gap", {"names": {"onw": "x"}}, ConfigError, "names: 'onw' is not one of"),
        ("gap", {"names": "x"}, ConfigError, "names: 'x'; expected"),
        ([3], {"units": {}}, ConfigError, r"target: \[3\] is neither a name nor"),
        ("gap", {"unit": {"gap": "Debye"}}, ConfigError, "measure different things"),
        (["gap", "dipole"], {}, ConfigError, "'dipole' has 3 numbers for the molecule"),
        (["gap", "q"], {}, ConfigError, "'q' has 1 number for each atom"),
        ("gop", {"units": {"gop": "1"}}, DataError, "frame 0: property 'gop' is miss"),
        ("gap", {"names": {"gap": "x"}}, DataError, "property 'x' is missing"),
    ],
)
def test_what_does_not_fit_is_named(
    file: Path, target: Any, options: dict[str, Any], error: type, words: str
) -> None:
    names = [target] if isinstance(target, str) else target
    given = {"units": {name: UNITS.get(name, "1") for name in names}, **options}
    with pytest.raises(error, match=words):
        ExtXYZProperties(file, target, **given)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("a=1", "a=x", "frame 1: 'a': 'x' holds no numbers"),
        ("a=1", "a=nan", "frame 1: 'a': not finite"),
        ("a=1", 'a="1 2 3"', "frame 1: 'a': 3 numbers for the molecule, in frame 0 1"),
        ("a=1", "b=1", "frame 1: property 'a' is missing, there is b"),
        ('a="1 2"', "a=1", r"frame 0: 'a': 2 numbers, expected 1, 3 \(x, y, z\)"),
        ("a=1", 'a=1 Lattice="9 0 0 0 9 0 0 0 9"', "frame 1: is periodic"),
        ("a=1", "a=1 Properties=species:S:1:pos:R:3:a:R:1", "is there twice"),
        ("a=1", "Properties=species:S:1:pos:R:3:a:R:1", "1 number for each atom"),
    ],
)
def test_damaged_labels_name_frame_and_property(
    tmp_path: Path, first: str, second: str, words: str
) -> None:
    path = tmp_path / "a.extxyz"
    rows = ["H 0 0 0", "H 0 0 0 0.5" if "Properties" in second else "H 0 0 0"]
    path.write_text(f"1\n{first}\n{rows[0]}\n1\n{second}\n{rows[1]}\n")
    with pytest.raises(DataError, match=words):
        ExtXYZProperties(path, "a", {"a": "1"})


def test_files_that_ase_reads(tmp_path: Path, file: Path) -> None:
    ase_io = pytest.importorskip("ase.io", reason="ASE is not installed")
    ase_io.write(tmp_path / "own.traj", ase_io.read(file, ":"))
    for name in ("gap", "dipole", "alpha"):  # this format keeps no own columns
        units = {name: "1"}
        own = ExtXYZProperties(file, name, units)
        other = ExtXYZProperties(tmp_path / "own.traj", name, units)
        assert torch.equal(own.values, other.values)
        assert own.target.per_atom == other.target.per_atom


def test_tensors_and_charges_as_ase_writes_them(tmp_path: Path) -> None:
    ase_io = pytest.importorskip("ase.io", reason="ASE is not installed")
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    tensor = torch.tensor([[1.0, 0.5, 0.25], [0.5, 2.0, -1.0], [0.25, -1.0, 3.0]])
    atoms = Atoms("OH2", [[0, 0, 0], [0, 0.8, 0.6], [0, -0.8, 0.6]])
    atoms.info["pol"] = tensor.numpy()
    own = [-0.8, 0.4, 0.4]
    atoms.calc = SinglePointCalculator(atoms, charges=own, energies=own)
    for name, charges in (
        ("w.extxyz", "charge"),
        ("w.traj", "charges"),
        ("w.extxyz", "energies"),
        ("w.traj", "energies"),
    ):
        ase_io.write(tmp_path / name, [atoms, atoms])
        pol = ExtXYZProperties(tmp_path / name, "pol", {"pol": "bohr^3"})
        assert torch.equal(pol[1].y, tensor.double()[None])
        # Three numbers of three atoms are no vector.
        data = ExtXYZProperties(tmp_path / name, charges, {charges: "e"})
        assert data[1].y.flatten().tolist() == own
        assert data.target.per_atom


@pytest.mark.parametrize(
    ("target", "head"),
    [
        (Target("mu", "", "", "Debye"), "dipole_norm"),
        (Target("mu", "", "", "e*bohr"), "dipole_norm"),
        (Target("mu", "", "", "eV"), "published"),  # a chemical potential
        (Target("dipole", "", "", "eV"), "published"),
        (Target("g", "", "", "1"), "published"),
        (Target("U0", "", "", "kcal/mol"), "extensive"),
        (Target("Cv", "", "", "cal/(mol K)"), "extensive"),
        (Target("mine", "", "", "eV"), "published"),
        (Target("d", "", "", "Debey", shape=(3,)), "vector"),
        (Target("d", "", "", "e A", shape=(3,)), "dipole"),
    ],
)
def test_name_and_unit_choose_the_head(target: Target, head: str) -> None:
    assert head_for_target(target) == head


def test_data_lists_keep_the_kind(file: Path) -> None:
    data = ExtXYZProperties(file, "v", {"v": "1"})
    batch = Batch.from_data_list([data[k] for k in (3, 0)])
    assert batch.y.shape == batch.pos.shape
