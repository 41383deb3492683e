"""A GPU that is none: what lies on it is computed on the CPU, and watched.

Tensors on the device ``meta`` hold the numbers of a CPU tensor and say of themselves
that they lie on a CUDA device. Every operation between tensors of two devices fails as
it would there, and every operation that waits for a real GPU is noted: reading a
number, counting a mask, copying constants that were made on the processor.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._library.custom_ops import OPDEFS
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")
WAITING = {
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
INDEXING = {"index", "index_put", "index_put_"}


class Pretended(Tensor):
    """A tensor on the pretended device; ``held`` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls: type, held: Tensor) -> Any:
        made: Any = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def __init__(self, held: Tensor) -> None:
        del held

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        """So that the code takes its ways for CUDA devices."""
        return True

    def tolist(self) -> Any:
        """Read the numbers, which waits."""
        PretendGpu.running().note("tolist")
        return self.held.tolist()

    def data_ptr(self) -> int:
        """Where the numbers are."""
        return self.held.data_ptr()

    def __repr__(self, **_: object) -> str:
        return f"Pretended({self.held!r})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        return PretendGpu.running().compute(func, args, kwargs or {})


class PretendGpu(TorchDispatchMode):
    """While it runs, everything with ``device="meta"`` is a :class:`Pretended`.

    Attributes:
        waits: Name and place of every operation that waits for a real GPU.
    """

    active: PretendGpu | None = None

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.depth = 0

    @classmethod
    def running(cls) -> PretendGpu:
        """The one that runs."""
        assert cls.active is not None, "a pretended tensor outside of its device"
        return cls.active

    def __enter__(self) -> Any:
        PretendGpu.active, self.depth = self, self.depth + 1
        return super().__enter__()

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)
        self.depth -= 1
        if not self.depth:
            PretendGpu.active = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        del types
        return self.compute(func, args, kwargs or {})

    def compute(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run one operation on the numbers of its tensors."""
        name = func.overloadpacket.__name__
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        pretended = [t for t in tensors if isinstance(t, Pretended)]
        target = kwargs.get("device")
        there = bool(pretended) if target is None else target == DEVICE
        if not pretended and not there:
            return func(*args, **kwargs)
        self.look(func, args, kwargs, tensors, there=there)
        if func.namespace == "torch_cormorant":
            # What is inside is watched too.
            with self:
                return OPDEFS[func.name().partition(".")[0]]._init_fn(*args, **kwargs)
        plain_args, plain = tree_map(_numbers, (args, kwargs))
        if target is not None:
            plain["device"] = torch.device("cpu")
        if name == "_to_copy" and there != bool(pretended):
            plain_args = (plain_args[0].clone(), *plain_args[1:])
        out = func(*plain_args, **plain)
        if not there:
            return out
        out = tree_map(lambda t: Pretended(t) if isinstance(t, Tensor) else t, out)
        return return_and_correct_aliasing(func, args, kwargs, out)

    def look(
        self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], *, there: bool
    ) -> None:
        """Refuse tensors of two devices, and note what waits."""
        name = func.overloadpacket.__name__
        mixed = [t for t in tensors if not isinstance(t, Pretended)]
        pretended = len(tensors) - len(mixed)
        if name in {"_to_copy", "copy_"}:
            across = bool(mixed) if name == "copy_" else there != bool(pretended)
            if across and not (kwargs.get("non_blocking") or args[-1] is True):
                self.note(name)
            return
        if kwargs.get("device") is not None:
            return  # such as empty_like, which reads a shape only
        index = [t for t in args[1] if t is not None] if name in INDEXING else []
        # The header of a plan belongs on the processor.
        own = func.namespace == "torch_cormorant"
        strange = [
            t
            for t in mixed
            if (t.ndim or t.device == DEVICE)
            and not any(t is i for i in index)
            and not (own and t.dtype == torch.int64 and t.ndim == 1)
        ]
        assert not strange, (
            f"{func} got tensors of two devices: "
            f"{[(type(t).__name__, tuple(t.shape)) for t in tensors]} at {place()}"
        )
        assert not any(
            i.device == DEVICE and not isinstance(i, Pretended) for i in index
        ), f"a list as an index is copied to the device, at {place()}"
        counted = name == "repeat_interleave" and kwargs.get("output_size") is None
        masks = [t for t in index if t.dtype == torch.bool]
        copied = any(not isinstance(t, Pretended) for t in index)
        if name in WAITING or counted or masks or copied:
            self.note(name)

    def note(self, name: str) -> None:
        """Something waits."""
        self.waits.append(f"{name} at {place()}")

    @contextmanager
    def forbidden(self) -> Iterator[None]:
        """Fail where something in here waits."""
        self.waits.clear()
        yield
        assert not self.waits, "\n".join(self.waits)

    def put(self, value: Any) -> Any:
        """A tensor, or a module in place, on the pretended device."""
        if not isinstance(value, nn.Module):
            return Pretended(value.detach().clone())
        for module in value.modules():
            for name, p in module._parameters.items():
                if p is not None and not isinstance(p, Pretended):
                    made = Pretended(p.detach().clone())
                    module._parameters[name] = nn.Parameter(made, p.requires_grad)
            for name, b in module._buffers.items():
                if b is not None and not isinstance(b, Pretended):
                    module._buffers[name] = Pretended(b.clone())
        return value


def _numbers(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value


def place() -> str:
    """The innermost line of the package that runs."""
    for frame in reversed(traceback.extract_stack(sys._getframe())):
        if "torch_cormorant/" in frame.filename:
            file = frame.filename.rpartition("torch_cormorant/")[2]
            return f"{file}:{frame.lineno} {frame.line}"
    return "a line of another package"


def patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let calls that no dispatch sees know the device."""

    def on_device(make: Any) -> Any:
        def made(data: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
            if isinstance(data, Pretended):
                return data.to(**kwargs) if kwargs else data
            found = make(data, *args, **kwargs)
            here = device is None or torch.device(device) != DEVICE
            return found if here else found.to(DEVICE)

        return made

    def autocast(device: str, *args: Any, **kwargs: Any) -> Any:
        if device == DEVICE.type:
            return contextlib.nullcontext()
        return real_autocast(device, *args, **kwargs)

    def module_to(module: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
        device = kwargs.pop("device", None)
        if device is None or torch.device(device) != DEVICE:
            return real_to(module, *args, device=device, **kwargs)
        there = any(isinstance(p, Pretended) for p in module.parameters())
        return PretendGpu.running().put(
            module if there else real_to(module, *args, **kwargs)
        )

    real_autocast, real_to = torch.autocast, nn.Module.to
    monkeypatch.setattr(torch, "tensor", on_device(torch.tensor))
    monkeypatch.setattr(torch, "as_tensor", on_device(torch.as_tensor))
    monkeypatch.setattr(torch, "autocast", autocast)
    monkeypatch.setattr(nn.Module, "to", module_to)
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: tensor)
