r"""Non-linearities of irreps: gates, and functions of norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.irreps import Irrep, Irreps
from torch_cormorant.nn.activations import activation, moment_factor
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["GatedBlock", "NormActivation"]


class GatedBlock(nn.Module):
    r"""Scalars through an activation, every other copy times a gate of its own.

    .. math::
        s' = c_f f(s), \qquad F'^l_{mu} = F^l_{mu} \, c_g \, g(t_u)

    with scalars :math:`t` that the block takes beside its result; Weiler et al. 2018.
    The constants :math:`c = 1 / \sqrt{E f(z)^2}` keep the second moment of a standard
    normal input.

    Args:
        irreps: What the result is made of.
        act: Activation of even scalars, and where parity plays no part; a module is
            taken as it is, without a constant. Default ``"silu"``.
        odd_act: Activation of odd scalars, an odd function. Default ``"tanh"``.
        gate_act: Activation of gates. Default ``"silu"``.
        constants: As in :func:`~torch_cormorant.nn.moment_factor`; None:
            no constants. Default ``"exact"``.

    Attributes:
        irreps_in: What the input must be made of: one block of each irrep, sorted by
            degree, odd before even; behind the scalars one gate for every copy with
            l > 0, in the order of ``irreps``.
        irreps_out: ``irreps``.

    Shapes:
        ``[N, irreps_in.dim]`` to ``[N, irreps_out.dim]``.

    Raises:
        ConfigError: An activation is not known, or that of odd scalars is not odd.
        ShapeError: If the input has other rows.

    Example:
        >>> import torch
        >>> gate = GatedBlock("4x0e + 3x1o")
        >>> gate.irreps_in, tuple(gate(torch.randn(5, 16)).shape)
        (Irreps('7x0e + 3x1o'), (5, 13))
    """

    def __init__(
        self,
        irreps: object,
        *,
        act: str | nn.Module = "silu",
        odd_act: str = "tanh",
        gate_act: str = "silu",
        constants: str | None = "exact",
    ) -> None:
        super().__init__()
        if odd_act != "tanh":
            msg = f'odd scalars need an odd function: odd_act "tanh", got {odd_act!r}'
            raise ConfigError(msg)
        self.irreps_out = Irreps(irreps)
        self.gate = Irrep(0, 1 if self.irreps_out.has_parity else 0)
        gates = sum(mul for mul, ir in self.irreps_out if ir.l > 0)
        wanted: dict[Irrep, int] = {self.gate: 0} if gates else {}
        for mul, ir in self.irreps_out:
            wanted[ir] = wanted.get(ir, 0) + mul
        self.first_gate = wanted.get(self.gate, 0)
        if gates:
            wanted[self.gate] += gates
        self.irreps_in = Irreps([(wanted[ir], ir) for ir in sorted(wanted)])
        names: dict[str, str | nn.Module]
        names = {"even": act, "odd": odd_act, "gate": gate_act}
        self.acts = nn.ModuleDict({key: activation(n) for key, n in names.items()})
        self.factors = {
            key: 1.0
            if constants is None or not isinstance(name, str)
            else moment_factor(name, constants)
            for key, name in names.items()
        }

    def _act(self, key: str, x: Tensor) -> Tensor:
        result: Tensor = self.factors[key] * self.acts[key](x)
        return result

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        blocks = flat_blocks(x, self.irreps_in)
        left = {ir: b for b, (_, ir) in zip(blocks, self.irreps_in, strict=True)}
        if self.gate in left:
            gates = self._act("gate", left[self.gate][..., self.first_gate :])
        parts = []
        for mul, ir in self.irreps_out:
            here, left[ir] = left[ir][..., :mul], left[ir][..., mul:]
            if ir.l:
                here, gates = here * gates[..., :mul], gates[..., mul:]
            else:
                here = self._act("odd" if ir.p < 0 else "even", here)
            parts.append(here.flatten(-2))
        return torch.cat(parts, dim=-1) if parts else x

    def extra_repr(self) -> str:
        """Irreps."""
        return f"{self.irreps_in} -> {self.irreps_out}"


class NormActivation(nn.Module):
    r"""A function of the norm of every copy, scalars included.

    .. math:: F' = F \, f(|F| + b) / |F|, \qquad |F|^2 \ge \epsilon^2

    The non-linearity of tensor field networks (Thomas et al. 2018).

    Args:
        irreps: What the features are made of.
        act: Activation. Default ``"silu"``.
        bias: Learn a bias for every copy. Default True.
        eps: Smallest norm. Default 1e-8.

    Shapes:
        ``[N, irreps.dim]`` to the same.

    Raises:
        ShapeError: If the input has other rows.

    Example:
        >>> import torch
        >>> NormActivation("4x0e + 3x1o")(torch.randn(5, 13)).shape
        torch.Size([5, 13])
    """

    def __init__(
        self, irreps: object, act: str = "silu", *, bias: bool = True, eps: float = 1e-8
    ) -> None:
        super().__init__()
        self.irreps_in = self.irreps_out = Irreps(irreps)
        self.act, self.eps = activation(act), eps
        count = self.irreps_in.num_irreps
        self.bias = nn.Parameter(torch.zeros(count)) if bias else None

    def reset_parameters(self) -> None:
        """Set all biases to zero."""
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        parts, at = [], 0
        blocks = flat_blocks(x, self.irreps_in)
        for part, (mul, _) in zip(blocks, self.irreps_in, strict=True):
            squared = part.square().sum(-2, keepdim=True)
            norm = squared.clamp_min(self.eps**2).sqrt()
            moved = norm if self.bias is None else norm + self.bias[at : at + mul]
            parts.append((part * (self.act(moved) / norm)).flatten(-2))
            at += mul
        return torch.cat(parts, dim=-1) if parts else x

    def extra_repr(self) -> str:
        """Irreps."""
        return f"{self.irreps_in}, bias={self.bias is not None}"
