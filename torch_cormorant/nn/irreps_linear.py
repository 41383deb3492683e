"""Linear maps between irreps: of copies, and of copies with a label of each node."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ShapeError
from torch_cormorant.irreps import Irreps
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["IrrepsLinear", "SpeciesLinear"]


def links(first: Irreps, second: Irreps) -> list[tuple[int, int]]:
    """Pairs of blocks (in, out) of one degree and parity, those of ``out`` outside."""
    return [
        (i, k)
        for k, out in enumerate(second)
        for i, given in enumerate(first)
        if given.ir == out.ir
    ]


def joined(parts: Sequence[Tensor | None], irreps: Irreps, like: Tensor) -> Tensor:
    """Flat rows of blocks; zeros where a block is missing."""
    rows = like.shape[0]
    flat = [
        like.new_zeros(rows, block.dim) if part is None else part.flatten(1)
        for part, block in zip(parts, irreps, strict=True)
    ]
    return torch.cat(flat, dim=1) if flat else like.new_zeros(rows, 0)


class IrrepsLinear(nn.Module):
    r"""Mix the copies of every irrep: the most general equivariant linear map.

    .. math:: F'^{o}[m, w] = \sum_{i, u} F^{i}[m, u]\, W^{io}[u, w] + b_w

    over blocks i of the degree and parity of block o; the bias on scalars only (even
    ones, where there is a parity).

    Args:
        in_irreps: Irreps of the input.
        out_irreps: Irreps of the result. Blocks that nothing leads to are zero.
        bias: Add a bias to scalars. Default False.

    Shapes:
        Flat rows ``[N, dim_in]``, or the blocks ``[N, 2l + 1, mul]`` of ``in_irreps``
        one by one, to flat rows ``[N, dim_out]``.

    Attributes:
        links: Pairs of blocks (in, out), those of the result outside.
        weights: A matrix ``[u, w]`` for each.

    Raises:
        ShapeError: If the input does not have such rows or blocks.

    Example:
        >>> import torch
        >>> linear = IrrepsLinear("4x0e + 2x1o", "3x0e + 5x1o")
        >>> linear(torch.randn(7, 10)).shape
        torch.Size([7, 18])
    """

    def __init__(
        self, in_irreps: object, out_irreps: object, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.in_irreps, self.out_irreps = Irreps(in_irreps), Irreps(out_irreps)
        self.links = links(self.in_irreps, self.out_irreps)
        self.weights = nn.ParameterList(
            torch.empty(self.in_irreps[i].mul, self.out_irreps[k].mul)
            for i, k in self.links
        )
        self.biased = [
            k if bias and block.ir.l == 0 and block.ir.p >= 0 else -1
            for k, block in enumerate(self.out_irreps)
        ]
        size = sum(self.out_irreps[k].mul for k in self.biased if k >= 0)
        self.bias = nn.Parameter(torch.empty(size)) if size else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the weights so that the variance of the input is kept."""
        fan_in = [0] * len(self.out_irreps)
        for i, k in self.links:
            fan_in[k] += self.in_irreps[i].mul
        for (_, k), weight in zip(self.links, self.weights, strict=True):
            nn.init.normal_(weight, std=max(fan_in[k], 1) ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @weights_precision
    def forward(self, x: Tensor | Sequence[Tensor]) -> Tensor:
        """Shapes as above."""
        blocks = in_blocks(x, self.in_irreps)
        parts: list[Tensor | None] = [None] * len(self.out_irreps)
        for (i, k), weight in zip(self.links, self.weights, strict=True):
            part, before = blocks[i] @ weight, parts[k]
            parts[k] = part if before is None else before + part
        like = x if isinstance(x, Tensor) else blocks[0]
        if self.bias is not None:
            self._add_bias(self.bias, parts, like.shape[0])
        return joined(parts, self.out_irreps, like)

    def _add_bias(self, bias: Tensor, parts: list[Tensor | None], rows: int) -> None:
        start = 0
        for k in self.biased:
            if k >= 0:
                part, mul = parts[k], self.out_irreps[k].mul
                added = bias[start : start + mul].expand(rows, 1, -1)
                parts[k] = added if part is None else part + added
                start += mul

    def extra_repr(self) -> str:
        """Irreps of both sides."""
        return f"{self.in_irreps} -> {self.out_irreps}, bias={self.bias is not None}"


def in_blocks(x: Tensor | Sequence[Tensor], irreps: Irreps) -> Sequence[Tensor]:
    """The blocks of an input, given as rows or one by one."""
    if isinstance(x, Tensor):
        return flat_blocks(x, irreps)
    expected = [(block.ir.dim, block.mul) for block in irreps]
    if [tuple(part.shape[1:]) for part in x] != expected:
        found = [list(part.shape) for part in x]
        msg = f"blocks [N, 2l + 1, mul] of {irreps} are expected, got {found}"
        raise ShapeError(msg)
    return x


class SpeciesLinear(nn.Module):
    r"""Mix the copies of every irrep by matrices that depend on a node's label.

    .. math:: F'^{o}[m, w] = \sum_{i, u, v} F^{i}[m, u]\, a[v]\, W^{io}[u, v, w]

    with a one-hot of species (a matrix for each) or an embedding of it: the self
    connection of NequIP (Batzner et al. 2022).

    Args:
        in_irreps: Irreps of the input.
        attr_dim: Length of the label.
        out_irreps: Irreps of the result. Blocks that nothing leads to are zero.

    Shapes:
        ``x`` ``[N, dim_in]``, ``attr`` ``[N, attr_dim]``; result ``[N, dim_out]``.

    Attributes:
        links: Pairs of blocks (in, out), those of the result outside.
        weights: Numbers ``[u, v, w]`` for each.

    Raises:
        ShapeError: If a tensor has other rows.

    Example:
        >>> import torch
        >>> linear = SpeciesLinear("4x0e + 2x1o", 3, "4x0e + 2x1o")
        >>> linear(torch.randn(7, 10), torch.eye(3)[torch.arange(7) % 3]).shape
        torch.Size([7, 10])
    """

    def __init__(self, in_irreps: object, attr_dim: int, out_irreps: object) -> None:
        super().__init__()
        self.in_irreps, self.out_irreps = Irreps(in_irreps), Irreps(out_irreps)
        self.attr_dim = attr_dim
        self.links = links(self.in_irreps, self.out_irreps)
        self.weights = nn.ParameterList(
            torch.empty(self.in_irreps[i].mul, attr_dim, self.out_irreps[k].mul)
            for i, k in self.links
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the weights so that a one-hot label keeps the variance of the input."""
        for weight in self.weights:
            nn.init.normal_(weight, std=weight.shape[0] ** -0.5)

    @weights_precision
    def forward(self, x: Tensor, attr: Tensor) -> Tensor:
        """Shapes as above."""
        if attr.shape != (x.shape[0], self.attr_dim):
            msg = (
                f"attr must have shape {[x.shape[0], self.attr_dim]}, got "
                f"{list(attr.shape)}"
            )
            raise ShapeError(msg)
        blocks = flat_blocks(x, self.in_irreps)
        parts: list[Tensor | None] = [None] * len(self.out_irreps)
        for (i, k), weight in zip(self.links, self.weights, strict=True):
            pairs = blocks[i].unsqueeze(-1) * attr[:, None, None, :]
            part, before = pairs.flatten(2) @ weight.flatten(0, 1), parts[k]
            parts[k] = part if before is None else before + part
        return joined(parts, self.out_irreps, x)

    def extra_repr(self) -> str:
        """Irreps of both sides and the length of the label."""
        return f"{self.in_irreps} -> {self.out_irreps}, attr_dim={self.attr_dim}"
