"""The captured step: the ordinary training, filled up, and on a GPU one replay."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.loader import DataLoader
from trainings import ALL, agree, potential_module, property_module, weights

from torch_cormorant import Cormorant
from torch_cormorant.data import MiniEthanol, MiniQM9
from torch_cormorant.errors import ConfigError, NonFiniteError
from torch_cormorant.train import (
    CapturedStep,
    PaddedSizes,
    PropertyRegression,
    pad_batch,
)

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(
            not torch.cuda.is_available(), reason="graphs are captured on CUDA only"
        ),
    ),
]


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


def test_periodic_molecules_are_refused_as_by_an_ordinary_step() -> None:
    data = MiniQM9("gap")
    module = property_module()
    step = CapturedStep(module, PaddedSizes.of(module.model, data, 8), total_steps=1)
    batch = batches(data, 8)[0]
    batch.pbc = torch.ones(8, 3, dtype=torch.bool)
    for take in (step, module.terms):
        with pytest.raises(ConfigError, match="the structure is periodic"):
            take(batch)


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
