"""Heads, radial functions and norms that a user writes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant import (
    Cormorant,
    CormorantConv,
    load_model,
    radius_graph,
    save_model,
)
from torch_cormorant.errors import ConfigError, ModelFileError, ShapeError, WeightsError
from torch_cormorant.interfaces.engine import Engine
from torch_cormorant.interfaces.traced import TracedPotential
from torch_cormorant.models import reference_for_head
from torch_cormorant.models.chunked import evaluate_in_chunks
from torch_cormorant.nn import (
    Bessel,
    ExtensiveHead,
    Head,
    HeadInput,
    LevelSizes,
    Mask,
    Norm,
    Radial,
    SumHead,
    make_head,
    make_radial,
    register_head,
    register_mask,
    register_radial,
)
from torch_cormorant.nn.heads.make import HEAD_PARTS
from torch_cormorant.nn.parts import import_part, know
from torch_cormorant.nn.radial import RADIAL_PARTS
from torch_cormorant.testing import random_molecule
from torch_cormorant.testing.__main__ import main as check

SMALL: dict[str, Any] = {"channels": 4, "num_levels": 2, "lmax": 1, "hidden": 8}


@register_radial("test_waves")
class Waves(Radial):
    """Cosines with learned phases, zero at zero."""

    bounded = True

    def __init__(
        self, num_basis: int, cutoff: float, *, power: float = 1.0, complex: bool = True
    ) -> None:
        super().__init__(num_basis, complex=complex)
        self.cutoff, self.power = cutoff, power
        self.phase = nn.Parameter(torch.zeros(num_basis))

    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` to ``[E, num_basis]``."""
        share = (length / self.cutoff).unsqueeze(-1) ** self.power
        count = torch.arange(len(self.phase), device=length.device)
        return share * torch.cos(torch.pi * count * share + self.phase)


@register_head("test_soft")
class SoftHead(SumHead):
    """A sum over atoms with tanh inside."""

    def __init__(self, inputs: int, num_targets: int = 1, *, width: int = 8) -> None:
        super().__init__()
        self.shape = (num_targets,)
        self.mlp = nn.Sequential(
            nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, num_targets)
        )

    def contributions(self, values: Tensor) -> Tensor:
        """``[N, num_targets]``."""
        found: Tensor = self.mlp(values)
        return found


class Largest(Head):
    """The largest of all atoms: no sum."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 1)

    def forward(self, atoms: HeadInput) -> Tensor:
        """``[B, 1]``."""
        rows = self.linear(atoms.values)
        start = rows.new_zeros(atoms.num_graphs, 1)
        return start.scatter_reduce(
            0, atoms.batch.unsqueeze(1), rows, "amax", include_self=False
        )


class Halved(Norm):
    """Every level times a number."""

    def __init__(self, channels: int, lmax: int, *, factor: float = 0.5) -> None:
        super().__init__()
        self.factor = factor
        self.weight = nn.Parameter(torch.ones(lmax + 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Shapes as they are."""
        return x * self.factor * self.weight[0]


class Step(Mask):
    """A learned polynomial step of every channel."""

    def __init__(self, channels: int, *, end: float = 4.5) -> None:
        super().__init__(channels)
        self.end = end
        self.scale = nn.Parameter(torch.ones(channels))

    def set_channels(self, channels: int) -> None:
        """Another number of channels."""
        self.scale.data = self.scale.data.new_ones(channels)
        super().set_channels(channels)

    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` to ``[E, channels]``."""
        share = (1 - length / self.end).clamp_min(0.0).unsqueeze(-1)
        return self.scale * share.square() * share


PATH = f"{__name__}."
FORMS: dict[str, Callable[[], dict[str, Any]]] = {
    "names": lambda: {"head": "test_soft", "radial": "test_waves"},
    "classes": lambda: {
        "head": SoftHead,
        "radial": Waves,
        "norm": Halved,
        "cutoff_type": Step,
    },
    "mappings": lambda: {
        "head": {"class": SoftHead, "width": 6},
        "radial": {"kind": "test_waves", "num_basis": 4, "power": 2.0},
        "norm": {"class": Halved, "factor": 0.25},
        "cutoff_type": {"class": Step, "end": 4.0},
    },
    "paths": lambda: {"head": {"class": f"{PATH}SoftHead"}, "radial": "bessel"},
    "instances": lambda: {
        "head": SoftHead(LevelSizes((4, 4), (1, 1), 2).scalars, width=5),
        "radial": Waves(6, cutoff=5.0, power=2.0),
        "norm": Halved(4, 1),
        "cutoff_type": Step(4),
    },
    "no sum": lambda: {"head": Largest},
    "ours": lambda: {
        "head": ExtensiveHead(LevelSizes((4, 4), (1, 1), 2).scalars, hidden=3),
        "radial": Bessel(6, 5.0),
    },
    "several": lambda: {"head": [SoftHead, "dipole", {"class": Largest}]},
}


@pytest.mark.parametrize("form", list(FORMS))
def test_every_form_is_saved_and_loaded(form: str, tmp_path: Path) -> None:
    model = Cormorant(**SMALL, **FORMS[form]()).double().eval()
    z, pos = random_molecule(6)
    save_model(tmp_path / "m.safetensors", model)
    again = load_model(tmp_path / "m.safetensors")
    assert torch.equal(again(z, pos), model(z, pos))
    assert again.config == model.config
    copied = copy.deepcopy(model)
    assert torch.equal(copied(z, pos), model(z, pos))
    other = Cormorant(**model.config).double()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(z, pos), model(z, pos))


@pytest.mark.parametrize("form", ["names", "mappings", "instances", "ours"])
def test_potentials_ask_the_facts_and_have_exact_forces(form: str) -> None:
    torch.manual_seed(0)
    given = {k: v for k, v in FORMS[form]().items() if k != "norm"}
    model = Cormorant.potential(size="complex", **SMALL, **given).double()
    model.set_units(dict.fromkeys(range(1, 10), -1.0), scale=2.0)
    z, pos = random_molecule(5)
    result = model.evaluate(z, pos)
    assert result.energies is not None
    torch.testing.assert_close(result.energies.sum(), result.energy[0])
    step = 1e-4
    for atom, axis in ((0, 0), (3, 2)):
        moved = torch.zeros_like(pos)
        moved[atom, axis] = step
        ends = [model.predict(z, pos + sign * moved)[0, 0] for sign in (1, -1)]
        expected = -(ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(
            result.forces[atom, axis], expected, rtol=1e-6, atol=1e-7
        )


def test_own_parts_learn_energies_and_forces() -> None:
    torch.manual_seed(0)
    model = Cormorant.potential(size="complex", **SMALL, **FORMS["mappings"]()).double()
    z, pos = random_molecule(6)
    teacher = Cormorant.potential(size="complex", **SMALL).double()
    wanted = teacher.evaluate(z, pos).forces.detach()
    wanted = wanted / wanted.std()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        forces = model.train().evaluate(z, pos).forces
        loss = (forces - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    phases = [conv.edge_network.radial.phase for conv in model.conv_layers()]
    assert not torch.equal(phases[0], phases[1])  # levels learn their own


class Steep(Waves):
    """Waves that say nothing of themselves."""

    bounded = False


class Cornerless(SoftHead):
    """A head that no decorator names."""


class Cornered(SoftHead):
    """A head with a ReLU inside."""

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs)
        self.mlp[1] = nn.ReLU()


class Jump(Step):
    """A mask that says it ends at once."""

    smooth = False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radial": Steep}, "bounded radial, which 'Steep'"),
        ({"radial": "power_trig"}, "bounded radial, which 'power_trig'"),
        ({"head": Largest}, "additive head, which 'Largest'"),
        ({"head": Cornered}, "smooth head, which 'Cornered'"),
        ({"cutoff_type": Jump}, "a smooth end, got .*Jump"),
    ],
    ids=str,
)
def test_a_potential_refuses_what_says_otherwise(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Cormorant.potential(size="complex", **SMALL, **options)


class Flat(Step):
    """A mask that forgets the channels."""

    def forward(self, length: Tensor) -> Tensor:
        """``[E]`` as it is: with as many edges as channels it might pass."""
        return length


@pytest.mark.parametrize("envelope", [True, False])
def test_a_mask_of_another_shape_is_refused(*, envelope: bool) -> None:
    conv = CormorantConv(2, 2, lmax=1, cutoff=3.0, cutoff_type=Flat, envelope=envelope)
    edges = torch.tensor([[0, 1, 2, 0], [1, 0, 0, 2]])
    with pytest.raises(ShapeError, match=r"Flat returned shape \[2\], expected .*2, 2"):
        conv(torch.randn(3, 2), edges, pos=torch.eye(3))


def test_a_file_names_a_class_and_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "from torch_cormorant.nn import ExtensiveHead\nclass Mine(ExtensiveHead): pass"
    )
    (tmp_path / "a_module_of_mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    mine = import_part("a_module_of_mine:Mine")
    path = tmp_path / "m.safetensors"
    save_model(path, Cormorant(**SMALL, head=mine))
    monkeypatch.setattr(HEAD_PARTS, "classes", {})  # as in a new process
    monkeypatch.delitem(sys.modules, "a_module_of_mine")
    with pytest.raises(ModelFileError, match=r"'a_module_of_mine\.Mine'.*parts="):
        load_model(path)
    assert "a_module_of_mine" not in sys.modules
    assert str(tmp_path) not in sys.path
    assert type(load_model(path, parts=[mine]).head) is mine
    with pytest.raises(ModelFileError, match="parts="):  # in that call only
        load_model(path)


def test_what_a_script_defined_may_be_imported_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = type("Scripted", (ExtensiveHead,), {"__module__": "__main__"})
    model = Cormorant(**SMALL, head=script)
    save_model(tmp_path / "m.safetensors", model)
    moved = type("Scripted", (ExtensiveHead,), {"__module__": "script"})
    monkeypatch.setattr(HEAD_PARTS, "classes", {})
    found = load_model(tmp_path / "m.safetensors", parts=[moved])
    assert type(found.head) is moved


class Callback(SoftHead):
    """A head with an argument that no file can hold."""

    def __init__(self, inputs: int, act: Any = torch.tanh) -> None:
        super().__init__(inputs)
        self.act = act


class Local(SoftHead):
    """A head whose weights come out otherwise the second time."""

    made = 0

    def __init__(self, inputs: int) -> None:
        type(self).made += 1
        super().__init__(inputs, width=3 + type(self).made)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Callback(LevelSizes((4, 4), (1, 1), 2).scalars), "model.config: head"),
        (Local, "could not be read again"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(
    head: Any, message: str, tmp_path: Path
) -> None:
    model = Cormorant(**SMALL, head=head)
    with pytest.raises(ConfigError, match=message):
        save_model(tmp_path / "m.safetensors", model)
    assert not list(tmp_path.iterdir())


def test_weights_of_other_options_are_refused() -> None:
    one, two = (
        Cormorant(**SMALL, radial={"class": Waves, "power": power})
        for power in (1.0, 2.0)
    )
    with pytest.raises(WeightsError, match="power=2"):
        two.load_state_dict(one.state_dict())


def test_what_may_be_subtracted_stands_on_the_class() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    assert reference_for_head(SoftHead) == "composition"
    assert reference_for_head("test_soft") == "composition"
    assert reference_for_head(Largest) == "mean"
    assert reference_for_head({"kind": "so3", "degree": 2}) == "none"
    assert reference_for_head(Cormorant(**SMALL, head="mean").head) == "mean"
    torch.manual_seed(0)
    reference_for_head("extensive")
    assert torch.equal(torch.rand(2), expected)  # a look draws no numbers


def test_a_name_belongs_to_one_class() -> None:
    with pytest.raises(ConfigError, match=r"'bessel' is .*Bessel already"):
        register_radial("bessel")(Steep)
    first = type("Again", (SoftHead,), {})
    second = type("Again", (SoftHead,), {})  # as when a notebook's cell runs twice
    register_head("test_again")(first)
    register_head("test_again")(second)
    assert type(make_head("test_again", LevelSizes((4,), (1,), 2))) is second
    assert second.kind == "test_again"
    HEAD_PARTS.entries.pop("test_again")


class Wide(Waves):
    """One function too many."""

    def forward(self, length: Tensor) -> Tensor:
        """``[E, num_basis + 1]``."""
        return torch.cat([super().forward(length), length.unsqueeze(-1)], dim=1)


class Inverse(Waves):
    """Infinite at zero."""

    def forward(self, length: Tensor) -> Tensor:
        """``[E, num_basis]``."""
        return super().forward(length) + 1 / length.unsqueeze(-1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_radial(Wide, cutoff=3.0), r"\(2, 17\), expected \(2, 16\)"),
        (lambda: make_radial(Inverse, cutoff=3.0), "not finite at lengths 0"),
        (lambda: make_radial(Waves(4, 3.0), complex=False), "complex=True, the layer"),
        (lambda: make_radial(Waves), "needs a cutoff"),
        (lambda: make_radial({"class": Waves, "powr": 2}), "did you mean 'power'"),
        (lambda: make_radial(SoftHead), "derives from Radial"),
        (lambda: make_radial({"class": "no.Such"}), "no class 'no.Such' is known"),
        (lambda: make_radial(nn.Linear(1, 2)), "a Radial or its class"),
        (lambda: Cormorant(**SMALL, head=nn.Linear(1, 2)), "a Head or its class"),
        (lambda: Cormorant(**SMALL, head=Largest, num_targets=3), "num_targets is 3"),
        (lambda: Cormorant(**SMALL, norm="batch"), "norm must be one of"),
        (lambda: Cormorant(**SMALL, cutoff_type={"class": Waves}), "cutoff_type must"),
        (lambda: Cormorant(**SMALL, cutoff_type="sof"), "cutoff_type must be among"),
        (lambda: Cormorant(head={"class": SoftHead, "inputs": 3}), "option 'inputs'"),
        (lambda: know([int]), "Radial"),  # type: ignore[list-item]
        (lambda: import_part("no_such_module:Mine"), "cannot be imported"),
        (lambda: import_part("torch:Tensor"), "parts must be classes"),
        (lambda: Cormorant(**SMALL, head=Largest).head.rescale(2.0), "last_layers"),
    ],
)
def test_mistakes_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


class Mirror(Norm):
    """A norm without a constructor."""

    def forward(self, x: Tensor) -> Tensor:
        """Shapes as they are."""
        return -x


def test_a_class_needs_no_constructor(tmp_path: Path) -> None:
    model = Cormorant(**SMALL, norm=Mirror()).eval()
    assert model.config["norm"] == {"class": f"{PATH}Mirror"}
    save_model(tmp_path / "m.safetensors", model)
    load_model(tmp_path / "m.safetensors")


def test_energies_of_own_heads_are_the_same_everywhere() -> None:
    model = (
        Cormorant.potential(size="complex", **SMALL, **FORMS["instances"]())
        .double()
        .eval()
    )
    z, pos = random_molecule(6)
    expected = model.evaluate(z, pos)
    chunked = evaluate_in_chunks(model, z, pos)
    torch.testing.assert_close(chunked.energy, expected.energy)
    torch.testing.assert_close(chunked.forces, expected.forces)
    torch.testing.assert_close(
        model.atom_contributions(z, pos).squeeze(1), expected.energies
    )
    engine = Engine(model, dtype=torch.float64)
    traced = TracedPotential(engine, z, pos)
    torch.testing.assert_close(traced(pos).energy, expected.energy)


def test_layers_take_own_masks_in_all_ways() -> None:
    """Lazy, on every path, with the same numbers; facts and names are held."""
    torch.manual_seed(0)
    _, pos = random_molecule(6)
    edges = radius_graph(pos, cutoff=4.0)
    lazy = CormorantConv(-1, 3, lmax=1, cutoff=4.0, cutoff_type=Step).double()
    x = torch.randn(6, 2, dtype=torch.float64)
    found = lazy(x, edges, pos=pos)
    same = CormorantConv(2, 3, lmax=1, cutoff=4.0, cutoff_type=Step(7)).double()
    same.load_state_dict(lazy.state_dict())
    again = CormorantConv(-1, 3, lmax=1, cutoff=4.0, cutoff_type={"class": Step})
    again.double().load_state_dict(lazy.state_dict())
    for backend in ("portable", "reference"):
        same.set_backend(backend)
        torch.testing.assert_close(same(x, edges, pos=pos), found)
    torch.testing.assert_close(again(x, edges, pos=pos), found)
    other = CormorantConv(2, 3, lmax=1, cutoff=4.0, cutoff_type=Step(2, end=3.0))
    with pytest.raises(WeightsError, match="mask"):
        other.double().load_state_dict(lazy.state_dict())
    with pytest.raises(ConfigError, match="word of SoftCutoff"):
        register_mask("hard")


def test_layers_take_own_radial_functions_too() -> None:
    radial = Waves(4, 3.0)
    layer = CormorantConv(4, 4, lmax=1, cutoff=3.0, radial=radial)
    assert layer.edge_network.radial is radial
    assert "radial=Waves" in repr(layer)
    assert set(RADIAL_PARTS.names) >= {"power_trig", "bessel", "gaussian"}


def test_the_number_of_targets_is_that_of_the_head() -> None:
    model = Cormorant(**SMALL, head={"kind": "mean", "num_targets": 2})
    assert model.num_targets == 2
    assert len(model.info.targets) == 2


def test_calculators_and_checks_take_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calculators = pytest.importorskip("torch_cormorant.interfaces.ase")
    path = tmp_path / "m.safetensors"
    save_model(
        path, Cormorant.potential(size="complex", **SMALL, head={"class": Cornerless})
    )
    monkeypatch.setattr(HEAD_PARTS, "classes", {})
    with pytest.raises(ModelFileError, match="Cornerless"):
        calculators.CormorantCalculator.from_file(path)
    assert check([str(path), "--parts", "no_such:Part"]) == 2
    calculators.CormorantCalculator.from_file(path, parts=[Cornerless])
