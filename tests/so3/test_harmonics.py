from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from torch_cormorant.errors import DegreeError, DtypeError, ShapeError
from torch_cormorant.so3 import degree_index, degree_slices, spherical_harmonics

DEGREES = range(9)


def random_vectors(n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 3, generator=generator, dtype=torch.float64).to(dtype)


def special_vectors() -> Tensor:
    """Axes, both poles, 1e-8 off them, and a random direction."""
    axes = torch.eye(3, dtype=torch.float64)
    near = [[1e-8, 0, 1], [0, -1e-8, -1], [1, 1e-8, 0], [1e-8, 1, 1e-8]]
    others = torch.tensor([*near, [0.3, -0.8, 0.5]], dtype=torch.float64)
    return torch.cat([axes, -axes, others])


def test_first_degrees_are_one_and_y_z_x() -> None:
    vec = random_vectors(20)
    unit = vec / vec.norm(dim=1, keepdim=True)
    harmonics = spherical_harmonics(vec, 1)
    assert torch.equal(harmonics[:, 0], torch.ones(20, dtype=torch.float64))
    assert (harmonics[:, 1:] - unit[:, [1, 2, 0]]).abs().max() < 1e-15
    assert torch.equal(
        spherical_harmonics(vec, 1, normalize=False)[:, 1:], vec[:, [1, 2, 0]]
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_squares_of_a_degree_sum_to_one(dtype: torch.dtype) -> None:
    vec = torch.cat([random_vectors(20000), special_vectors()]).to(dtype)
    squares = spherical_harmonics(vec, 8).to(torch.float64).square()
    for part in degree_slices(8):
        deviation = (squares[:, part].sum(1) - 1).abs().max()
        assert deviation <= 16 * torch.finfo(dtype).eps / 2


@pytest.mark.parametrize("lmax", DEGREES)
def test_lower_lmax_gives_the_first_components(lmax: int) -> None:
    vec = torch.cat([random_vectors(50), special_vectors()])
    all_degrees = spherical_harmonics(vec, 8)
    some = spherical_harmonics(vec, lmax)
    assert some.shape == (len(vec), (lmax + 1) ** 2)
    # The first degrees have formulas of their own.
    assert (some - all_degrees[:, : some.size(1)]).abs().max() < 8 * 1.2e-16


def test_solid_harmonics_are_unit_ones_times_a_power_of_the_length() -> None:
    vec = random_vectors(100)
    powers = vec.norm(dim=1, keepdim=True) ** degree_index(8)
    solid = spherical_harmonics(vec, 8, normalize=False)
    assert ((solid - powers * spherical_harmonics(vec, 8)) / powers).abs().max() < 1e-14


def test_inversion_multiplies_by_the_parity_of_the_degree() -> None:
    vec = random_vectors(50)
    parity = 1 - 2 * (degree_index(8) % 2)
    expected = parity * spherical_harmonics(vec, 8)
    assert torch.equal(spherical_harmonics(-vec, 8), expected)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("lmax", DEGREES)
def test_zero_vector_gives_one_and_zeros(lmax: int, *, normalize: bool) -> None:
    zero = torch.zeros(2, 3, dtype=torch.float64)
    expected = torch.zeros(2, (lmax + 1) ** 2, dtype=torch.float64)
    expected[:, 0] = 1
    assert torch.equal(spherical_harmonics(zero, lmax, normalize), expected)


@pytest.mark.parametrize("lmax", range(1, 9))
def test_derivatives_at_the_zero_vector_are_zero(lmax: int) -> None:
    zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    harmonics = spherical_harmonics(zero, lmax)
    for component in harmonics[0]:
        (first,) = torch.autograd.grad(component, zero, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), zero, retain_graph=True)
        assert torch.equal(first, torch.zeros_like(first))
        assert torch.equal(second, torch.zeros_like(second))


def test_scalars_alone_have_a_zero_gradient() -> None:
    vec = random_vectors(3).requires_grad_()
    (gradient,) = torch.autograd.grad(spherical_harmonics(vec, 0).sum(), vec)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_zero_vector_does_not_disturb_its_neighbours() -> None:
    vec = random_vectors(4)
    with_zero = torch.cat([vec[:2], torch.zeros(1, 3, dtype=vec.dtype), vec[2:]])
    kept = spherical_harmonics(with_zero, 5)[[0, 1, 3, 4]]
    assert torch.equal(kept, spherical_harmonics(vec, 5))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("lmax", range(5))
def test_gradients_of_first_and_second_order(lmax: int, *, normalize: bool) -> None:
    vec = special_vectors().requires_grad_()

    def function(v: Tensor) -> Tensor:
        # lmax = 0 is constant; the sum of squares keeps gradgradcheck meaningful.
        return spherical_harmonics(v, lmax, normalize) * (v * v).sum(-1, keepdim=True)

    assert gradcheck(function, vec, atol=1e-8, rtol=1e-6, nondet_tol=0.0)
    assert gradgradcheck(function, vec, atol=1e-7, rtol=1e-5, nondet_tol=0.0)


def test_gradients_of_degree_eight() -> None:
    vec = special_vectors()[:8:3].requires_grad_()
    assert gradcheck(lambda v: spherical_harmonics(v, 8), vec, atol=1e-8, rtol=1e-6)


def test_third_derivatives_agree_with_differences() -> None:
    direction = torch.tensor([0.5, -0.3, 0.7], dtype=torch.float64)

    def third(step: Tensor, order: int) -> Tensor:
        vec = torch.tensor([0.1, 0.9, -0.4], dtype=torch.float64) + step * direction
        value = spherical_harmonics(vec, 3).square().cumsum(0)[11]
        for _ in range(order):
            (value,) = torch.autograd.grad(value, step, create_graph=True)
        return value

    h = 1e-5
    sides = [torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (h, -h)]
    difference = (third(sides[0], 2) - third(sides[1], 2)) / (2 * h)
    middle = torch.tensor(0.0, dtype=torch.float64, requires_grad=True)
    assert abs(float((third(middle, 3) - difference).detach())) < 1e-7


@pytest.mark.parametrize("length", [1e-308, 1e-300, 1e-30, 1e30, 1e300])
def test_length_does_not_matter(length: float) -> None:
    vec = special_vectors()[:6]
    vec = torch.cat([vec, random_vectors(20)])
    found = spherical_harmonics(vec * length, 8)
    assert (found - spherical_harmonics(vec, 8)).abs().max() < 1e-14


@pytest.mark.parametrize("length", [1e-150, 1e-30, 1e30])
def test_gradient_scales_with_the_inverse_length(length: float) -> None:
    vec = random_vectors(20)
    gradients = []
    for scale in (1.0, length):
        scaled = (vec * scale).requires_grad_()
        total = spherical_harmonics(scaled, 3).cumsum(1).sum()
        gradients.append(torch.autograd.grad(total, scaled)[0] * scale)
    assert (gradients[0] - gradients[1]).abs().max() < 1e-12


def test_smallest_and_largest_numbers_of_the_types() -> None:
    for dtype in (torch.float32, torch.float64):
        info = torch.finfo(dtype)
        for length in (info.smallest_normal * info.eps, info.max):
            vec = torch.tensor([[length, -length, 0.0]], dtype=dtype)
            found = spherical_harmonics(vec, 1)[0, 1:]
            expected = torch.tensor([-1.0, 0.0, 1.0], dtype=dtype) * math.sqrt(0.5)
            assert (found - expected).abs().max() < 2 * info.eps


def test_float32_gradients_are_finite_everywhere() -> None:
    zero = torch.zeros(1, 3, dtype=torch.float64)
    vec = torch.cat([special_vectors(), zero, 1e-30 * special_vectors()]).float()
    vec.requires_grad_()
    harmonics = spherical_harmonics(vec, 8)
    assert harmonics.dtype == torch.float32
    (gradient,) = torch.autograd.grad(harmonics.sum(), vec)
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_rounded_once(dtype: torch.dtype) -> None:
    vec = random_vectors(20, dtype)
    expected = spherical_harmonics(vec.float(), 4).to(dtype)
    assert torch.equal(spherical_harmonics(vec, 4), expected)


@pytest.mark.parametrize("shape", [(0, 3), (3,), (2, 0, 3), (2, 5, 3)])
@pytest.mark.parametrize("lmax", [0, 3, 5])
def test_leading_axes_are_kept(shape: tuple[int, ...], lmax: int) -> None:
    vec = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    for normalize in (True, False):
        harmonics = spherical_harmonics(vec, lmax, normalize)
        assert harmonics.shape == (*shape[:-1], (lmax + 1) ** 2)
        assert harmonics.is_contiguous()
        rows = harmonics.reshape(-1, harmonics.size(-1))
        for found, v in zip(rows, vec.reshape(-1, 3), strict=True):
            assert torch.equal(found, spherical_harmonics(v, lmax, normalize))
        (gradient,) = torch.autograd.grad(harmonics.sum(), vec)
        assert gradient.shape == shape


def test_strides_do_not_matter() -> None:
    vec = random_vectors(6)
    expected = spherical_harmonics(vec, 4)
    transposed = vec.t().contiguous().t()
    assert not transposed.is_contiguous()
    assert torch.equal(spherical_harmonics(transposed, 4), expected)
    every_second = torch.stack([vec, -vec], dim=1).reshape(12, 3)[::2]
    assert torch.equal(spherical_harmonics(every_second, 4), expected)
    repeated = vec[:1].expand(5, 3)
    assert repeated.stride(0) == 0
    assert torch.equal(spherical_harmonics(repeated, 4), expected[:1].expand(5, 25))


def test_input_is_not_changed() -> None:
    vec = random_vectors(5)
    before = vec.clone()
    spherical_harmonics(vec, 4)
    assert torch.equal(vec, before)


def test_not_a_number_stays_in_its_row() -> None:
    vec = torch.tensor([[1.0, math.nan, 0.0], [math.inf, 0.0, 0.0], [1.0, 2.0, 3.0]])
    harmonics = spherical_harmonics(vec, 4)
    assert bool(harmonics[:2, 1:].isnan().any(dim=1).all())
    assert torch.equal(harmonics[2:], spherical_harmonics(vec[2:], 4))


# Forward-mode differentiation makes torch itself import TorchScript.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
@pytest.mark.parametrize("lmax", [3, 5])
def test_function_transforms_work(lmax: int) -> None:
    vec = random_vectors(4)

    def function(v: Tensor) -> Tensor:
        return spherical_harmonics(v, lmax)

    assert torch.equal(torch.func.vmap(function)(vec), function(vec))
    forward = torch.func.vmap(torch.func.jacfwd(function))(vec)
    backward = torch.func.vmap(torch.func.jacrev(function))(vec)
    assert (forward - backward).abs().max() < 1e-14


def test_compiles_without_graph_breaks() -> None:
    compiled = torch.compile(
        lambda v: spherical_harmonics(v, 4), backend="aot_eager", fullgraph=True
    )
    vec = random_vectors(6)
    assert (compiled(vec) - spherical_harmonics(vec, 4)).abs().max() < 1e-15


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_type_that_is_not_real_and_floating_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(DtypeError, match="vec"):
        spherical_harmonics(torch.ones(2, 3, dtype=dtype), 2)


@pytest.mark.parametrize("shape", [(), (2,), (3, 4), (3, 0)])
def test_last_axis_must_have_three_components(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="vec"):
        spherical_harmonics(torch.ones(shape), 2)


@pytest.mark.parametrize("lmax", [-1, 9, 1.5])
def test_bad_lmax_is_refused(lmax: float) -> None:
    with pytest.raises(DegreeError, match="lmax"):
        spherical_harmonics(torch.ones(1, 3), lmax)  # type: ignore[arg-type]
