"""The captured step: the ordinary training, filled up, and on a GPU one replay."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch_geometric.loader import DataLoader

from torch_cormorant import Cormorant
from torch_cormorant.data import MiniEthanol, MiniQM9, split_indices
from torch_cormorant.errors import ConfigError, NonFiniteError
from torch_cormorant.train import (
    AtomicCheckpointIO,
    CapturedStep,
    EpochLog,
    FrameDataModule,
    MoleculeDataModule,
    PaddedSizes,
    PotentialRegression,
    PropertyRegression,
    SpikeGuard,
    best_and_last,
    energy_target,
    pad_batch,
    potential_normalisation,
    quiet_lightning,
)

ALL = float("inf")
SMALL: dict[str, Any] = {"channels": 4, "num_levels": 2, "lmax": 2, "hidden": 8}
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="graphs are captured on CUDA only"
        ),
    ),
]


def property_module(**training: Any) -> PropertyRegression:
    torch.manual_seed(3)
    model = Cormorant((1, 6, 7, 8, 9), **SMALL).double()
    options = {"lr": 5e-3, "schedule": "cosine", "warmup_steps": 3, "ema_decay": 0.9}
    units = {"atom_values": {1: 0.5, 6: -1.0}}
    return PropertyRegression(model, -1.0, 2.0, **units, **{**options, **training})


def potential_module(**training: Any) -> PotentialRegression:
    torch.manual_seed(3)
    model = Cormorant.potential((1, 6, 8), **SMALL).double()
    units = potential_normalisation(MiniEthanol()[:40])
    return PotentialRegression(model, units, lr=5e-3, **training)


def batches(data: Any, size: int, seed: int = 0) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    return list(DataLoader(data, size, shuffle=True, generator=generator))


def ordinary(module: Any, given: list[Any], clip: float, total: int) -> list[float]:
    """The loop that the captured step stands for, written out."""
    optimizer = torch.optim.AdamW(
        module.model.parameters(),
        lr=module.lr,
        amsgrad=True,
        weight_decay=module.weight_decay,
    )
    losses = []
    for step, batch in enumerate(given):
        optimizer.param_groups[0]["lr"] = module.lr * module.rate_at(step, total)
        optimizer.zero_grad()
        loss, _ = module.terms(batch)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(module.model.parameters(), clip)
        optimizer.step()
        module.average(module.decay_at(step))
        losses.append(loss.item())
    return losses


def weights(module: Any) -> list[Tensor]:
    found = [p.detach().cpu() for p in module.model.parameters()]
    if module.averaged is not None:
        found += [p.detach().cpu() for p in module.averaged.parameters()]
    return found


def agree(one: Any, two: Any, tolerance: float) -> None:
    for left, right in zip(weights(one), weights(two), strict=True):
        torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("clip", [0.0, 0.5])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("device", DEVICES)
def test_properties_are_trained_as_in_the_ordinary_loop(
    device: str, schedule: str, clip: float
) -> None:
    data = MiniQM9("gap")
    given = batches(data, 8)[:12]
    right = property_module(schedule=schedule, weight_decay=1e-3)
    expected = ordinary(right, given, clip, 12)
    module = property_module(schedule=schedule, weight_decay=1e-3).to(device)
    sizes = PaddedSizes.of(module.model, data, 8, ALL)
    step = CapturedStep(module, sizes, clip=clip, total_steps=12)
    losses = [step(batch) for batch in given]
    # The optimiser that can be captured keeps its step and rate in single precision.
    tolerance = 1e-12 if device == "cpu" else 1e-5
    found = [loss.item() for loss in losses]
    assert found == pytest.approx(expected, rel=tolerance)
    assert step.unfit == 0
    agree(module, right, tolerance)
    means = step.read()
    assert means["loss"][0] == pytest.approx(sum(expected) / 12, rel=tolerance)
    assert means["loss"][1] == 96


@pytest.mark.parametrize("device", DEVICES)
def test_potentials_are_trained_as_in_the_ordinary_loop(device: str) -> None:
    data = MiniEthanol()[:40]
    given = batches(data, 6)  # six of six and one of four
    right = potential_module(ema_decay=0.9)
    expected = ordinary(right, given, 1.0, 0)
    module = potential_module(ema_decay=0.9).to(device)
    sizes = PaddedSizes.of(module.model, data, 6, ALL)
    step = CapturedStep(module, sizes, clip=1.0)
    found = [step(batch).item() for batch in given]
    tolerance = 1e-11 if device == "cpu" else 1e-5
    assert found == pytest.approx(expected, rel=tolerance)
    agree(module, right, tolerance)
    assert sorted(step.read()) == ["force_mae", "loss", "mae"]


@pytest.mark.parametrize("device", DEVICES)
def test_batches_that_do_not_fit_take_an_ordinary_step(device: str) -> None:
    data = MiniQM9("gap")
    given = batches(data, 8)[:10]
    right = property_module()
    expected = ordinary(right, given, 1.0, 10)
    module = property_module().to(device)
    # Half of the batches are larger than the median of all.
    sizes = PaddedSizes.of(module.model, data, 8, deviations=0.3)
    step = CapturedStep(module, sizes, clip=1.0, total_steps=10)
    found = [step(batch).item() for batch in given]
    assert 0 < step.unfit < 10
    tolerance = 1e-12 if device == "cpu" else 1e-5
    assert found == pytest.approx(expected, rel=tolerance)
    agree(module, right, tolerance)


@pytest.mark.parametrize("device", DEVICES)
def test_two_runs_have_the_same_bits(device: str) -> None:
    def run() -> list[Tensor]:
        module = property_module().to(device)
        sizes = PaddedSizes.of(module.model, data, 8, ALL)
        step = CapturedStep(module, sizes, clip=1.0, total_steps=5)
        for batch in given:
            step(batch)
        return weights(module)

    data = MiniQM9("gap")
    given = batches(data, 8)[:5]
    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_a_saved_step_goes_on_as_if_it_had_not_stopped(device: str) -> None:
    data = MiniQM9("gap")
    given = batches(data, 8)[:8]

    def start() -> tuple[PropertyRegression, CapturedStep]:
        module = property_module().to(device)
        sizes = PaddedSizes.of(module.model, data, 8, ALL)
        return module, CapturedStep(module, sizes, total_steps=8)

    straight, step = start()
    for batch in given:
        step(batch)
    half, first = start()
    for batch in given[:4]:
        first(batch)
    resumed, second = start()
    second(given[0])  # a graph that was captured before the state is loaded
    resumed.load_state_dict(half.state_dict())
    second.load_state_dict(first.state_dict())
    for batch in given[4:]:
        second(batch)
    for left, right in zip(weights(straight), weights(resumed), strict=True):
        assert torch.equal(left, right)
    assert second.read() == step.read()


def test_the_state_is_that_of_an_ordinary_optimiser() -> None:
    data = MiniQM9("gap")
    given = batches(data, 8)[:3]
    module = property_module(schedule="constant", warmup_steps=0)
    step = CapturedStep(module, PaddedSizes.of(module.model, data, 8, ALL))
    for batch in given:
        step(batch)
    other = torch.optim.AdamW(module.model.parameters(), amsgrad=True)
    other.load_state_dict(step.optimizer.state_dict())
    state = other.state_dict()
    assert state["param_groups"][0]["lr"] == 5e-3
    step.optimizer.load_state_dict(state)
    step(given[0])
    assert float(next(iter(step.optimizer.state.values()))["step"]) == 4


def test_warm_up_leaves_nothing_behind() -> None:
    data = MiniQM9("gap")
    module = property_module()
    sizes = PaddedSizes.of(module.model, data, 8, ALL)
    given = batches(data, 8)[:2]
    step = CapturedStep(module, sizes, total_steps=9)
    step.load(given[0])
    before = [w.clone() for w in weights(module)]
    with step._taken_back():
        step._whole(step._padded, step._static)
    assert all(torch.equal(a, b) for a, b in zip(weights(module), before, strict=True))
    assert not any(
        bool(value.any())
        for state in step.optimizer.state.values()
        for value in state.values()
    )
    assert step.read()["loss"] == (0.0, 0.0)
    step(given[0])
    before = [w.clone() for w in weights(module)]
    moments = [s["exp_avg"].clone() for s in step.optimizer.state.values()]
    with step._taken_back():
        step._whole(step._padded, step._static)
    assert all(torch.equal(a, b) for a, b in zip(weights(module), before, strict=True))
    for state, moment in zip(step.optimizer.state.values(), moments, strict=True):
        assert torch.equal(state["exp_avg"], moment)
        assert float(state["step"]) == 1


def test_batches_may_be_filled_up_by_the_processes_of_a_loader() -> None:
    data = MiniQM9("gap")
    given, losses = batches(data, 8)[:3], []
    for ready in (False, True):
        module = property_module()
        sizes = PaddedSizes.of(module.model, data, 8, ALL)
        step = CapturedStep(module, sizes, total_steps=3)
        for batch in given:
            padded = pad_batch(module.model, batch, sizes, module.label_names)
            losses.append(step(padded if ready else batch))
    assert torch.equal(torch.stack(losses[:3]), torch.stack(losses[3:]))


def test_no_molecules_take_no_step() -> None:
    data = MiniQM9("gap")
    module = property_module()
    sizes = PaddedSizes.of(module.model, data, 8, ALL)
    step = CapturedStep(module, sizes, total_steps=9)
    empty = batches(data, 8)[0]
    step(empty)
    before = [w.clone() for w in weights(module)]
    nothing = type("Nothing", (), {"num_graphs": 0})()
    assert step(nothing).item() == 0.0
    assert step.taken == 1
    assert all(torch.equal(a, b) for a, b in zip(weights(module), before, strict=True))


def test_no_switch_of_the_process_is_changed() -> None:
    def switches() -> tuple[Any, ...]:
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
            torch.backends.cuda.matmul.allow_tf32,
            torch.backends.cudnn.benchmark,
            torch.get_num_threads(),
        )

    before = switches()
    data = MiniQM9("gap")
    module = property_module()
    sizes = PaddedSizes.of(module.model, data, 8, ALL)
    step = CapturedStep(module, sizes, total_steps=1)
    with torch.no_grad():
        step(batches(data, 8)[0])
    assert switches() == before


def test_a_loss_that_is_not_finite_is_noticed_when_the_sums_are_read() -> None:
    data = MiniQM9("gap")
    module = property_module()
    sizes = PaddedSizes.of(module.model, data, 8, ALL)
    step = CapturedStep(module, sizes, total_steps=9)
    with torch.no_grad():
        next(module.model.head.parameters()).fill_(math.nan)
    step(batches(data, 8)[0])
    with pytest.raises(NonFiniteError, match="up to number 1; go back"):
        step.read()


def test_what_cannot_be_captured_is_refused() -> None:
    sizes = PaddedSizes(2, 8, 28, 4)
    with pytest.raises(ConfigError, match="the network is a Linear"):
        CapturedStep(PropertyRegression(nn.Linear(1, 1), 0.0, 1.0), sizes)
    rows = Cormorant([1, 6], channels=2, num_levels=1, cutoff=4.0, head="atom_vector")
    with pytest.raises(ConfigError, match="labels of atoms are not supported"):
        CapturedStep(PropertyRegression(rows, 0.0, 1.0), sizes)
    with pytest.raises(ConfigError, match="stresses are not supported"):
        potential_module(stress_weight=1.0).capture(sizes)
    with pytest.raises(ConfigError, match="total_steps"):
        CapturedStep(property_module(), sizes)
    with pytest.raises(ConfigError, match="clip"):
        CapturedStep(potential_module(), sizes, clip=-1.0)


# ------------------------------------------------------------------ Lightning


def fit(
    folder: Path,
    epochs: int,
    *,
    captured: bool = True,
    frames: bool = False,
    resume: bool = False,
    schedule: str = "cosine",
    callbacks: Any = (),
    every_steps: int | None = None,
) -> tuple[Any, EpochLog]:
    loaders: Any
    module: Any
    data: Any
    if frames:
        data = MiniEthanol()
        loaders = FrameDataModule(data, split_indices(2000, 22, 8, 8), batch_size=5)
        module, target = potential_module(schedule="cosine"), energy_target("eV")
    else:
        data = MiniQM9("gap")
        loaders = MoleculeDataModule(data, split_indices(310, 44, 10, 10), batch_size=8)
        module, target = property_module(schedule=schedule), data.target
    if captured:
        size = loaders.batch_size
        module.capture(PaddedSizes.of(module.model, loaders.train, size, ALL), 1.0)
    log = EpochLog(target)
    with quiet_lightning():
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            gradient_clip_val=None if captured else 1.0,
            callbacks=[
                log,
                *best_and_last(folder, every_steps=every_steps),
                *callbacks,
            ],
            plugins=[AtomicCheckpointIO()],
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, loaders, ckpt_path=folder / "last.ckpt" if resume else None)
    return module, log


@pytest.mark.parametrize("frames", [False, True])
def test_lightning_trains_by_captured_steps_as_by_ordinary_ones(
    tmp_path: Path, frames: bool
) -> None:
    plain, expected = fit(tmp_path / "a", 3, captured=False, frames=frames)
    module, log = fit(tmp_path / "b", 3, frames=frames)
    assert module.steps.captured.unfit == 0
    assert module.steps.captured.taken == module.trainer.global_step
    assert module.trainer.global_step == plain.trainer.global_step
    agree(module, plain, 1e-10)
    for ours, theirs in zip(log.rows, expected.rows, strict=True):
        shown = ("train_loss", "train_mae", "valid_mae", "lr")
        right = {name: theirs[name] for name in shown}  # type: ignore[literal-required]
        assert {n: ours[n] for n in shown} == pytest.approx(right, rel=1e-9)  # type: ignore[literal-required]
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-9)


def test_a_resumed_captured_run_is_bitwise_the_uninterrupted_one(
    tmp_path: Path,
) -> None:
    straight, whole = fit(tmp_path / "a", 4, schedule="constant")
    fit(tmp_path / "b", 2, schedule="constant")
    torch.manual_seed(99)
    resumed, log = fit(tmp_path / "b", 4, resume=True, schedule="constant")
    for left, right in zip(
        straight.state_dict().values(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(left, right)
    timeless = {"seconds": 0.0, "rate": 0.0}
    for ours, expected in zip(log.rows, whole.rows, strict=True):
        assert {**ours, **timeless} == {**expected, **timeless}


class Stop(Callback):
    """Ends the run in the middle of an epoch."""

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == 9:
            raise EndOfRunError


class EndOfRunError(Exception):
    pass


def test_a_run_that_stops_within_an_epoch_loses_no_sums(tmp_path: Path) -> None:
    options: dict[str, Any] = {"schedule": "constant", "every_steps": 4}
    straight, whole = fit(tmp_path / "a", 2, **options)
    with pytest.raises(EndOfRunError):
        fit(tmp_path / "b", 2, callbacks=[Stop()], **options)
    resumed, log = fit(tmp_path / "b", 2, resume=True, **options)
    agree(resumed, straight, 0.0)
    for ours, expected in zip(log.rows, whole.rows, strict=True):
        assert ours["train_loss"] == expected["train_loss"]
        assert ours["train_mae"] == expected["train_mae"]


def test_a_guard_is_refused_beside_captured_steps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SpikeGuard"):
        fit(tmp_path, 1, callbacks=[SpikeGuard()])


def test_scaled_losses_are_refused_beside_captured_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # on a CPU Lightning turns this precision into another one
    monkeypatch.setattr(Trainer, "precision", property(lambda _: "16-mixed"))
    with pytest.raises(ConfigError, match=r"16-mixed.* leave precision out"):
        fit(tmp_path, 1)


# ------------------------------------------------------------------ GPU only

on_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="graphs are captured on CUDA only"
)


@on_gpu
@pytest.mark.parametrize("kind", ["property", "potential"])
def test_no_step_after_the_first_waits_for_the_device(kind: str) -> None:
    data: Any = MiniQM9("gap") if kind == "property" else MiniEthanol()[:40]
    module: Any = property_module() if kind == "property" else potential_module()
    module = module.float().to("cuda")
    sizes = PaddedSizes.of(module.model, data, 8, ALL)
    step = CapturedStep(module, sizes, clip=1.0, total_steps=9)
    given = batches(data, 8)[:5]
    step(given[0])
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        losses = [step(batch) for batch in given[1:]]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(math.isfinite(loss.item()) for loss in losses)


@on_gpu
def test_captured_and_eager_steps_agree_on_the_device() -> None:
    data = MiniQM9("gap")
    given = batches(data, 8)[:6]
    modules = []
    for captured in (True, False):
        module = property_module().float().to("cuda")
        sizes = PaddedSizes.of(module.model, data, 8, ALL)
        step = CapturedStep(module, sizes, clip=1.0, total_steps=6)
        for batch in given:
            if captured:
                step(batch)
                continue
            step.optimizer.param_groups[0]["lr"] = module.lr * module.rate_at(
                step.taken, 6
            )
            step.load(batch)
            step._forgotten.fill_(1.0 - module.decay_at(step.taken))
            step.optimizer.fill_rate()
            step._whole(step._padded, step._static)
            step.taken += 1
        modules.append(module)
    agree(*modules, 1e-6)
