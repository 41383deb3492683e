"""Tables as users get them: values, laws, types, errors."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from sympy.physics.wigner import clebsch_gordan as sympy_clebsch_gordan

from torch_cormorant.cg import (
    MAX_DEGREE,
    clebsch_gordan,
    exact,
    exact_entries,
    max_degree,
    paths,
)
from torch_cormorant.cg.rounding import FORMATS
from torch_cormorant.cg.tables import TABLE_PATH, read_tables, unpack_block
from torch_cormorant.errors import ConfigError, DataError, DegreeError, DtypeError

ALL_PATHS = paths(MAX_DEGREE, MAX_DEGREE, MAX_DEGREE)
bases = pytest.mark.parametrize("basis", ["real", "complex"])
dtypes = pytest.mark.parametrize("dtype", list(FORMATS), ids=str)


@pytest.mark.parametrize(("l1", "l2", "l"), paths(3, 3, 3))
def test_every_entry_is_the_rounded_50_digit_value(l1: int, l2: int, l: int) -> None:
    table = clebsch_gordan(l1, l2, l, "complex")
    for i1, row in enumerate(table.tolist()):
        for i2, column in enumerate(row):
            for i, entry in enumerate(column):
                value = sympy_clebsch_gordan(l1, l2, l, i1 - l1, i2 - l2, i - l)
                # mpmath's conversion to a Python float rounds correctly.
                assert entry == float(mpmath.mpf(value.evalf(50)))


@bases
@dtypes
def test_entries_are_correctly_rounded_in_every_type(
    basis: str, dtype: torch.dtype
) -> None:
    with mpmath.workdps(60):
        for path in ALL_PATHS[::7]:
            table = clebsch_gordan(*path, basis, dtype=dtype)
            entries = exact_entries(*path, basis)
            assert table.count_nonzero() == len(entries)
            above = torch.nextafter(table, torch.full_like(table, 2.0)).double()
            below = torch.nextafter(table, torch.full_like(table, -2.0)).double()
            for i1, i2, i, sign, p, q in entries:
                place = (i1, i2, i)
                value = sign * mpmath.sqrt(mpmath.mpf(p) / q)
                error = abs(table[place].item() - value)
                assert error <= abs(above[place].item() - value)
                assert error <= abs(below[place].item() - value)


@bases
def test_tables_are_orthonormal(basis: str) -> None:
    for path in ALL_PATHS:
        table = clebsch_gordan(*path, basis).flatten(0, 1)
        unit = torch.eye(table.shape[1], dtype=table.dtype)
        torch.testing.assert_close(table.T @ table, unit, rtol=0, atol=1e-15)


@bases
def test_squares_of_a_column_add_up_to_one_exactly(basis: str) -> None:
    for l1, l2, l in ALL_PATHS:
        sums = [Fraction(0)] * (2 * l + 1)
        for _, _, i, _, p, q in exact_entries(l1, l2, l, basis):
            sums[i] += Fraction(p, q)
        assert all(total == 1 for total in sums), (l1, l2, l)


@bases
def test_entries_obey_the_selection_rule(basis: str) -> None:
    for l1, l2, l in ALL_PATHS:
        for i1, i2, i, sign, p, q in exact_entries(l1, l2, l, basis):
            m1, m2, m = i1 - l1, i2 - l2, i - l
            assert sign in (-1, 1)
            assert 0 < p <= q
            if basis == "complex":
                assert m == m1 + m2
            else:
                assert abs(m) in (abs(m1) + abs(m2), abs(abs(m1) - abs(m2)))


@bases
def test_exchanging_the_factors_gives_the_known_sign(basis: str) -> None:
    for l1, l2, l in ALL_PATHS:
        swapped = clebsch_gordan(l2, l1, l, basis).transpose(0, 1)
        sign = (-1) ** (l1 + l2 - l)
        assert torch.equal(clebsch_gordan(l1, l2, l, basis), sign * swapped)


def test_coupling_with_a_scalar_is_the_identity() -> None:
    for l in range(MAX_DEGREE + 1):
        unit = torch.eye(2 * l + 1, dtype=torch.float64)
        assert torch.equal(clebsch_gordan(l, 0, l)[:, 0], unit)
        assert torch.equal(clebsch_gordan(0, l, l)[0], unit)


def test_complex_tables_equal_the_published_code(shared: Path) -> None:
    fixture = np.load(shared / "parity" / "unit_cg.npz")
    for l1 in range(4):
        for l2 in range(4):
            square = fixture[f"cg_{l1}_{l2}"]
            for l in range(abs(l1 - l2), l1 + l2 + 1):
                start = l * l - (l1 - l2) ** 2
                rows = square[start : start + 2 * l + 1]
                theirs = rows.reshape(2 * l + 1, 2 * l1 + 1, 2 * l2 + 1)
                ours = clebsch_gordan(l1, l2, l, "complex").permute(2, 0, 1).numpy()
                # Their tables carry the error of float64 factorials.
                np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-14)


def test_the_caller_gets_a_tensor_of_its_own() -> None:
    clebsch_gordan(2, 2, 2).zero_()
    assert clebsch_gordan(2, 2, 2).count_nonzero() > 0


def test_a_table_made_in_inference_mode_does_not_outlive_it() -> None:
    with torch.inference_mode():
        clebsch_gordan(4, 3, 2)
    assert not clebsch_gordan(4, 3, 2).is_inference()


def test_paths_are_ordered_for_every_l_with_l1_outside_l2() -> None:
    listed = paths(2, 1, 3)
    assert list(listed) == sorted(listed, key=lambda path: (path[2], path[0], path[1]))
    assert set(listed) == {
        (l1, l2, l)
        for l1 in range(3)
        for l2 in range(2)
        for l in range(4)
        if abs(l1 - l2) <= l <= l1 + l2
    }


def test_even_paths_are_those_with_an_even_sum() -> None:
    even = paths(4, 3, 5, parity="even")
    assert even == tuple(path for path in paths(4, 3, 5) if sum(path) % 2 == 0)


@pytest.mark.parametrize(("lmax", "every", "even"), [(1, 5, 4), (3, 34, 23)])
def test_path_counts_are_the_published_ones(lmax: int, every: int, even: int) -> None:
    assert len(paths(lmax, lmax, lmax)) == every
    assert len(paths(lmax, lmax, lmax, "even")) == even


@pytest.mark.parametrize("path", [(1, 1, 3), (3, 1, 1), (0, 0, 1)])
def test_broken_triangle_rule_is_an_error(path: tuple[int, int, int]) -> None:
    with pytest.raises(DegreeError, match="triangle rule"):
        clebsch_gordan(*path)


def test_degree_beyond_the_tables_names_the_way() -> None:
    with pytest.raises(DegreeError, match=r"torch_cormorant\.cg\.generate --lmax 11"):
        exact_entries(11, 3, 9)


@pytest.mark.parametrize("degree", [-1, 1.0, "1", None])
def test_degrees_are_whole_numbers(degree: object) -> None:
    with pytest.raises(DegreeError, match="l2 must be"):
        clebsch_gordan(1, degree, 1)
    with pytest.raises(DegreeError, match="lmax2 must be"):
        paths(1, degree, 1)


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ConfigError, match="basis must be"):
        clebsch_gordan(1, 1, 1, basis="spherical")
    with pytest.raises(ConfigError, match="parity must be"):
        paths(1, 1, 1, parity="odd")
    with pytest.raises(DtypeError, match="int32"):
        clebsch_gordan(1, 1, 1, dtype=torch.int32)


def test_larger_tables_can_be_generated_and_read(tmp_path: Path) -> None:
    path = tmp_path / "tables.bin"
    exact.write(path, lmax=2)
    tables = read_tables(path)
    assert tables.lmax == 2
    shipped = read_tables(TABLE_PATH)
    for block in paths(2, 2, 2):
        assert unpack_block(tables, *block) == unpack_block(shipped, *block)
    assert max_degree() == shipped.lmax


def test_missing_file_names_the_way(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read.*torch_cormorant\.cg\.gen"):
        read_tables(tmp_path / "nothing.bin")


@pytest.mark.parametrize("position", [9, 10, 12, 20, 40, 100, 60_000])
def test_every_damaged_byte_is_noticed(tmp_path: Path, position: int) -> None:
    path = Path(shutil.copy(TABLE_PATH, tmp_path))
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"torch_cormorant\.cg\.generate"):
        read_tables(path)


@pytest.mark.parametrize("length", [0, 7, 30, 1000])
def test_truncated_file_is_noticed(tmp_path: Path, length: int) -> None:
    path = tmp_path / "tables.bin"
    path.write_bytes(TABLE_PATH.read_bytes()[:length])
    with pytest.raises(DataError, match=r"torch_cormorant\.cg\.generate"):
        read_tables(path)


def test_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tables.bin"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(DataError, match="not a file of Clebsch-Gordan tables"):
        read_tables(path)
