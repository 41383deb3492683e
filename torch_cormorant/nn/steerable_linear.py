r"""Linear maps of irreps whose matrices depend on an attribute, steerably."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError, ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.nn.gated import GatedBlock
from torch_cormorant.nn.irreps_linear import IrrepsLinear
from torch_cormorant.ops import ProductPaths, tensor_product
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.dispatch import chosen
from torch_cormorant.ops.product_paths import cg_table
from torch_cormorant.so3.flat import check_flat, flat_blocks

__all__ = ["SteerableGate", "SteerableLinear"]


class SteerableLinear(nn.Module):
    r"""The full product with an attribute, every path with a matrix of its own.

    .. math::
        y^l_{mw} = \sum_{l_1 l_2 u} W^{l_1 l_2 l}_{uw} \sum_{m_1 m_2}
        C^{l_1 l_2 l}_{m_1 m_2 m}\, x^{l_1}_{m_1 u}\, a^{l_2}_{m_2} \; (+\, b_w)

    :math:`W_a` in eq. (5) of `SEGNN <https://arxiv.org/abs/2110.02905>`_ (Brandstetter
    et al. 2022). Weights and biases start as there: uniform within one over the root of
    the fan-in.

    Args:
        irreps_in: What x is made of.
        irreps_attr: What the attribute a is made of, every irrep once.
        irreps_out: What the result is made of; irreps that nothing reaches are zero.
        bias: Add a bias to even scalars. Default True.

    Attributes:
        paths: The products.
        linear: Their mixing, one matrix for each irrep of the result.
        backend: ``"portable"``: the readable reference; ``"auto"`` (default): the
            attribute turns into small matrices first.

    Shapes:
        ``[R, irreps_in.dim]`` and ``[R, irreps_attr.dim]`` to ``[R, irreps_out.dim]``.

    Raises:
        ConfigError: The attribute has an irrep more than once.
        ShapeError: If an input has other rows.

    Example:
        >>> import torch
        >>> linear = SteerableLinear("8x0e + 4x1o", "0e + 1o", "5x0e + 6x1o")
        >>> tuple(linear(torch.randn(3, 20), torch.randn(3, 4)).shape)
        (3, 23)
    """

    backend = "auto"

    def __init__(
        self,
        irreps_in: object,
        irreps_attr: object,
        irreps_out: object,
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        attr, out = Irreps(irreps_attr), Irreps(irreps_out)
        if any(mul != 1 for mul, _ in attr):
            raise ConfigError(f"an attribute has every irrep once, got {attr}")
        self.paths = ProductPaths(irreps_in, attr, out=out)
        scalars = any(ir.l == 0 and ir.p >= 0 for _, ir in out)
        self.linear = IrrepsLinear(self.paths.out, out, bias=bias and scalars)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start all weights again."""
        fans = [weight.shape[0] for weight in self.linear.weights.values()]
        for weight, fan in zip(self.linear.weights.values(), fans, strict=True):
            bound = fan**-0.5
            nn.init.uniform_(weight, -bound, bound)
        if self.linear.bias is not None:
            fan = next(
                (
                    len(weight)
                    for name, weight in self.linear.weights.items()
                    if name in ("0e", "0")
                ),
                1,
            )
            nn.init.uniform_(self.linear.bias, -(fan**-0.5), fan**-0.5)

    @weights_precision
    def forward(self, x: Tensor, attr: Tensor) -> Tensor:
        """Shapes as above."""
        if chosen(self.backend) == "portable":
            rows = tensor_product(x, attr, "", "", paths=self.paths)
        else:
            rows = self._products(x, attr)
        result: Tensor = self.linear(rows)
        return result

    def _products(self, x: Tensor, attr: Tensor) -> Tensor:
        """What :func:`~torch_cormorant.ops.tensor_product` gives, without weights."""
        check_flat(x, self.paths.first, "x")
        check_flat(attr, self.paths.second, "attr")
        if x.ndim != 2 or attr.ndim != 2 or len(x) != len(attr):
            msg = (
                "x and attr must have as many rows, got shapes "
                f"{list(x.shape)} and {list(attr.shape)}"
            )
            raise ShapeError(msg)
        first, second = (
            flat_blocks(rows, irreps)
            for rows, irreps in ((x, self.paths.first), (attr, self.paths.second))
        )
        made: list[list[Tensor]] = [[] for _ in self.paths.out]
        for path in self.paths.paths:
            f, a = first[path.first], second[path.second]
            made[path.out].append(_turned(f, a, self.paths.degrees(path)))
        if not made:
            return x.new_zeros(len(x), 0)
        return torch.cat([torch.cat(p, dim=2).flatten(1) for p in made], dim=1)

    def extra_repr(self) -> str:
        """Irreps."""
        return f"{self.paths.first} x {self.paths.second} -> {self.linear.irreps_out}"


def _turned(f: Tensor, a: Tensor, degrees: tuple[int, int, int]) -> Tensor:
    """One product of a block of x ``[R, 2l1 + 1, u]`` and of a ``[R, 2l2 + 1, 1]``."""
    l1, l2, l = degrees
    if 0 in (l1, l2):  # one of the two is a number
        return a * f
    cg = cg_table(degrees, f.dtype, f.device)
    table = cg.transpose(0, 1).reshape(2 * l2 + 1, -1)
    A = (a.squeeze(2) @ table).view(len(a), 2 * l1 + 1, 2 * l + 1)
    return A.mT @ f


class SteerableGate(nn.Module):
    r"""A steerable linear map and a gate: one layer of a steerable MLP.

    Where the result has scalars only, it is their activation without a constant, as in
    the published code.

    Args:
        irreps_in: What x is made of.
        irreps_attr: What the attribute is made of.
        irreps_out: What the result is made of.
        constants: As in :func:`~torch_cormorant.nn.moment_factor`. Default ``"exact"``.

    Shapes:
        As :class:`SteerableLinear`.

    Example:
        >>> import torch
        >>> layer = SteerableGate("8x0e + 4x1o", "0e + 1o", "5x0e + 6x1o")
        >>> tuple(layer(torch.randn(3, 20), torch.randn(3, 4)).shape)
        (3, 23)
    """

    def __init__(
        self,
        irreps_in: object,
        irreps_attr: object,
        irreps_out: object,
        *,
        constants: str = "exact",
    ) -> None:
        super().__init__()
        self.gate = steerable_gate(irreps_out, constants)
        self.map = SteerableLinear(irreps_in, irreps_attr, self.gate.irreps_in)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        self.map.reset_parameters()

    @weights_precision
    def forward(self, x: Tensor, attr: Tensor) -> Tensor:
        """Shapes as above."""
        result: Tensor = self.gate(self.map(x, attr))
        return result


def steerable_gate(irreps: object, constants: str = "exact") -> GatedBlock:
    """The gate of :class:`SteerableGate`, sigmoids for all degrees above zero."""
    scalars = all(ir.l == 0 for _, ir in Irreps(irreps))
    return GatedBlock(
        irreps, gate_act="sigmoid", constants=None if scalars else constants
    )
