from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torch_cormorant.data import load_split, save_split, split_indices
from torch_cormorant.errors import ConfigError


def test_published_sizes_give_the_published_split() -> None:
    split = split_indices(130_831)
    order = np.random.RandomState(0).permutation(130_831)
    np.testing.assert_array_equal(split.train, order[:100_000])
    np.testing.assert_array_equal(split.valid, order[100_000:117_748])
    np.testing.assert_array_equal(split.test, order[117_748:])


@pytest.mark.parametrize("count", [3, 4, 7, 10, 310, 1000, 23_578, 130_831])
def test_parts_are_disjoint_and_cover_everything_by_default(count: int) -> None:
    split = split_indices(count)
    assert all(len(part) > 0 for part in split.parts)
    joined = np.concatenate(split.parts)
    np.testing.assert_array_equal(np.sort(joined), np.arange(count))


def test_smaller_training_sets_are_nested_and_leave_the_rest_alone() -> None:
    small = split_indices(23_578, train=1000)
    large = split_indices(23_578, train=5000)
    full = split_indices(23_578)
    assert set(small.train) < set(large.train) < set(full.train)
    for split in (small, large):
        np.testing.assert_array_equal(split.valid, full.valid)
        np.testing.assert_array_equal(split.test, full.test)


def test_sizes_are_those_asked_for_and_larger_test_sets_shrink_the_training_set() -> (
    None
):
    split = split_indices(100, train=10, valid=20, test=30)
    assert [len(part) for part in split.parts] == [10, 20, 30]
    split = split_indices(100, test=60)
    assert [len(part) for part in split.parts] == [26, 14, 60]


def test_split_depends_on_the_seed_only() -> None:
    assert split_indices(50).digest == split_indices(50).digest
    assert split_indices(50).digest != split_indices(50, seed=1).digest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 80, "valid": 15, "test": 6}, "101 rows asked for, the data set has"),
        ({"train": 0}, "train: 0 of 100"),
        ({"valid": 60, "test": 40}, "train: 0 of 100"),
        ({"test": -1}, "test: -1"),
        ({"seed": -1}, "seed: -1"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        split_indices(100, **arguments)


def test_a_split_is_written_and_read_back(tmp_path: Path) -> None:
    split = split_indices(310, seed=7)
    save_split(split, tmp_path / "split.npz")
    again = load_split(tmp_path / "split.npz", 310)
    assert (again.digest, again.seed) == (split.digest, 7)
    with pytest.raises(ConfigError, match=r"row \d+ is not in 0 .. 99; the split"):
        load_split(tmp_path / "split.npz", 100)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([0, 1, 3], "split: row 3 comes 2 times"),
        ([0, 0], "split: row 0 comes 2 times"),
        ([-1], "train: row -1 is not in 0 .. 5"),
        ([], "train: expected a list of row numbers|array 'train'"),
    ],
)
def test_own_splits_are_checked(tmp_path: Path, train: list[int], message: str) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, train=np.array(train, dtype=int), valid=[2], test=[3, 4])
    with pytest.raises(ConfigError, match=message):
        load_split(path, 6)


@pytest.mark.parametrize(
    "sizes", [{"train": 0.8}, {"valid": "5"}, {"test": 2.0}, {"seed": 1.5}]
)
def test_sizes_that_are_no_whole_numbers_are_named(sizes: dict[str, object]) -> None:
    (name,) = sizes
    with pytest.raises(ConfigError, match=f"{name}: .* is not a whole number"):
        split_indices(10, **sizes)  # type: ignore[arg-type]
