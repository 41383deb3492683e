"""The commands and their arguments."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from torch_cormorant.errors import CormorantError, CormorantWarning
from torch_cormorant.version import __version__

__all__ = ["main"]

_EVALUATE = """Errors on labelled structures, beside simple baselines.

Of a potential: energies and forces, from extxyz and what else ASE reads (traj, db,
json), npz of frames or of (revised) MD17, or mini_ethanol. Of properties: from npz of
QM9 arrays, the folder of QM9's raw files, mini_qm9, or extxyz that holds each property
by its name.

    cormorant evaluate model.safetensors mini_qm9        # its own test molecules
    cormorant evaluate model.safetensors qm9.npz --part all
    cormorant evaluate model.safetensors new.extxyz --unit gap=Hartree mu=Debye
    cormorant evaluate model.safetensors new.traj --energy dft_E --forces dft_F

If the structures are those that the model was trained on, only the test part of that
training is taken, unless --part says otherwise.
"""
_DESCRIPTION = """Cormorant: covariant molecular networks.

    cormorant train gap.yaml                         train as a configuration says
    cormorant train gap.yaml --override training.epochs=5
    cormorant evaluate model.safetensors test.extxyz errors on labelled structures
    cormorant predict model.safetensors new.sdf -o out.csv
    cormorant info model.safetensors                 what is in a model file
    cormorant models                                 trained weights that come along

Every command explains itself: cormorant train --help"""
_TRAIN = """Train as a YAML configuration says.

Written are model.safetensors, report.html, results.json and checkpoints.

    cormorant train examples/configs/mini_gap.yaml
    cormorant train qm9.yaml --override data.target=homo training.lr=1e-3
    cormorant train qm9.yaml --out runs/homo --resume     # go on after a stop
    cormorant train --keys                                # everything a config may hold
"""


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; a mistake of the user ends in one line and exit code 2.

    Args:
        arguments: As on the command line; default those of the process.

    Returns:
        The exit code.
    """
    args = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], None] = args.run
    usual = warnings.formatwarning

    def shown(message: Warning | str, *place: Any, **rest: Any) -> str:
        # Of ours, the line of code that warns tells a user nothing.
        if isinstance(message, CormorantWarning):
            return f"cormorant {args.command}: warning: {message}\n"
        return usual(message, *place, **rest)

    try:
        warnings.formatwarning = shown
        _import_parts(getattr(args, "parts", ()))
        run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # as with `| head`
        _drop_output()
        return 1
    except (CormorantError, OSError) as error:
        _say(args.command, str(error))
        _flush_output()
        return 2
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _say(args.command, str(error).partition("\n")[0] or "out of memory")
        return 2
    except KeyboardInterrupt as stop:
        where = f"; go on with --out {stop} --resume" if stop.args else ""
        print(f"cormorant {args.command}: stopped{where}", file=sys.stderr)
        return 130
    finally:
        warnings.formatwarning = usual
    return 0


def _import_parts(names: Sequence[str]) -> None:
    """Own classes that files and configurations may name."""
    if names:
        from torch_cormorant.nn.parts import import_part

        for name in names:
            import_part(name)


def _say(command: str, message: str) -> None:
    """One line, also where a message of another package has several."""
    print(f"cormorant {command}: error: {' '.join(message.split())}", file=sys.stderr)


def _flush_output() -> None:
    """Python would try once more at its end, and complain once more."""
    try:
        sys.stdout.flush()
    except OSError:
        _drop_output()


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_out_of_memory(error: Exception) -> bool:
    # PyTorch has a type of its own for GPUs only.
    text = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(word in text for word in words)


def _parser() -> Parser:
    parser = Parser(
        prog="cormorant",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=Parser
    )
    _add_train(commands)
    _add_model_commands(commands)
    _add_others(commands)
    return parser


def _late(place: str) -> Callable[[argparse.Namespace], None]:
    """A command that is imported when it runs: PyTorch and PyG take seconds."""
    module, name = place.split(".")

    def run(args: argparse.Namespace) -> None:
        getattr(import_module(f"torch_cormorant.cli.{module}"), name)(args)

    return run


def _add(
    commands: argparse._SubParsersAction[Parser],
    name: str,
    run: Callable[[argparse.Namespace], None],
    text: str,
) -> Parser:
    command = commands.add_parser(
        name,
        help=text.splitlines()[0].rstrip(":."),
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command


def _add_train(commands: argparse._SubParsersAction[Parser]) -> None:
    command = _add(commands, "train", _train, _TRAIN)
    command.add_argument("config", nargs="?", type=_path, help="YAML file")
    command.add_argument(
        "--override",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="section.key=value, taken after the file",
    )
    _add_parts(command)
    command.add_argument("--out", type=_path, help="folder of the run")
    command.add_argument("--resume", action="store_true", help="go on with the run")
    command.add_argument("--overwrite", action="store_true", help="replace the run")
    command.add_argument(
        "--check", action="store_true", help="check the configuration and stop"
    )
    command.add_argument("--keys", action="store_true", help="print all keys and stop")


def _add_parts(command: Parser) -> None:
    command.add_argument(
        "--parts",
        nargs="+",
        action="extend",
        default=[],
        metavar="MODULE:NAME",
        help="own heads and radial functions that the network has",
    )


def _train(args: argparse.Namespace) -> None:
    from torch_cormorant.errors import ConfigError, DataError
    from torch_cormorant.train.requirements import require_extra

    require_extra((*_NEEDED, "lightning", "torchmetrics", "matplotlib"))
    from torch_cormorant.cli.config import load_config, schema_text
    from torch_cormorant.train import fit, fit_seeds
    from torch_cormorant.train.sources import check_data
    from torch_cormorant.train.starting import Start

    if args.keys:
        print(schema_text())
        return
    if args.config is None:
        raise ConfigError("config: which file? cormorant train --help shows examples")
    if args.resume and args.overwrite:
        raise ConfigError("--resume and --overwrite exclude each other")
    config = load_config(args.config, args.override)
    check_data(config.data)
    if args.check:
        if config.training.start:
            Start(config.training)
        print(f"{args.config}: fine")
        return
    default = config.output.folder or Path("runs") / args.config.stem
    out = args.out or Path(default)
    run = fit_seeds if len(config.training.seeds) > 1 else fit
    try:
        run(config, out, resume=args.resume, overwrite=args.overwrite)
    except BrokenPipeError:
        raise
    except OSError as error:
        # A failed write knows no name: the temporary file is gone again.
        kept = any(out.rglob("*.ckpt"))
        raise DataError(
            f"{out}: writing failed ({error.strerror or error}); what was written "
            f"before is whole: make room and {'go on with --resume' * kept}"
            f"{'start again' * (not kept)}"
        ) from error


_NEEDED = ("yaml", "safetensors")
_MODEL = (
    "model.safetensors, the folder of a training with several seeds, or a name of "
    "`cormorant models`"
)


def _add_model_commands(commands: argparse._SubParsersAction[Parser]) -> None:
    formats = (
        "extxyz, npz, sdf, csv with a column of SMILES, smi, what else ASE reads, or a "
        "SMILES"
    )
    evaluate = _add(
        commands,
        "evaluate",
        _late("evaluation.evaluate"),
        _EVALUATE,
    )
    predict = _add(
        commands,
        "predict",
        _late("prediction.predict"),
        f"Predict for structures of many formats.\n\nThese are {formats}:\n\n"
        "    cormorant predict gap.safetensors molecules.csv -o gaps.csv\n"
        "    cormorant predict gap.safetensors 'CCO' -o ethanol.csv\n"
        "    cormorant predict runs/seeds frames.extxyz -o with_spread.extxyz\n"
        "    cormorant predict organic-gfn2 molecules.smi --relax -o relaxed.extxyz\n"
        "    cormorant predict qm9 molecules.smi --totals --relax-by organic-gfn2\n\n"
        "Without -o a table is printed. "
        "SMILES get geometries from RDKit (ETKDG and MMFF): good enough for a look, "
        "not\nthe geometries of the training.",
    )
    labelled = (
        "extxyz and what else ASE reads, npz, folder of QM9, mini_qm9 or mini_ethanol"
    )
    for command, inputs in ((evaluate, labelled), (predict, formats)):
        command.add_argument("model", type=_path, help=_MODEL)
        command.add_argument("input", type=_path, help=inputs)
        command.add_argument("--batch-size", type=_positive, default=64)
        command.add_argument("--device", default="cpu", help="cpu or cuda")
        command.add_argument(
            "--data-part", metavar="NAME", help="part of a divided npz file of frames"
        )
    evaluate.add_argument(
        "--part",
        choices=("train", "valid", "test", "all"),
        help="of the data the model was trained on; default test",
    )
    for field in ("energy", "forces"):
        evaluate.add_argument(
            f"--{field}",
            metavar="NAME",
            help=f"name of the {field} in the file; default that of the training",
        )
    for command, text in (
        (evaluate, "units of an extxyz file; default those of the model"),
        (predict, "pos=UNIT: unit of the positions of an extxyz file; default Å"),
    ):
        command.add_argument(
            "--unit",
            nargs="+",
            action="extend",
            default=[],
            metavar="NAME=UNIT",
            help=text,
        )
    predict.add_argument(
        "-o", "--output", type=_path, help=".extxyz or .csv; default: print a table"
    )
    predict.add_argument(
        "--overwrite", action="store_true", help="replace an output that is there"
    )
    predict.add_argument(
        "--no-forces", action="store_true", help="energies alone, where forces exist"
    )
    predict.add_argument(
        "--totals",
        action="store_true",
        help="of models of QM9: U0, U, H, G and Cv as QM9 prints them, those of the "
        "free atoms added",
    )
    predict.add_argument(
        "--relax",
        nargs="?",
        type=_force,
        const=0.01,
        metavar="FORCE",
        help="move the atoms until no force is larger; default 0.01 eV/Angstrom",
    )
    predict.add_argument(
        "--relax-by",
        type=_path,
        metavar="MODEL",
        help="the potential that moves them, such as organic-gfn2; default: the model",
    )
    info = _add(
        commands,
        "info",
        _late("inspection.info"),
        "What is in a model file.\n\n"
        "Architecture, parameters per part, paths, cutoffs, units, training record.",
    )
    info.add_argument("model", type=_path, help=_MODEL)
    native = _add(
        commands,
        "native",
        _late("native.native"),
        "A potential as a file for C programs and LAMMPS.\n\n"
        "    cormorant native model.safetensors model.cormorant\n\n"
        "What the native evaluator does not cover is refused by name.",
    )
    native.add_argument(
        "model", type=_path, help="model.safetensors, or NAME/0 of `cormorant models`"
    )
    native.add_argument("output", type=_path, help="such as model.cormorant")
    convert = _add(
        commands,
        "convert",
        _late("inspection.convert"),
        "Weights of other packages to a model file, or back.\n\n"
        "    cormorant convert weights.npz model.safetensors --kind qm9\n"
        "    cormorant convert nequip.ckpt model.safetensors --config settings.yaml\n"
        "    cormorant convert painn.pt model.safetensors --species H C O --unit eV\n"
        "    cormorant convert model.safetensors weights.npz\n\n"
        "Read are the original Cormorant, Allegro, NequIP, PaiNN and SO3net\n"
        "(SchNetPack), SchNet (torch-geometric), TFN (e3nn), SEGNN, SE(3)-Transformer\n"
        "and the networks of the e3nn thesis, known by the names of their weights.",
    )
    convert.add_argument(
        "source", type=_path, help=".npz, .pt, .ckpt; .safetensors: back"
    )
    convert.add_argument("output", type=_path, help=".safetensors; .npz or .pt: back")
    convert.add_argument("--kind", choices=("qm9", "md17"), default="qm9")
    convert.add_argument("--target", default="", help="name of the output")
    convert.add_argument("--unit", default="", help="unit of the output")
    convert.add_argument(
        "--config",
        type=_path,
        metavar="FILE",
        help="settings that the weights do not hold, YAML or JSON",
    )
    convert.add_argument(
        "--species",
        nargs="+",
        default=[],
        metavar="SYMBOL",
        help="elements that the network was trained on, where its weights do not tell",
    )
    for command in (evaluate, predict, info, native, convert):
        _add_parts(command)


def _add_others(commands: argparse._SubParsersAction[Parser]) -> None:
    data = _add(
        commands,
        "datasets",
        _late("inspection.datasets"),
        "Fetch, verify and describe data sets.\n\n"
        "    cormorant datasets                      the sets there are\n"
        "    cormorant datasets mini_qm9             describe one\n"
        "    cormorant datasets qm9 --path data/qm9  fetch (with --fetch) and describe",
    )
    data.add_argument("source", nargs="?", help="name of a set")
    data.add_argument("--path", default="", help="file or folder")
    data.add_argument("--molecule", default="", help="of MD17")
    data.add_argument(
        "--verify", action="store_true", help="compute and compare digests"
    )
    data.add_argument("--fetch", action="store_true", help="download what is missing")
    _add(
        commands,
        "models",
        _late("models.models"),
        "Trained weights that come with the package.\n\n"
        "Their names stand wherever a model file does:\n\n"
        "    cormorant predict organic-gfn2 molecules.smi\n"
        "    cormorant native organic-gfn2/0 model.cormorant   # one of an ensemble",
    )
    _add(
        commands,
        "backends",
        _late("inspection.backends"),
        "Which accelerated parts are in use, and how to enable the others.",
    )


def _path(text: str) -> Path:
    if not text:  # to pathlib the folder that one stands in
        raise argparse.ArgumentTypeError("no name is given")
    return Path(text)


def _force(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value
