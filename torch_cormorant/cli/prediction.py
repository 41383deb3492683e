"""``cormorant predict``."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_cormorant.cli.charges import refuse_charges
from torch_cormorant.cli.labels import given_units, is_potential, recorded_data
from torch_cormorant.cli.readable import readable
from torch_cormorant.cli.relaxation import relaxed
from torch_cormorant.cli.structures import Structures, is_own_file, read_structures
from torch_cormorant.cli.totals import with_references
from torch_cormorant.data.files import write_atomically
from torch_cormorant.data.units import unit_factor
from torch_cormorant.errors import ConfigError
from torch_cormorant.models import (
    Ensemble,
    EnsembleResult,
    Potential,
    Result,
    Spread,
    load_models,
)
from torch_cormorant.models.batched import bare
from torch_cormorant.models.compositions import warn_of_composition
from torch_cormorant.models.loading import Loaded

__all__ = ["predict", "property_values"]

FORCE = 0.01  # eV/Angstrom
MANY = 4  # columns that a reader at a terminal does not tell apart any more


def predict(args: argparse.Namespace) -> None:
    """Predict for the structures of a file.

    Args:
        args: ``model``, ``input``, ``output``, ``overwrite``, ``batch_size``,
            ``device``, ``unit``, ``data_part``, ``relax``, ``relax_by``, ``totals``
            and ``no_forces``.

    Raises:
        CormorantError: A file or a structure does not fit.
    """
    suffix = _checked_output(args)
    model = load_models(args.model, args.device)
    potential = is_potential(model)
    if model.head.per_atom and suffix != ".extxyz":
        raise ConfigError(
            f"{args.output or '-o'}: a table has one row for every structure; write "
            "values of atoms as .extxyz"
        )
    by = _relaxing(args, model)
    if args.data_part is not None and args.input.suffix.lower() != ".npz":
        raise ConfigError(f"--data-part: {args.input} is no .npz file of frames")
    found = read_structures(args.input, _length_unit(args, model), args.data_part)
    for one in (model,) if by in (None, model) else (model, by):
        _check_molecules(one, args.input, found)
    if by is not None:
        largest = FORCE if args.relax is None else args.relax
        found = replace(found, frames=relaxed(by, found.frames, found.names, largest))
    result = None
    if potential:
        result = _evaluated(args, model, found, forces=suffix == ".extxyz")
        spread: Tensor | None = getattr(result, "energy_std", None)
        values = result.energy[:, None]
        std = None if spread is None else spread[:, None]
    else:
        values, std = property_values(model, found.frames, args.batch_size)
    if args.totals:
        values = with_references(model, found.frames, values)
    _write(args, model, found, values, std, result)


def _write(
    args: argparse.Namespace,
    model: Loaded,
    found: Structures,
    values: Tensor,
    std: Tensor | None,
    result: Result | None,
) -> None:
    """A table on the screen, or the file that is asked for and what it holds."""
    suffix = "" if args.output is None else args.output.suffix.lower()
    if suffix == "":
        columns = columns_of(model)
        if len(columns) >= MANY and sys.stdout.isatty():
            print(readable(found.names, columns, values, std), end="")
        else:
            print(table_text(model, found, values, std), end="")
        return
    if suffix == ".csv":
        text = table_text(model, found, values, std)
        write_atomically(args.output, lambda stream: stream.write(text.encode()))
    elif result is not None:
        write_frames(args.output, found.frames, result)
    else:
        write_properties(args.output, model, found.frames, values, std)
    what = ", ".join(model.info.targets)
    print(f"{what} of {len(found.names):,} structures in {args.output}")
    if result is not None and suffix == ".csv" and not args.no_forces:
        print("a table holds no forces; for them write .extxyz")


def _relaxing(args: argparse.Namespace, model: Loaded) -> Loaded | None:
    """The potential that moves the atoms first; None: they stay.

    Raises:
        ConfigError: What shall move them has no forces.
    """
    if args.relax is None and args.relax_by is None:
        return None
    by, option, hint = model, "--relax", "; name one: --relax-by organic-gfn2"
    if args.relax_by is not None:
        by, option, hint = load_models(args.relax_by, args.device), "--relax-by", ""
    if not is_potential(by):
        raise ConfigError(
            f"{option}: {args.relax_by or args.model} predicts "
            f"{', '.join(by.info.targets)}; only a potential has forces{hint}"
        )
    return by


def _check_molecules(model: Loaded, path: Path, found: Structures) -> None:
    """Refuse charges; warn of the first structure that is unlike all of the training.

    Raises:
        ChargeError: A structure has a charge or spin that the model does not know.
    """
    refuse_charges(model, path, found.frames, found.names)
    if is_potential(model):
        for name, frame in zip(found.names, found.frames, strict=True):
            if warn_of_composition(model, frame.z, f"{path}: {name}"):
                break


def _evaluated(
    args: argparse.Namespace, model: Loaded, found: Structures, *, forces: bool
) -> Result:
    """Energies, and forces where they are written."""
    potential = model if isinstance(model, Ensemble) else Potential.of(model)
    wanted = forces or isinstance(model, Ensemble)  # their spread is looked at
    return potential.evaluate_all(
        found.frames, forces=wanted and not args.no_forces, batch_size=args.batch_size
    )


def _length_unit(args: argparse.Namespace, model: Loaded) -> str:
    """Unit of the positions: what is said, or that of the training for its file.

    Raises:
        ConfigError: Another unit is given, or the file cannot have one.
    """
    units = given_units(args.unit, model)
    if set(units) - {"pos"}:
        raise ConfigError(
            "--unit: predictions are in the units of the model; only that of the "
            "positions in the file can be given, pos=UNIT"
        )
    if units and not is_own_file(args.input):
        raise ConfigError(
            "--unit: only extxyz files, and those that ASE reads, need it"
        )
    known = recorded_data(model, args.input).get("units", {})
    return str(units.get("pos", known.get("pos", "Angstrom")))


def _checked_output(args: argparse.Namespace) -> str:
    """The suffix of a file that may be written; empty: none is asked for.

    Raises:
        ConfigError: It may not.
    """
    if args.output is None:
        return ""
    suffix = args.output.suffix.lower()
    if suffix not in (".extxyz", ".csv"):
        raise ConfigError(f"{args.output}: written are .extxyz and .csv")
    if args.output.resolve() in {Path(args.input).resolve(), args.model.resolve()}:
        raise ConfigError(f"{args.output}: the output would replace what is read")
    if args.output.exists() and not args.overwrite:
        raise ConfigError(
            f"{args.output}: is there already; replace it with --overwrite, or name "
            "another file"
        )
    return str(suffix)


def property_values(
    model: Loaded, frames: Sequence[Data], batch_size: int
) -> tuple[Tensor, Tensor | None]:
    """Predictions ``[n, T]`` in the units of the model, all components in one row.

    Behind them the spreads of an ensemble, or None.
    """
    found: Tensor | Spread = model.predict(frames, batch_size=batch_size)
    if isinstance(found, Spread):
        return found.mean.flatten(1), found.std.flatten(1)
    return found.flatten(1), None


def component_names(model: Loaded) -> list[str]:
    """What tells the components of one target apart, such as ``_x``, ``_y``, ``_z``.

    Args:
        model: The network.

    Returns:
        One ending for every component; for plain numbers one that is empty.
    """
    shape = tuple(model.head.shape)
    if len(model.info.targets) > 1 or shape == (1,):
        shape = shape[1:]
    names = [""]
    for size in shape:
        parts = list("xyz") if size == 3 else [str(k) for k in range(size)]
        names = [name + part for name in names for part in parts]
    return [f"_{name}" if name else "" for name in names]


def columns_of(model: Loaded) -> list[tuple[str, str]]:
    """Name and unit of every number that is predicted for a row."""
    return [
        (name + ending, unit)
        for name, unit in zip(model.info.targets, model.info.units, strict=True)
        for ending in component_names(model)
    ]


def _plain_cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula.

    Example:
        >>> _plain_cell("=1+1"), _plain_cell("gap [eV]")
        ("'=1+1", 'gap [eV]')
    """
    return f"'{text}" if text.startswith(tuple("=+-@\t\r\n")) else text


def table_text(
    model: Loaded,
    found: Structures,
    values: Tensor,
    std: Tensor | None = None,
) -> str:
    """Predictions as a csv table, behind the other columns of the one that was read.

    Names that a spreadsheet would take for a formula stand behind an apostrophe.

    Args:
        model: Tells names and units.
        found: The structures, for their names and further columns.
        values: ``[n, T]``, or all components of T tensors.
        std: Their spreads, which get a column each, named ``_std``.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if std is not None:
        values = torch.stack([values, std], dim=2).flatten(1)
    columns = [
        f"{name}{spread} [{unit}]" if unit else f"{name}{spread}"
        for name, unit in columns_of(model)
        for spread in (("",) if std is None else ("", "_std"))
    ]
    own = "smiles" if "name" in found.columns else "name"
    texts = {own: found.names, **found.columns}
    writer.writerow([_plain_cell(name) for name in (*texts, *columns)])
    for *cells, row in zip(*texts.values(), values.tolist(), strict=True):
        numbers = [repr(value) for value in row]
        writer.writerow([*map(_plain_cell, cells), *numbers])
    return text.getvalue()


def write_properties(
    path: Path,
    model: Loaded,
    frames: Sequence[Data],
    values: Tensor,
    std: Tensor | None = None,
) -> None:
    """Write structures with predicted properties as extended XYZ.

    Numbers, vectors and tensors stand in the second line of a structure, those of atoms
    in further columns.

    Args:
        path: The file.
        model: Tells names and units.
        frames: The structures.
        values: As :func:`property_values` returns them.
        std: Their spreads, which stand under names that end in ``_std``.
    """
    from torch_cormorant.data import write_extxyz

    names = [name.replace(" ", "_") for name in model.info.targets]
    parts = values.unflatten(1, (len(names), -1))
    if std is not None:
        parts = torch.cat([parts, std.unflatten(1, (len(names), -1))], dim=1)
        names += [f"{name}_std" for name in names]
    structures = [bare(data) for data in frames]
    if model.head.per_atom:
        rows = parts.split([data.z.numel() for data in structures])
        own = [{name: row[:, k] for k, name in enumerate(names)} for row in rows]
        write_extxyz(path, structures, arrays=own)
        return
    info = [
        {
            name: numbers[0] if len(numbers) == 1 else " ".join(map(repr, numbers))
            for name, numbers in zip(names, row, strict=True)
        }
        for row in parts.tolist()
    ]
    write_extxyz(path, structures, info=info)


def write_frames(path: Path, frames: Sequence[Data], result: Result) -> None:
    """Write structures with energies and forces as extended XYZ.

    Args:
        path: The file.
        frames: The structures.
        result: Of all of them.
    """
    from torch_cormorant.data import write_extxyz

    structures = [bare(data) for data in frames]
    sizes = [data.z.numel() for data in structures]
    for data, energy in zip(structures, result.energy, strict=True):
        data.energy = energy.view(1)
    if result.forces is not None:
        parts = result.forces.split(sizes)
        for data, forces in zip(structures, parts, strict=True):
            data.forces = forces
    info, arrays, unit = None, None, result.unit or "eV"
    if isinstance(result, EnsembleResult) and result.energy_std is not None:
        factor = unit_factor(unit, "eV")
        info = [{"energy_std": v} for v in (result.energy_std * factor).tolist()]
        if result.forces_std is not None:
            spreads = (result.forces_std * factor).split(sizes)
            arrays = [{"forces_std": rows} for rows in spreads]
    write_extxyz(path, structures, unit=unit, info=info, arrays=arrays)
