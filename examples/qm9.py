"""Train Cormorant on a molecular property, with Lightning for the loop.

    python examples/qm9.py                                     # small embedded set
    python examples/qm9.py --target homo --epochs 100
    python examples/qm9.py --npz qm9.npz --target alpha --train-size 5000
    python examples/qm9.py --out runs/alpha --resume           # go on after a stop

Writes checkpoints, results.json, learning_curve.png and parity.png to --out.
Copy this file and change it: everything it calls is public.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import NoReturn

import torch
from lightning.pytorch import Trainer, seed_everything

from torch_cormorant import CormorantQM9, train
from torch_cormorant.data import (
    QM9,
    MiniQM9,
    MoleculeDataset,
    Split,
    split_indices,
)
from torch_cormorant.errors import CormorantError
from torch_cormorant.models import head_for_target, recipe, reference_for_head

DTYPES = {"float32": torch.float32, "float64": torch.float64}
# Few molecules are passed over often and fast; on QM9 the published network takes the
# rate of the paper.
EMBEDDED = {"target": "gap", "epochs": 30, "lr": 2e-3, "warmup": 0}
LOOP = "batch_size lr schedule warmup clip seed"
WHOLE = {
    "recipe": {"target": "U0", "epochs": 100, "lr": 1e-3, "warmup": 100},
    "published": {"target": "U0", "epochs": 100, "lr": 5e-4, "warmup": 0},
}


class Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")


def positive_int(text: str) -> int:
    """An integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def natural(text: str) -> int:
    """An integer of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def limit(text: str) -> float:
    """A number of at least 0."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    data = parser.add_argument_group("data")
    source = data.add_mutually_exclusive_group()
    source.add_argument(
        "--npz", type=Path, help="QM9 arrays; default: the embedded set"
    )
    source.add_argument("--root", type=Path, help="folder of PyG's raw files of QM9")
    data.add_argument("--target", help="property; default gap (QM9: U0)")
    data.add_argument("--train-size", type=positive_int, help="training molecules")
    data.add_argument("--valid-size", type=positive_int, help="validation molecules")
    data.add_argument("--test-size", type=positive_int, help="test molecules")
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        choices=("published", "recipe"),
        default="recipe",
        help="recipe: the settings that did best in our ablations (default)\n"
        "published: the paper's network, 299,808 parameters",
    )
    model.add_argument(
        "--head",
        help="what turns atoms into the prediction; default: published, or the one\n"
        "that fits the target (recipe), such as dipole_norm for mu",
    )
    model.add_argument(
        "--reference",
        choices=("mean", "composition", "none"),
        help="what the network learns the rest of; default: mean (published), or\n"
        "what fits the head (recipe): for energies least squares on the number of\n"
        "atoms of each element",
    )
    model.add_argument("--cutoff", type=positive, help="Angstrom; published: all pairs")
    model.add_argument("--dtype", choices=tuple(DTYPES), default="float32")
    loop = parser.add_argument_group("training")
    loop.add_argument("--epochs", type=positive_int, help="default 30 (QM9: 100)")
    loop.add_argument("--batch-size", type=positive_int, default=25)
    loop.add_argument(
        "--lr", type=positive, help="default 2e-3 (QM9: recipe 1e-3, published 5e-4)"
    )
    loop.add_argument("--schedule", choices=("constant", "cosine"), default="cosine")
    loop.add_argument(
        "--warmup", type=natural, help="steps; default 0 (QM9, recipe: 100)"
    )
    loop.add_argument(
        "--clip", type=limit, default=1.0, help="gradient norm; default 1, 0: no limit"
    )
    loop.add_argument(
        "--calibrate", action="store_true", help="rescale the levels on data first"
    )
    loop.add_argument(
        "--captured",
        action="store_true",
        help="whole steps as one CUDA graph, batches filled up to fixed sizes",
    )
    loop.add_argument("--seed", type=natural, default=0)
    loop.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    loop.add_argument("--threads", type=positive_int, default=1, help="CPU; default 1")
    out = parser.add_argument_group("output")
    out.add_argument("--out", type=Path, help="folder; default runs/<data>-<target>-#")
    out.add_argument("--resume", action="store_true", help="go on with --out")
    out.add_argument("--overwrite", action="store_true", help="replace --out")
    args = parser.parse_args(argv)
    if args.resume and (args.overwrite or args.out is None):
        parser.error("--resume needs --out and excludes --overwrite")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this PyTorch sees no CUDA device")
    real = args.npz is not None or args.root is not None
    defaults = WHOLE[args.model] if real else EMBEDDED
    for name, value in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def choose_head(args: argparse.Namespace) -> None:
    """The head that fits the target, and what may be subtracted from its labels."""
    ours = args.model == "recipe"
    if args.head is None:
        args.head = head_for_target(args.target) if ours else "published"
    if args.reference is None:
        args.reference = reference_for_head(args.head) if ours else "mean"


def make_model(args: argparse.Namespace) -> torch.nn.Module:
    """The network of the paper, or our recipe; both end in one number."""
    species = (1, 6, 7, 8, 9)
    if args.model == "published":
        return CormorantQM9(species=species, cutoff=args.cutoff, head=args.head)
    cutoff = 5.0 if args.cutoff is None else args.cutoff
    return recipe(species, head=args.head, cutoff=cutoff)


def settings(
    args: argparse.Namespace, data: MoleculeDataset, split: Split
) -> dict[str, object]:
    """What must be the same when a run is resumed."""
    names = "model head reference cutoff dtype calibrate captured " + LOOP
    return {
        "target": data.target.name,
        "data_sha256": data.digest,
        "split_sha256": split.digest,
        **{name: getattr(args, name) for name in names.split()},
    }


def on_gpu(args: argparse.Namespace) -> bool:
    """Whether to train on a CUDA device."""
    return args.device != "cpu" and torch.cuda.is_available()


def load(args: argparse.Namespace) -> MoleculeDataset:
    """QM9, or the embedded molecules."""
    if args.npz is None and args.root is None:
        return MiniQM9(args.target)
    # What is missing in the folder is downloaded.
    return QM9(root=args.root, npz=args.npz, target=args.target)


def run(args: argparse.Namespace) -> None:
    """Load, train, test, record."""
    torch.set_num_threads(args.threads)
    seed_everything(args.seed, verbose=False)

    data = load(args)
    choose_head(args)
    split = split_indices(
        len(data), args.train_size, args.valid_size, args.test_size, args.seed
    )
    loaders = train.MoleculeDataModule(
        data, split, args.batch_size, args.seed, args.reference
    )
    module = train.PropertyRegression(
        make_model(args).to(DTYPES[args.dtype]),
        loaders.mean,
        loaders.std,
        atom_values=loaders.atom_values,
        lr=args.lr,
        schedule=args.schedule,
        warmup_steps=args.warmup,
    )

    kind, name = ("qm9" if data.is_qm9 else "mini"), data.target.name
    folder = (
        train.RunFolder(args.out)
        if args.out
        else train.RunFolder.fresh(Path("runs") / f"{kind}-{name}")
    )
    chosen = settings(args, data, split)
    remark = folder.prepare(
        chosen, resume=args.resume, overwrite=args.overwrite, epochs=args.epochs
    )
    if remark:
        print(remark)
    count = sum(parameter.numel() for parameter in module.parameters())
    if args.calibrate and not args.resume:
        module.model.calibrate(loaders.train_dataloader())
    if args.captured:
        room = train.PaddedSizes.of(module.model, loaders.train, args.batch_size)
        module.capture(room, args.clip)
    sizes = " / ".join(str(len(part)) for part in split.parts)
    print(f"{data.title}, {data.level_of_theory}: {name}, {sizes} train/valid/test")
    print(f"{args.model} network, {count:,} parameters, to {folder.path}")

    log = train.EpochLog(data.target)
    bar = [train.EpochBar()] if sys.stdout.isatty() else []
    checkpoints = train.AtomicCheckpointIO()
    with train.quiet_lightning():
        trainer = Trainer(
            max_epochs=args.epochs,
            accelerator="gpu" if on_gpu(args) else "cpu",
            devices=1,
            gradient_clip_val=None if args.captured else args.clip or None,
            callbacks=[log, *train.best_and_last(folder.path), *bar],
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
        predicted = torch.cat(trainer.predict(module, loaders))

    errors = train.compare(loaders.train, loaders.test, predicted)
    baseline = train.compare(
        loaders.train, loaders.valid, loaders.valid.values
    ).composition
    best_epoch = best["epoch"] + 1
    train.write_json(
        folder.results,
        {
            "command": shlex.join([Path(sys.executable).name, *sys.argv]),
            "data": {
                "name": data.title,
                "file_sha256": data.digest,
                "level_of_theory": data.level_of_theory,
                "target": name,
            },
            "split": {
                "sizes": [len(part) for part in split.parts],
                "seed": split.seed,
                "sha256": split.digest,
            },
            "settings": {**chosen, "epochs": args.epochs, "parameters": count},
            "test_mae": errors.record(),
            "best_epoch": best_epoch,
            "epochs": log.rows,
            "seconds": log.seconds,
            "versions": train.versions(),
            "hardware": train.hardware(trainer.strategy.root_device),
        },
    )
    title = f"{data.title}: {name}, {args.model} network"
    train.plot_learning_curve(
        folder.learning_curve,
        log.rows,
        data.target,
        title=title,
        levels=[("composition baseline, validation", baseline)],
    )
    train.plot_parity(
        folder.parity, loaders.test.values, predicted, data.target, title=title
    )
    print(f"\n{errors.table(f'Cormorant, {args.model} (epoch {best_epoch})')}")
    print(f"{log.seconds:.0f} s of training; results and plots in {folder.path}")


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake of the user ends in one line and exit code 2."""
    try:
        run(parse(argv))
    except (CormorantError, OSError) as error:
        print(f"qm9.py: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        where = f"; go on with --out {stop} --resume" if stop.args else ""
        print(f"qm9.py: stopped{where}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
