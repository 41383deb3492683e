"""Whole runs of the Lightning loop with a tiny network."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch_geometric.loader import DataLoader

from torch_cormorant.data import CompositionBaseline, MiniQM9, split_indices
from torch_cormorant.errors import ConfigError, DataError, WeightsError
from torch_cormorant.train import (
    AtomicCheckpointIO,
    EpochBar,
    EpochLog,
    MoleculeDataModule,
    PropertyRegression,
    best_and_last,
    quiet_lightning,
)

Tiny = Callable[[], nn.Module]


def fit(
    folder: Path,
    model: nn.Module,
    epochs: int,
    *,
    resume: bool = False,
    bar: bool = False,
) -> tuple[PropertyRegression, EpochLog]:
    data = MiniQM9("energy_atom")
    loaders = MoleculeDataModule(data, split_indices(310, 40, 10, 10), batch_size=10)
    module = PropertyRegression(
        model, loaders.mean, loaders.std, lr=5e-3, warmup_steps=5
    )
    log = EpochLog(data.target)
    with quiet_lightning():
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            gradient_clip_val=1.0,
            callbacks=[log, *best_and_last(folder), *([EpochBar()] if bar else [])],
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=bar,
            enable_model_summary=False,
            logger=False,
        )
        trainer.fit(module, loaders, ckpt_path=folder / "last.ckpt" if resume else None)
    return module, log


def test_resumed_run_is_bitwise_the_uninterrupted_one(
    tmp_path: Path, tiny: Tiny
) -> None:
    straight, whole = fit(tmp_path / "a", tiny(), 4)
    fit(tmp_path / "b", tiny(), 2)
    torch.manual_seed(99)  # a new process would not share the random state
    resumed, log = fit(tmp_path / "b", tiny(), 4, resume=True)
    for left, right in zip(
        straight.state_dict().values(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(left, right)
    for ours, expected in zip(log.rows, whole.rows, strict=True):
        timeless = {"seconds": 0.0, "rate": 0.0}
        assert {**ours, **timeless} == {**expected, **timeless}
    names = sorted(file.name for file in (tmp_path / "b").iterdir())
    assert names == ["best.ckpt", "last.ckpt"]


def test_training_lowers_the_error_and_keeps_the_best_epoch(
    tmp_path: Path, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    _, log = fit(tmp_path, tiny(), 6)
    errors = [row["valid_mae"] for row in log.rows]
    assert errors[-1] < errors[0]
    best = AtomicCheckpointIO().load_checkpoint(tmp_path / "best.ckpt")
    assert best["epoch"] == errors.index(min(errors))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("epoch   1/6  loss ")
    assert "valid MAE" in lines[0]
    assert " meV " in lines[0]


def test_bar_counts_as_the_lines_do_and_leaves_them_whole(
    tmp_path: Path, tiny: Tiny, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path, tiny(), 2, bar=True)
    pieces = re.split(r"[\r\n]+", capsys.readouterr().out)
    lines = [piece for piece in pieces if "valid MAE" in piece]
    assert [line[:12] for line in lines] == ["epoch   1/2 ", "epoch   2/2 "]
    assert all(re.search(r"/s  \d+\.\d s(, \d+ s left)?$", line) for line in lines)
    assert any(piece.startswith("epoch 2: 100%") for piece in pieces)
    assert not any("Validation" in piece for piece in pieces)


def test_logged_validation_error_is_that_of_the_predictions(
    tmp_path: Path, tiny: Tiny
) -> None:
    module, log = fit(tmp_path, tiny(), 1)
    data = MiniQM9("energy_atom")
    loaders = MoleculeDataModule(data, split_indices(310, 40, 10, 10))
    batch = next(iter(loaders.val_dataloader()))
    expected = (module(batch) - batch.y).abs().mean().item()
    assert log.rows[0]["valid_mae"] == pytest.approx(expected, rel=1e-6)


def test_damaged_checkpoint_is_a_data_error(tmp_path: Path, tiny: Tiny) -> None:
    fit(tmp_path, tiny(), 1)
    path = tmp_path / "last.ckpt"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"last\.ckpt: damaged"):
        fit(tmp_path, tiny(), 2, resume=True)
    with pytest.raises(DataError, match="no such checkpoint"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "none.ckpt")


def test_checkpoints_hold_no_code(tmp_path: Path, tiny: Tiny) -> None:
    fit(tmp_path, tiny(), 1)
    content = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert content["hyper_parameters"]["lr"] == 5e-3


def test_checkpoints_name_their_convention(tmp_path: Path, tiny: Tiny) -> None:
    fit(tmp_path, tiny(), 1)
    path = tmp_path / "last.ckpt"
    files = AtomicCheckpointIO()
    content = files.load_checkpoint(path)
    assert content["convention"] == "cormorant-real-1"
    files.save_checkpoint({**content, "convention": "other"}, path)
    with pytest.raises(WeightsError, match="the checkpoint has 'other'"):
        fit(tmp_path, tiny(), 2, resume=True)


def test_composition_reference_is_the_least_squares_fit() -> None:
    data = MiniQM9("energy_atom")
    split = split_indices(len(data), 100, 20, 20, seed=0)
    loaders = MoleculeDataModule(data, split, reference="composition")
    part = loaders.train
    fit = CompositionBaseline.fit(part.element_counts(), part.values)
    module = PropertyRegression(
        nn.Linear(1, 1), loaders.mean, loaders.std, atom_values=loaders.atom_values
    )
    batch = next(iter(DataLoader(part, batch_size=100)))
    predicted = module.reference(batch)
    expected = fit.predict(part.element_counts())
    torch.testing.assert_close(predicted, expected, rtol=1e-12, atol=1e-10)
    rest = (part.values - expected).std()
    assert loaders.std == pytest.approx(rest.item(), rel=1e-12)
    assert loaders.std < 0.2 * part.values.std()


def test_unknown_reference_is_refused() -> None:
    data = MiniQM9("gap")
    split = split_indices(len(data), 100, 20, 20, seed=0)
    with pytest.raises(ConfigError, match="reference"):
        MoleculeDataModule(data, split, reference="median")


class Stuck(nn.Module):
    """Predicts the mean for ever, so that no epoch is better than the first."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(1))

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        del z, pos, batch
        return 0 * self.value.expand(num_graphs, 1)


def test_last_checkpoint_is_the_last_epoch_without_progress_too(tmp_path: Path) -> None:
    fit(tmp_path, Stuck(), 4)
    io = AtomicCheckpointIO()
    assert io.load_checkpoint(tmp_path / "best.ckpt")["epoch"] == 0
    assert io.load_checkpoint(tmp_path / "last.ckpt")["epoch"] == 3
