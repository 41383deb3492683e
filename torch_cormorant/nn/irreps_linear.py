r"""Linear maps between irreps, plain or with a matrix that depends on the node."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ShapeError
from torch_cormorant.irreps import Irrep, Irreps
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["IrrepsLinear", "SpeciesLinear"]


class _Mixing(nn.Module):
    """What the two maps share: which irreps meet, and how blocks come together."""

    def __init__(self, irreps_in: object, irreps_out: object) -> None:
        super().__init__()
        self.irreps_in, self.irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        self.shared: tuple[Irrep, ...] = tuple(
            dict.fromkeys(b.ir for b in self.irreps_in if b.ir in self.irreps_out)
        )
        self.weights = nn.ParameterDict()

    def sizes(self, ir: Irrep) -> tuple[int, int]:
        """Copies of an irrep in the input and in the result."""
        return self.irreps_in.count(ir), self.irreps_out.count(ir)

    def joined(self, x: Tensor) -> dict[Irrep, Tensor]:
        """Blocks of one irrep side by side, ``[..., 2l + 1, copies]``, if they meet."""
        found: dict[Irrep, list[Tensor]] = {ir: [] for ir in self.shared}
        blocks = flat_blocks(x, self.irreps_in)
        for part, (_, ir) in zip(blocks, self.irreps_in, strict=True):
            if ir in found:
                found[ir].append(part)
        return {ir: _cat(parts) for ir, parts in found.items()}

    def flat(self, mixed: dict[Irrep, Tensor], like: Tensor) -> Tensor:
        """Rows of the result out of what was mixed; irreps that nothing meets: 0."""
        left, parts = dict(mixed), []
        for mul, ir in self.irreps_out:
            if ir not in left:
                parts.append(like.new_zeros(*like.shape[:-1], mul * ir.dim))
                continue
            parts.append(left[ir][..., :mul].flatten(-2))
            left[ir] = left[ir][..., mul:]
        return _cat(parts) if parts else like.new_zeros(*like.shape[:-1], 0)

    def extra_repr(self) -> str:
        """Irreps."""
        return f"{self.irreps_in} -> {self.irreps_out}"


class IrrepsLinear(_Mixing):
    r"""Mix the copies of every irrep: :math:`y^l_{mw} = \sum_u x^l_{mu} W^l_{uw}`.

    The most general equivariant linear map. Blocks of the same irrep are mixed with
    each other. No factor beside the weights, which start so that sizes are kept.

    Args:
        irreps_in: What the input is made of.
        irreps_out: What the result is made of; irreps that the input lacks are zero.
        bias: Add a bias where l = 0 and the parity is even (or plays no part). Default
            False.

    Attributes:
        weights: ``[copies in, copies out]`` by the names of irreps.

    Shapes:
        ``[..., irreps_in.dim]`` to ``[..., irreps_out.dim]``.

    Raises:
        ShapeError: If the input has other rows.

    Example:
        >>> import torch
        >>> linear = IrrepsLinear("8x0e + 4x1o", "5x0e + 6x1o")
        >>> tuple(linear(torch.randn(3, 20)).shape)
        (3, 23)
    """

    def __init__(
        self, irreps_in: object, irreps_out: object, *, bias: bool = False
    ) -> None:
        super().__init__(irreps_in, irreps_out)
        for ir in self.shared:
            self.weights[str(ir)] = nn.Parameter(torch.empty(*self.sizes(ir)))
        scalars = sum(mul for mul, ir in self.irreps_out if _is_scalar(ir))
        self.bias = nn.Parameter(torch.empty(scalars)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the weights so that the variance of the input is kept."""
        for weight in self.weights.values():
            nn.init.normal_(weight, std=max(weight.shape[0], 1) ** -0.5)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        parts = self.joined(x)
        mixed = {ir: _product(p, self.weights[str(ir)]) for ir, p in parts.items()}
        out = self.flat(mixed, x)
        if self.bias is None:
            return out
        left: Tensor = self.bias
        shifts = []
        for mul, ir in self.irreps_out:
            here = mul if _is_scalar(ir) else 0
            shifts += [left[:here], left.new_zeros(mul * ir.dim - here)]
            left = left[here:]
        return out + torch.cat(shifts)


class SpeciesLinear(_Mixing):
    r"""A linear map whose matrices depend on scalars of the node, its species mostly.

    .. math:: y^l_{mw} = \sum_{uv} x^l_{mu} a_v W^l_{uvw}

    The self connection of NequIP (Batzner et al. 2022), where a is the embedding of
    the species.

    Args:
        irreps_in: What the input is made of.
        irreps_out: What the result is made of; irreps that the input lacks are zero.
        num_attr: Number of scalars a.

    Attributes:
        weights: ``[copies in, num_attr, copies out]`` by the names of irreps.

    Shapes:
        ``x`` ``[N, irreps_in.dim]``; ``attr`` ``[N, num_attr]``, or
        ``[T, num_attr]`` with ``index`` ``[N]``, which of the T rows each node has
        (much faster for few rows); returns ``[N, irreps_out.dim]``.

    Raises:
        ShapeError: If an input has other rows.

    Example:
        >>> import torch
        >>> linear = SpeciesLinear("8x0e + 4x1o", "5x0e", num_attr=3)
        >>> x, table, species = torch.randn(4, 20), torch.randn(2, 3), [0, 1, 1, 0]
        >>> tuple(linear(x, table, torch.tensor(species)).shape)
        (4, 5)
    """

    def __init__(self, irreps_in: object, irreps_out: object, num_attr: int) -> None:
        super().__init__(irreps_in, irreps_out)
        self.num_attr = num_attr
        for ir in self.shared:
            inputs, outputs = self.sizes(ir)
            self.weights[str(ir)] = nn.Parameter(torch.empty(inputs, num_attr, outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start the weights so that the variance of the input is kept."""
        for weight in self.weights.values():
            nn.init.normal_(weight, std=max(weight[..., 0].numel(), 1) ** -0.5)

    @weights_precision
    def forward(self, x: Tensor, attr: Tensor, index: Tensor | None = None) -> Tensor:
        """Shapes as above."""
        rows = x.shape[0] if index is None else attr.shape[0]
        if x.ndim != 2 or tuple(attr.shape) != (rows, self.num_attr):
            msg = (
                f"x must have shape [N, {self.irreps_in.dim}] and attr "
                f"[{rows}, {self.num_attr}], got {list(x.shape)} and "
                f"{list(attr.shape)}"
            )
            raise ShapeError(msg)
        mixed = {}
        for ir, part in self.joined(x).items():
            weight = self.weights[str(ir)]
            if index is None:
                wide = _product(part, weight.flatten(1)).unflatten(-1, weight.shape[1:])
                mixed[ir] = (wide * attr[:, None, :, None]).sum(2)
            else:
                mixed[ir] = _chosen(part, attr, weight, index)
        return self.flat(mixed, x)

    def extra_repr(self) -> str:
        """Irreps and number of scalars."""
        return f"{super().extra_repr()}, num_attr={self.num_attr}"


def _chosen(x: Tensor, table: Tensor, weight: Tensor, index: Tensor) -> Tensor:
    """One matrix for each row of the table; every node takes the result of its own."""
    matrices: Tensor = torch.einsum("tv,uvw->utw", table, weight)
    wide: Tensor = _product(x, matrices.flatten(1)).unflatten(-1, matrices.shape[1:])
    place = index.view(-1, 1, 1, 1).expand(-1, wide.shape[1], 1, wide.shape[3])
    found: Tensor = wide.gather(2, place)
    return found.squeeze(2)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """Rows times a matrix, as one product, whatever the strides are."""
    rows = x.reshape(-1, x.shape[-1]) @ weight
    return rows.view(*x.shape[:-1], weight.shape[-1])


def _is_scalar(ir: Irrep) -> bool:
    """Whether a bias breaks no symmetry."""
    return ir.l == 0 and ir.p >= 0


def _cat(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)
