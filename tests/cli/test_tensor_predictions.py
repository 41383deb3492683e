"""Vectors, tensors and values of atoms on the command line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from torch_cormorant import Cormorant, save_model
from torch_cormorant.data import MiniQM9, read_extxyz, write_extxyz
from torch_cormorant.data.extxyz_format import numbers_of
from torch_cormorant.models import ModelInfo, Normalisation

CONFIG = (Path(__file__).parent / "gap.yaml").read_text()
Command = Callable[..., str]


def saved(folder: Path, head: Any, names: Sequence[str] = ("dipole",)) -> Cormorant:
    """A small network of that head, also in a file."""
    torch.manual_seed(0)
    count = len(names)
    model = Cormorant(
        head=head, num_targets=count, channels=4, num_levels=1, lmax=2, hidden=8
    ).double()
    scales = tuple(float(k + 2) for k in range(count))
    units = ("Debye",) * count
    model.info = ModelInfo(tuple(names), units, Normalisation((0.0,) * count, scales))
    save_model(folder / "model.safetensors", model)
    write_extxyz(folder / "in.extxyz", list(MiniQM9("mu")[[3, 20, 60]]))
    return model.eval()


@pytest.mark.parametrize(
    ("head", "names", "columns"),
    [
        ("dipole", ("dipole",), ["dipole_x", "dipole_y", "dipole_z"]),
        ("dipole", ("a", "b"), ["a_x", "a_y", "a_z", "b_x", "b_y", "b_z"]),
        (
            "polarizability",
            ("alpha",),
            [f"alpha_{i}{j}" for i in "xyz" for j in "xyz"],
        ),
        ({"kind": "so3", "degree": 2}, ("q",), [f"q_{k}" for k in range(5)]),
    ],
)
def test_every_component_of_a_tensor_is_written(
    cormorant: Command,
    tmp_path: Path,
    head: Any,
    names: tuple[str, ...],
    columns: list[str],
) -> None:
    model = saved(tmp_path, head, names)
    arguments = ("predict", "model.safetensors", "in.extxyz", "-o")
    cormorant(*arguments, "out.csv")
    with (tmp_path / "out.csv").open() as stream:
        first, *rows = list(csv.reader(stream))
    assert first == ["name", *(f"{column} [Debye]" for column in columns)]
    cormorant(*arguments, "out.extxyz")
    written = read_extxyz(tmp_path / "out.extxyz", energy=None, forces=None)
    for k, data in enumerate(MiniQM9("mu")[[3, 20, 60]]):
        expected = model.predict(data.z, data.pos).flatten().tolist()
        assert [float(word) for word in rows[k][1:]] == pytest.approx(
            expected, rel=1e-9, abs=1e-12
        )
        info = written.file.info(k)
        found = [x for name in names for x in numbers_of(info[name], name)]
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_values_of_atoms_are_columns(cormorant: Command, tmp_path: Path) -> None:
    model = saved(tmp_path, "atom_vector", ("force on", "other"))
    arguments = ("predict", "model.safetensors", "in.extxyz", "-o")
    assert "has one row for every structure" in cormorant(*arguments, "out.csv", code=2)
    cormorant(*arguments, "out.extxyz")
    for k, name in enumerate(("force_on", "other")):
        written = read_extxyz(tmp_path / "out.extxyz", energy=None, forces=name)
        for row, data in enumerate(MiniQM9("mu")[[3, 20, 60]]):
            expected = model.predict(data.z, data.pos)[:, k]
            torch.testing.assert_close(written[row].forces, expected)


def test_heads_that_do_not_fit_the_targets_are_refused_before_anything_is_written(
    cormorant: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(CONFIG)
    start = ("train", "a.yaml", "--override")
    for head, answer in (
        (
            "dipole",
            "'dipole' predicts [3] for each molecule, but data.target",
        ),
        ("atom_vector", "predicts [3] for each atom"),
        ("[extensive, mean]", "2 heads for 1 targets"),
        ("{degree: 2}", "needs its name as 'kind'"),
    ):
        assert answer in cormorant(*start, f"model.options.head={head}", code=2)
    assert not (tmp_path / "runs").exists()


def test_every_override_counts_and_a_list_gives_each_target_its_head(
    cormorant: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text(f"{CONFIG}output: {{report: false}}\n")
    cormorant(
        *("train", "a.yaml", "--override", "data.target=[gap, energy_atom]"),
        *("--override", "model.options.head=[mean, extensive]"),
        *("--override", "training.epochs=1"),
    )
    info = cormorant("info", "runs/a/model.safetensors")
    assert "gap [eV], energy_atom [eV]" in info
    assert '["mean", "extensive"]' in info
