"""Harmonics and Wigner matrices against independent sources."""

from __future__ import annotations

from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch
from torch import Tensor

from torch_cormorant.so3 import (
    basis_matrix,
    degree_slice,
    random_rotation,
    spherical_harmonics,
    wigner_D,
)

LMAX = 8
DIGITS = 50


def probes() -> Tensor:
    """Random directions, axes, both poles, and directions 1e-8 off the poles."""
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(60, 3, generator=generator, dtype=torch.float64)
    axes = torch.eye(3, dtype=torch.float64)
    near = [[1e-8, 0, 1], [0, 1e-8, -1], [-1e-8, 1e-8, 1], [1, 1e-8, -1e-8]]
    diagonal = [[1, 1, 1], [1, -1, 0], [1e-8, 1, 1], [0, 3, 4]]
    special = torch.tensor([*near, *diagonal], dtype=torch.float64)
    return torch.cat([random, 1e-3 * random[:5], axes, -axes, special])


def exact_harmonics(vec: list[float]) -> list[mpmath.mpf]:
    """Textbook formula with 50 digits, from the Legendre polynomials' derivatives."""
    x, y, z = (mpmath.mpf(component) for component in vec)
    r = mpmath.sqrt(x * x + y * y + z * z)
    x, y, z = x / r, y / r, z / r
    values = []
    for l in range(LMAX + 1):
        # (z^2 - 1)^l / (2^l l!), differentiated l + m times below.
        base = [mpmath.mpf(0)] * (2 * l + 1)
        for k in range(l + 1):
            base[2 * k] = mpmath.binomial(l, k) * (-1) ** (l - k)
        for m in range(-l, l + 1):
            order = abs(m)
            derivative = mpmath.mpf(0)
            for power in range(l + order, 2 * l + 1):
                falling = mpmath.factorial(power) / mpmath.factorial(power - l - order)
                derivative += base[power] * falling * z ** (power - l - order)
            derivative /= 2**l * mpmath.factorial(l)
            ratio = mpmath.factorial(l - order) / mpmath.factorial(l + order)
            norm = mpmath.sqrt((2 if m else 1) * ratio)
            turn = mpmath.mpc(x, y) ** order
            values.append(norm * derivative * (turn.imag if m < 0 else turn.real))
    return values


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_harmonics_against_fifty_digits(dtype: torch.dtype) -> None:
    vec = probes().to(dtype)
    found = spherical_harmonics(vec, LMAX)
    unit_roundoff = torch.finfo(dtype).eps / 2
    with mpmath.workdps(DIGITS):
        for row, v in zip(found.tolist(), vec.tolist(), strict=True):
            for value, exact in zip(row, exact_harmonics(v), strict=True):
                assert abs(mpmath.mpf(value) - exact) <= 16 * unit_roundoff


def test_float32_harmonics_against_float64_on_many_vectors() -> None:
    generator = torch.Generator().manual_seed(1)
    vec = torch.randn(100_000, 3, generator=generator)
    vec[:20_000, :2] *= torch.logspace(-8, 0, 20_000)[:, None]
    error = spherical_harmonics(vec, LMAX).double()
    error -= spherical_harmonics(vec.double(), LMAX)
    assert error.abs().max() <= 16 * torch.finfo(torch.float32).eps / 2


def test_solid_harmonics_against_sympy() -> None:
    sympy = pytest.importorskip("sympy")
    vec = [sympy.Rational(*pair) for pair in ((3, 4), (-5, 8), (7, 16))]
    r = sympy.sqrt(sum(component**2 for component in vec))
    theta, phi = sympy.acos(vec[2] / r), sympy.atan2(vec[1], vec[0])
    given = torch.tensor([float(component) for component in vec], dtype=torch.float64)
    found = spherical_harmonics(given, 4, normalize=False).tolist()
    for l in range(5):
        for m in range(l + 1):
            # Without the Condon-Shortley sign that Sympy's harmonics carry.
            scale = (-1) ** m * r**l * sympy.sqrt(4 * sympy.pi / (2 * l + 1))
            scale *= sympy.sqrt(2) if m else 1
            harmonic = sympy.Ynm(l, m, theta, phi).expand(func=True)
            exact = complex(sympy.N(scale * harmonic, 30))
            assert abs(exact.real - found[l * l + l + m]) < 1e-14
            if m:
                assert abs(exact.imag - found[l * l + l - m]) < 1e-14


def test_harmonics_against_scipy() -> None:
    special = pytest.importorskip("scipy.special")
    vec = probes()
    unit = (vec / vec.norm(dim=1, keepdim=True)).numpy()
    theta = np.arctan2(np.hypot(unit[:, 0], unit[:, 1]), unit[:, 2])
    phi = np.arctan2(unit[:, 1], unit[:, 0])
    found = spherical_harmonics(vec, LMAX).numpy()
    for l in range(LMAX + 1):
        scale = np.sqrt(4 * np.pi / (2 * l + 1))
        for m in range(l + 1):
            value = scale * special.sph_harm_y(l, m, theta, phi)
            value *= (-1) ** m * (np.sqrt(2) if m else 1)
            assert np.abs(found[:, l * l + l + m] - value.real).max() < 1e-13
            if m:
                assert np.abs(found[:, l * l + l - m] - value.imag).max() < 1e-13


# e3nn scripts its harmonics, or not, as other packages that use it choose.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_harmonics_against_e3nn() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    vec = probes()
    degrees = list(range(LMAX + 1))
    expected = o3.spherical_harmonics(degrees, vec[:, [1, 2, 0]], True, "norm")
    assert (spherical_harmonics(vec, LMAX) - expected).abs().max() < 1e-13


def test_wigner_matrices_against_e3nn() -> None:
    o3 = pytest.importorskip("e3nn.o3")
    R = random_rotation(5, torch.Generator().manual_seed(0))
    D = wigner_D(R, 6)
    order = torch.tensor([1, 2, 0])
    angles = o3.matrix_to_angles(R[:, order][:, :, order])
    for l in range(7):
        block = D[:, degree_slice(l), degree_slice(l)]
        # e3nn's own matrices carry float32 constants.
        assert (block - o3.wigner_D(l, *angles)).abs().max() < 1e-5


@pytest.fixture(scope="module")
def published() -> dict[str, np.ndarray]:
    path = Path(__file__).resolve().parents[3] / "shared" / "parity"
    file = path / "unit_spherical_harmonics.npz"
    if not file.is_file():
        pytest.skip("no ../shared/parity beside the repository")
    with np.load(file) as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize("l", range(7))
def test_harmonics_of_the_published_code(
    published: dict[str, np.ndarray], l: int
) -> None:
    U = basis_matrix(l).numpy()
    for name, vectors, normalize in (
        (f"Y_l{l}", "vec", True),
        (f"Y_any_unit_l{l}", "vec_any", True),
        (f"Y_any_solid_l{l}", "vec_any", False),
    ):
        vec = torch.from_numpy(published[vectors])
        ours = spherical_harmonics(vec, l, normalize)[:, degree_slice(l)].numpy()
        scale = max(1.0, np.abs(published[name]).max())
        assert np.abs(ours @ U.T - published[name]).max() < 1e-13 * scale


@pytest.mark.parametrize("l", range(7))
def test_wigner_matrices_of_the_published_code(
    published: dict[str, np.ndarray], l: int
) -> None:
    U = basis_matrix(l).numpy()
    D = wigner_D(torch.from_numpy(published["R"]), l)[degree_slice(l), degree_slice(l)]
    assert np.abs(U @ D.numpy() @ U.conj().T - published[f"D_l{l}"]).max() < 1e-13
