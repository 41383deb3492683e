"""Model files: weights and everything needed to use them, without pickle."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from torch_cormorant.data.files import write_atomically
from torch_cormorant.errors import (
    BackendError,
    ConfigError,
    CormorantError,
    ModelFileError,
)
from torch_cormorant.models.copies import check_weights_are_plain
from torch_cormorant.models.cormorant import Cormorant
from torch_cormorant.models.cormorant_potential import CormorantPotential
from torch_cormorant.models.file_checks import (
    LENGTH_UNIT,
    check_content,
    check_network,
    check_outputs,
    strict_json,
    tensors_of,
)
from torch_cormorant.models.holder import Holder, nested
from torch_cormorant.models.info import ModelInfo
from torch_cormorant.models.normalisation import Normalisation
from torch_cormorant.models.potential import Potential
from torch_cormorant.models.predictor import Predictor
from torch_cormorant.models.presets import CormorantMD17, CormorantQM9
from torch_cormorant.models.shipped import model_path
from torch_cormorant.networks.facts import CONVENTION
from torch_cormorant.nn.parts import Part, UnknownPartError, known, parts_in
from torch_cormorant.version import __version__

__all__ = ["Model", "load_model", "save_model"]

FORMAT = "torch-cormorant-model"
FORMAT_VERSION = 1
# One entry only: safetensors writes several in any order.
KEY = "torch_cormorant"
Model: TypeAlias = Cormorant | Potential | Predictor
"""What a model file holds."""
CLASSES: dict[str, type[Model]] = {
    "Cormorant": Cormorant,
    "CormorantQM9": CormorantQM9,
    "CormorantMD17": CormorantMD17,
    "CormorantPotential": CormorantPotential,
    "Potential": Potential,
    "Predictor": Predictor,
}
_HEADER_LIMIT = 16 * 2**20
_DIGEST = re.compile(rb"sha256:([0-9a-f]{64})")
_BLANK = b"sha256:" + b"0" * 64


def save_model(
    path: str | os.PathLike[str],
    model: Model,
    *,
    targets: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    normalisation: Normalisation | None = None,
    training: Mapping[str, Any] | None = None,
    compact: bool = False,
) -> None:
    """Write a model to a model file: safetensors with a JSON header.

    The file is there whole or not at all. What is not given is taken from
    ``model.info``.

    Args:
        path: The file, by habit with the suffix ``.safetensors``.
        model: A Cormorant network, or a :class:`.Potential` or :class:`.Predictor`
            around any network.
        targets: Name of each output, such as ``["energy"]``.
        units: Unit of each output, such as ``["eV"]``; lengths are in Angstrom.
        normalisation: From the network's output to these units; None: as it is.
        training: Record of the training, plain values.
        compact: Store tensors as float16 where that holds all their numbers exactly;
            they are read again as they were. Default False.

    Raises:
        ConfigError: Something does not fit the network or JSON.
        OSError: The folder cannot be written; an older file is left as it was.
        BackendError: The package safetensors is missing.

    Example:
        >>> import pathlib, tempfile, torch_cormorant
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
        >>> model = torch_cormorant.Cormorant(num_levels=1, lmax=1, channels=4)
        >>> save_model(path, model, targets=["gap"], units=["eV"])
        >>> torch_cormorant.load_model(path).info.units
        ('eV',)
    """
    _class_of(model)
    known = model.info
    info = ModelInfo(
        targets=known.targets if targets is None else tuple(targets),
        units=known.units if units is None else tuple(units),
        normalisation=normalisation or known.normalisation,
        training=known.training if training is None else training,
    )
    raw = model_to_bytes(model, info, compact=compact)
    write_atomically(Path(path), lambda stream: stream.write(raw))


def model_to_bytes(model: Model, info: ModelInfo, *, compact: bool = False) -> bytes:
    """A network and what belongs to it as the contents of a model file.

    The format is safetensors: a JSON header, then the tensors. The header names the
    class, its constructor arguments, units, normalisation, convention, version,
    training record and a digest of the whole.

    Args:
        model: The network.
        info: What to write beside the weights; ``version`` and ``digest`` are made.
        compact: As for :func:`save_model`.

    Returns:
        The bytes.

    Raises:
        ConfigError: The network's class or an argument cannot be written, ``info``
            does not fit its outputs, or the file could not be read again.
        BackendError: The package safetensors is missing.
    """
    kind = _class_of(model)
    check_outputs(model, len(info.targets), len(info.units), info.normalisation)
    content = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "digest": _BLANK.decode(),
        "class": kind,
        "config": model.config,
        "dtype": str(model.dtype).removeprefix("torch."),
        "convention": CONVENTION,
        "length_unit": LENGTH_UNIT,
        "targets": list(info.targets),
        "units": list(info.units),
        "normalisation": info.normalisation.as_dict(),
        "training": dict(info.training),
        "package_version": __version__,
    }
    check_weights_are_plain(model)
    try:
        text = json.dumps(content, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{_not_json(content)}: holds something that JSON does not have ({error}); "
            "a file takes plain values"
        ) from error
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in tensors_of(model).items()
    }
    if compact:
        tensors = {name: _narrowed(tensor) for name, tensor in tensors.items()}
    raw: bytes = _safetensors().save(tensors, {KEY: text})
    raw = raw.replace(_BLANK, b"sha256:" + _digest(raw).encode(), 1)
    size = int.from_bytes(raw[:8], "little")
    if size > _HEADER_LIMIT:
        raise ConfigError(
            f"info: the header has {size / 2**20:.1f} MiB, at most "
            f"{_HEADER_LIMIT / 2**20:.0f} are read again; shorten info.training"
        )
    try:
        with known(parts_in(model)):
            _read(raw, "model, info")
    except ModelFileError as error:
        raise ConfigError(f"{error}; the file could not be read again") from error
    return raw


def _narrowed(tensor: Tensor) -> Tensor:
    """The same numbers in float16 if it holds them, else what is given."""
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    return half if half.to(tensor).equal(tensor) else tensor


def _class_of(model: nn.Module) -> str:
    """What a file calls the class of a model.

    Raises:
        ConfigError: It cannot be written.
    """
    kind = type(model).__name__
    if CLASSES.get(kind) is not type(model):
        raise ConfigError(
            f"model: a {kind} cannot be written, only {', '.join(CLASSES)}; put a "
            "network of your own into a Potential or a Predictor"
        )
    return kind


def load_model(
    path: str | os.PathLike[str],
    device: str | torch.device = "cpu",
    *,
    parts: Iterable[type[Part]] = (),
    train: bool = False,
) -> Model:
    """Read a network from a model file, whole and checked, or raise.

    Nothing in the file is ever executed, and nothing is imported because a file says
    so. The returned network is in evaluation mode unless ``train`` is true;
    ``model.info`` holds units, normalisation and training record, and
    ``model.predict(z, pos, batch)`` returns values in these units.

    Args:
        path: The file; or, where there is no such file, a name of
            :func:`~torch_cormorant.models.pretrained_models`, such as
            ``"organic-gfn2/0"``.
        device: Where the weights go.
        parts: Own classes of networks, heads and radial functions that the file may
            name, in this call; those that have a name (``register_head``) are known
            already.
        train: Return it in training mode, to go on with: see
            :func:`~torch_cormorant.models.freeze` and ``model.replace_head``. Default
            False.

    Returns:
        The model, of the class that was saved.

    Raises:
        ModelFileError: The file is missing, damaged, of another format or convention,
            or its weights do not fit its configuration.
        BackendError: The package safetensors is missing.
        ConfigError: There is no such device, or ``parts`` holds something else.
    """
    place = as_device(device)
    name, path = path, model_path(path)
    files = sorted(path.glob("*.safetensors")) if path != Path(name) else []
    if path.is_dir() and len(files) != 1:
        several = f"{name}/0 for one of its models" if files else "a file of it"
        msg = f"{name}: a folder; give {several}, or read all by models.load_models"
        raise ModelFileError(msg)
    path = files[0] if path.is_dir() else path
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or repr(error)
        raise ModelFileError(f"{path}: cannot be read ({reason})") from None
    with known(parts):
        return model_from_bytes(raw, str(path)).to(place).train(train)


def as_device(device: str | torch.device, name: str = "device") -> torch.device:
    """A device that can be computed on, by its name.

    Args:
        device: Such as ``"cpu"`` or ``"cuda"``.
        name: What the argument is called.

    Raises:
        ConfigError: There is no such device.
    """
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError):
        raise ConfigError(f"{name} must be cpu or cuda, got {device!r}") from None
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"{name} {device!r}: this PyTorch sees no CUDA device")
    try:
        torch.zeros(1, device=place).cpu()
    except Exception as error:
        reason = (str(error).splitlines() or [repr(error)])[0].split(". ")[0]
        raise ConfigError(f"{name} {device!r}: cannot be used ({reason})") from error
    return place


def model_from_bytes(raw: bytes, name: str = "model file") -> Model:
    """Read a network from the contents of a model file; see :func:`load_model`.

    Args:
        raw: The bytes.
        name: What to call the file in messages.

    Returns:
        The network, on the CPU.

    Raises:
        ModelFileError: As :func:`load_model`.
        BackendError: As :func:`load_model`.
    """
    kind, content, info, tensors = _read(raw, name)
    # The weights that a network is made with are drawn, and thrown away here.
    cuda = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    random = torch.random.fork_rng(devices=range(cuda))
    with _named(name), torch.device("cpu"), random:
        model = kind(**content["config"]).to(getattr(torch, content["dtype"]))
        model.load_state_dict(tensors, strict=True)
    model.info = info
    return model.eval()


def _read(
    raw: bytes, name: str
) -> tuple[type[Model], dict[str, Any], ModelInfo, dict[str, Tensor]]:
    """Class, header, record and tensors, which fit together."""
    content, digest = _read_header(raw, name)
    with _named(name):
        check_content(content)
        if content["class"] not in CLASSES:
            raise ValueError(
                f"class: {content['class'][:100]!r}, expected one of "
                f"{', '.join(CLASSES)}"
            )
        kind = CLASSES[content["class"]]
        info = ModelInfo(
            targets=tuple(content["targets"]),
            units=tuple(content["units"]),
            normalisation=Normalisation.from_dict(content["normalisation"]),
            training=content["training"],
            version=content["package_version"],
            digest=digest,
        )
        wide = getattr(torch, content["dtype"])
        tensors: dict[str, Tensor] = {
            name: tensor.to(wide) if tensor.dtype == torch.float16 else tensor
            for name, tensor in _safetensors().load(raw).items()
        }
        if issubclass(kind, Holder):
            tensors = nested(tensors)
        if kind is CormorantPotential:  # always so in files that do not say it
            content["config"].setdefault("complex", True)
        check_network(kind, content, info.normalisation, tensors)
    return kind, content, info, tensors


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Every error as a :class:`ModelFileError` that names the file."""
    try:
        yield
    except BackendError:
        raise
    except UnknownPartError as error:
        raise ModelFileError(
            f"{name}: {_one_line(error)}; own classes are given as parts=[...], on the "
            "command line as --parts module:Name"
        ) from error
    except CormorantError as error:
        raise ModelFileError(
            f"{name}: does not fit this version: {_one_line(error)}"
        ) from error
    except Exception as error:  # the header says it is ours, yet something is off
        reason = _one_line(error)
        raise ModelFileError(
            f"{name}: weights and configuration do not fit together ({reason})"
        ) from error


def _read_header(raw: bytes, name: str) -> tuple[dict[str, Any], str]:
    length = int.from_bytes(raw[:8], "little")
    foreign = f"{name}: not a model file of torch-cormorant, or damaged"
    if len(raw) < 8 or not 2 <= length <= min(len(raw) - 8, _HEADER_LIMIT):
        raise ModelFileError(f"{foreign} (no safetensors header)")
    try:
        content = strict_json(strict_json(raw[8 : 8 + length])["__metadata__"][KEY])
        written, version = content["format"], content["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error)[:200]
        raise ModelFileError(f"{foreign} (header not understood: {reason})") from None
    if written != FORMAT:
        raise ModelFileError(f"{foreign} (format {written!r})")
    if version != FORMAT_VERSION:
        raise ModelFileError(
            f"{name}: format version {version!r}, this version of torch-cormorant "
            f"({__version__}) reads {FORMAT_VERSION}; use the version that wrote it"
        )
    found = _DIGEST.search(raw, 8, 8 + length)
    blank = hashlib.sha256(_DIGEST.sub(_BLANK, raw[: 8 + length], count=1))
    blank.update(memoryview(raw)[8 + length :])
    if found is None or blank.hexdigest() != found.group(1).decode():
        raise ModelFileError(f"{name}: damaged, its contents do not have their digest")
    if content.get("digest") != f"sha256:{blank.hexdigest()}":
        raise ModelFileError(f"{name}: damaged, its digest is not where it belongs")
    if content.get("convention") != CONVENTION:
        raise ModelFileError(
            f"{name}: convention {content.get('convention')!r}, this version reads "
            f"{CONVENTION!r}; use the version that wrote it"
        )
    return content, found.group(1).decode()


def _one_line(error: Exception) -> str:
    return " ".join(str(error)[:2000].split())[:300] or repr(error)[:300]


def _not_json(content: Mapping[str, Any]) -> str:
    """Which entry JSON does not have."""
    named = {
        **{f"model.config: {name}": value for name, value in content["config"].items()},
        **{f"info: {name}": value for name, value in content.items()},
    }
    for name, value in named.items():
        try:
            json.dumps(value, allow_nan=False, sort_keys=True)
        except (TypeError, ValueError):
            return name
    return "model.config, info"


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError:
        raise BackendError(
            "model files need the package safetensors: pip install safetensors"
        ) from None
    return safetensors.torch
