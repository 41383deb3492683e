"""What is refused, by name; handles, copies and threads."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torch_cormorant import Cormorant
from torch_cormorant.errors import (
    CellError,
    CoincidentAtomsError,
    ConfigError,
    DtypeError,
    EdgeIndexError,
    ModelFileError,
    NonFiniteError,
    ShapeError,
    SpeciesError,
)
from torch_cormorant.interfaces import native as module
from torch_cormorant.interfaces.native import NativePotential, native_problem
from torch_cormorant.interfaces.native_block import HEADER, with_checksum
from torch_cormorant.nn import Bessel, SO3Norm, SumHead

Make = Callable[..., Any]


class Narrow(Bessel):
    pass


class Own(SumHead):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, 1)

    def contributions(self, values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.linear(values)
        return result


class OwnNorm(SO3Norm):
    pass


class OwnPotential(type(Cormorant.potential([1], channels=1, num_levels=1))):  # type: ignore[misc]
    def pair_energies(self, *args: Any) -> Any:
        return super().pair_energies(*args)


def small(**options: Any) -> Any:
    return Cormorant.potential([1, 6, 8], channels=2, num_levels=2, **options)


def hooked() -> Any:
    model = small()
    model.norms[1].register_forward_hook(lambda *_: None)
    return model


def pruned() -> Any:
    model = small()
    nn.utils.parametrizations.weight_norm(model.head.mlp[0])
    return model


def mixed() -> Any:
    model = small()
    model.norms[1].eps = 0.5
    return model


def wrapped() -> Any:
    model = small()
    model.convs[0] = nn.Sequential(model.convs[0])
    return model


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: small(radial={"class": Narrow}), "radial is Narrow"),
        (lambda: small(head=Own), "head is 'Own'"),
        (lambda: small(norm={"class": OwnNorm}), "norm is OwnNorm"),
        (lambda: small(harmonics="solid"), "harmonics is 'solid'"),
        (lambda: small(lmax=5), "lmax is 5"),
        (lambda: Cormorant.potential([1], num_levels=9, channels=1), "num_levels is 9"),
        (lambda: Cormorant(head="extensive", channels=2), "input is MPNNInput"),
        (lambda: Cormorant(input="linear", channels=2), "head is 'published'"),
        (
            lambda: Cormorant(
                input="linear", head="extensive", channels=2, cutoff_type=("hard",)
            ),
            "activation is LeakyReLU",
        ),
        (
            lambda: Cormorant(
                input="linear",
                head="extensive",
                channels=2,
                activation="silu",
                cutoff_type=("learn", "hard"),
            ),
            "'hard'",
        ),
        (
            lambda: Cormorant(
                input="linear", head="extensive", channels=2, cutoff=None
            ),
            "cutoff is None",
        ),
        (lambda: OwnPotential([1], channels=2), "pair_energies of its own"),
        (hooked, "norms.1 has forward hooks"),
        (lambda: small().half(), "torch.float16"),
        (pruned, "pruned or parametrised"),
        (mixed, "eps of norm differs"),
        (wrapped, "bare layer"),
        (lambda: nn.Linear(1, 1), "model is Linear"),
    ],
)
def test_what_is_not_covered_is_named(build: Callable[[], Any], text: str) -> None:
    model = build()
    assert text in native_problem(model)
    with pytest.raises(ConfigError, match="does not cover"):
        NativePotential(model)


@pytest.fixture
def native(make: Make) -> NativePotential:
    return NativePotential(make(channels=3, num_levels=2))


WATER = np.array([[0.0, 0, 0], [0, 0, 0.96], [0, 0.93, -0.24]])
INF = np.array([[0.0, 0, 0], [0, np.inf, 0.96], [0, 0.93, -0.24]])


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (([8, 1, 7], WATER), SpeciesError, "atom 2 has atomic number 7"),
        (([8, 1, 1], INF), NonFiniteError, "atom 1 is not finite"),
        (([8, 1, 1], 1e20 * WATER), NonFiniteError, "too far away"),
        (([8, 1, 1], 0 * WATER), CoincidentAtomsError, "atoms 0 and 1"),
        (([8, 1], WATER), ShapeError, r"shape \[2, 3\]"),
        (([8.0, 1, 1], WATER), DtypeError, "whole numbers"),
        (([2**40, 1, 1], WATER), DtypeError, "int32"),
        (([[8, 1, 1]], WATER), ShapeError, r"shape \[N\]"),
        (([8, 1, 1], WATER + 1j), DtypeError, "real numbers"),
        (([8, 1, 1], WATER, np.ones((3, 3))), CellError, "cell vector 1"),
        (([8, 1, 1], WATER, np.zeros((3, 3))), CellError, "cell vector 0"),
        (([8, 1, 1], WATER, 1e-4 * np.eye(3)), CellError, "shorter than"),
        (([8, 1, 1], WATER, np.full((3, 3), np.nan)), NonFiniteError, "cell vector 0"),
        (([8, 1, 1], WATER, np.eye(2)), ShapeError, "cell must"),
        (([8, 1, 1], WATER, None, True), ConfigError, "cell is None"),
        (([8, 1, 1], WATER, 9 * np.eye(3), [True]), ShapeError, "pbc must"),
    ],
)
def test_inputs_are_refused_by_name(
    native: NativePotential, given: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        native.evaluate(*given)
    with pytest.raises(ConfigError, match="stress needs a cell"):
        native.evaluate([8, 1, 1], WATER, stress=True)


def test_images_at_one_place_are_refused(native: NativePotential) -> None:
    pos = np.array([[0.5, 0, 0], [4.5, 0, 0]])
    with pytest.raises(CoincidentAtomsError, match=r"atoms [01] and [01]"):
        native.evaluate([1, 1], pos, 4 * np.eye(3))


def test_pairs_are_checked(native: NativePotential) -> None:
    with pytest.raises(EdgeIndexError, match="pair 0 joins atoms 0 and 3"):
        native.evaluate_pairs([8, 1, 1], [[0], [3]], WATER[1:2])
    with pytest.raises(ShapeError, match="shapes"):
        native.evaluate_pairs([8, 1, 1], [[0], [1]], WATER)
    with pytest.raises(ConfigError, match="negative"):
        native.evaluate_pairs([8, 1, 1], [[0], [1]], WATER[1:2], 4)
    with pytest.raises(NonFiniteError, match="pair 0"):
        native.evaluate_pairs([8, 1, 1], [[0], [1]], INF[1:2])


def test_weights_that_overflow_are_noticed(make: Make) -> None:
    model = make(channels=3, num_levels=2)
    with torch.no_grad():
        model.head.mlp[0].bias.fill_(1e5)
        model.head.mlp[2].weight.fill_(1e307)
    with pytest.raises(NonFiniteError, match="energy of atom"):
        NativePotential(model).evaluate([8, 1, 1], WATER)
    with torch.no_grad():
        model.head.mlp[2].weight.fill_(torch.nan)
    with pytest.raises(ConfigError, match=r"head.mlp.2.weight is not finite"):
        NativePotential(model)


def test_damaged_blocks_are_refused(native: NativePotential) -> None:
    block = native._block
    flipped = bytearray(block)
    flipped[5000] ^= 4
    for bad in (
        *(b"", block[:100], block[:-8], bytes(8) + block[8:], block + bytes(8)),
        *(block + b"1", bytes(flipped)),
    ):
        broken = copy.copy(native)
        broken._block = bad
        with pytest.raises(ModelFileError, match=r"native model|damaged"):
            broken._open()


def test_fuzzed_files_never_crash(native: NativePotential) -> None:
    """Whatever header and numbers say, with a checksum that fits."""
    random, block = np.random.default_rng(0), native._block
    whole = np.frombuffer(block[: 8 * HEADER], np.int64)
    numbers = np.frombuffer(block[8 * HEADER :], np.float64)
    values = (-1.0, 0.0, 0.5, 3.0, 1e9, 1e300, np.inf, np.nan)
    opened, broken = 0, copy.copy(native)
    for turn in range(400):
        header, data = whole.copy(), numbers.copy()
        if turn % 2:
            header[2 + random.integers(HEADER - 2)] = random.integers(-3, 70)
        else:
            at = random.integers(len(data)) if turn % 4 else -random.integers(1, 900)
            data[at] = random.choice(values)
        broken._block = with_checksum(header, data.tobytes())
        try:
            broken._open()
            opened += 1
            broken.evaluate([8, 1, 1], WATER)
        except (ConfigError, ModelFileError, NonFiniteError, SpeciesError):
            continue
    assert 50 < opened < 350


def test_a_snapshot_is_kept(make: Make) -> None:
    model = make(channels=3, num_levels=2)
    native = NativePotential(model)
    before = native.evaluate([8, 1, 1], WATER).energy
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1)
    assert torch.equal(native.evaluate([8, 1, 1], WATER).energy, before)
    for other in (copy.deepcopy(native), pickle.loads(pickle.dumps(native))):  # noqa: S301
        assert torch.equal(other.evaluate([8, 1, 1], WATER).energy, before)
    assert "cutoff 5 Angstrom, float64" in repr(native)


def test_tensors_and_arrays_are_equal(native: NativePotential) -> None:
    array = native.evaluate(np.array([8, 1, 1], np.uint8), WATER)
    tensor = native.evaluate(torch.tensor([8, 1, 1]), torch.from_numpy(WATER))
    assert torch.equal(array.forces, tensor.forces)
    kept = torch.from_numpy(WATER).requires_grad_()
    assert torch.equal(native.evaluate([8, 1, 1], kept).forces, tensor.forces)


def test_several_threads_of_python(native: NativePotential, atoms: Any) -> None:
    given = [atoms(5 + k, seed=k) for k in range(8)]
    wanted = [native.evaluate(*one).forces for one in given]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: native.evaluate(*one).forces, given * 4))
    for k, forces in enumerate(found):
        assert torch.equal(forces, wanted[k % 8])


def test_threads_that_cannot_be_had(
    native: NativePotential, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system gives one thread only: the call is repeated with it."""
    asked, library = [], module._library()

    def evaluate(*args: Any) -> int:
        asked.append(args[-2])
        if args[-2] > 1:
            return 10
        status: int = library.cormorant_evaluate(*args)
        return status

    class Library:
        cormorant_evaluate = staticmethod(evaluate)
        cormorant_error = library.cormorant_error

    wanted = native.evaluate([8, 1, 1], WATER).energy
    monkeypatch.setattr(module, "_library", lambda: Library)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert torch.equal(native.evaluate([8, 1, 1], WATER).energy, wanted)
    assert asked == [4, 1]
