"""Weights of other packages, there and back, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torch_cormorant.errors import ConfigError, WeightsError
from torch_cormorant.networks import (
    TFN,
    Allegro,
    BRandNet,
    KernelNet,
    NequIP,
    PaiNN,
    SO3Net,
    network_from_original,
)
from torch_cormorant.testing import random_molecule

P = "model.func."
FILTERS = "representation.so3convs.0.filternet.weight"
NEQUIP: dict[str, Any] = {
    "r_max": 3.0,
    "type_names": ["O", "C", "H", "N", "F"],
    "num_layers": 3,
    "l_max": 2,
    "num_features": [4, 3, 2],
    "avg_num_neighbors": {"H": 2.0, "C": 3.0, "N": 4.0, "O": 5.0, "F": 6.0},
    "per_type_energy_shifts_trainable": True,
}
OURS: dict[str, Any] = {
    "species": [8, 6, 1, 7, 9],
    "cutoff": 3.0,
    "num_levels": 3,
    "lmax": 2,
    "channels": [4, 3, 2],
    "radial": [5],
    "avg_num_neighbors": [5.0, 3.0, 2.0, 4.0, 6.0],
    "zbl": "real",
    "constants": "e3nn",
    "head": {
        "kind": "atomwise",
        "layers": [3],
        "bias": False,
        "scale": "shared",
        "shift": "species",
        "trainable": ["shift"],
        "pair": True,
    },
}


def nequip(**options: Any) -> NequIP:
    network = NequIP(**{**OURS, **options}).double()
    for part in (*network.head.buffers(), *network.head.parameters()):
        if part.is_floating_point():
            nn.init.normal_(part)
    return network


def energy(network: Any) -> Tensor:
    z, pos = random_molecule(8)
    out: Tensor = network(z, pos).detach()
    return out


def test_nequip_there_and_back() -> None:
    network = nequip()
    weights = network.to_original()
    again = NequIP.from_original(weights, NEQUIP)
    assert torch.allclose(energy(again), energy(network), rtol=1e-13)
    assert again.config["head"]["trainable"] == ["shift"]
    assert "shift" in dict(again.head.named_parameters())
    for name, value in again.to_original().items():
        assert torch.allclose(value, weights[name], rtol=1e-13), name
    assert type(network_from_original(weights, NEQUIP)) is NequIP


def test_single_precision_stays_single() -> None:
    weights = nequip().float().to_original()
    single = {
        name: value if "scale_shift" in name else value.float()
        for name, value in weights.items()
    }
    assert NequIP.from_original(single, NEQUIP).dtype == torch.float32


@pytest.mark.parametrize(
    ("setting", "value", "match"),
    [
        ("convnet_resnet", True, "convnet_resnet=True of nequip"),
        ("readout_mlp_nonlinearity", "mish", "readout_mlp_nonlinearity='mish'"),
        ("learnable_shift", True, "learnable_shift=True"),
        ("r_maximum", 3.0, "'r_maximum' of nequip has no counterpart.*'r_max'"),
        ("type_names", ["A", "B", "C", "D", "E"], "symbols of elements"),
        ("avg_num_neighbors", {"H": 2.0}, "avg_num_neighbors has no entry"),
        ("pair_potential", {"_target_": "nequip.LennardJones"}, "LennardJones"),
    ],
)
def test_settings_without_counterpart_are_refused(
    setting: str, value: Any, match: str
) -> None:
    weights = nequip(zbl=None, head={**OURS["head"], "pair": False}).to_original()
    with pytest.raises(ConfigError, match=match):
        NequIP.from_original(weights, {**NEQUIP, setting: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("l_max", 1), ("parity", False), ("num_features", 4), ("num_layers", 2)],
)
def test_other_sizes_than_those_of_the_weights_are_refused(
    setting: str, value: Any
) -> None:
    weights = nequip().to_original()
    with pytest.raises((WeightsError, ConfigError), match=r"needs|channels must be"):
        NequIP.from_original(weights, {**NEQUIP, setting: value})


def test_other_weights_are_refused() -> None:
    weights = nequip().to_original()
    with pytest.raises(WeightsError, match="has no place in this network"):
        NequIP.from_original({**weights, f"{P}more.weight": torch.ones(2)}, NEQUIP)
    twice = {f"a.{name}": value for name, value in weights.items()} | weights
    with pytest.raises(WeightsError, match="several"):
        NequIP.from_original(twice, NEQUIP)
    odd = {**weights, f"{P}pair_potential._qqr2exesquare": torch.tensor(1.0)}
    with pytest.raises(WeightsError, match="neither of the units"):
        NequIP.from_original(odd, NEQUIP)
    with pytest.raises(WeightsError, match=r"are of none of .*NequIP of nequip"):
        network_from_original({"weight": torch.ones(2)})
    with pytest.raises(WeightsError, match=r"names are weight, .*network_from_orig"):
        NequIP.from_original({"weight": torch.ones(2)})
    with pytest.raises(WeightsError, match="there is no"):
        PaiNN.from_original(weights)


def test_networks_that_nequip_does_not_know_are_not_written() -> None:
    with pytest.raises(ConfigError, match="exact constants"):
        nequip(constants="exact").to_original()
    with pytest.raises(ConfigError, match="head 'extensive'"):
        NequIP(channels=4, head="extensive", constants="e3nn").to_original()


def painn(**options: Any) -> PaiNN:
    return PaiNN(channels=4, num_levels=2, cutoff=3.0, **options).double()


def test_painn_there_and_back() -> None:
    network = painn(
        basis="bessel_basis",
        envelope={"kind": "mollifier", "eps": 1e-6},
        epsilon=1e-3,
        shared_levels=True,
        shared_filters=True,
        head={"kind": "atomwise", "shift": "species", "constant": True},
    )
    settings = {"epsilon": 1e-3, "shared_interactions": True}
    weights = network.to_original()
    again = PaiNN.from_original(weights, settings)
    assert torch.allclose(energy(again), energy(network), rtol=1e-13)
    assert again.to_original().keys() == weights.keys()
    bare = PaiNN.from_original(weights, {**settings, "offsets": False})
    assert bare.head.shift is None


def test_settings_that_painn_weights_contradict_are_refused() -> None:
    weights = painn().to_original()
    for settings, match in [
        ({"radial_basis": "BesselRBF"}, "radial_basis is 'BesselRBF' in the settings"),
        ({"n_interactions": 3}, "n_interactions is 3"),
        ({"shared_filters": True}, "shared_filters does not fit"),
    ]:
        with pytest.raises(WeightsError, match=match):
            PaiNN.from_original(weights, settings)
    with pytest.raises(ConfigError, match="hold no postprocessors"):
        PaiNN.from_original(weights, {"offsets": True})
    more = {**weights, "output_modules.1.outnet.0.weight": torch.ones(1, 4)}
    with pytest.raises(WeightsError, match=r"output_modules\.1"):
        PaiNN.from_original(more)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"basis": "gaussian"}, "the basis 'gaussian'"),
        ({"envelope": "polynomial"}, "the envelope 'polynomial'"),
        ({"head": "dipole"}, "the head 'dipole'"),
        ({"head": {"kind": "atomwise", "scale": "shared"}}, "a head with scale"),
    ],
)
def test_networks_that_schnetpack_does_not_know_are_not_written(
    options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        painn(**options).to_original()


ALLEGRO: dict[str, Any] = {
    "r_max": 3.0,
    "type_names": ["H", "C", "N", "O", "F"],
    "l_max": 2,
    "num_layers": 3,
    "num_tensor_features": 4,
    "radial_chemical_embed": {
        "_target_": "allegro.nn.TwoBodySplineScalarEmbed",
        "num_splines": 6,
        "spline_span": 3,
    },
    "tp_path_channel_coupling": False,
    "scalar_embed_mlp_nonlinearity": None,
    "avg_num_neighbors": {"H": 2.0, "C": 3.0, "N": 4.0, "O": 5.0, "F": 6.0},
}


def allegro(**options: Any) -> Allegro:
    return Allegro(
        cutoff=3.0,
        lmax=2,
        num_levels=3,
        channels=4,
        scalars=6,
        embedding={"kind": "spline", "num_splines": 6, "span": 3},
        two_body=[5, 4],
        acts=["identity", "silu", "silu"],
        shared_weights=True,
        avg_num_neighbors=[2.0, 3.0, 4.0, 5.0, 6.0],
        edge_cutoffs=[[3.0, 2.5, 2.4, 2.3, 2.2]] * 5,
        zbl="metal",
        **options,
    ).double()


def test_allegro_there_and_back() -> None:
    network = allegro()
    weights = network.to_original()
    again = Allegro.from_original(weights, ALLEGRO)
    assert torch.allclose(energy(again), energy(network), rtol=1e-13)
    for name, value in again.to_original().items():
        assert torch.allclose(value, weights[name], rtol=1e-13), name
    assert type(network_from_original(weights, ALLEGRO)) is Allegro


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"allegro_mlp_nonlinearity": "mish"}, "allegro_mlp_nonlinearity='mish'"),
        ({"scalar_embed_mlp_nonlinearity": "silu"}, "as the weights have it"),
        ({"forward_normalize": False}, "forward_normalize=False"),
        ({"radial_chemical_embed": {"_target_": "x.MyEmbed"}}, r"x\.MyEmbed"),
        ({"l_maximum": 2}, "'l_maximum'.*'l_max'"),
        ({"num_tensor_features": 5}, r"has shape .*, the network needs"),
        ({"num_layers": 2}, "has shape .*, the network needs"),
    ],
)
def test_settings_that_allegro_cannot_have_are_refused(
    settings: dict[str, Any], match: str
) -> None:
    weights = allegro().to_original()
    with pytest.raises((ConfigError, WeightsError), match=match):
        Allegro.from_original(weights, {**ALLEGRO, **settings})
    missing = {name: v for name, v in ALLEGRO.items() if name != "l_max"}
    with pytest.raises(ConfigError, match="config needs l_max"):
        Allegro.from_original(weights, missing)


def test_networks_that_allegro_does_not_know_are_not_written() -> None:
    with pytest.raises(ConfigError, match="a head with layers"):
        allegro(
            head={"kind": "atomwise", "layers": [3], "bias": False, "pair": True}
        ).to_original()


def so3net(**options: Any) -> SO3Net:
    return SO3Net(channels=4, num_levels=2, cutoff=3.0, **options).double()


def test_so3net_there_and_back() -> None:
    offsets = {"kind": "atomwise", "shift": "species", "constant": True}
    network = so3net(lmax=1, basis="bessel_basis", shared_levels=True, head=offsets)
    weights = network.to_original()
    given = {f"model.{name}": value for name, value in weights.items()}
    given["model.representation.so3convs.0.Widx"] = torch.arange(7)
    again = network_from_original(given, {"shared_interactions": True})
    assert type(again) is SO3Net
    assert torch.allclose(energy(again), energy(network), rtol=1e-13)
    found = again.to_original()
    assert found.keys() == weights.keys()
    for name, value in found.items():
        assert torch.allclose(value, weights[name], rtol=1e-14), name


def test_what_so3net_cannot_mean_is_refused() -> None:
    weights = so3net().to_original()
    with pytest.raises(WeightsError, match="lmax is 1 in the settings and 2 in"):
        SO3Net.from_original(weights, {"lmax": 1})
    with pytest.raises(ConfigError, match="shared_filters: SO3net"):
        SO3Net.from_original(weights, {"shared_filters": True})
    with pytest.raises(ConfigError, match="'activation' of SchNetPack"):
        SO3Net.from_original(weights, {"activation": "relu"})
    more = {**weights, "representation.electronic_embeddings.0.w": torch.ones(1)}
    with pytest.raises(WeightsError, match="electronic_embeddings"):
        SO3Net.from_original(more)
    odd = {**weights, FILTERS: torch.ones(13, 20)}
    with pytest.raises(WeightsError, match="13 rows, no multiple of 4"):
        SO3Net.from_original(odd)
    with pytest.raises(ConfigError, match="the envelope 'polynomial'"):
        so3net(envelope="polynomial").to_original()


TFN_SETTINGS = {"hidden": "5x0e + 4x1o", "sh": "0e + 1o", "cutoff": 3.0}
E3NN = {"basis": {"kind": "e3nn_basis"}, "envelope": None}


def tfn(**options: Any) -> TFN:
    made = {"irreps": "5x0e + 4x1o", "cutoff": 3.0, **E3NN, **options}
    return TFN(avg_num_neighbors=1.0, **made).double()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"cutoff": None}, "config needs 'cutoff'"),
        ({"hidden": "5x0e + 4x1o", "sh": "0e + 1e"}, "even harmonics"),
        ({"sh": "0e + 2e"}, "all degrees to a largest, got 1x0e"),
        ({"act": "relu"}, "'act' of e3nn has no counterpart"),
    ],
)
def test_settings_of_tensor_field_networks(changes: dict[str, Any], match: str) -> None:
    changed = {**TFN_SETTINGS, **changes}
    settings = {name: value for name, value in changed.items() if value is not None}
    with pytest.raises(ConfigError, match=match):
        TFN.from_original(tfn().to_original(), settings)


def test_tensor_field_networks_that_e3nn_does_not_make() -> None:
    weights = tfn().to_original()
    with pytest.raises(WeightsError, match=r"fc\.layer1\.weight.* configuration"):
        TFN.from_original(weights, {**TFN_SETTINGS, "hidden": "5x0e + 3x1o"})
    for options in (
        {"envelope": "cosine"},
        {"basis": "gaussian_basis"},
        {"basis": {"kind": "e3nn_basis", "ends": True}},
    ):
        with pytest.raises(ConfigError, match="an envelope, or another basis"):
            tfn(**options).to_original()
    with pytest.raises(ConfigError, match="a head with layers"):
        tfn(head={"kind": "atomwise"}).to_original()


THESIS = {"l0": 5, "l1": 4, "l2": 0, "radial": "bessel", "rmax": 4.0, "avg": 9.0}
MLP = {**THESIS, "mlp": [3, 2, 2, 6, 3]}


def kernels(**options: Any) -> KernelNet:
    small = {"irreps": "5x0 + 4x1", "radial": [6], "embedding": 7, "num_levels": 2}
    basis = {"basis": "cut_bessel_basis", "num_basis": 5, "radius": 4.0}
    return KernelNet(avg_num_atoms=9.0, **{**small, **basis, **options}).double()


def with_mlp() -> KernelNet:
    outs = {"out_irreps": "3x0 + 2x1", "out_levels": 2, "out_channels": 6}
    network = kernels(out_layers=3, **outs)
    first, second, _ = network.head.mlp.linears
    second.load_state_dict(first.state_dict())  # one module there
    return network


def test_kernel_networks_there_and_back_inside_of_schnetpack() -> None:
    network = with_mlp()
    weights = network.to_original()
    weights["out.mlp.2.weight"] = weights["out.mlp.0.weight"]
    weights["out.mlp.2.bias"] = weights["out.mlp.0.bias"]
    parts = {"net.": "representation.", "out.": "output_modules.0.out_net."}
    inside = {f"model.{parts[n[:4]]}{n[4:]}": v for n, v in weights.items()}
    again = network_from_original(inside, MLP)
    assert type(again) is KernelNet
    assert torch.allclose(energy(again), energy(network), rtol=1e-13)
    mean = {"mean": 2.0, "std": 3.0, "atomref": [float(z) for z in range(10)]}
    scaled = KernelNet.from_original(weights, {**MLP, **mean})
    z, _ = random_molecule(8)
    expected = 3 * energy(network) + 2 * len(z) + z.sum()
    assert torch.allclose(energy(scaled), expected, rtol=1e-12)


def test_settings_of_kernel_networks() -> None:
    weights = kernels().to_original()
    for name in THESIS:
        rest = {key: value for key, value in THESIS.items() if key != name}
        with pytest.raises(ConfigError, match=f"config needs '{name}'"):
            KernelNet.from_original(weights, rest)
    with pytest.raises(ConfigError, match="radial must be one of"):
        KernelNet.from_original(weights, {**THESIS, "radial": "sine"})
    with pytest.raises(WeightsError, match=r"net\.layers\.1\.0\.R\.f\.weights\.1"):
        KernelNet.from_original(weights, {**THESIS, "l1": 3})
    with pytest.raises(ConfigError, match=r"config needs 'mlp': \[l0, l1"):
        KernelNet.from_original(with_mlp().to_original(), THESIS)
    more = {**weights, "net.layers.1.1.weight": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"'net\.layers\.1\.1\.weight' of equi"):
        KernelNet.from_original(more, THESIS)


def test_kernel_networks_that_the_thesis_does_not_know() -> None:
    for options in ({"cutoff": 4.0}, {"basis": "gaussian"}):
        with pytest.raises(ConfigError, match="a cutoff, or another basis"):
            kernels(**options).to_original()
    network = with_mlp()
    torch.nn.init.zeros_(network.head.mlp.linears[1].weight)
    with pytest.raises(ConfigError, match="hidden layers of an MLP that differ"):
        network.to_original()


def test_gaussians_of_a_file_are_not_rounded() -> None:
    """They are kept as weights, in the precision of the file."""
    config = {"l0": 94, "l1": 1, "l2": 0, "radial": "gaussian", "rmax": 2.87, "avg": 18}
    weights = BRandNet().double().to_original()
    network = BRandNet.from_original(weights, {**config, "mlp": [48, 12, 1, 51, 2]})
    basis = network.convs[3].radial.basis
    assert torch.allclose(basis.widths, torch.tensor((2.87 / 102) ** 0.5).double())
    step = basis.offsets.diff()
    assert float((step - 2.87 / 50).abs().max()) < 1e-15
