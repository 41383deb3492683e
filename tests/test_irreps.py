"""Irreps: read, printed, cut, sorted and multiplied."""

from __future__ import annotations

import pytest

from torch_cormorant.errors import ConfigError, DegreeError
from torch_cormorant.irreps import Irrep, Irreps


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("64x0e + 21x1o", "64x0e + 21x1o"),
        ("64x0e+21x1o", "64x0e + 21x1o"),
        ("  3 x 2e ", "3x2e"),
        ("64x0 + 21x1", "64x0 + 21x1"),
        ("0e + 1o", "1x0e + 1x1o"),
        ("2*1o", "2x1o"),
        ("", ""),
        ("0x1o", "0x1o"),
    ],
)
def test_reading_and_printing(text: str, printed: str) -> None:
    irreps = Irreps(text)
    assert str(irreps) == printed
    assert Irreps(str(irreps)) == irreps
    assert Irreps(irreps) == irreps
    assert hash(Irreps(printed)) == hash(irreps)


def test_pairs_are_read_too() -> None:
    assert Irreps([(2, "0e"), (3, (1, -1)), (1, Irrep(2, 1))]) == Irreps(
        "2x0e + 3x1o + 1x2e"
    )
    assert Irreps([]) == Irreps("")


class Foreign:
    def __str__(self) -> str:
        return "4x0e+2x1o"


def test_what_reads_so_is_accepted() -> None:
    assert Irreps(Foreign()) == Irreps("4x0e + 2x1o")


@pytest.mark.filterwarnings("ignore")
def test_objects_of_e3nn_are_accepted() -> None:
    o3 = pytest.importorskip("e3nn.o3", reason="e3nn is not installed")
    assert Irreps(o3.Irreps("64x0e+21x1o")) == Irreps("64x0e + 21x1o")
    assert Irreps(o3.Irrep("1o")) == Irreps("1x1o")
    assert o3.Irrep("1o") in Irreps("64x0e + 21x1o")
    # both sort alike
    text = "1x1o + 2x0e + 3x1e + 4x1o + 5x0o"
    ours, places = Irreps(text).sort()
    theirs = o3.Irreps(text).sort()
    assert ours == Irreps(theirs.irreps)
    assert places == theirs.inv


@pytest.mark.parametrize(
    "text", ["64x0f", "x1o", "1o 2e", "-1x0e", "1x0e + ", "1.5x0e"]
)
def test_what_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not understood"):
        Irreps(text)


def test_parity_for_all_or_none() -> None:
    with pytest.raises(ConfigError, match="every block or to none"):
        Irreps("2x0e + 1x1")
    with pytest.raises(ConfigError, match="both or to neither"):
        Irrep(1).product(Irrep(1, -1))
    with pytest.raises(ConfigError, match="parity must be"):
        Irreps([(1, (0, 2))])
    with pytest.raises(DegreeError, match="multiplicity"):
        Irreps([(-1, "0e")])
    with pytest.raises(DegreeError, match="lmax"):
        Irreps.harmonics(1.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one irrep"):
        Irreps("1x0e").count("1x0e + 1x1o")
    with pytest.raises(ConfigError, match="no highest degree"):
        _ = Irreps().lmax


def test_sizes() -> None:
    irreps = Irreps("4x0e + 3x2e + 2x1o")
    assert (irreps.dim, irreps.lmax, irreps.num_irreps) == (25, 2, 9)
    assert irreps.slices == (slice(0, 4), slice(4, 19), slice(19, 25))
    assert [block.mul for block in irreps] == [4, 3, 2]
    assert irreps.has_parity
    assert not Irreps("4x0").has_parity
    assert irreps[1:] == Irreps("3x2e + 2x1o")
    assert irreps[0].ir == Irrep(0, 1)
    assert len(irreps) == 3
    assert "2e" in irreps
    assert "2o" not in irreps


def test_sums_filters_and_sorting() -> None:
    irreps = Irreps("1x1o + 2x0e") + "3x1o"
    assert str(irreps) == "1x1o + 2x0e + 3x1o"
    assert "5x0e" + irreps == Irreps("5x0e + 1x1o + 2x0e + 3x1o")
    ordered, places = irreps.sort()
    assert ordered == Irreps("2x0e + 1x1o + 3x1o")
    assert [irreps[k] for k in places] == list(ordered)
    assert ordered.simplify() == Irreps("2x0e + 4x1o")
    assert irreps.filter("1o") == Irreps("1x1o + 3x1o")
    assert irreps.filter(lambda block: block.mul > 1) == Irreps("2x0e + 3x1o")


def test_products() -> None:
    assert [str(ir) for ir in Irrep(2, 1).product(Irrep(1, -1))] == ["1o", "2o", "3o"]
    assert [str(ir) for ir in Irrep(0).product(Irrep(3))] == ["3"]
    hidden = Irreps("8x0e + 8x1o")
    assert hidden.product(Irreps.harmonics(1), keep=hidden) == Irreps("1x0e + 1x1o")
    assert Irreps("2x0 + 2x1").product("1x1") == Irreps("1x0 + 1x1 + 1x2")
