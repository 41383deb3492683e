from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torch_cormorant import cg_product, clebsch_gordan, wigner_D
from torch_cormorant.errors import ConfigError, DegreeError, DtypeError, ShapeError
from torch_cormorant.ops import from_complex, to_complex
from torch_cormorant.so3 import degree_slice, random_rotation


def operands(
    lmax1: int, lmax2: int, planes: int, channels: int = 3
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(4, (l + 1) ** 2, planes, channels) for l in (lmax1, lmax2)]
    a, b = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    return a, b


@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("paths", ["all", "even"])
@pytest.mark.parametrize(("lmax1", "lmax2", "lmax"), [(0, 0, 0), (3, 3, 3), (2, 4, 6)])
def test_every_block_is_the_sum_over_m1_and_m2(
    lmax1: int, lmax2: int, lmax: int, paths: str, planes: int
) -> None:
    a, b = operands(lmax1, lmax2, planes)
    found = cg_product(a, b, lmax, paths)
    assert len(found) == lmax + 1
    left, right = to_complex(a), to_complex(b)
    for l, part in enumerate(found):
        expected = []
        for l1 in range(lmax1 + 1):
            for l2 in range(lmax2 + 1):
                odd = paths == "even" and (l1 + l2 + l) % 2
                if odd or not abs(l1 - l2) <= l <= l1 + l2:
                    continue
                cg = clebsch_gordan(l1, l2, l).to(left.dtype)
                blocks = left[:, degree_slice(l1)], right[:, degree_slice(l2)]
                expected.append(torch.einsum("abm,nac,nbc->nmc", cg, *blocks))
        assert part.shape == (4, 2 * l + 1, planes, 3 * len(expected))
        total = from_complex(torch.cat(expected, dim=-1))
        torch.testing.assert_close(part, total, rtol=1e-14, atol=1e-14)


def test_default_lmax_is_that_of_the_larger_operand() -> None:
    a, b = operands(1, 2, 2)
    assert len(cg_product(a, b)) == 3
    assert len(cg_product(a, b, lmax=1)) == 2
    # No path reaches further than the sum of the degrees.
    assert len(cg_product(a, a, lmax=6)) == 3


@pytest.mark.parametrize("planes", [1, 2])
def test_product_is_equivariant(planes: int) -> None:
    a, b = operands(3, 2, planes)
    rotation = random_rotation(generator=torch.Generator().manual_seed(1))
    D = wigner_D(rotation, 3)
    turned = cg_product(
        torch.einsum("mk,nkpc->nmpc", D, a),
        torch.einsum("mk,nkpc->nmpc", D[:9, :9], b),
    )
    for l, (found, before) in enumerate(zip(turned, cg_product(a, b), strict=True)):
        block = D[degree_slice(l), degree_slice(l)]
        expected = torch.einsum("mk,nkpc->nmpc", block, before)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("planes", [1, 2])
def test_gradcheck(planes: int) -> None:
    inputs = [x.requires_grad_() for x in operands(1, 1, planes, channels=1)]
    assert torch.autograd.gradcheck(cg_product, inputs, atol=1e-8, rtol=1e-6)
    assert torch.autograd.gradgradcheck(cg_product, inputs, atol=1e-7, rtol=1e-5)


def test_float32_uses_tables_rounded_to_float32() -> None:
    a, b = (x.float() for x in operands(1, 1, 1))
    found = cg_product(a, b)[0]
    assert found.dtype == torch.float32
    table = clebsch_gordan(1, 1, 0, dtype=torch.float32)
    expected = torch.einsum("abm,napc,nbpc->nmpc", table, a[:, 1:], b[:, 1:])
    torch.testing.assert_close(found[..., 3:], expected)


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"a": torch.zeros(4, 4, 3)}, ShapeError, "a must have shape"),
        ({"b": torch.zeros(4, 4, 3, 3)}, ShapeError, "b must have shape"),
        ({"b": torch.zeros(4, 5, 2, 3)}, ShapeError, "got 5"),
        ({"b": torch.zeros(5, 4, 2, 3)}, ShapeError, "a and b"),
        ({"b": torch.zeros(4, 4, 1, 3)}, ShapeError, "a and b"),
        ({"b": torch.zeros(4, 4, 2, 2)}, ShapeError, "a and b"),
        ({"b": torch.zeros(4, 4, 2, 3).double()}, DtypeError, "a and b"),
        ({"a": torch.zeros(4, 4, 2, 3).long()}, DtypeError, "a must be float"),
        ({"lmax": 9}, DegreeError, "lmax"),
        ({"lmax": -1}, DegreeError, "lmax"),
        ({"lmax": 1.0}, DegreeError, "lmax"),
        ({"paths": "odd"}, ConfigError, "odd"),
    ],
)
def test_unfit_operands_are_refused(
    change: dict[str, object], error: type[Exception], word: str
) -> None:
    arguments = {"a": torch.zeros(4, 4, 2, 3), "b": torch.zeros(4, 4, 2, 3)}
    with pytest.raises(error, match=word):
        cg_product(**{**arguments, **change})
