"""Checks of equivariance for this package and for code built on it.

A check calls your function on the data as they are and on rotated data, and compares.
The group action is always computed in float64, also for a float32 function, so that
the error measured is the function's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from torch_cormorant.errors import ConfigError, DtypeError, ShapeError
from torch_cormorant.so3 import (
    check_vector,
    cube_rotations,
    random_rotation,
    wigner_D,
)

Output = Literal["so3", "vector", "scalar"]
"""How an output turns, as an SO(3)-vector, as x, y, z on its last axis, or not."""

_TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
_LOW_PRECISION_TOLERANCE = 5e-2
_LATTICE_CONSTANT = 1.3  # Angstrom, near a typical bond length
_JITTER = 0.15  # Angstrom, so that no distance falls below one Angstrom
_ELEMENTS = (1, 6, 7, 8, 9)


def equivariance_error(
    function: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    vec: Tensor,
    output: Output = "so3",
    rotations: Tensor | None = None,
) -> float:
    r"""Largest relative deviation of a function from equivariance.

    .. math::
        \max_R \frac{\max|f(D(R)\,x, R\,v) - D(R)\,f(x, v)|}{\max|f(x, v)|}

    Args:
        function: ``function(x, vec)``; it must give the same result every time.
        x: First argument. A floating-point tensor with four axes is turned as an
            SO(3)-vector; anything else (scalars, atomic numbers) stays as it is.
        vec: Second argument, vectors or positions; always turned.
        output: ``"so3"`` if the function returns SO(3)-vectors, ``"vector"`` if the
            last axis of the result is x, y, z (forces), ``"scalar"`` for invariants.
        rotations: Rotations to try; by default the 24 of the cube and 10 random ones
            of a fixed seed.

    Shapes:
        - x: ``[N, M, P, C]``, or any shape of invariants.
        - vec: ``[..., 3]``, components x, y, z.
        - rotations: ``[K, 3, 3]``.
        - ``function`` returns ``[N', M', P, C']``, ``[..., 3]`` or any shape,
          according to ``output``.

    Returns:
        The error; infinity where the function returns NaN or infinity, or where a
        zero result becomes another one.

    Raises:
        ShapeError: If the result does not fit ``output``, or ``vec`` or ``rotations``
            have a wrong shape.
        DtypeError: If the result is not a real floating-point tensor.
        ConfigError: If ``output`` is unknown, or ``rotations`` are not rotations.

    Example:
        >>> from torch_cormorant.so3 import spherical_harmonics
        >>> def function(x, vec):
        ...     return x * spherical_harmonics(vec, 3)[:, :, None, None]
        >>> x = torch.ones(5, 1, 2, 4, dtype=torch.float64)
        >>> vec = torch.eye(5, 3, dtype=torch.float64)
        >>> equivariance_error(function, x, vec) < 1e-13
        True
    """
    if rotations is None:
        rotations = _default_rotations()
    if vec.dim() == 0 or vec.size(-1) != 3:
        raise ShapeError(f"vec must have shape [..., 3], got {tuple(vec.shape)}")
    if rotations.dim() != 3:
        raise ShapeError(
            f"rotations must have shape [K, 3, 3], got {tuple(rotations.shape)}"
        )
    turns_x = x.is_floating_point() and x.dim() == 4
    expected = function(x, vec).detach()
    size = _checked_size(expected, output)
    worst = 0.0
    for rotation in rotations.to(vec.device):
        turned_x = _turn(x, rotation, "so3") if turns_x else x
        found = function(turned_x, _turn(vec, rotation, "vector")).detach()
        target = _turn(expected.to(torch.float64), rotation, output)
        worst = max(worst, _relative_error(found, target, size))
    return worst


def assert_equivariant(
    function: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    vec: Tensor,
    output: Output = "so3",
    rotations: Tensor | None = None,
    tolerance: float | None = None,
) -> None:
    """Fail unless a function turns with its arguments.

    Args:
        function: ``function(x, vec)``; it must give the same result every time.
        x: First argument, see :func:`equivariance_error`.
        vec: Second argument, vectors or positions.
        output: How the result turns: ``"so3"``, ``"vector"`` or ``"scalar"``.
        rotations: Rotations to try; by default the 24 of the cube and 10 random ones.
        tolerance: Largest relative error; by default 1e-12 for a float64 result,
            1e-5 for float32 and 0.05 below.

    Raises:
        AssertionError: If the error is larger, or if the result is zero everywhere
            or empty, so that nothing was tested.
        ShapeError: See :func:`equivariance_error`.
        DtypeError: See :func:`equivariance_error`.
        ConfigError: See :func:`equivariance_error`.

    Example:
        >>> z, pos = random_molecule(5)
        >>> def force(z, pos):
        ...     return z[:, None] * (pos - pos.mean(0))
        >>> assert_equivariant(force, z, pos, output="vector")
    """
    expected = function(x, vec).detach()
    if expected.numel() == 0 or not bool(expected.any()):
        raise AssertionError(
            f"the function returned {'nothing' if expected.numel() == 0 else 'zero'} "
            f"(shape {tuple(expected.shape)}), so the check says nothing; give other "
            "arguments"
        )
    if tolerance is None:
        tolerance = _TOLERANCE.get(expected.dtype, _LOW_PRECISION_TOLERANCE)
    error = equivariance_error(function, x, vec, output, rotations)
    if not error <= tolerance:
        raise AssertionError(
            f"the function is not equivariant: the result rotated as {output!r} "
            f"deviates by {error:.2e} (relative), tolerance {tolerance:.1e}"
        )


def assert_invariant(
    function: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    vec: Tensor,
    rotations: Tensor | None = None,
    tolerance: float | None = None,
) -> None:
    """Fail unless a function gives the same result for rotated arguments.

    Args:
        function: ``function(x, vec)``; it must give the same result every time.
        x: First argument, see :func:`equivariance_error`.
        vec: Second argument, vectors or positions.
        rotations: Rotations to try; by default the 24 of the cube and 10 random ones.
        tolerance: Largest relative error, see :func:`assert_equivariant`.

    Raises:
        AssertionError: If the error is larger, or nothing was tested.
        ShapeError: See :func:`equivariance_error`.
        DtypeError: See :func:`equivariance_error`.
        ConfigError: See :func:`equivariance_error`.

    Example:
        >>> z, pos = random_molecule(5)
        >>> assert_invariant(lambda z, pos: torch.cdist(pos, pos), z, pos)
    """
    assert_equivariant(function, x, vec, "scalar", rotations, tolerance)


def random_molecule(
    n: int,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor, Tensor]:
    """Random atoms at sensible distances: a jittered lattice of 1.3 Angstrom.

    No two atoms are closer than one Angstrom, and there is no symmetry.

    Args:
        n: Number of atoms.
        generator: Source of the random numbers (CPU); a fixed seed if ``None``.
        dtype: Type of the positions.

    Shapes:
        - returns: atomic numbers ``[n]``, int64, out of H, C, N, O, F; positions
          ``[n, 3]`` in Angstrom, centred.

    Returns:
        Atomic numbers and positions.

    Raises:
        ConfigError: If ``n`` is negative.

    Example:
        >>> z, pos = random_molecule(20)
        >>> bool(torch.pdist(pos).min() >= 1.0)
        True
    """
    if n < 0:
        raise ConfigError(f"n must be at least 0, got {n}")
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    side = math.ceil(n ** (1 / 3)) + 1
    ticks = torch.arange(side, dtype=torch.float64)
    sites = torch.cartesian_prod(ticks, ticks, ticks)
    chosen = sites[torch.randperm(len(sites), generator=generator)[:n]]
    noise = torch.rand(n, 3, generator=generator, dtype=torch.float64)
    pos = _LATTICE_CONSTANT * chosen + _JITTER * (2.0 * noise - 1.0)
    z = torch.tensor(_ELEMENTS)[torch.randint(5, (n,), generator=generator)]
    return z, (pos - pos.sum(0) / max(n, 1)).to(dtype)


def _default_rotations() -> Tensor:
    """The cube's rotations and ten random ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.cat([cube_rotations(), random_rotation(10, generator)])


def _turn(x: Tensor, rotation: Tensor, kind: Output) -> Tensor:
    """Rotate in float64; the result has the type of ``x``."""
    if kind == "scalar":
        return x
    rotation = rotation.to(device=x.device, dtype=torch.float64)
    values = x.detach().to(torch.float64)
    if kind == "vector":
        return (values @ rotation.T).to(x.dtype)
    D = wigner_D(rotation, check_vector(x, "x"))
    return torch.einsum("mk,nkpc->nmpc", D, values).to(x.dtype)


def _checked_size(result: Tensor, output: Output) -> float:
    """Check that the result can be turned as told; return its largest entry."""
    if output not in ("so3", "vector", "scalar"):
        raise ConfigError(f"output must be 'so3', 'vector' or 'scalar', got {output!r}")
    if not result.is_floating_point():
        raise DtypeError(
            f"the function must return a real floating-point tensor, got {result.dtype}"
        )
    if output == "so3":
        check_vector(result, "the function's result")
    if output == "vector" and (result.dim() == 0 or result.size(-1) != 3):
        raise ShapeError(
            "the function's result must have shape [..., 3] for output='vector', got "
            f"{tuple(result.shape)}"
        )
    return float(result.abs().max()) if result.numel() else 0.0


def _relative_error(found: Tensor, target: Tensor, size: float) -> float:
    """Largest deviation over the size of the untouched result."""
    if found.shape != target.shape:
        raise ShapeError(
            f"the function returned shape {tuple(found.shape)} for rotated arguments, "
            f"but {tuple(target.shape)} before"
        )
    if found.numel() == 0:
        return 0.0
    deviation = float((found.to(torch.float64) - target).abs().max())
    if deviation == 0:
        return 0.0
    return deviation / size if size > 0 and math.isfinite(deviation) else math.inf
