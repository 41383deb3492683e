r"""The networks of the e3nn thesis: full convolutions and gates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from torch_cormorant.conv import KernelConv
from torch_cormorant.irreps import Irreps
from torch_cormorant.networks.base import register_network
from torch_cormorant.networks.checks import check_counts
from torch_cormorant.networks.original import WithOriginal
from torch_cormorant.networks.original_kernel_net import OriginalKernelNet
from torch_cormorant.networks.starts import StartsFromRows
from torch_cormorant.nn.activations import Softplus
from torch_cormorant.nn.gated import GatedBlock
from torch_cormorant.nn.heads import HeadSpec, LevelSizes
from torch_cormorant.nn.radial import RadialSpec
from torch_cormorant.ops import EdgeGeometry
from torch_cormorant.ops.autocast import full_precision

__all__ = ["KernelNet"]


@register_network("kernel_net")
class KernelNet(WithOriginal, StartsFromRows):
    r"""A network of full convolutions and gated blocks.

    As B. K. Miller's thesis "Quantum Chemistry with e3nn" (2020) has them: an embedding
    of the species, levels of a :class:`~torch_cormorant.conv.KernelConv` and a
    :class:`~torch_cormorant.nn.GatedBlock` (softplus on scalars, sigmoid gates), each
    added to what came before, and one more convolution to the result. L0Net, L1Net,
    L2Net, ARandNet and BRandNet are such networks with the sizes of its tables 3.1 and
    3.4, in which they differ from the defaults below.

    Args:
        species: Atomic numbers that may occur. Default H C N O F.
        cutoff: Radius of the graph in Angstrom, where messages end smoothly; None
            (default): all pairs of a molecule, as published.
        irreps: Features, one block of each degree. Default ``"64x0 + 21x1"``.
        embedding: Width of the embedding. Default 128.
        num_levels: Convolutions with gates. Default 4.
        residual: Add what enters a level, from the second on. Default True.
        basis: Radial functions. Default ``"cosine_basis"``.
        num_basis: Number of them. Default 50.
        radius: Their largest centre in Angstrom, which is no cutoff. Default 10.
        radial: Widths of the hidden layers of the radial networks. Default (128, 128).
        beta: Of all softplus functions. Default 5.
        softplus_factor: Of the softplus on scalars. Default: exact, as in
            :class:`~torch_cormorant.nn.Softplus`.
        ssp_factor: Of the shifted softplus in the radial networks. Default: exact.
        envelope: With a cutoff: as in :class:`~torch_cormorant.nn.Envelope`. Default
            ``"polynomial"``.
        avg_num_atoms: Sums over neighbours are divided by its root. Default 18.
        out_irreps: Features of further convolutions with gates before the result.
            Default ``""``.
        out_levels: Convolutions that make the result. Default 1.
        out_channels: Scalars that the last one makes. Default: ``num_targets`` with the
            default head, otherwise as many as before.
        out_layers: Linear layers of an MLP behind it, with ReLU between; its input goes
            through a softplus. 0 (default): the last convolution makes the result.
        num_targets: Outputs per molecule. Default 1.
        head: As in :class:`~torch_cormorant.Cormorant`. Default: that MLP, or the sum
            over atoms of the result.

    Example:
        >>> import torch
        >>> from torch_cormorant.networks import KernelNet
        >>> network = KernelNet([1, 8], irreps="8x0 + 4x1", radial=[16], embedding=8)
        >>> z, pos = torch.tensor([8, 1]), torch.tensor([[0.0, 0, 0], [0, 0, 1.0]])
        >>> tuple(network(z, pos).shape)
        (1, 1)
    """

    self_edges = False
    original = OriginalKernelNet()
    published: ClassVar[Mapping[str, Any]] = {}
    """Values of arguments that are not given, where they are not those above."""

    def __init__(
        self,
        species: Sequence[int] = (1, 6, 7, 8, 9),
        *,
        cutoff: float | None = None,
        irreps: str | None = None,
        embedding: int | None = None,
        num_levels: int | None = None,
        residual: bool = True,
        basis: RadialSpec | None = None,
        num_basis: int | None = None,
        radius: float | None = None,
        radial: Sequence[int] | None = None,
        beta: float = 5.0,
        softplus_factor: float | None = None,
        ssp_factor: float | None = None,
        envelope: str = "polynomial",
        avg_num_atoms: float = 18.0,
        out_irreps: str | None = None,
        out_levels: int | None = None,
        out_channels: int | None = None,
        out_layers: int | None = None,
        num_targets: int = 1,
        head: HeadSpec | Sequence[HeadSpec] | None = None,
    ) -> None:
        given = dict(locals())
        super().__init__(species, cutoff)
        start: dict[str, Any] = {
            name: value if given[name] is None else given[name]
            for name, value in {**DEFAULTS, **self.published}.items()
        }
        counts = ("embedding", "num_levels", "out_levels")
        check_counts({name: start[name] for name in counts})
        self.residual = residual
        self.smooth_cutoff = cutoff is not None
        levels, outs = start["num_levels"], start["out_levels"]
        self.hops = None if cutoff is None else levels + outs
        self.embedding = nn.Embedding(max(species) + 1, start["embedding"])
        self.act = Softplus(beta, factor=softplus_factor)
        hidden, middle = Irreps(start["irreps"]), Irreps(start["out_irreps"])
        scalar = (0, int(hidden.has_parity))
        width, depth = start["out_channels"], start["out_layers"]
        if not width:
            width = num_targets if head is None else hidden.count(scalar)
        options = {
            "basis": start["basis"],
            "num_basis": start["num_basis"],
            "radius": start["radius"],
            "hidden": start["radial"],
            "beta": beta,
            "factor": ssp_factor,
            "cutoff": cutoff,
            "envelope": envelope,
            "avg_num_atoms": avg_num_atoms,
        }
        before = Irreps([(start["embedding"], scalar)])
        self.convs, self.gates = nn.ModuleList(), nn.ModuleList()
        for irreps_out in [*[hidden] * levels, *[middle] * (outs - 1)]:
            gate = GatedBlock(irreps_out, act=self.act, gate_act="sigmoid")
            self.convs.append(KernelConv(before, gate.irreps_in, **options))
            self.gates.append(gate)
            before = irreps_out
        self.num_levels, self.raw = levels, not depth
        last = Irreps([(width, scalar)])
        self.convs.append(KernelConv(before, last, **options))
        layers = [width] * (depth - 1) if depth else None
        default = {"kind": "atomwise", "layers": layers, "act": "relu"}
        self.set_head(
            default if head is None else head,
            LevelSizes.of_scalars(last.dim),
            num_targets,
            species=range(max(species) + 1),
        )

    def start(self, z: Tensor) -> Tensor:
        """The embedding ``[N, embedding]``."""
        x: Tensor = self.embedding(z)
        return x

    @full_precision
    def levels_from(self, x: Tensor, z: Tensor, geometry: EdgeGeometry) -> list[Tensor]:
        """Scalars of the last convolution ``[N, out_channels]``."""
        del z
        for s, gate in enumerate(self.gates):
            y = gate(self.convs[s](x, geometry))
            x = x + y if self.residual and 0 < s < self.num_levels else y
        out = self.convs[-1](x, geometry)
        return [out if self.raw else self.act(out)]

    def facts(self) -> dict[str, Any]:
        """Those of every network, and what else decides numbers."""
        own = {"softplus": str(self.act), "residual": self.residual}
        return {**super().facts(), **own, "raw": self.raw}


DEFAULTS: dict[str, Any] = {
    "irreps": "64x0 + 21x1",
    "embedding": 128,
    "num_levels": 4,
    "basis": "cosine_basis",
    "num_basis": 50,
    "radius": 10.0,
    "radial": (128, 128),
    "out_irreps": "",
    "out_levels": 1,
    "out_channels": 0,
    "out_layers": 0,
}
"""Those of tables 3.1 of the thesis, where a name is not given."""
