"""``cormorant info``, ``convert``, ``datasets`` and ``backends``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from torch_cormorant.cli.foreign import read_settings
from torch_cormorant.errors import ConfigError, DataError
from torch_cormorant.networks.weight_files import SUFFIXES, read_state
from torch_cormorant.nn import SoftCutoff

__all__ = ["backends", "convert", "datasets", "info"]


def info(args: argparse.Namespace) -> None:
    """Print what is in a model file.

    Args:
        args: ``model``.
    """
    from torch_cormorant.conv import CormorantConv
    from torch_cormorant.models import Ensemble, Together, load_models

    model: Any = load_models(args.model)
    if isinstance(model, Ensemble):
        factors = [f"{name} {value:.3g}" for name, value in model.factors.items()]
        print(f"{args.model}: an ensemble of {len(model.models)} models")
        print(f"  spreads times {', '.join(factors) or '1'}; the first one:\n")
        model = model.models[0]
    elif isinstance(model, Together):
        print(f"{args.model}: {', '.join(model.info.targets)}; the first model:\n")
        model = model.models[0]
    known, network = model.info, getattr(model, "network", model)
    total = sum(p.numel() for p in model.parameters() if p.requires_grad)
    pairs = zip(known.targets, known.units, strict=True)
    outputs = ", ".join(f"{name} [{unit or 'no unit'}]" for name, unit in pairs)
    rows = {
        "class": " of ".join(dict.fromkeys(type(m).__name__ for m in (model, network))),
        "outputs": outputs,
        "lengths": "Angstrom",
        "elements": ", ".join(str(z) for z in network.features.known),
        "cutoff": "all pairs" if model.cutoff is None else f"{model.cutoff:g} Angstrom",
        "parameters": f"{total:,} of type {model.dtype}",
        "written by": f"torch-cormorant {known.version}",
        "SHA-256": known.digest,
    }
    print(args.model)
    print("\n".join(f"  {name + ':':<12} {value}" for name, value in rows.items()))
    print("\nparameters per part")
    for name, part in network.named_children():
        count = sum(p.numel() for p in part.parameters())
        if count:
            print(f"  {name:<12} {count:>9,}")
    print("\nlevels")
    for number, layer in enumerate(getattr(network, "convs", ()), 1):
        print(f"  {number}: {layer}")
        if isinstance(layer, CormorantConv):
            print(f"     {_radii(layer)}")
            print(f"     {_paths(layer)}")
    print("\nnormalisation")
    print(f"  scale {_shown(known.normalisation.std)}", end=", ")
    print(f"constant {_shown(known.normalisation.mean)}")
    for z, values in sorted(known.normalisation.atom_values.items()):
        print(f"  element {z}: {_shown(values)}")
    print("\nconfiguration")
    print(_indented(model.config))
    print("\ntraining record")
    print(_indented(dict(known.training)) if known.training else "  none")


def _shown(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _indented(content: dict[str, Any]) -> str:
    return "\n".join(f"  {name}: {json.dumps(v)}" for name, v in content.items())


def _radii(layer: Any) -> str:
    """Learned cutoffs of the channels of a level."""
    cutoff = layer.edge_network.cutoff
    if not isinstance(cutoff, SoftCutoff):
        return f"masks {cutoff}"
    if not cutoff.soft:
        return "no soft cutoffs"
    values = cutoff.radius.detach().flatten()
    return f"soft radii {values.min():.2f} to {values.max():.2f} Angstrom"


def _paths(layer: Any) -> str:
    """Products of degrees that a level uses, neighbours and square."""
    kinds = {"sum": layer.vertex.sum_paths, "square": layer.vertex.folded_paths}
    return "\n     ".join(
        f"paths of the {name}: " + " ".join(f"{a}x{b}>{c}" for a, b, c in table.paths)
        for name, table in kinds.items()
    )


def convert(args: argparse.Namespace) -> None:
    """Weights of other packages to a model file, or back.

    Args:
        args: ``source``, ``output``, ``kind``, ``target``, ``unit``, ``config`` and
            ``species``.

    Raises:
        ConfigError: The suffixes do not tell what is wanted.
        WeightsError: The weights do not fit.
    """
    source, output = args.source.suffix.lower(), args.output.suffix.lower()
    if source == ".safetensors" and output in (".npz", ".pt"):
        _to_original(args)
    elif source in (".npz", *SUFFIXES) and output == ".safetensors":
        _from_original(args)
    else:
        raise ConfigError(
            f"{args.source}, {args.output}: expected .npz, .pt or .ckpt to "
            ".safetensors, or .safetensors to .npz or .pt"
        )
    print(f"{args.output}: written")


def _to_original(args: argparse.Namespace) -> None:
    import numpy as np
    import torch

    from torch_cormorant.data.files import write_atomically
    from torch_cormorant.models import CormorantMD17, CormorantQM9, load_model
    from torch_cormorant.networks.original import WithOriginal

    model = load_model(args.source)
    network = getattr(model, "network", model)
    if not isinstance(network, (CormorantQM9, CormorantMD17, WithOriginal)):
        raise ConfigError(
            f"{args.source}: {type(network).__name__}; only the published networks "
            "and those read from other packages have counterparts there"
        )
    found = network.to_original()
    if args.output.suffix.lower() == ".npz":
        arrays: Any = {name: np.asarray(value) for name, value in found.items()}
        write_atomically(args.output, lambda stream: np.savez(stream, **arrays))
        return
    tensors = {name: torch.as_tensor(value) for name, value in found.items()}
    write_atomically(args.output, lambda stream: torch.save(tensors, stream))


def _from_original(args: argparse.Namespace) -> None:
    from torch_cormorant.models import CormorantMD17, CormorantQM9, save_model
    from torch_cormorant.networks.recognised import kind_of_weights

    weights, config = _read_weights(args.source)
    given = None if args.config is None else read_settings(args.config)
    training = {"source": f"weights of another package, {args.source.name}"}
    if kind_of_weights(weights) is not None:
        model = _of_family(args, weights, {**(config or {}), **(given or {})})
        save_model(args.output, model, training=training)
        return
    kind = CormorantQM9 if args.kind == "qm9" else CormorantMD17
    model = kind.from_original(weights, config if given is None else given)
    save_model(
        args.output,
        model,
        targets=[args.target or "target_1"] if model.num_targets == 1 else None,
        units=[args.unit] if model.num_targets == 1 else None,
        training=training,
    )


def _of_family(
    args: argparse.Namespace, weights: dict[str, Any], config: dict[str, Any]
) -> Any:
    """A network of the family, as a potential or with another target."""
    from torch_cormorant.elements import NUMBERS
    from torch_cormorant.models import ModelInfo, Normalisation, Potential, Predictor
    from torch_cormorant.networks import network_from_original

    unknown = [name for name in args.species if name not in NUMBERS]
    if unknown:
        raise ConfigError(f"--species: {unknown[0]!r} is no element")
    options = {"species": [NUMBERS[s] for s in args.species]} if args.species else {}
    network = network_from_original(weights, config, **options)
    if args.target in ("", "energy"):
        return Potential(network, energy_unit=args.unit or "eV")
    info = ModelInfo((args.target,), (args.unit,), Normalisation.none())
    return Predictor(network, info)


def _read_weights(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    from torch_cormorant.data.arrays import array_names, read_arrays

    if path.suffix.lower() in SUFFIXES:
        state, config = read_state(path)
        return state, config or None
    names = array_names(path)
    settings = [name for name in names if name.startswith("cfg_")]
    extra = ("input_", "output_", "force", "energy", "z", "pos", "batch", *settings)
    # Of the names with input_ only these are weights, those of the MD17 network.
    weights = [
        n for n in names if n.startswith("input_linear_") or not n.startswith(extra)
    ]
    file = read_arrays(path, names)
    config = {name.removeprefix("cfg_"): file[name].tolist() for name in settings}
    return {name: file[name] for name in weights}, config or None


def datasets(args: argparse.Namespace) -> None:
    """List, or describe one.

    Args:
        args: ``source``, ``path``, ``molecule`` and ``fetch``.
    """
    from torch_cormorant.data import DATASETS, dataset_info
    from torch_cormorant.data.download import DOWNLOAD
    from torch_cormorant.data.registry import SOURCE_TEXTS, SOURCES, source_name
    from torch_cormorant.train.config import DataConfig
    from torch_cormorant.train.sources import load_data

    if args.source is None:
        for name, text in SOURCE_TEXTS.items():
            print(f"{name:<14} {text}")
        return
    source = source_name(args.source)
    if source not in SOURCES:
        from torch_cormorant.train.config_checks import unknown_word

        raise ConfigError(unknown_word("data set", args.source, SOURCES))
    name = args.source.lower().replace("-", "_")
    if not source.startswith("mini") and not args.path:
        if name in DATASETS and not (args.fetch or args.verify):
            print(f"{dataset_info(name).describe()}\n--path FOLDER describes yours")
            return
        raise ConfigError(f"{args.source}: which? give --path")
    if args.molecule and source != "md17":
        raise ConfigError(
            f"--molecule {args.molecule}: only MD17 has several molecules"
        )
    if args.verify:
        _verify(args)
    if source == "extxyz":
        print(_own_file(args.path).describe())
        return
    data = DataConfig(source=source, path=args.path, molecule=args.molecule)
    try:
        print(load_data(data, download=args.fetch).describe())
    except DataError as error:
        raise DataError(str(error).replace(DOWNLOAD, "--fetch downloads it")) from None


def _own_file(path: str) -> Any:
    """An own file, with energies and forces where they have ASE's names."""
    from torch_cormorant.data import FrameFile, read_extxyz

    held = FrameFile(path).names()
    energy, forces = (name if name in held else None for name in ("energy", "forces"))
    return read_extxyz(path, energy, forces)


def _verify(args: argparse.Namespace) -> None:
    from torch_cormorant.data import DATASETS, verify_dataset

    name = args.source.lower().replace("-", "_")
    if name not in DATASETS:
        raise ConfigError(
            f"--verify: no digests are known for {name!r}; there are "
            f"{', '.join(sorted(DATASETS))}"
        )
    for check in verify_dataset(name, Path(args.path) if args.path else None):
        print(f"{check.path}: {check.size:,} bytes, {check.digest}, {check.verdict}")


def backends(args: argparse.Namespace) -> None:
    """Print what is used, what is missing and how to enable it.

    Args:
        args: Nothing.
    """
    del args
    from torch_cormorant.backends import show_backends

    show_backends()
