"""Reproducible training, validation and test parts."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from torch_cormorant.data.arrays import read_arrays, write_arrays
from torch_cormorant.errors import ConfigError

__all__ = ["PUBLISHED_SIZES", "Split", "load_split", "save_split", "split_indices"]

#: Training, validation and test molecules of the paper, of 130,831 in all.
PUBLISHED_SIZES: tuple[int, int, int] = (100_000, 17_748, 13_083)


@dataclass(frozen=True)
class Split:
    """Row numbers of the three parts; no row is in two of them.

    Args:
        train: Rows to fit on.
        valid: Rows that choose the checkpoint.
        test: Rows that are looked at once.
        seed: Seed of the permutation.
    """

    train: NDArray[np.int64]
    valid: NDArray[np.int64]
    test: NDArray[np.int64]
    seed: int

    def check(self, count: int) -> None:
        """Make sure that the parts are of a set of ``count`` rows and do not overlap.

        Raises:
            ConfigError: A part is empty, or a row is out of range or in two parts; it
                is named.
        """
        seen: NDArray[np.int64] = np.zeros(count, dtype=np.int64)
        for name, part in zip(("train", "valid", "test"), self.parts, strict=True):
            if part.ndim != 1 or part.dtype.kind not in "iu" or len(part) == 0:
                raise ConfigError(
                    f"{name}: expected a list of row numbers, found {part.dtype} of "
                    f"shape {part.shape}"
                )
            bad = part[(part < 0) | (part >= count)]
            if len(bad):
                raise ConfigError(
                    f"{name}: row {bad[0]} is not in 0 .. {count - 1}; the split is of "
                    "another data set"
                )
            np.add.at(seen, part, 1)
        if (seen > 1).any():
            row = int(np.argmax(seen > 1))
            raise ConfigError(f"split: row {row} comes {seen[row]} times")

    @property
    def digest(self) -> str:
        """SHA-256 over the three lists; equal digests mean equal splits."""
        parts = [part.astype("<i8").tobytes() for part in self.parts]
        return hashlib.sha256(b"|".join(parts)).hexdigest()

    @property
    def parts(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The three parts in order."""
        return self.train, self.valid, self.test


def split_indices(
    count: int,
    train: int | None = None,
    valid: int | None = None,
    test: int | None = None,
    seed: int = 0,
) -> Split:
    """Split rows by a seeded permutation, as the published code does.

    The permutation is NumPy's legacy one. Training rows are taken from its front, test
    rows from its end and validation rows just before those: with the published sizes
    this is the published split, and a smaller training set is a part of a larger
    one at the same validation and test rows.

    Args:
        count: Number of rows.
        train: Training rows; default the published share of ``count``, or what the
            other two leave if that is less.
        valid: Validation rows; default the published share.
        test: Test rows; default the published share.
        seed: Seed of the permutation.

    Returns:
        The three parts.

    Raises:
        ConfigError: A size is not a positive whole number, or there are fewer rows than
            asked for.

    Example:
        >>> split = split_indices(130_831)
        >>> [len(part) for part in split.parts]
        [100000, 17748, 13083]
        >>> [len(part) for part in split_indices(310).parts]
        [237, 42, 31]
    """
    sizes = {"count": count, "train": train, "valid": valid, "test": test, "seed": seed}
    for name, size in sizes.items():
        given: object = size  # users pass shares, too
        if given is not None and not isinstance(given, Integral):
            raise ConfigError(f"{name}: {given!r} is not a whole number")
    total = sum(PUBLISHED_SIZES)
    shares = [max(1, round(count * size / total)) for size in PUBLISHED_SIZES]
    valid = shares[1] if valid is None else valid
    test = shares[2] if test is None else test
    if train is None:
        # What rounding leaves over goes to the training part.
        train = min(count - shares[1] - shares[2], count - valid - test)
    for name, size in (("train", train), ("valid", valid), ("test", test)):
        if size < 1:
            raise ConfigError(
                f"{name}: {size} of {count} rows left or asked for, need at least 1"
            )
    if train + valid + test > count:
        raise ConfigError(
            f"train + valid + test: {train} + {valid} + {test} = "
            f"{train + valid + test} rows asked for, the data set has {count}"
        )
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed: {seed} is not in 0 .. 2^32 - 1")
    order = np.random.RandomState(seed).permutation(count).astype(np.int64)
    return Split(
        train=order[:train],
        valid=order[count - test - valid : count - test],
        test=order[count - test :],
        seed=seed,
    )


def save_split(split: Split, path: str | os.PathLike[str]) -> None:
    """Write a split to an ``.npz`` file, to be published beside results.

    Args:
        split: The split.
        path: The file.

    Raises:
        OSError: It cannot be written.
    """
    parts = {"train": split.train, "valid": split.valid, "test": split.test}
    write_arrays(path, {**parts, "seed": np.array([split.seed])}, packed=True)


def load_split(path: str | os.PathLike[str], count: int) -> Split:
    """Read a split of a set of ``count`` rows: one that was saved, or your own.

    Args:
        path: An ``.npz`` file with the row numbers ``train``, ``valid`` and ``test``,
            and ``seed`` if there was one.
        count: Number of rows of the data set.

    Returns:
        The split, checked.

    Raises:
        DataError: The file is missing, damaged or lacks an array.
        ConfigError: The rows do not fit the data set.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "split.npz"
        >>> save_split(split_indices(310), path)
        >>> load_split(path, 310).digest == split_indices(310).digest
        True
    """
    file = read_arrays(path, ["train", "valid", "test"], ["seed"])
    train, valid, test = (file.integers(name) for name in ("train", "valid", "test"))
    seed = int(file.integers("seed")[0]) if "seed" in file.arrays else 0
    split = Split(train, valid, test, seed)
    split.check(count)
    return split
