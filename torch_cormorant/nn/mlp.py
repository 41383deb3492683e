r"""Plain networks of scalars, and of distances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.activations import activation
from torch_cormorant.nn.edge_network import is_hooked
from torch_cormorant.nn.envelopes import Envelope
from torch_cormorant.nn.radial import Radial
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.weighted_sum import Weights

__all__ = ["MLP", "RadialMLP"]


class MLP(nn.Sequential):
    r"""Linear layers with an activation between them.

    .. math:: y = W_k \, \sigma(\dots \sigma(W_0 x + b_0) \dots) + b_k

    Args:
        sizes: Features of the input, of the hidden layers, of the result.
        act: Activation, ``"silu"`` (default), ``"ssp"``, ``"leaky_relu"``, ``"relu"``;
            or a module.
        bias: Whether there are biases; without them zero stays zero. Default False.

    Shapes:
        ``[..., sizes[0]]`` to ``[..., sizes[-1]]``.

    Raises:
        ConfigError: There are fewer than two sizes, one is not positive, or the
            activation is not known.

    Example:
        >>> import torch
        >>> tuple(MLP([8, 16, 3])(torch.randn(5, 8)).shape)
        (5, 3)
    """

    def __init__(
        self, sizes: Sequence[int], act: str | nn.Module = "silu", *, bias: bool = False
    ) -> None:
        if len(sizes) < 2 or min(sizes) < 1:
            msg = f"sizes must be two or more positive numbers, got {list(sizes)}"
            raise ConfigError(msg)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            if layers:
                layers.append(activation(act))
            layers.append(nn.Linear(inputs, outputs, bias=bias))
        super().__init__(*layers)
        self.reset_parameters()

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers."""
        return [layer for layer in self if isinstance(layer, nn.Linear)]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Normal weights that keep the size of what passes; biases zero."""
        for k, layer in enumerate(self.linears):
            gain = 2 if k else 1  # an activation halves the second moment
            nn.init.normal_(layer.weight, std=(gain / layer.in_features) ** 0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def fixed_weights(self) -> list[Tensor] | None:
        """Weights and biases of all layers, for an operator that computes them.

        Returns:
            None where an activation is not SiLU, somebody watches or replaces a layer,
            or trains the weights: gradients of gradients are faster layer by layer.
        """
        layers = [*self._modules.values()]
        if is_hooked(self) or type(self) is not MLP:
            return None
        found: list[Tensor] = []
        for k, layer in enumerate(layers):
            if type(layer) is not (nn.SiLU if k % 2 else nn.Linear) or is_hooked(layer):
                return None
            found += [part for part in layer._parameters.values() if part is not None]  # noqa: SLF001
        trained = self.training and torch.is_grad_enabled()
        return None if trained and any(p.requires_grad for p in found) else found

    @weights_precision
    def forward(self, x: Tensor) -> Tensor:
        """Shapes as above."""
        for layer in self:
            x = layer(x)
        return x


def enveloped(
    layers: Iterable[nn.Linear], rows: Tensor, u: Tensor
) -> Iterator[Weights]:
    """``layer(rows) * u``, as two matrices where nobody listens to the layer.

    Args:
        layers: With biases; for each the result is given.
        rows: ``[E, inputs]``.
        u: ``[E, 1]``.
    """
    both = torch.cat([rows * u, u], dim=1)
    for layer in layers:
        if layer._forward_hooks or layer._forward_pre_hooks:  # noqa: SLF001
            yield layer(rows) * u
        else:
            yield both, torch.cat([layer.weight.T, layer.bias.unsqueeze(0)])


class RadialMLP(nn.Module):
    r"""Weights of edges from their lengths: a basis, an MLP, an envelope.

    .. math::
        w(r) = \mathrm{MLP}(B(r)) \, u(r) \qquad\text{or}\qquad
        w(r) = \mathrm{MLP}(B(r) \, u(r))

    Args:
        basis: Radial functions B.
        hidden: Widths of the hidden layers; empty: one linear map.
        outputs: Number of weights of an edge.
        act: Activation, or a module. Default ``"silu"``.
        bias: Whether there are biases. Default False.
        envelope: u, by its class or None. Default None.
        inside: Multiply the basis by it, not the result; needs ``bias=False`` for
            weights that vanish at the cutoff. Default False.

    Shapes:
        ``[E]`` in Angstrom to ``[E, outputs]``.

    Raises:
        ConfigError: The envelope is inside of an MLP with biases.

    Example:
        >>> import torch
        >>> from torch_cormorant.nn import BesselBasis, Envelope
        >>> basis, envelope = BesselBasis(8, 5.0), Envelope("polynomial", 5.0)
        >>> radial = RadialMLP(basis, [16], 4, envelope=envelope, inside=True)
        >>> radial(torch.tensor([1.0, 5.0]))[1]
        tensor([0., 0., 0., 0.], grad_fn=<SelectBackward0>)
    """

    def __init__(
        self,
        basis: Radial,
        hidden: Sequence[int],
        outputs: int,
        *,
        act: str | nn.Module = "silu",
        bias: bool = False,
        envelope: Envelope | None = None,
        inside: bool = False,
    ) -> None:
        super().__init__()
        if inside and bias:
            msg = (
                "an envelope inside of an MLP with biases does not reach its result: "
                "take bias=False or inside=False"
            )
            raise ConfigError(msg)
        self.basis, self.envelope, self.inside = basis, envelope, inside
        functions = basis.planes * basis.out_channels
        self.mlp = MLP([functions, *hidden, outputs], act, bias=bias)

    def reset_parameters(self) -> None:
        """Start again."""
        self.basis.reset_parameters()
        self.mlp.reset_parameters()

    @weights_precision
    def forward(self, length: Tensor) -> Tensor:
        """Shapes as above."""
        rows, u = self._rows(length)
        result: Tensor = self.mlp(rows) if self.inside else self.mlp(rows) * u
        return result

    def _rows(self, length: Tensor) -> tuple[Tensor, Tensor | float]:
        """What the MLP reads, and the envelope."""
        rows: Tensor = self.basis(length)
        if self.envelope is None:
            return rows, 1.0
        u = self.envelope(length).unsqueeze(-1)
        return rows * u if self.inside else rows, u

    @weights_precision
    def halves(self, length: Tensor) -> tuple[Tensor, Tensor]:
        """Two matrices whose product is the result, the second for all edges.

        What is linear in the weights may then act before the second one.

        Returns:
            ``[E, H]`` and ``[H, outputs]``; with a bias, u is one more column.
        """
        last = self.mlp.linears[-1]
        rows, u = self._rows(length)
        for layer in list(self.mlp)[:-1]:
            rows = layer(rows)
        if self.inside:
            return rows, last.weight.T
        bias = getattr(last, "bias", None)
        if bias is None:
            return rows * u, last.weight.T
        ones = torch.ones_like(rows[:, :1])
        both = torch.cat([last.weight, bias.unsqueeze(1)], dim=1)
        return torch.cat([rows, ones], dim=1) * u, both.T
