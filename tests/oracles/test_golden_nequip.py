"""Golden numbers of the nequip package: layers, energies, forces, weight gradients."""

from __future__ import annotations

from collections.abc import Iterable
from math import pi, sqrt
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tests.oracles.family import Golden, close, files, from_theirs, sign_3j
from torch_cormorant import EdgeGeometry
from torch_cormorant.conv import NequIPConv
from torch_cormorant.irreps import Block, Irrep, Irreps
from torch_cormorant.nn import IrrepsLinear, SpeciesLinear

PREFIX = "sd.model.func."


class Network:
    """Their network made of our layers, weights folded into ours as it is called."""

    def __init__(self, golden: Golden) -> None:
        self.g, self.cfg = golden, golden.cfg
        self.w = {
            name.removeprefix(PREFIX): golden[name]
            for name in golden.arrays
            if name.startswith(PREFIX)
        }
        self.types = self.cfg["type_names"]
        self.kind, self.lmax = golden["atom_types"], self.cfg["l_max"]
        features = self.cfg["num_features"]
        self.features = (
            features if isinstance(features, list) else [features] * (self.lmax + 1)
        )
        self.attr_dim = self.w["type_embed.embed_module.weight"].shape[1]

    def irreps(self, last: bool) -> Irreps:
        if last:
            return Irreps([(self.features[0], "0e")])
        both = self.cfg["parity"]
        return Irreps(
            [
                (self.features[l], (l, p))
                for l in range(self.lmax + 1)
                for p in ((1, -1) if both else ((-1) ** l,))
            ]
        )

    def mlp(self, name: str) -> list[Tensor]:
        """Matrices with their factors inside; a gain behind every function."""
        names = [f"{name}.mlp.{2 * k}.weight" for k in range(9)]
        found = [self.w[key] for key in names if key in self.w]
        return [
            W * (sqrt(2) if k else 1) / sqrt(W.shape[0]) for k, W in enumerate(found)
        ]

    def radial(self, length: Tensor, index: Tensor) -> Tensor:
        recip = self.w["edge_norm._rmax_recip"].flatten()
        if recip.numel() > 1:
            pair = self.kind[index[1]] * len(self.types) + self.kind[index[0]]
            recip = recip[pair]
        x = (length * recip).unsqueeze(1)
        p = float(self.cfg.get("polynomial_cutoff_p", 6))
        cut = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1)
        cut = (cut - p * (p + 1) / 2 * x ** (p + 2)) * (x < 1)
        self.x = x[:, 0]
        waves = torch.sin(pi * x * self.w["bessel_encode.bessel_weights"]) / (pi * x)
        return waves * cut * (2 * pi / self.cfg["r_max"] ** 2)

    def neighbours(self) -> Tensor:
        """Factor of every atom as a source."""
        avg = self.cfg["avg_num_neighbors"]
        values = [avg[t] if isinstance(avg, dict) else avg for t in self.types]
        return torch.tensor(values, dtype=torch.float64)[self.kind].unsqueeze(1) ** -0.5

    def layer(
        self, s: int, first: Irreps, radial_dim: int
    ) -> tuple[NequIPConv, dict[str, Tensor]]:
        """A layer of ours, and its weights from theirs."""
        name = f"layer{s}_convnet.conv"
        hidden = self.mlp(f"{name}.edge_mlp")
        conv = NequIPConv(
            first,
            self.irreps(s == self.cfg["num_layers"] - 1),
            self.lmax,
            edge_dim=radial_dim,
            attr_dim=self.attr_dim if f"{name}.sc.weight" in self.w else 0,
            hidden=[W.shape[1] for W in hidden[:-1]],
            normalize="e3nn",
        ).double()
        found = {f"radial.weights.{k}": W for k, W in enumerate(hidden)}
        columns = []
        for path, size in zip(conv.sum_paths.paths, conv.sum_paths.sizes, strict=True):
            l1, l2, l = conv.sum_paths.degrees(path)
            factor = sign_3j(l1, l2, l) * sqrt(2 * l2 + 1)
            columns.append(torch.full((size,), factor, dtype=torch.float64))
        found[f"radial.weights.{len(hidden) - 1}"] = hidden[-1] * torch.cat(columns)
        squares = [(block.mul, block.mul) for block in first]
        parts = blocks_of(self.w[f"{name}.linear_1.weight"], squares)
        for k, W in enumerate(parts):
            found[f"linear_in.weights.{k}"] = W / sqrt(W.shape[0])
        merged = {
            ir: conv.gate.in_irreps.count(ir) for _, ir in conv.gate.in_irreps.sort()[0]
        }
        middle = conv.sum_paths.out
        shapes = [(mul, merged[ir]) for mul, ir in middle]
        parts = blocks_of(self.w[f"{name}.linear_2.weight"], shapes)
        self._put(found, "linear_out", conv.linear_out, middle, parts)
        if conv.self_connection is not None:
            known = [block for block in first if block.ir in merged]
            shapes = [(mul, self.attr_dim, merged[ir]) for mul, ir in known]
            parts = blocks_of(self.w[f"{name}.sc.weight"], shapes)
            self._put(found, "self_connection", conv.self_connection, known, parts)
        return conv, found

    @staticmethod
    def _put(
        found: dict[str, Tensor],
        name: str,
        linear: IrrepsLinear | SpeciesLinear,
        blocks: Iterable[Block],
        parts: list[Tensor],
    ) -> None:
        """Columns of their merged blocks to our blocks, scalars before gates."""
        of = {block.ir: part for block, part in zip(blocks, parts, strict=True)}
        start: dict[Irrep, int] = {}
        for k, (_, o) in enumerate(linear.links):
            mul, ir = linear.out_irreps[o]
            at, W = start.get(ir, 0), of[ir]
            start[ir] = at + mul
            fan_in = W[..., 0].numel()
            found[f"{name}.weights.{k}"] = W[..., at : at + mul] / sqrt(fan_in)

    def __call__(self, pos: Tensor) -> Tensor:
        """Energies of the atoms; layers are compared on the way."""
        index = self.g["edge_index"]
        geometry = EdgeGeometry.from_pos(pos, index)
        radial = self.radial(geometry.edge_length, index)
        close(radial, self.g["radial"], "radial")
        attr = self.w["type_embed.embed_module.weight"][self.kind]
        h, irreps = attr, Irreps([(self.attr_dim, "0e")])
        for s in range(self.cfg["num_layers"]):
            conv, weights = self.layer(s, irreps, radial.shape[1])
            label = None if conv.self_connection is None else attr
            given = ((h * self.neighbours(), h), geometry, None, radial, label)
            h, irreps = functional_call(conv, weights, given), conv.out_irreps
            theirs = self.g.text(f"irreps.layer{s}.out")
            assert Irreps(theirs) == irreps
            close(h, from_theirs(self.g[f"layer{s}.out"], theirs), f"layer{s}")
        for k, W in enumerate(self.mlp("per_atom_energy_readout.mlp_module")):
            h = (torch.nn.functional.silu(h) if k else h) @ W
        return self.scaled(h[:, 0]) + self.repulsion(geometry, index)

    def scaled(self, energy: Tensor) -> Tensor:
        for name in ("scales", "shifts"):
            value = self.w.get(f"per_type_energy_scale_shift.{name}", energy[:0])
            value = value.flatten()
            if value.numel():
                value = value[self.kind] if value.numel() > 1 else value
                energy = energy * value if name == "scales" else energy + value
        return energy

    def repulsion(self, geometry: EdgeGeometry, index: Tensor) -> Tensor:
        total = geometry.edge_length.new_zeros(len(self.kind))
        if not self.cfg.get("pair_potential"):
            return total
        z = self.w["pair_potential.atomic_numbers"][self.kind].double()
        zi, zj, r = z[index[1]], z[index[0]], geometry.edge_length
        u = (zi**0.23 + zj**0.23) * r / 0.46850
        terms = ((0.02817, 0.20162), (0.28022, 0.40290), (0.50986, 0.94229))
        psi = sum(a * torch.exp(-b * u) for a, b in (*terms, (0.18175, 3.19980)))
        x = self.x
        cut = (1 - 28 * x**6 + 48 * x**7 - 21 * x**8) * (x < 1)
        pair = 0.5 * 14.399645 * zi * zj / r * psi * cut
        return total.index_add(0, index[1], pair)


def blocks_of(flat: Tensor, shapes: list[tuple[int, ...]]) -> list[Tensor]:
    sizes = [torch.Size(shape).numel() for shape in shapes]
    parts = flat.split(sizes)
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


@pytest.mark.parametrize("path", files("nequip"))
def test_layers_energies_forces_and_weight_gradients(path: Path) -> None:
    golden = Golden(path)
    network, names = Network(golden), [str(n) for n in golden.arrays["param_names"]]
    short = [name.removeprefix("model.func.") for name in names]
    leaves = [network.w[name].requires_grad_() for name in short]
    pos = golden["pos"].requires_grad_()
    energies = network(pos)
    close(energies, golden["atom_energy"], "atom_energy")
    grads = torch.autograd.grad(energies.sum(), [pos, *leaves], materialize_grads=True)
    close(-grads[0], golden["forces"], "forces")
    for name, grad in zip(names, grads[1:], strict=True):
        close(grad, golden[f"grad.{name}"], name)
