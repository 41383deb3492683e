from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from torch_cormorant.errors import (
    CoincidentAtomsError,
    ConfigError,
    DtypeError,
    EdgeBudgetError,
    ExportError,
    NonFiniteError,
    ShapeError,
)
from torch_cormorant.interfaces import export
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.models import Cormorant

WATER = torch.tensor([8, 1, 1])


@pytest.fixture
def model() -> Cormorant:
    made = Cormorant.potential(
        [1, 8], channels=2, num_levels=1, lmax=1, cutoff=3.0, repulsion="zbl"
    )
    made.set_units({1: -13.6, 8: -430.0}, 0.5)
    made.head.rescale(10.0)
    return made.double().eval()


@pytest.fixture
def pos() -> Tensor:
    far = [[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]]
    return torch.tensor(far, dtype=torch.float64)


def test_a_file_gives_energies_and_forces_of_the_model(
    model: Cormorant, pos: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "water.pt2"
    export.export_potential(model, WATER, pos, path, num_structures=2)
    function, numbers = export.load_exported(path)
    assert numbers == [8, 1, 1]
    moved = torch.stack([pos * 1.1, pos])
    moved[1, 2] += 4.0  # beyond the cutoff
    found = function(moved)
    assert found.unit == "eV"
    energy, forces = found.energy, found.forces.view(2, 3, 3)
    for k in range(2):
        expected = Engine(model)(WATER, moved[k])
        torch.testing.assert_close(energy[k : k + 1], expected.energy)
        torch.testing.assert_close(forces[k], expected.forces)
    rounded = function(moved.float())
    torch.testing.assert_close(rounded.energy, energy, rtol=1e-6, atol=0)
    assert rounded.forces.dtype == torch.float64
    for bad, error, words in (
        (moved[0], ShapeError, r"\[2, 3, 3\], got \[3, 3\]"),
        (moved.tolist(), ShapeError, "got list"),
        (moved.long(), DtypeError, r"pos\[0\]"),
        (moved * torch.tensor([1, torch.nan])[:, None, None], NonFiniteError, "row 0"),
        (moved * torch.tensor([1, 0])[:, None, None], CoincidentAtomsError, "0 and 1"),
    ):
        with pytest.raises(error, match=words):
            function(bad)


def test_a_graph_that_differs_is_refused(
    model: Cormorant,
    pos: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    true = export.fixed_function

    def wrong(*args: object) -> object:
        function = true(*args)

        def off(pos: Tensor) -> tuple[Tensor, Tensor]:
            energy, forces, *_ = function(pos)
            return energy, forces * (1 + 1e-6)

        return off

    monkeypatch.setattr(export, "fixed_function", wrong)
    with pytest.raises(ExportError, match="exported forces differs from the model"):
        export.export_potential(model, WATER, pos, tmp_path / "water.pt2")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_named(
    model: Cormorant, pos: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "x.pt2"
    small = {"species": [1, 8], "channels": 2, "num_levels": 1, "lmax": 1}
    published = Cormorant(**small, head="linear").double()
    jumping = Cormorant(**small, head="extensive", envelope=False).double()
    for bad, text in ((published, "sum of atomic"), (jumping, "envelope=True")):
        with pytest.raises(ConfigError, match=text):
            export.export_potential(bad, WATER, pos, path, energy_unit="eV")
    many = torch.arange(903, dtype=torch.float64).reshape(301, 3)
    with pytest.raises(EdgeBudgetError, match="301 atoms"):
        export.export_potential(model, torch.ones(301).long(), many, path)
    with pytest.raises(ConfigError, match="num_structures"):
        export.export_potential(model, WATER, pos, path, num_structures=0)
    with pytest.raises(ShapeError, match="no atoms"):
        export.export_potential(model, WATER[:0], pos[:0], path)
    with pytest.raises(ExportError, match="no such file"):
        export.load_exported(path)
    path.write_bytes(b"no export")
    with pytest.raises(ExportError, match="not read as an exported"):
        export.load_exported(path)


def test_autocast_changes_nothing(
    model: Cormorant, pos: Tensor, tmp_path: Path
) -> None:
    single = pos.float()
    export.export_potential(model, WATER, single, tmp_path / "plain.pt2")
    expected = export.load_exported(tmp_path / "plain.pt2")[0](single[None])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        export.export_potential(model, WATER, single, tmp_path / "inside.pt2")
        found = export.load_exported(tmp_path / "inside.pt2")[0](single[None])
    assert torch.equal(found.energy, expected.energy)
    assert torch.equal(found.forces, expected.forces)
