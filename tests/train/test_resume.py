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
from torch_cormorant.train import (
    AtomicCheckpointIO,
    EpochLog,
    MoleculeDataModule,
    PropertyRegression,
    RunCheckpoints,
    SpikeGuard,
    quiet_lightning,
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
        trainer.fit(module, loaders, ckpt_path=folder / "last.ckpt" if resume else None)
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
