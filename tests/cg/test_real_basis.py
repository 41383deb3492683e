"""The exact change of basis, against the definition in floating point."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from torch_cormorant.cg import clebsch_gordan, paths
from torch_cormorant.cg.real_basis import real_block

# original (l1, l2, l) whose real table has the opposite sign of e3nn's wigner_3j.
OPPOSITE_EVEN = {(1, 1, 0), (1, 2, 1), (1, 3, 2), (2, 1, 1), (2, 2, 2), (2, 3, 3)} | {
    (3, 1, 2),
    (3, 2, 3),
    (3, 3, 0),
}
OPPOSITE_ODD = {(1, 1, 1), (1, 2, 2), (1, 3, 3), (2, 1, 2), (2, 2, 3), (3, 1, 3)} | {
    (3, 3, 1)
}


def unitary(l: int) -> np.ndarray:
    """Return U_l of the definition: rows m, columns k."""
    u = np.zeros((2 * l + 1, 2 * l + 1), dtype=np.complex128)
    u[l, l] = 1
    for m in range(1, l + 1):
        u[l + m, l + m] = (-1) ** m / np.sqrt(2)
        u[l + m, l - m] = -1j * (-1) ** m / np.sqrt(2)
        u[l - m, l + m] = 1 / np.sqrt(2)
        u[l - m, l - m] = 1j / np.sqrt(2)
    return u


@pytest.mark.parametrize(("l1", "l2", "l"), paths(5, 5, 5))
def test_real_table_is_the_transformed_complex_one(l1: int, l2: int, l: int) -> None:
    complex_table = clebsch_gordan(l1, l2, l, "complex").numpy()
    q = np.einsum(
        "ck,abc,ai,bj->ijk",
        unitary(l).conj(),
        complex_table,
        unitary(l1),
        unitary(l2),
    )
    kept, vanishing = (q.imag, q.real) if (l1 + l2 + l) % 2 else (q.real, q.imag)
    real_table = clebsch_gordan(l1, l2, l).numpy()
    np.testing.assert_allclose(kept, real_table, rtol=0, atol=2e-15)
    np.testing.assert_allclose(vanishing, 0, rtol=0, atol=2e-15)


@pytest.mark.parametrize(("l1", "l2", "l"), paths(3, 3, 3))
def test_real_table_equals_e3nn_up_to_the_known_signs(l1: int, l2: int, l: int) -> None:
    o3 = pytest.importorskip("e3nn.o3", exc_type=ImportError)
    sign = -1 if (l1, l2, l) in OPPOSITE_EVEN | OPPOSITE_ODD else 1
    theirs = o3.wigner_3j(l1, l2, l).double().numpy() * (2 * l + 1) ** 0.5
    ours = clebsch_gordan(l1, l2, l).numpy()
    np.testing.assert_allclose(ours, sign * theirs, rtol=0, atol=2e-6)


def test_terms_of_different_size_are_refused() -> None:
    unequal = {(1, 1, 2): Fraction(1, 2), (-1, -1, -2): Fraction(1, 3)}
    with pytest.raises(ArithmeticError, match="different size"):
        real_block(unequal, odd=False)


def test_entry_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ArithmeticError, match="should vanish"):
        real_block({(0, 0, 0): Fraction(1)}, odd=True)
