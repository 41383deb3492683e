"""Train a Cormorant potential on energies and forces, with Lightning for the loop.

    python examples/md17.py                               # embedded ethanol, 2 minutes
    python examples/md17.py --loss energies --model published
    python examples/md17.py --npz rmd17_aspirin.npz --molecule aspirin --epochs 300
    python examples/md17.py --out runs/ethanol --resume   # go on after a stop

Writes model.safetensors, checkpoints, results.json, learning_curve.png and
parity.png to --out. The embedded frames are this project's own (GFN2-xTB), not MD17's.
Copy this file and change it: everything it calls is public.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any, NoReturn

import torch
from lightning.pytorch import Trainer, seed_everything

from torch_cormorant import Cormorant, train
from torch_cormorant.data import (
    MD17,
    FrameDataset,
    MiniEthanol,
    Split,
    split_indices,
)
from torch_cormorant.errors import CormorantError

# A published network trained on energies alone, as in the paper, or today's potential.
MODELS = {"potential": "forces", "published": "energies"}


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def natural(text: str) -> int:
    """An integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def positive_int(text: str) -> int:
    """An integer of at least 1."""
    if natural(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return int(text)


def not_negative(text: str) -> float:
    """A number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def positive(text: str) -> float:
    """A number above 0."""
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--npz", type=Path, help="MD17 arrays; default: embedded ethanol")
    data.add_argument(
        "--molecule",
        choices=sorted(train.MD17_PUBLISHED),
        help="of --npz; published error beside ours",
    )
    data.add_argument(
        "--official",
        type=positive_int,
        metavar="1-5",
        help="official split of revised MD17: its 1,000 training frames, of which\n"
        "the last --valid-size are for validation, and 1,000 test frames",
    )
    data.add_argument("--train-size", type=positive_int, default=400)
    data.add_argument("--valid-size", type=positive_int, default=100)
    data.add_argument("--test-size", type=positive_int, default=500)
    model = parser.add_argument_group("model and loss")
    model.add_argument(
        "--model",
        choices=tuple(MODELS),
        default="potential",
        help="potential: smooth, for molecular dynamics (default)\n"
        "published: the paper's network for MD17",
    )
    model.add_argument(
        "--loss",
        choices=("energies", "forces"),
        help="energies alone (the paper; default of published),\n"
        "or energies and forces (default of potential)",
    )
    model.add_argument("--energy-weight", type=not_negative, default=1.0)
    model.add_argument("--force-weight", type=positive, default=1.0)
    model.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    loop = parser.add_argument_group("training")
    loop.add_argument("--epochs", type=positive_int, default=16)
    loop.add_argument("--batch-size", type=positive_int, default=5)
    loop.add_argument("--lr", type=positive, help="default 1e-2 (published: 5e-4)")
    loop.add_argument("--schedule", choices=("constant", "cosine"), default="cosine")
    loop.add_argument("--warmup", type=natural, default=50, help="steps; default 50")
    loop.add_argument("--ema", type=not_negative, default=0.99, help="0: no average")
    loop.add_argument("--clip", type=not_negative, default=10.0, help="0: no limit")
    loop.add_argument("--seed", type=natural, default=0)
    loop.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    loop.add_argument("--threads", type=positive_int, default=1, help="CPU; default 1")
    out = parser.add_argument_group("output")
    out.add_argument("--out", type=Path, help="folder; default runs/<data>-#")
    out.add_argument("--resume", action="store_true", help="go on with --out")
    out.add_argument("--overwrite", action="store_true", help="replace --out")
    args = parser.parse_args(argv)
    if args.resume and (args.overwrite or args.out is None):
        parser.error("--resume needs --out and excludes --overwrite")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this PyTorch sees no CUDA device")
    if args.molecule is not None and args.npz is None:
        parser.error("--molecule: the embedded frames are not MD17's; give --npz")
    if args.official is not None and args.npz is None:
        parser.error("--official: the embedded frames are not MD17's; give --npz")
    args.loss = args.loss or MODELS[args.model]
    args.lr = args.lr or (1e-2 if args.model == "potential" else 5e-4)
    return args


def load(args: argparse.Namespace) -> FrameDataset:
    """The frames, with energies in kcal/mol (MD17) or eV (embedded)."""
    return MiniEthanol() if args.npz is None else MD17(npz=args.npz)


def divide(data: FrameDataset, args: argparse.Namespace) -> Split:
    """An official split of revised MD17, or a permutation."""
    if args.official is not None and isinstance(data, MD17):
        return data.official_split(args.official, args.valid_size)
    return split_indices(
        len(data), args.train_size, args.valid_size, args.test_size, args.seed
    )


def make_model(args: argparse.Namespace, species: tuple[int, ...]) -> Cormorant:
    """A potential, or the network of the paper."""
    if args.model == "published":
        from torch_cormorant import CormorantMD17

        return CormorantMD17(species)
    return Cormorant.potential(species, num_levels=2)


def settings(
    args: argparse.Namespace, data: FrameDataset, split: Split
) -> dict[str, object]:
    """What must be the same when a run is resumed."""
    names = (
        "model loss energy_weight force_weight dtype batch_size lr schedule warmup "
        "ema clip seed"
    )
    return {
        "data_sha256": data.digest,
        "split_sha256": split.digest,
        **{name: getattr(args, name) for name in names.split()},
    }


def make_module(
    args: argparse.Namespace, loaders: train.FrameDataModule, unit: str
) -> train.PotentialRegression:
    """Network, normalisation and loss."""
    forces = args.loss == "forces"
    published = args.model == "published"
    model = make_model(args, loaders.train.species)
    return train.PotentialRegression(
        model.to(getattr(torch, args.dtype)),
        train.potential_normalisation(loaders.train, forces=forces, constant=published),
        unit=unit,
        energy_weight=args.energy_weight,
        force_weight=args.force_weight if forces else 0.0,
        # The paper's loss is that of the energies as they are.
        per_atom=forces,
        lr=args.lr,
        schedule=args.schedule,
        warmup_steps=args.warmup,
        ema_decay=args.ema,
    )


def run(args: argparse.Namespace) -> None:
    """Load, train, test, record."""
    torch.set_num_threads(args.threads)
    seed_everything(args.seed, verbose=False)
    data = load(args)
    split = divide(data, args)
    loaders = train.FrameDataModule(data, split, args.batch_size, args.seed)
    target = train.energy_target(str(data.energy_unit))
    module = make_module(args, loaders, target.unit)
    name = args.molecule or ("ethanol-xtb" if args.npz is None else args.npz.stem)
    folder = (
        train.RunFolder(args.out)
        if args.out
        else train.RunFolder.fresh(Path("runs") / name.replace(" ", "-"))
    )
    chosen = settings(args, data, split)
    remark = folder.prepare(
        chosen, resume=args.resume, overwrite=args.overwrite, epochs=args.epochs
    )
    if remark:
        print(remark)
    count = sum(parameter.numel() for parameter in module.model.parameters())
    sizes = " / ".join(str(len(part)) for part in split.parts)
    print(f"{data.title}, {data.level_of_theory}: {sizes} train/valid/test frames")
    print(f"{args.model} network, {count:,} parameters, {args.loss}, to {folder.path}")
    log = train.EpochLog(target)
    trainer = fit(args, module, loaders, folder, log)
    test(args, trainer, module, loaders, folder, log, chosen)


def fit(
    args: argparse.Namespace,
    module: train.PotentialRegression,
    loaders: train.FrameDataModule,
    folder: train.RunFolder,
    log: train.EpochLog,
) -> Trainer:
    """Train, and put the weights of the best epoch into the module."""
    bar = [train.EpochBar()] if sys.stdout.isatty() else []
    checkpoints = train.AtomicCheckpointIO()
    saver = train.RunCheckpoints(folder.path, "valid_loss", every_minutes=5)
    with train.quiet_lightning():
        trainer = Trainer(
            max_epochs=args.epochs,
            accelerator="cpu" if args.device == "cpu" else "auto",
            devices=1,
            gradient_clip_val=args.clip or None,
            callbacks=[log, train.SpikeGuard("skip"), saver, *bar],
            plugins=[checkpoints],
            enable_progress_bar=bool(bar),
            enable_model_summary=False,
            logger=False,
            num_sanity_val_steps=0,
        )
        start, note = None, ""
        if args.resume:
            start, note = train.resume_point(folder, args.epochs)
        if note:
            print(note)
        try:
            trainer.fit(module, loaders, ckpt_path=start)
        except SystemExit:  # what Lightning makes of Ctrl-C
            raise KeyboardInterrupt(folder.path) from None
    best = checkpoints.load_checkpoint(folder.best)
    module.load_state_dict(best["state_dict"])
    return trainer


def test(
    args: argparse.Namespace,
    trainer: Trainer,
    module: train.PotentialRegression,
    loaders: train.FrameDataModule,
    folder: train.RunFolder,
    log: train.EpochLog,
    chosen: dict[str, Any],
) -> None:
    """Errors on the test frames, model file, record and plots."""
    target = log.target
    with train.quiet_lightning():
        outputs: Any = trainer.predict(module, loaders)
    output = train.join_outputs(outputs)
    errors = train.frame_errors(loaders.train, loaders.test, output, args.molecule)
    record = {
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        "data": loaders.test.title,
        "level_of_theory": loaders.test.level_of_theory,
        "compositions": loaders.train.compositions(),
        "settings": {**chosen, "epochs": args.epochs},
        "test": errors.record(),
        "epochs": log.rows,
        "seconds": log.seconds,
        "versions": train.versions(),
        "hardware": train.hardware(trainer.strategy.root_device),
    }
    train.write_json(folder.results, record)
    kept = {name: value for name, value in record.items() if name != "epochs"}
    module.save_network(folder.model, ["energy"], [target.unit], kept)
    title = f"{loaders.test.title}: {args.model} network"
    train.plot_learning_curve(folder.learning_curve, log.rows, target, title=title)
    train.plot_parity(
        folder.parity,
        loaders.test.values,
        output.energy[:, None],
        target,
        title=title,
        what="test frames",
    )
    table = errors.table(
        f"Cormorant, {args.model}, {args.loss}",
        f"{loaders.test.title}: {len(loaders.test)} test frames, "
        f"{len(loaders.train)} training frames",
        factor=target.shown_factor,
        unit=target.shown_unit,
    )
    print(f"\n{table}")
    print(f"{log.seconds:.0f} s of training; model, results and plots in {folder.path}")


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake of the user ends in one line and exit code 2."""
    try:
        run(parse(argv))
    except (CormorantError, OSError) as error:
        print(f"md17.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        where = f"; go on with --out {stop} --resume" if stop.args else ""
        print(f"md17.py: stopped{where}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
