"""Golden numbers of SchNetPack's PaiNN: blocks, energies, forces, weight gradients."""

from __future__ import annotations

from math import pi
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tests.oracles.family import Golden, close, files
from torch_cormorant import EdgeGeometry
from torch_cormorant.conv import PaiNNConv

PREFIX = "sd."


def their_vectors(v: Tensor) -> Tensor:
    """Ours are (y, z, x) along edges that point the other way."""
    return -v[:, [2, 0, 1]]


class Network:
    """Their network made of our layers."""

    def __init__(self, golden: Golden) -> None:
        self.g, self.cfg = golden, golden.cfg
        self.w = {
            name.removeprefix(PREFIX): golden[name]
            for name in golden.arrays
            if name.startswith(PREFIX)
        }

    def radial(self, r: Tensor) -> tuple[Tensor, Tensor]:
        w, r = self.w, r.unsqueeze(1)
        if self.cfg["radial_basis"] == "GaussianRBF":
            name = "representation.radial_basis."
            basis = torch.exp(
                -0.5 * ((r - w[name + "offsets"]) / w[name + "widths"]) ** 2
            )
        else:
            basis = torch.sin(r * w["representation.radial_basis.freqs"]) / r
        rc = w["representation.cutoff_fn.cutoff"]
        if self.cfg["cutoff_fn"] == "CosineCutoff":
            cut = 0.5 * (torch.cos(pi * r / rc) + 1) * (r < rc)
        else:
            inside = (r + w["representation.cutoff_fn.eps"] < rc).to(r.dtype)
            cut = torch.exp(1 - 1 / (1 - (r * inside / rc) ** 2)) * inside
        return basis, cut[:, 0]

    def weights(self, k: int, channels: int) -> dict[str, Tensor]:
        """Weights of our layer k."""
        block = 0 if self.cfg["shared_interactions"] else k
        span = slice(3 * channels * k, 3 * channels * (k + 1))
        span = slice(0, 3 * channels) if self.cfg["shared_filters"] else span
        found = {
            f"filter.{kind}": self.w[f"representation.filter_net.{kind}"][span]
            for kind in ("weight", "bias")
        }
        mixing = f"representation.mixing.{block}"
        context = f"representation.interactions.{block}.interatomic_context_net"
        found["mixing.weight"] = self.w[f"{mixing}.mu_channel_mix.weight"]
        for kind in ("weight", "bias"):
            for theirs, ours in ((0, 0), (1, 2)):
                found[f"context.{ours}.{kind}"] = self.w[f"{context}.{theirs}.{kind}"]
                name = f"{mixing}.intraatomic_context_net.{theirs}.{kind}"
                found[f"scales.{ours}.{kind}"] = self.w[name]
        return found

    def __call__(self, pos: Tensor) -> Tensor:
        """Energies of the atoms; blocks are compared on the way."""
        geometry = EdgeGeometry.from_pos(pos, self.g["edge_index"])
        basis, cut = self.radial(geometry.edge_length)
        C = self.cfg["n_atom_basis"]
        q = self.w["representation.embedding.weight"][self.g["z"]]
        x = torch.cat([q, q.new_zeros(len(q), 3 * C)], dim=1)
        conv = PaiNNConv(
            C, edge_dim=basis.shape[1], epsilon=self.cfg["epsilon"]
        ).double()
        for k in range(self.cfg["n_interactions"]):
            x = functional_call(
                conv, self.weights(k, C), (x, geometry, None, basis, cut)
            )
            q, v = x[:, :C], x[:, C:].view(-1, 3, C)
            close(q, self.g[f"layer{k}.mixing.q"], f"q {k}")
            close(their_vectors(v), self.g[f"layer{k}.mixing.mu"], f"mu {k}")
        for k in range(9):
            name = f"output_modules.0.outnet.{k}"
            if f"{name}.weight" in self.w:
                q = torch.nn.functional.silu(q) if k else q
                q = q @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]
        return q[:, 0]


@pytest.mark.parametrize("path", files("painn"))
def test_blocks_energies_forces_and_weight_gradients(path: Path) -> None:
    golden = Golden(path)
    network, names = Network(golden), [str(n) for n in golden.arrays["param_names"]]
    leaves = [network.w[name].requires_grad_() for name in names]
    pos = golden["pos"].requires_grad_()
    energies = network(pos)
    close(energies, golden["atom_energy"], "atom_energy")
    grads = torch.autograd.grad(energies.sum(), [pos, *leaves], materialize_grads=True)
    close(-grads[0], golden["forces"], "forces")
    for name, grad in zip(names, grads[1:], strict=True):
        close(grad, golden[f"grad.{name}"], name)
