"""The ways for CUDA devices on a pretended one: equal numbers, one device, no waits."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.loader import DataLoader

from torch_cormorant import (
    Cormorant,
    CormorantConv,
    EdgeGeometry,
    radius_graph,
    spherical_harmonics,
    wigner_D,
)
from torch_cormorant.data import MiniEthanol, MiniQM9
from torch_cormorant.graph import NeighbourCache, all_pairs, neighbour_list
from torch_cormorant.models import Normalisation
from torch_cormorant.models.evaluation import Structures, make_edges, run_on
from torch_cormorant.nn import HEADS
from torch_cormorant.ops import use_backend
from torch_cormorant.train import (
    CapturedAdamW,
    CapturedStep,
    PaddedSizes,
    PotentialRegression,
    PropertyRegression,
)

SPEC = importlib.util.spec_from_file_location(
    "pretend_gpu", Path(__file__).parent / "pretend_gpu.py"
)
assert SPEC is not None
assert SPEC.loader is not None
tool = importlib.util.module_from_spec(SPEC)
sys.modules["pretend_gpu"] = tool
SPEC.loader.exec_module(tool)

Z = torch.tensor([6, 1, 8, 1, 6, 1, 1])
BATCH = torch.tensor([0, 0, 1, 1, 1, 1, 1])
SMALL: dict[str, Any] = {"channels": 4, "num_levels": 2, "lmax": 2, "hidden": 8}


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A pretended GPU on which the portable path computes."""
    tool.patch(monkeypatch)
    with use_backend("portable"):
        yield tool.PretendGpu()


def positions() -> Tensor:
    return 1.5 * torch.randn(7, 3, generator=torch.Generator().manual_seed(5))


def same(found: Any, right: Any) -> None:
    """Equal numbers, found on the device."""
    for one, two in zip(found, right, strict=True):
        if isinstance(two, Tensor):
            assert isinstance(one, tool.Pretended)
            one = one.held  # noqa: PLW2901
            torch.testing.assert_close(one, two.detach(), rtol=1e-5, atol=1e-6)


def slopes(model: Any) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


MODELS: dict[str, dict[str, Any]] = {
    **{head: {"head": head} for head in HEADS},
    "all pairs": {"cutoff": None, "norm": "norm", "gate": True, "complex": False},
    "hard cutoff": {"cutoff": 3.0, "cutoff_type": ("hard",), "input": "linear"},
}


@pytest.mark.parametrize("name", MODELS)
def test_a_network_computes_the_same_and_waits_only_for_its_checks(
    gpu: Any, name: str
) -> None:
    model = Cormorant((1, 6, 8), **SMALL, **MODELS[name])
    pos = positions()
    right = model(Z, pos, BATCH)
    right.square().sum().backward()
    expected = slopes(model)
    model.zero_grad()
    with gpu:
        gpu.put(model)
        z, pos, batch = map(gpu.put, (Z, pos, BATCH))
        out = model(z, pos, batch)
        assert gpu.waits  # the search and the checks
        with gpu.forbidden():
            out.square().sum().backward()
        same([out, *slopes(model)], [right, *expected])
        geometry = EdgeGeometry.from_pos(pos, model.make_edges(pos, batch))
        with gpu.forbidden():
            features = model.features(z, model.dtype)
            out, _ = model.forward_features(
                features, geometry, batch, 2, z=z, pos=pos, check=False
            )
            out.square().sum().backward()
    same([out], [right])


def test_a_layer_on_a_prebuilt_geometry_does_not_wait(gpu: Any) -> None:
    conv, x = CormorantConv(4, 4, lmax=2, lmax_in=2), torch.randn(7, 9, 2, 4)
    pos = positions()
    index = radius_graph(pos, 3.0)
    right = conv(x, index, pos=pos, return_edge_state=True)
    with gpu:
        gpu.put(conv)
        geometry = EdgeGeometry.from_pos(gpu.put(pos), gpu.put(index))
        x = gpu.put(x).requires_grad_()
        with gpu.forbidden():
            found = conv(x, geometry, return_edge_state=True)
            found[0].square().sum().backward()
    same(found, right)


@pytest.mark.parametrize("repulsion", [None, "zbl"])
@pytest.mark.parametrize("periodic", [False, True])
def test_forces_and_their_gradients_are_the_same(
    gpu: Any, repulsion: str | None, *, periodic: bool
) -> None:
    def both(model: Any, *args: Tensor) -> list[Tensor]:
        out = model.evaluate(*args, stress=periodic)
        (out.energy.sum() + out.forces.square().sum()).backward()
        parts = [out.energy, out.energies, out.forces, out.stress]
        return [*(p for p in parts if p is not None), *slopes(model)]

    model = Cormorant.potential((1, 6, 8), repulsion=repulsion, **SMALL)
    model.set_units({1: -1.0, 6: -2.0, 8: -3.0})
    given = [Z, positions(), BATCH]
    if periodic:
        given.append(5 * torch.eye(3).expand(2, 3, 3))
    right = both(model, *given)
    model.zero_grad()
    with gpu:
        gpu.put(model)
        there = [gpu.put(value) for value in given]
        same(both(model, *there), right)
        edges = make_edges(model.network, Structures(*there), 2, train=True)
        geometry = model.network.geometry(edges.index, edges.vec, 7)
        with gpu.forbidden():
            out = run_on(model, *there[:3], 2, edges, geometry, forces=True)
            (out.energy.sum() + out.forces.square().sum()).backward()
        same([out.energy, out.forces], [right[0], right[2]])


def trainings() -> dict[str, tuple[Any, Any]]:
    torch.manual_seed(3)
    frames = MiniEthanol()[:12]
    units = Normalisation((0.0,), (1.5,), {1: (-13.0,), 6: (-1000.0,), 8: (-2000.0,)})
    properties = Cormorant((1, 6, 7, 8, 9), **SMALL).double()
    potential = Cormorant.potential((1, 6, 8), repulsion="zbl", **SMALL).double()
    options: dict[str, Any] = {"lr": 1e-3, "ema_decay": 0.9, "warmup_steps": 2}
    return {
        "property": (
            PropertyRegression(properties, -1.0, 2.0, atom_values={6: -1.0}, **options),
            MiniQM9("gap")[:30],
        ),
        "potential": (PotentialRegression(potential, units, **options), frames),
    }


@pytest.mark.parametrize("kind", ["property", "potential"])
def test_a_captured_step_waits_for_nothing(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    # Otherwise torch asks for a device that exists.
    adam = sys.modules["torch.optim.adam"]
    name = "_get_capturable_supported_devices"
    monkeypatch.setattr(adam, name, lambda *_, **__: ["meta"])
    module, data = trainings()[kind]
    given = list(DataLoader(data, 4))[:4]
    sizes = PaddedSizes.of(module.model, data, 4, float("inf"))
    right = CapturedStep(copy.deepcopy(module), sizes, clip=1.0)
    expected = [right(batch) for batch in given]
    with gpu:
        gpu.put(module)
        optimizer = CapturedAdamW(module)
        optimizer.capturable = optimizer.param_groups[0]["capturable"] = True
        step = CapturedStep(module, sizes, clip=1.0, optimizer=optimizer)
        found = [step(given[0])]
        with gpu.forbidden():
            found += [step(batch) for batch in given[1:]]
        rate = float(optimizer.param_groups[0]["lr"])
    same(found, expected)
    same(module.parameters(), right.module.parameters())
    assert rate == right.optimizer.param_groups[0]["lr"]
    assert step.taken == len(given)


@pytest.mark.parametrize("kind", ["property", "potential"])
def test_losses_validation_and_predictions_lie_on_one_device(
    gpu: Any, kind: str
) -> None:
    def everything(module: Any, batch: Any) -> list[Tensor]:
        module.log = lambda *_, **__: None
        loss = module.training_step(batch, 0)
        loss.backward()
        module.average(0.9)
        module.eval()
        module.validation_step(batch)
        predicted = module.predict_step(batch)
        parts = predicted if isinstance(predicted, tuple) else (predicted,)
        assert not any(isinstance(part, tool.Pretended) for part in parts)
        return [loss, *slopes(module)]

    module, data = trainings()[kind]
    batch = next(iter(DataLoader(data, 6)))
    right = everything(copy.deepcopy(module), batch)
    with gpu:
        gpu.put(module)
        for key in batch.keys():  # noqa: SIM118 - of a PyG batch
            if isinstance(batch[key], Tensor):
                batch[key] = gpu.put(batch[key])
        same(everything(module, batch), right)


SEARCHES: dict[str, Callable[..., Any]] = {
    "all pairs": lambda _, batch, __: [all_pairs(batch), all_pairs(batch.flip(0))],
    "brute force": lambda pos, batch, _: [
        radius_graph(pos, 2.5, batch, loop=True, backend="brute_force"),
        radius_graph(pos, 2.5, backend="brute_force"),
    ],
    "cells": lambda pos, batch, _: [
        radius_graph(pos, 2.5, batch, backend="cells"),
        radius_graph(pos, 2.5, batch.flip(0), loop=True, backend="cells"),
    ],
    "periodic": lambda pos, batch, cell: neighbour_list(pos, 4.0, batch, cell),
    "cache": lambda pos, batch, cell: [
        part
        for cache in [NeighbourCache(2.5, skin=0.5)]
        for scale in (1.0, 1.05, 1.6)
        for part in cache(scale * pos, batch, cell)
    ],
    "harmonics": lambda pos, _, __: [spherical_harmonics(pos, 6)],
    "rotations": lambda pos, _, __: [wigner_D(torch.eye(3).to(pos), 3)],
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_and_harmonics_lie_on_one_device(gpu: Any, name: str) -> None:
    given = (positions(), BATCH, 3 * torch.eye(3).repeat(2, 1, 1))
    right = SEARCHES[name](*given)
    with gpu:
        found = SEARCHES[name](*map(gpu.put, given))
    same(found, right)


def test_a_calculator_computes_there_and_answers_here(gpu: Any) -> None:
    build = pytest.importorskip("ase.build")
    from torch_cormorant.interfaces.ase import CormorantCalculator

    model = Cormorant.potential((1, 6, 8), **SMALL)

    def run(device: str | None) -> list[Any]:
        atoms = build.molecule("CH3CH2OH", vacuum=2.0, pbc=True)
        atoms.calc = CormorantCalculator(model, device=device)
        return [atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()]

    right = run(None)
    with gpu:
        found = run("meta")
    for one, two in zip(found, right, strict=True):
        assert one == pytest.approx(two, rel=1e-5, abs=1e-6)


def test_large_systems_hessians_and_calibration_lie_on_one_device(gpu: Any) -> None:
    from torch_cormorant.models.chunked import evaluate_in_chunks
    from torch_cormorant.models.potential_vibrations import hessian

    model = Cormorant.potential((1, 6, 8), **SMALL)
    pos = positions()

    def run(network: Any, put: Any) -> list[Tensor]:
        z, where = put(Z), put(pos)
        out = evaluate_in_chunks(network, z, where)
        batch = next(iter(DataLoader(MiniEthanol()[:4], 4)))
        batch.z, batch.pos, batch.batch = map(put, (batch.z, batch.pos, batch.batch))
        curved = hessian(network, z[:3], where[:3].double())
        network.calibrate([batch])
        return [out.energy, out.forces, curved, *network.parameters()]

    right = run(copy.deepcopy(model), lambda value: value)
    with gpu:
        same(run(gpu.put(model), gpu.put), right)


def test_the_triton_kernels_get_tensors_of_their_device_and_do_not_wait(
    gpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="the kernels need the package triton")
    from torch_cormorant.ops import PathTable
    from torch_cormorant.ops.triton import gather, launch, layout

    calls = []

    class Kernel:
        def __getitem__(self, grid: object) -> Callable[..., None]:
            def run(*args: Any, **_: object) -> None:
                calls.append(grid)
                tensors = [value for value in args if isinstance(value, Tensor)]
                assert all(isinstance(value, tool.Pretended) for value in tensors)

            return run

    monkeypatch.setattr(launch, "built", lambda spec: [Kernel()] * len(kernels(spec)))
    monkeypatch.setattr(gather, "gather_kernel", Kernel())
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    kernels, table, capturing = launch.kernels, PathTable(2, 2, 2), False
    pos = positions()
    with gpu:
        where = gpu.put(pos)
        plan = EdgeGeometry.from_pos(where, radius_graph(where, 3.0, loop=True)).plan
        rows = plan.pairs.edge.numel() if plan.pairs else plan.num_edges
        x = gpu.put(torch.randn(7, 9, 4, dtype=torch.complex64))
        g = gpu.put(torch.randn(rows, 3, 4, dtype=torch.complex64))
        sh = gpu.put(torch.randn(plan.num_edges, 9))
        capturing = True
        with gpu.forbidden():
            outs = launch.forward(x, g, sh, plan, table)
            # What a capture works out is not there for later calls.
            assert not plan.packed.__dict__["_triton_rows"]
            capturing = False
            launch.backward(x, g, sh, plan, table, (True, True, True), outs)
            launch.double_backward(
                *(x, g, sh, plan, table, (True, True, True), True, outs, [x, g, sh])
            )
        (kept,) = plan.packed.__dict__["_triton_rows"].values()
        held = len(kept.kept)
        capturing = True
        fresh = layout.Members
        assert isinstance(kept.members("source", kept.groups[0], 99), fresh)
        assert len(kept.kept) == held
    assert len(calls) > 6
