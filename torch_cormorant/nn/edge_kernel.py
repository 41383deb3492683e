r"""Full steerable kernels of edges, as the SE(3)-Transformer has them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_cormorant.irreps import Irreps
from torch_cormorant.ops import ProductPaths, tensor_product
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.dispatch import chosen
from torch_cormorant.ops.product_paths import ProductPath, cg_table
from torch_cormorant.so3.flat import flat_blocks

__all__ = ["EdgeKernel"]


class EdgeKernel(nn.Module):
    r"""From features of senders to messages of edges, every channel to every channel.

    .. math::
        m_{ij}^{l}[m, w] = \sum_{l_1, J, u} R^{l_1 l}_{w u J}(e_{ij}) \sum_{m_1 M}
        C^{l_1 J l}_{m_1 M m}\, F_j^{l_1}[m_1, u]\, Y^J_M(r_{ij})

    Eq. (8) of `SE(3)-Transformers <https://arxiv.org/abs/2006.10503>`_ (Fuchs et al.
    2020), with a network R of scalars of the edge for each pair of degrees: two hidden
    layers with a layer norm and ReLU each.

    Args:
        irreps_in: What F is made of, one block of each degree, no parities.
        irreps_out: What the messages are made of, likewise.
        edge_dim: Scalars e of an edge.
        hidden: Width of R. Default 32.

    Attributes:
        paths: The products.
        radial: The networks R by ``"l_in,l_out"``; the last layers make
            ``[C_out, C_in, J]``.
        backend: ``"portable"``: a set of weights for all paths of every edge, the
            readable reference; ``"auto"`` (default): pair after pair of degrees.

    Shapes:
        ``x`` ``[E, irreps_in.dim]``, ``sh`` ``[E, (lmax + 1)^2]`` with the sum of both
        largest degrees as lmax, ``scalars`` ``[E, edge_dim]``; returns
        ``[E, irreps_out.dim]``.

    Example:
        >>> import torch
        >>> kernel = EdgeKernel("4x0 + 3x1", "2x0 + 2x1", 1)
        >>> x, sh, e = torch.randn(5, 13), torch.randn(5, 9), torch.randn(5, 1)
        >>> tuple(kernel(x, sh, e).shape)
        (5, 8)
    """

    backend = "auto"

    def __init__(
        self, irreps_in: object, irreps_out: object, edge_dim: int, hidden: int = 32
    ) -> None:
        super().__init__()
        first, out = Irreps(irreps_in), Irreps(irreps_out)
        top = first.lmax + out.lmax
        harmonics = Irreps.harmonics(top, parity=False)
        self.paths = ProductPaths(first, harmonics, out=out, mode="uvw")
        groups: dict[str, list[ProductPath]] = {}
        for path in self.paths.paths:
            l1, _, l = self.paths.degrees(path)
            groups.setdefault(f"{l1},{l}", []).append(path)
        self.groups = groups
        self.radial = nn.ModuleDict(
            {
                key: _network(edge_dim, hidden, self._outputs(paths))
                for key, paths in groups.items()
            }
        )

    def _outputs(self, paths: Sequence[ProductPath]) -> int:
        first, out = self.paths.first[paths[0].first], self.paths.out[paths[0].out]
        return first.mul * out.mul * len(paths)

    def reset_parameters(self) -> None:
        """Start all weights again."""
        for network in self.radial.values():
            for layer in network:  # type: ignore[attr-defined]
                if not isinstance(layer, nn.ReLU):
                    layer.reset_parameters()

    @weights_precision
    def forward(self, x: Tensor, sh: Tensor, scalars: Tensor) -> Tensor:
        """Shapes as above."""
        made = {key: network(scalars) for key, network in self.radial.items()}
        if chosen(self.backend) == "portable":
            weights = self._in_order(made)
            return tensor_product(x, sh, "", "", paths=self.paths, weights=weights)
        first = flat_blocks(x, self.paths.first)
        outs: list[Tensor | None] = [None] * len(self.paths.out)
        for key, paths in self.groups.items():
            f, k = first[paths[0].first], paths[0].out
            z = torch.cat([self._turned(f, sh, path) for path in paths], dim=2)
            w, u = self.paths.out[k].mul, f.shape[2]
            R = made[key].view(len(x), w, u, len(paths)).transpose(2, 3).flatten(2)
            part = z @ R.mT  # [E, 2l + 1, (J, u)] to [E, 2l + 1, w]
            before = outs[k]
            outs[k] = part if before is None else before + part
        parts = [
            x.new_zeros(len(x), block.dim) if out is None else out.flatten(1)
            for out, block in zip(outs, self.paths.out, strict=True)
        ]
        return torch.cat(parts, dim=1)

    def _turned(self, f: Tensor, sh: Tensor, path: ProductPath) -> Tensor:
        """A block of F, coupled with one degree of harmonics ``[E, 2l + 1, u]``."""
        l1, J, l = self.paths.degrees(path)
        y = sh[:, J * J : (J + 1) ** 2]
        if 0 in (l1, J):
            return y.unsqueeze(2) * f
        cg = cg_table((l1, J, l), f.dtype, f.device)
        table = cg.transpose(0, 1).reshape(2 * J + 1, -1)
        A = (y @ table).view(len(f), 2 * l1 + 1, 2 * l + 1)
        return A.mT @ f

    def _in_order(self, made: dict[str, Tensor]) -> Tensor:
        """Weights of all paths of every edge, in the order of the paths."""
        split: dict[ProductPath, Tensor] = {}
        for key, paths in self.groups.items():
            first, out = self.paths.first[paths[0].first], self.paths.out[paths[0].out]
            rows = made[key].unflatten(1, (out.mul, first.mul, len(paths)))
            for path, part in zip(paths, rows.unbind(3), strict=True):
                split[path] = part.mT.flatten(1)  # [u, w]
        return torch.cat([split[path] for path in self.paths.paths], dim=1)

    def extra_repr(self) -> str:
        """Irreps."""
        return f"{self.paths.first} -> {self.paths.out}"


def _network(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LayerNorm(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.LayerNorm(hidden),
        nn.ReLU(),
        nn.Linear(hidden, outputs),
    )
