"""What PyTorch hangs on inner modules takes effect: hooks, pruning, weight norms."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from torch_cormorant import Cormorant, CormorantConv, CormorantQM9, save_model
from torch_cormorant.data import MiniEthanol
from torch_cormorant.errors import ConfigError
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.models.chunked import evaluate_in_chunks
from torch_cormorant.models.copies import copied
from torch_cormorant.train import PotentialRegression, potential_normalisation

KNOWN = (1, 6, 8)
Z = torch.tensor([8, 1, 1, 6])
POS = torch.tensor([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24], [1.3, 0.1, 0.2]])
SMALL: dict[str, Any] = {"channels": 4, "num_levels": 2, "lmax": 2, "hidden": 16}
NETWORKS: dict[str, Callable[[], Cormorant]] = {
    "potential": lambda: Cormorant.potential(KNOWN, repulsion="zbl", **SMALL),
    "gated": lambda: Cormorant(KNOWN, head="extensive", gate=True, **SMALL),
    "edge by edge": lambda: Cormorant.potential(
        [1, 6, 8], backend="reference", **SMALL
    ),
    "published": lambda: CormorantQM9(1, KNOWN, **SMALL),
    "tensors": lambda: Cormorant(KNOWN, head=["dipole_norm", "attention"], **SMALL),
}


def called_modules(model: nn.Module, *more: str) -> dict[str, nn.Module]:
    """All modules that compute something in a call of the model."""
    return {
        name: module
        for name, module in model.named_modules()
        if name and not isinstance(module, nn.ModuleList) and name not in more
    }


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("name", NETWORKS)
def test_hooks_of_every_module_are_called(name: str) -> None:
    model = NETWORKS[name]()
    seen: dict[str, set[str]] = {"pre": set(), "forward": set(), "backward": set()}
    modules = called_modules(model, "pair")
    for path, module in modules.items():
        module.register_forward_pre_hook(lambda *_, p=path: seen["pre"].add(p))
        module.register_forward_hook(lambda *_, p=path: seen["forward"].add(p))
        if not path.endswith("features"):  # reads numbers, which have no gradient
            module.register_full_backward_hook(
                lambda *_, p=path: seen["backward"].add(p)
            )
    model(Z, POS.clone().requires_grad_()).sum().backward()
    assert seen["pre"] == seen["forward"] == set(modules)
    assert seen["backward"] == {
        path for path in modules if not path.endswith("features")
    }


@pytest.mark.parametrize("name", ["potential", "gated", "edge by edge"])
def test_hooks_are_called_for_energies_and_forces(name: str) -> None:
    model, seen = NETWORKS[name](), set()
    modules = called_modules(model, "network")
    for path, module in modules.items():
        module.register_forward_hook(lambda *_, p=path: seen.add(p))
    model.energy_and_forces(Z, POS)
    assert seen == set(modules)


@pytest.mark.parametrize("path", ["convs.0", "convs.1.edge_network", "norms.0", "head"])
def test_what_a_hook_returns_is_used_for_energies_and_forces(path: str) -> None:
    def larger(_: nn.Module, __: Any, out: Any) -> Any:
        if isinstance(out, Tensor):
            return 1.5 * out
        return 1.5 * out[0], out[1]

    model = NETWORKS["potential"]()
    energy, forces = model.energy_and_forces(Z, POS)
    out = model(Z, POS)
    handle = model.get_submodule(path).register_forward_hook(larger)
    assert not torch.equal(model.energy_and_forces(Z, POS)[0], energy)
    assert not torch.equal(model(Z, POS), out)
    handle.remove()
    assert torch.equal(model.energy_and_forces(Z, POS)[1], forces)


def test_hooks_do_not_change_numbers() -> None:
    model = NETWORKS["gated"]()
    energy, forces = model.energy_and_forces(Z, POS)
    for module in called_modules(model).values():
        if not isinstance(module, nn.Identity | type(model.convs[0].aggr_module)):
            module.register_forward_hook(lambda *_: None)
    again = model.energy_and_forces(Z, POS)
    # a mask that someone listens to is computed by its module: other roundings
    torch.testing.assert_close(again, (energy, forces), rtol=1e-5, atol=1e-6)


def test_hooks_of_the_sum_over_neighbours_are_called() -> None:
    conv = CormorantConv(3, 4, lmax=1)
    index = torch.tensor([[0, 1, 1], [1, 0, 2]])
    x = torch.randn(4, 3)
    expected = conv(x, index, pos=POS)
    seen: list[tuple[int, ...]] = []
    conv.aggr_module.register_forward_hook(lambda *args: seen.append(args[2].shape))
    torch.testing.assert_close(conv(x, index, pos=POS), expected)
    assert len(seen) == 1


def test_large_systems_call_the_layers_of_every_level() -> None:
    model, seen = NETWORKS["potential"]().eval(), []
    for level, conv in enumerate(model.convs):
        conv.register_forward_hook(lambda *_, s=level: seen.append(s))
    evaluate_in_chunks(model, Z, POS)
    assert set(seen) == {0, 1}


def test_a_module_around_a_level_takes_part() -> None:
    class Doubled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out, state = self.inner(*args, **kwargs)
            return 2 * out, state

    model = NETWORKS["gated"]()
    energy = model.energy_and_forces(Z, POS)[0]
    model.convs[0] = Doubled(model.convs[0])
    assert not torch.equal(model.energy_and_forces(Z, POS)[0], energy)
    with pytest.raises(ConfigError, match="Doubled"):
        model.set_backend("portable")


def pruned(module: nn.Module, name: str) -> None:
    prune.random_unstructured(module, name, amount=0.9)


def old_norm(module: nn.Module, name: str) -> None:
    with pytest.warns(FutureWarning):
        torch.nn.utils.weight_norm(module, name)
    with torch.no_grad():
        module.get_parameter(f"{name}_g").mul_(1.5)


def new_norm(module: nn.Module, name: str) -> None:
    parametrizations.weight_norm(module, name)
    with torch.no_grad():
        module.get_submodule("parametrizations")[name].original0.mul_(1.5)  # type: ignore[operator]


WAYS = {
    "pruned": pruned,
    "old weight norm": old_norm,
    "weight norm": new_norm,
    "spectral norm": parametrizations.spectral_norm,
}
WEIGHTS = {
    "convs.0.edge_network.weights": "weight_l0",
    "convs.1.vertex.weights": "weight_l1",
    "head.mlp.0": "weight",
}


@pytest.mark.parametrize("path", WEIGHTS)
@pytest.mark.parametrize("way", WAYS)
def test_computed_weights_take_effect_and_are_trained(way: str, path: str) -> None:
    model, name = NETWORKS["potential"](), WEIGHTS[path]
    energy = model.energy_and_forces(Z, POS)[0]
    module = model.get_submodule(path)
    WAYS[way](module, name)
    model.eval()  # a spectral norm moves on in training
    changed = model.energy_and_forces(Z, POS)[0].detach()
    assert not torch.equal(changed, energy)
    twin = copied(model)
    assert torch.equal(twin.energy_and_forces(Z, POS)[0], changed)
    model.train()
    loss = torch.stack([t.square().sum() for t in model.energy_and_forces(Z, POS)])
    loss.sum().backward()
    grads = [p.grad for p in module.parameters()]
    assert any(g is not None and bool((g != 0).any()) for g in grads)
    torch.optim.SGD(model.parameters(), lr=1e-2).step()
    model.eval()
    assert not torch.equal(model.energy_and_forces(Z, POS)[0], changed)
    assert torch.equal(twin.energy_and_forces(Z, POS)[0], changed), "a copy of its own"


def test_pruned_entries_stay_zero_in_training() -> None:
    model = NETWORKS["potential"]()
    weights = model.convs[1].vertex.weights
    pruned(weights, "weight_l0")
    zero = weights.weight_l0 == 0
    model = PotentialRegression(
        model, potential_normalisation(MiniEthanol()[:8]), ema_decay=0.5
    ).model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model.energy_and_forces(Z, POS)[1].square().sum().backward()
        optimizer.step()
    assert bool((weights()[0][zero] == 0).all())


def test_calculators_see_pruned_weights() -> None:
    model = NETWORKS["potential"]()
    pruned(model.convs[0].vertex.weights, "weight_l0")
    energy = model.energy_and_forces(Z, POS)[0].detach()
    torch.testing.assert_close(Engine(model)(Z, POS).energy, energy)


@pytest.mark.parametrize("way", [pruned, new_norm])
def test_writing_into_computed_weights_is_refused(
    way: Callable[[nn.Module, str], None], tmp_path: Path
) -> None:
    model = NETWORKS["potential"]()
    way(model.convs[0].vertex.weights, "weight_l1")
    with pytest.raises(ConfigError, match=r"weight_l1 of .*DegreeWeights is pruned or"):
        model.convs[0].reset_parameters()
    with pytest.raises(ConfigError, match=r"convs\.0\.vertex\.weights\.weight_l1"):
        save_model(tmp_path / "model.safetensors", model)
    parametrized = parametrize.is_parametrized(model.convs[0].vertex.weights)
    if parametrized:
        parametrize.remove_parametrizations(model.convs[0].vertex.weights, "weight_l1")
    else:
        prune.remove(model.convs[0].vertex.weights, "weight_l1")
    save_model(tmp_path / "model.safetensors", model)
    assert copy.deepcopy(model)
