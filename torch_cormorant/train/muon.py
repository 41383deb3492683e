r"""Muon: matrices of weights move by the same length in all directions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from torch_cormorant.errors import NonFiniteError
from torch_cormorant.train.adamw import OneCallAdamW

__all__ = ["Muon", "orthogonal"]

SMALLEST = 16
"""Rows and columns of a matrix, at least; smaller ones are AdamW's."""
LENGTH = 0.2
"""Root mean square of the numbers of a step, over the learning rate: that of Adam."""


class Muon(OneCallAdamW):
    r"""Steps of matrices are made orthogonal; all other weights are AdamW's.

    "Muon: an optimizer for hidden layers in neural networks", Jordan et al. 2024, with
    the length of Liu et al. 2025 (arXiv:2502.16982, eq. 4), which lets both kinds of
    weights share one rate. A weight ``[..., out, in]`` is the matrix of its rows
    ``out``. Of gradient G and momentum M

    .. math::
        M \leftarrow \mu M + (1 - \mu) G, \quad
        N = \mu M + (1 - \mu) G, \quad
        W \leftarrow (1 - \eta \lambda) W
        - 0.2 \, \eta \sqrt{\max(n, m)} \, (N N^\top)^{-1/2} N

    The root is exact, by the eigenvectors of all :math:`N N^\top` of a size at once:
    these are as small as the number of channels, which costs less than the
    approximations in half precision that large matrices need. Directions below the
    precision of the numbers are left as they are.

    Args:
        parameters: The weights, or groups of them as torch takes them.
        momentum: :math:`\mu`. Default 0.98.
        **settings: As :class:`torch.optim.AdamW`, ``lr`` and ``weight_decay`` for all.

    Raises:
        NonFiniteError: A gradient is not finite (at the step).

    Example:
        >>> weight = torch.zeros(16, 32, requires_grad=True)
        >>> weight.grad = torch.eye(16, 32) * torch.arange(1.0, 17)[:, None]
        >>> Muon([weight], lr=1.0).step()
        >>> singular = torch.linalg.svdvals(weight.detach())
        >>> bool((singular - 0.2 * 32**0.5).abs().max() < 1e-4)
        True
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        momentum: float = 0.98,
        **settings: Any,
    ) -> None:
        given: list[Any] = list(parameters)
        if given and not isinstance(given[0], dict):
            given = [{"params": given}]
        super().__init__(_divided(given), **settings)
        # Whoever scales gradients for half precision is to undo it, and to skip steps.
        self._step_supports_amp_scaling = False
        for group in self.param_groups:
            group["momentum"] = momentum

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step.

        Args:
            closure: Computes loss and gradients anew. Default None: they are there.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:  # sees all groups: it drops and clips gradients
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        self.param_groups = [each for each in groups if not each["matrices"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["matrices"]:
                self._turn(group)
        return loss

    def _turn(self, group: dict[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        rate, momentum = float(group["lr"]), group["momentum"]
        slopes = [weight.grad for weight in weights]
        states = [self._state(weight) for weight in weights]
        means = [state["mean"] for state in states]
        torch._foreach_add_([state["step"] for state in states], 1)
        torch._foreach_lerp_(means, slopes, 1 - momentum)
        ahead = torch._foreach_lerp(slopes, means, momentum)  # noqa: SLF001
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
        for weight, move in zip(weights, orthogonal([*ahead]), strict=True):
            longest = max(weight.shape[-2], weight.numel() // weight.shape[-2])
            weight.sub_(move, alpha=LENGTH * rate * longest**0.5)

    def _state(self, weight: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[weight]
        if not state:
            # A count as AdamW has one, which looks for it when a state is loaded.
            state.update(step=torch.zeros(()), mean=torch.zeros_like(weight))
        return state


def _divided(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Matrices and the rest apart."""
    made = []
    for group in groups:
        for matrices in (True, False):
            own = [each for each in group["params"] if _is_matrix(each) is matrices]
            if own:
                made.append({**group, "params": own, "matrices": matrices})
    return made


def _is_matrix(weight: Tensor) -> bool:
    if weight.ndim < 2 or not weight.is_floating_point():
        return False
    rows = weight.shape[-2]
    return min(rows, weight.numel() // max(1, rows)) >= SMALLEST


def orthogonal(matrices: list[Tensor]) -> list[Tensor]:
    r"""The nearest matrices with orthonormal rows, or columns where these are fewer.

    :math:`(A A^\top)^{-1/2} A`, the polar factor; planes of a weight ``[P, out, in]``
    stand beside each other as columns.

    Args:
        matrices: Each ``[..., n, m]``, not changed.

    Returns:
        Tensors of the same shapes.

    Raises:
        NonFiniteError: A number is not finite.

    Example:
        >>> orthogonal([torch.diag(torch.tensor([1.0, 4.0]))])[0]
        tensor([[1., 0.],
                [0., 1.]])
    """
    wide = [_wide(matrix) for matrix in matrices]
    sizes: dict[int, list[int]] = {}
    for place, matrix in enumerate(wide):
        sizes.setdefault(len(matrix), []).append(place)
    for places in sizes.values():
        roots = _inverse_roots(torch.stack([wide[k] @ wide[k].mT for k in places]))
        for place, root in zip(places, roots, strict=True):
            wide[place] = root @ wide[place]
    return [_as(made, like) for made, like in zip(wide, matrices, strict=True)]


def _wide(matrix: Tensor) -> Tensor:
    """Rows and columns, not more rows than columns."""
    flat = matrix.movedim(-2, 0).flatten(1)
    return flat.mT if flat.shape[0] > flat.shape[1] else flat


def _as(wide: Tensor, like: Tensor) -> Tensor:
    """The reverse."""
    rows = like.shape[-2]
    flat = wide if len(wide) == rows else wide.mT
    return flat.reshape(rows, *like.shape[:-2], like.shape[-1]).movedim(0, -2)


def _inverse_roots(grams: Tensor) -> Tensor:
    """Inverse square roots of positive matrices ``[k, n, n]``."""
    trace = grams.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None]
    tiny = torch.finfo(grams.dtype)
    if not bool(trace.isfinite().all()):
        raise NonFiniteError(
            "gradient of a weight: not finite; lower the rate or clip the gradients"
        )
    values, vectors = torch.linalg.eigh(grams)
    least = (tiny.eps * trace).clamp_min(tiny.tiny)
    scaled = vectors * torch.maximum(values, least).rsqrt()[:, None]
    roots: Tensor = scaled @ vectors.mT
    return roots
