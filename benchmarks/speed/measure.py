"""Time in turns, memory in fresh processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.speed.settings import Settings

Step = Callable[[], object]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_FORGET_PEAK = "5"
"""What Linux wants to be told to start VmHWM again (man proc, clear_refs)."""


@dataclass(frozen=True)
class Timing:
    """Medians in milliseconds."""

    cpu_ms: float
    wall_ms: float

    def over(self, ours: Timing) -> float:
        """How many times slower than ours.

        CPU time on one thread, because it does not count what other programs do;
        wall time on several, because threads that wait count as busy.
        """
        if torch.get_num_threads() == 1:
            return self.cpu_ms / ours.cpu_ms
        return self.wall_ms / ours.wall_ms


def interleaved(steps: Mapping[str, Step], repeat: int) -> dict[str, Timing]:
    """Run all steps in turns, so that a change of the machine's speed hits all.

    Args:
        steps: What to run, by name.
        repeat: Timed rounds, after one round that does not count.

    Returns:
        Medians by name.

    Example:
        >>> times = interleaved({"sum": lambda: sum(range(1000))}, repeat=3)
        >>> times["sum"].wall_ms > 0
        True
    """
    cpu: dict[str, list[float]] = {name: [] for name in steps}
    wall: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeat + 1):
        for name, step in steps.items():
            cpu_start, wall_start = time.process_time(), time.perf_counter()
            step()
            cpu_spent = time.process_time() - cpu_start
            wall_spent = time.perf_counter() - wall_start
            if turn:
                cpu[name].append(1e3 * cpu_spent)
                wall[name].append(1e3 * wall_spent)
    return {
        name: Timing(statistics.median(cpu[name]), statistics.median(wall[name]))
        for name in steps
    }


def relative_error(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """Largest difference over the largest entry, tensor by tensor, the worst one.

    Example:
        >>> relative_error((torch.tensor([1.0, 2.0]),), (torch.tensor([1.0, 4.0]),))
        0.5
    """
    errors = []
    for one, other in zip(found, expected, strict=True):
        largest = float(other.abs().max()) if other.numel() else 0.0
        difference = float((one - other).abs().max()) if other.numel() else 0.0
        errors.append(difference / largest if largest else difference)
    return max(errors, default=0.0)


# ------------------------------------------------------------------------ memory


def memory_is_measurable() -> bool:
    """Only Linux tells a process its own peak and lets it start anew."""
    return _STATUS.is_file() and _CLEAR.exists()


def _resident_kb(name: str) -> int:
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    msg = f"{_STATUS} has no line {name}"
    raise OSError(msg)


def peak_growth_mb(step: Step) -> float:
    """Growth of this process's peak resident memory while a step runs, in MB."""
    _CLEAR.write_text(_FORGET_PEAK, encoding="ascii")
    before = _resident_kb("VmRSS")
    step()
    return (_resident_kb("VmHWM") - before) / 1024


def memory_of(case: str, settings: Settings) -> tuple[float | None, str]:
    """Measure one case in a fresh process.

    Args:
        case: A name that :func:`benchmarks.speed.cases.make_step` reads.
        settings: The run's settings.

    Returns:
        MB, or None and the reason.
    """
    if settings.quick or not settings.memory or case.endswith("compiled"):
        return None, ""  # a fresh process would measure the compiler
    if not memory_is_measurable():
        return None, "memory not measured (Linux only)"
    command = [sys.executable, "-m", "benchmarks.speed", "--memory-of", case]
    command += ["--threads", str(torch.get_num_threads())]
    if settings.compiled:
        command.append("--compiled")
    if settings.structures is not None:
        command += ["--structures", str(settings.structures)]
    if settings.inputs is not None:
        command += ["--inputs", str(settings.inputs)]
    # The arguments are names of our own cases, and no shell reads them.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        return None, f"memory not measured ({last})"
    return float(done.stdout.split()[-1]), ""
