"""The generator: values against Sympy, file against its description."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import pytest
from sympy import Rational, sqrt
from sympy.physics.wigner import clebsch_gordan as sympy_clebsch_gordan

from torch_cormorant.cg import exact, generate
from torch_cormorant.cg.tables import TABLE_PATH, read_tables


def as_root(square: Fraction) -> object:
    """Return sign * sqrt(p / q) as a Sympy number."""
    sign = -1 if square < 0 else 1
    return sign * sqrt(Rational(abs(square.numerator), square.denominator))


def test_every_coefficient_up_to_degree_two_equals_sympy() -> None:
    for l1 in range(3):
        for l2 in range(3):
            for l in range(abs(l1 - l2), l1 + l2 + 1):
                for m1 in range(-l1, l1 + 1):
                    for m2 in range(max(-l2, -l - m1), min(l2, l - m1) + 1):
                        ours = exact.coefficient(l1, m1, l2, m2, l)
                        theirs = sympy_clebsch_gordan(l1, l2, l, m1, m2, m1 + m2)
                        assert as_root(ours) == theirs, (l1, m1, l2, m2, l)


def test_random_coefficients_up_to_degree_eight_equal_sympy() -> None:
    draw = random.Random(0)
    for _ in range(300):
        l1, l2 = draw.randint(0, 8), draw.randint(0, 8)
        l = draw.randint(abs(l1 - l2), min(8, l1 + l2))
        m1 = draw.randint(-l1, l1)
        m2 = draw.randint(max(-l2, -l - m1), min(l2, l - m1))
        ours = exact.coefficient(l1, m1, l2, m2, l)
        theirs = sympy_clebsch_gordan(l1, l2, l, m1, m2, m1 + m2)
        assert as_root(ours) == theirs, (l1, m1, l2, m2, l)


def test_block_sizes_count_the_stored_components() -> None:
    for block in exact.blocks(exact.MAX_DEGREE):
        assert exact.block_size(*block) == len(list(exact.component_pairs(*block)))


def test_generating_again_gives_the_bytes_in_use(tmp_path: Path) -> None:
    again = tmp_path / "tables.bin"
    assert generate.main(["--output", str(again)]) == 0
    assert again.read_bytes() == TABLE_PATH.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["tables.bin"]


def test_file_is_smaller_than_a_megabyte() -> None:
    assert TABLE_PATH.stat().st_size < 1_000_000


def test_file_covers_the_promised_degrees() -> None:
    assert read_tables(TABLE_PATH).lmax == exact.MAX_DEGREE == 8


def test_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tables.bin"
    path.write_bytes(b"old")

    def fail(self: Path, target: Path) -> Path:
        message = f"no room for {target} beside {self}"
        raise OSError(message)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no room"):
        exact.write(path, lmax=1)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_negative_degree_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="lmax must be 0 or more"):
        exact.pack(-1)
    with pytest.raises(SystemExit):
        generate.main(["--lmax", "-1"])
    assert "--lmax must be 0 or more" in capsys.readouterr().err
