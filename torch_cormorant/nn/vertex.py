r"""The vertex step: aggregate, identity and square, mixed degree by degree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError
from torch_cormorant.nn.init import init_block, init_vertex, writable
from torch_cormorant.nn.mixing import DegreeWeights, real_rows
from torch_cormorant.ops import composed, folded_square, fused
from torch_cormorant.ops.autocast import weights_precision
from torch_cormorant.ops.cg_product import from_complex
from torch_cormorant.ops.paths import check_paths
from torch_cormorant.ops.vertex import kernel_fits, vertex_step
from torch_cormorant.ops.vertex_paths import VertexPaths

SHARES = (0.3, 0.6, 0.1)
"""Variance that aggregate, identity and square add at the start (``fan_in``)."""


class VertexMixing(nn.Module):
    r"""New node features from the neighbour sum, the old features and their square.

    .. math::
        F_i'^{l} = W^l \left[ \Big(\sum_j G_{ij} \otimes F_j\Big)^l \oplus F_i^l
        \oplus (F_i \otimes F_i)^l \right]

    Eq. (8) of Anderson et al. 2019. All paths of the square have weights, as published;
    equal ones are summed before they act, so only independent paths are computed.

    Args:
        in_channels: Channels of the node features; None: not known yet.
        out_channels: Channels of the result.
        lmax: Largest degree of the result.
        lmax_in: Largest degree of the node features.
        lmax_sh: Largest degree of the harmonics.
        paths: ``"all"`` or ``"even"``.
        complex: Complex (default) or real.
        start: Start the weights (default). False: zeros, for an owner that starts them
            itself.

    Attributes:
        backend: As of a layer. ``"auto"`` and ``"cpu_kernel"``: one operator on CPUs,
            see ``torch_cormorant.ops.fused``, else matrix products around
            :func:`~torch_cormorant.ops.folded_square`; ``"reference"``: as the formula
            is written.
    """

    fold_first: Tensor
    fold_second: Tensor
    fold_at: Tensor
    fold_sign: Tensor

    def __init__(
        self,
        in_channels: int | None,
        out_channels: int,
        *,
        lmax: int,
        lmax_in: int,
        lmax_sh: int,
        paths: str = "all",
        complex: bool = True,
        start: bool = True,
    ) -> None:
        super().__init__()
        self.backend = "auto"
        self.lmax, self.lmax_in = lmax, lmax_in
        self.in_channels = in_channels
        self.paths = VertexPaths(lmax, lmax_in, lmax_sh, check_paths(paths))
        self.sum_paths, self.square_paths = self.paths.sums, self.paths.squares
        self.folded_paths = self.paths.folded
        dead = [l for l, blocks in enumerate(self.paths.blocks) if not blocks]
        if dead:
            msg = (
                f"no path reaches degree {dead[0]} from lmax_in={lmax_in} and "
                f"lmax_sh={lmax_sh}; lower lmax or raise one of them"
            )
            raise ConfigError(msg)
        columns = None
        if in_channels is not None:
            columns = tuple(in_channels * n for n in self.blocks_per_degree)
        self.weights = DegreeWeights(
            out_channels, columns, lmax, complex=complex, start=False
        )
        for name, values in self._folds().items():
            self.register_buffer(name, values, persistent=False)
        if start and in_channels is not None:
            self.reset_parameters()

    @property
    def blocks_per_degree(self) -> tuple[int, ...]:
        """Blocks of in_channels columns in the weight matrix of every degree."""
        return self.paths.blocks

    def block(self, l: int, which: int) -> Tensor:
        """Columns of one kind (0 aggregate, 1 identity, 2 square), to be written."""
        channels = self.in_channels or 0
        counts = self.paths.counts[l]
        start = sum(counts[:which]) * channels
        weight = writable(self.weights, f"weight_l{l}")
        return weight[..., start : start + counts[which] * channels]

    def reset_parameters(
        self, kind: str = "fan_in", gain: float = 1.0, avg_num_neighbors: float = 4.0
    ) -> None:
        """Start the weights; ``kind`` as in :class:`~torch_cormorant.CormorantConv`."""
        for l in range(self.lmax + 1):
            if kind == "fan_in":
                self._init_fan_in(l, gain, avg_num_neighbors)
            else:
                init_vertex(writable(self.weights, f"weight_l{l}"), kind, gain)

    @torch.no_grad()
    def _init_fan_in(self, l: int, gain: float, avg_num_neighbors: float) -> None:
        for which, share in enumerate(SHARES):
            init_block(self.block(l, which), share * gain**2)
        if not self.paths.counts[l][0]:
            return
        ends = [path for path in self.sum_paths.paths if path[2] == l]
        blocks = self.block(l, 0).chunk(len(ends), dim=-1)
        for (l1, _, _), block in zip(ends, blocks, strict=True):
            # |Y^l1|^2 = 1 is shared by 2 l1 + 1 components; neighbours add up
            block.mul_(((2 * l1 + 1) / avg_num_neighbors) ** 0.5)

    @weights_precision
    def forward(self, aggregate: Sequence[Tensor], x: Tensor) -> Tensor:
        """Mix to planes.

        Args:
            aggregate: Result of :func:`~torch_cormorant.ops.neighbour_sum`.
            x: Complex (or real) features ``[N, M_in, C]`` of the receivers.

        Returns:
            Real ``[N, M, P, C_out]``.
        """
        if self.backend == "reference":
            return from_complex(self.reference(aggregate, x))
        weights = self.weights()
        if fused.fits(self.backend, x, *aggregate, *weights) and kernel_fits(
            self.paths
        ):
            return vertex_step(aggregate, x, weights, self.paths.key)
        squares = folded_square(x, self.folded_paths, self.backend)
        matrices = self._matrices(weights)
        parts = []
        for l in range(self.lmax + 1):
            counts = self.paths.counts[l]
            sums, same, square = matrices[l]
            terms = []
            if counts[0]:
                terms.append((aggregate[l], sums))
            if counts[1]:
                terms.append((x[:, l * l : (l + 1) ** 2], same))
            if counts[2]:
                terms.append((squares[l], square))
            parts.append(_mix(terms, x.shape[0], 2 * l + 1))
        mixed: Tensor = torch.cat(parts, dim=1)
        return mixed.view(
            *mixed.shape[:2], self.weights.planes, self.weights.out_channels
        )

    def _matrices(
        self, weights: Sequence[Tensor]
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Real matrices of aggregate, identity and folded square, for each degree."""
        rows = real_rows(weights)
        block = self.weights.planes * (self.in_channels or 0)
        sizes = [n * block for l in range(self.lmax + 1) for n in self.paths.counts[l]]
        parts = rows.split(sizes)
        blocks = rows.reshape(-1, block, rows.shape[1])
        square = blocks.index_select(0, self.fold_first)
        if self.fold_second.numel():
            other = blocks.index_select(0, self.fold_second) * self.fold_sign
            square = square.index_add(0, self.fold_at, other)
        counts = list(self.folded_paths.counts)
        counts += [0] * (self.lmax + 1 - len(counts))
        squares = square.flatten(0, 1).split([n * block for n in counts])
        return [
            (parts[3 * l], parts[3 * l + 1], squares[l]) for l in range(self.lmax + 1)
        ]

    def _folds(self) -> dict[str, Tensor]:
        """Which blocks of columns make the weights of the independent paths.

        As :func:`~torch_cormorant.ops.fold_columns`, for all degrees at once: block
        ``first`` of every folded path, to which for some (``at``) another block
        (``second``) is added with a sign.
        """
        first: list[int] = []
        second: list[int] = []
        at: list[int] = []
        signs: list[float] = []
        for (_, _, l), fold in zip(
            self.folded_paths.paths, self.paths.folds, strict=True
        ):
            start = sum(self.paths.blocks[:l])
            one, other, sign = fold
            if other >= 0:
                second.append(start + other)
                at.append(len(first))
                signs.append(float(sign))
            first.append(start + one)
        return {
            "fold_first": torch.tensor(first, dtype=torch.int64),
            "fold_second": torch.tensor(second, dtype=torch.int64),
            "fold_at": torch.tensor(at, dtype=torch.int64),
            "fold_sign": torch.tensor(signs).view(-1, 1, 1),
        }

    def reference(self, aggregate: Sequence[Tensor], x: Tensor) -> Tensor:
        """The same as the formula is written: all paths, one matrix per degree.

        Returns:
            Complex (or real) ``[N, M, C_out]``.
        """
        return composed.vertex_step(aggregate, x, self.weights(), self.paths)


def _mix(terms: list[tuple[Tensor, Tensor]], nodes: int, components: int) -> Tensor:
    """Sum of real matrix products, ``[N, 2l + 1, P * C_out]``."""
    products = []
    for value, matrix in terms:
        real = torch.view_as_real(value) if value.is_complex() else value
        products.append((real.reshape(nodes * components, matrix.shape[0]), matrix))
    first, *others = products
    total = first[0] @ first[1]
    for rows, matrix in others:
        total = torch.addmm(total, rows, matrix)
    return total.view(nodes, components, total.shape[-1])
