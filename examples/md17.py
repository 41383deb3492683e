"""Train a Cormorant potential on energies and forces.

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
import sys
from pathlib import Path

from torch_cormorant import train
from torch_cormorant.errors import CormorantError

# Today's potential, or a published network trained on energies alone, as in the paper.
MODELS = {"potential": ("forces", 5e-3), "published": ("energies", 5e-4)}
SIZES = {"train": 400, "valid": 100, "test": 500}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,  # so that a mistake ends in one line
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    add("--npz", help="MD17 arrays; default: embedded ethanol")
    add("--molecule", choices=sorted(train.MD17_PUBLISHED), help="of --npz")
    add("--official", type=int, metavar="1-5", help="official split of revised MD17")
    for part, size in SIZES.items():
        add(f"--{part}-size", type=int, help=f"{part} frames; default {size}")
    add("--model", choices=tuple(MODELS), default="potential")
    add("--loss", choices=("energies", "forces"), help="forces: energies and forces")
    add("--energy-weight", type=float, default=1.0)
    add("--force-weight", type=float, default=1.0)
    add("--huber", type=float, default=0.1, help="0: squares; energies alone too")
    add("--dtype", choices=("float32", "float64"), default="float32")
    add("--epochs", type=int, default=16)
    add("--batch-size", type=int, default=5)
    add("--lr", type=float, help="default 5e-3 (published: 5e-4)")
    add("--schedule", choices=("constant", "cosine"), default="cosine")
    add("--warmup", type=int, dest="warmup_steps", default=50, help="default 50 steps")
    add("--ema", type=float, default=0.99, help="0: no average")
    add("--clip", type=float, default=10.0, help="0: no limit")
    add("--seed", type=int, default=0)
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add("--threads", type=int, default=1, help="CPU; default 1")
    add("--out", type=Path, help="folder; default runs/<data>-#")
    add("--resume", action="store_true", help="go on with --out")
    add("--overwrite", action="store_true", help="replace --out")
    args = parser.parse_args(argv)
    if args.resume and (args.overwrite or args.out is None):
        parser.error("--resume needs --out and excludes --overwrite")
    if args.npz is not None and not args.npz.endswith(".npz"):
        parser.error(f"--npz: {args.npz}, expected the name of an .npz file")
    return args


def configure(args: argparse.Namespace) -> train.RunConfig:
    """The arguments as a configuration, as ``cormorant train`` reads it from a file."""
    loss, lr = MODELS[args.model]
    forces = (args.loss or loss) == "forces"
    # An official split has its own sizes of the others.
    sizes = dict(SIZES if args.official is None else {"valid": SIZES["valid"]})
    given = {part: getattr(args, f"{part}_size") for part in SIZES}
    sizes.update({part: size for part, size in given.items() if size is not None})
    names = "epochs batch_size schedule warmup_steps ema clip seed dtype device threads"
    return train.make_config(
        {
            "data": {
                "source": "md17" if args.npz else "mini_ethanol",
                "path": args.npz or "",
                "molecule": args.molecule or "",
                **sizes,
                "split_seed": args.seed,
                "official_split": args.official,
            },
            "model": {"network": args.model},
            "loss": {
                "energy": args.energy_weight,
                "forces": args.force_weight if forces else 0.0,
                "huber": args.huber if forces else 0.0,
                "per_atom": forces,  # the paper's loss has energies as they are
            },
            "training": {
                **{name: getattr(args, name) for name in names.split()},
                "lr": lr if args.lr is None else args.lr,
            },
            "output": {"report": False, "plots": True},
        }
    )


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake of the user ends in one line and exit code 2."""
    args = parse(argv)
    name = args.molecule or ("ethanol-xtb" if args.npz is None else Path(args.npz).stem)
    try:
        out = args.out or train.RunFolder.fresh(f"runs/{name.replace(' ', '-')}").path
        config = configure(args)
        train.fit(config, out, resume=args.resume, overwrite=args.overwrite)
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
