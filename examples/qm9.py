"""Train Cormorant on a molecular property.

    python examples/qm9.py                                     # small embedded set
    python examples/qm9.py --target homo --epochs 100
    python examples/qm9.py --npz qm9.npz --target alpha --train-size 5000
    python examples/qm9.py --out runs/alpha --resume           # go on after a stop
    python examples/qm9.py --start qm9 --target gap            # from trained weights

Writes model.safetensors, checkpoints, results.json, learning_curve.png and parity.png
to --out. Copy this file and change it: everything it calls is public.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from torch_cormorant import train
from torch_cormorant.errors import CormorantError

# Few molecules are passed over often and fast, by the optimiser that fits them less
# closely; on QM9 the published network takes the rate of the paper.
EMBEDDED = {"epochs": 30, "lr": 2e-3, "warmup_steps": 0, "optimizer": "adam"}
RECIPE = {"epochs": 100, "lr": 1e-3, "warmup_steps": 100}
PUBLISHED = {"epochs": 100, "lr": 5e-4, "warmup_steps": 0}


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line; what is left out has the default of the configuration."""
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,  # so that a mistake ends in one line
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--npz", help="QM9 arrays; default: the embedded set")
    source.add_argument("--root", help="folder of PyG's raw files of QM9")
    add("--target", help="property; default gap (QM9: U0)")
    for part in ("train", "valid", "test"):
        add(f"--{part}-size", type=int, help=f"{part} molecules")
    add("--model", choices=("published", "recipe"), default="recipe")
    add("--start", default="", help="model to start from: a file, or a name")
    add("--head", help="default: published, or what fits the target (recipe)")
    add("--reference", choices=("mean", "composition", "none"), help="subtracted first")
    add("--cutoff", type=float, help="Angstrom; default 5 (published: all pairs)")
    add("--dtype", choices=("float32", "float64"))
    add("--epochs", type=int, help="default 30 (QM9: 100)")
    add("--batch-size", type=int)
    add("--lr", type=float, help="default 2e-3 (QM9: recipe 1e-3, published 5e-4)")
    add("--schedule", choices=("constant", "cosine"))
    add("--warmup", type=int, dest="warmup_steps", help="default 0 (QM9, recipe: 100)")
    add("--clip", type=float, help="gradient norm; default 1, 0: no limit")
    add("--calibrate", action="store_true", help="rescale the levels on data first")
    add("--captured", action="store_true", help="whole steps as one CUDA graph")
    add("--seed", type=int, default=0)
    add("--device", choices=("auto", "cpu", "cuda"))
    add("--threads", type=int, help="CPU; default 1")
    add("--out", type=Path, help="folder; default runs/<data>-<target>-#")
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
    path, given = args.npz or args.root or "", vars(args)
    published = args.model == "published" and not args.start
    options = {k: given[k] for k in ("cutoff", "head") if given[k] is not None}
    network = {"network": args.model}
    if args.start:
        network = {}  # that of the model
    else:
        options["species"] = [1, 6, 7, 8, 9]
    names = "epochs batch_size lr schedule warmup_steps clip calibrate captured seed"
    chosen = {k: given[k] for k in f"{names} dtype device threads".split()}
    defaults: dict[str, Any] = PUBLISHED if published else RECIPE
    return train.make_config(
        {
            "data": {
                "source": "qm9" if path else "mini_qm9",
                "path": path,
                "target": args.target or ("U0" if path else "gap"),
                **{part: given[f"{part}_size"] for part in ("train", "valid", "test")},
                "split_seed": args.seed,
            },
            "model": {**network, "options": options},
            "training": {
                **(defaults if path else EMBEDDED),
                **{k: v for k, v in chosen.items() if v is not None},
                "reference": args.reference or ("mean" if published else "auto"),
                "guard": "off",
                "start": args.start,
            },
            "output": {"report": False, "plots": True},
        }
    )


def main(argv: list[str] | None = None) -> int:
    """Run; a mistake of the user ends in one line and exit code 2."""
    args = parse(argv)
    try:
        config = configure(args)
        name = "mini" if config.data.source == "mini_qm9" else "qm9"
        stem = Path("runs") / f"{name}-{config.data.target}"
        out = args.out or train.RunFolder.fresh(stem).path
        train.fit(config, out, resume=args.resume, overwrite=args.overwrite)
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
