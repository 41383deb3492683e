"""A run that stops anywhere goes on as if it had not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from torch_cormorant.data import MiniQM9, split_indices
from torch_cormorant.errors import ConfigError, CormorantWarning, DataError
from torch_cormorant.train import (
    AtomicCheckpointIO,
    EpochLog,
    MoleculeDataModule,
    PropertyRegression,
    RunCheckpoints,
    RunFolder,
    SpikeGuard,
    quiet_lightning,
    resume_point,
)

Tiny = Callable[[], nn.Module]
EPOCHS, BATCHES = 3, 4


class Power(Exception):  # noqa: N818
    """The end of the process."""


class Cut(Callback):
    """Ends the run after so many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        del pl_module, batch, batch_idx
        if trainer.global_step == self.step:
            raise Power


class Noisy(nn.Module):
    """Uses up random numbers in training."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        if self.training:
            pos = pos + 0.01 * torch.randn_like(pos)
        out: Tensor = self.inner(z, pos, batch, num_graphs)
        return out


def fit(
    folder: Path, model: nn.Module, *, cut: int | None = None, resume: bool = False
) -> tuple[PropertyRegression, list[Any]]:
    torch.manual_seed(99 if resume else 1)  # a new process does not share the state
    data = MiniQM9("energy_atom")
    split = split_indices(310, 10 * BATCHES - 3, 10, 10)
    loaders = MoleculeDataModule(data, split, batch_size=10)
    module = PropertyRegression(
        Noisy(model),
        loaders.mean,
        loaders.std,
        lr=5e-3,
        warmup_steps=5,
        schedule="cosine",
        ema_decay=0.9,
    )
    log, guard = EpochLog(data.target), SpikeGuard("rollback", factor=1.5, window=4)
    ends = [] if cut is None else [Cut(cut)]
    with quiet_lightning():
        trainer = Trainer(
            max_epochs=EPOCHS,
            accelerator="cpu",
            gradient_clip_val=1.0,
            callbacks=[log, guard, RunCheckpoints(folder, every_steps=1), *ends],
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
        )
        start = resume_point(RunFolder(folder), EPOCHS)[0] if resume else None
        trainer.fit(module, loaders, ckpt_path=start)
    rows = [{**row, "seconds": 0, "rate": 0} for row in log.rows]
    return module, [rows, guard.events]


def everything(folder: Path) -> dict[str, Any]:
    content = AtomicCheckpointIO().load_checkpoint(folder / "last.ckpt")
    for row in content["callbacks"]["EpochLog"]["rows"]:
        row.update(seconds=0, rate=0)
    del content["loops"]
    del content["callbacks"]["EpochLog"]["elapsed"]
    return content


def same(left: Any, right: Any, name: str = "") -> None:
    """Compare trees of tensors and plain values bit by bit."""
    assert type(left) is type(right), name
    if isinstance(left, dict):
        assert left.keys() == right.keys(), name
        for key in left:
            same(left[key], right[key], f"{name}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), name
        for k, pair in enumerate(zip(left, right, strict=True)):
            same(*pair, f"{name}[{k}]")
    elif isinstance(left, Tensor):
        assert torch.equal(left, right), name
    else:
        assert left == right or left is right, name


@pytest.mark.parametrize("cut", [1, 3, 4, 6, 11])
def test_resume_after_any_step_is_bitwise(
    tmp_path: Path, tiny: Tiny, cut: int, straight: tuple[dict[str, Any], list[Any]]
) -> None:
    with pytest.raises(Power):
        fit(tmp_path, tiny(), cut=cut)
    _, rows = fit(tmp_path, tiny(), resume=True)
    same(everything(tmp_path), straight[0])
    assert rows == straight[1]
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == ["best.ckpt", "last.ckpt"]


@pytest.fixture(scope="module")
def straight(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, Any], list[Any]]:
    from tests.train.conftest import TinyNetwork

    torch.manual_seed(5)
    model = TinyNetwork()
    folder = tmp_path_factory.mktemp("straight")
    _, rows = fit(folder, model)
    return everything(folder), rows


@pytest.fixture
def stopped(tmp_path: Path, tiny: Tiny) -> RunFolder:
    """Return the folder of a run that ended two steps before its end."""
    with pytest.raises(Power):
        fit(tmp_path, tiny(), cut=10)
    return RunFolder(tmp_path)


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_a_damaged_last_checkpoint_gives_way_to_the_best_one(
    stopped: RunFolder, tiny: Tiny, straight: tuple[dict[str, Any], list[Any]]
) -> None:
    flip(stopped.last)
    path, remark = resume_point(stopped, EPOCHS)
    assert path == stopped.best
    assert "last.ckpt: damaged" in remark
    assert "goes on from best.ckpt, the end of epoch" in remark
    _, rows = fit(stopped.path, tiny(), resume=True)
    same(everything(stopped.path), straight[0])
    assert rows == straight[1]


def test_damage_that_cannot_be_made_good_is_refused(stopped: RunFolder) -> None:
    flip(stopped.best)
    with pytest.raises(DataError, match=r"best\.ckpt: damaged.*restore it, or delete"):
        resume_point(stopped, EPOCHS)
    flip(stopped.last)
    with pytest.raises(DataError, match=r"last\.ckpt: dam.*best\.ckpt: dam.*anew"):
        resume_point(stopped, EPOCHS)


def test_without_the_best_checkpoint_the_rest_has_one(
    stopped: RunFolder, tiny: Tiny
) -> None:
    stopped.best.unlink()
    with pytest.warns(CormorantWarning, match=r"best\.ckpt is gone"):
        fit(stopped.path, tiny(), resume=True)
    assert AtomicCheckpointIO().load_checkpoint(stopped.best)["epoch"] == EPOCHS - 1
    stopped.best.unlink()
    with pytest.raises(DataError, match="is gone, and no epoch is left"):
        resume_point(stopped, EPOCHS)


def test_fewer_epochs_than_done_are_refused(stopped: RunFolder) -> None:
    assert resume_point(stopped, 2) == (stopped.last, "")
    with pytest.raises(ConfigError, match="2 epochs are done, more than the 1 asked"):
        resume_point(stopped, 1)


def test_another_number_of_threads_is_told_when_resuming(
    stopped: RunFolder, tiny: Tiny
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        with pytest.warns(CormorantWarning, match=f"threads {before} before, "):
            fit(stopped.path, tiny(), resume=True)
    finally:
        torch.set_num_threads(before)
