"""What the figures were measured with."""

from __future__ import annotations

import datetime as dt
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

import torch_cormorant
from benchmarks.peers import version_of

ROOT = Path(__file__).parents[1]
_CPUINFO = Path("/proc/cpuinfo")


def circumstances(arguments: Sequence[str]) -> dict[str, str]:
    """Command, commit, hardware and versions.

    Example:
        >>> circumstances(["--quick"])["command"]
        'python -m benchmarks.speed --quick'
    """
    return {
        "command": shlex.join(["python", "-m", "benchmarks.speed", *arguments]),
        "commit": commit(),
        "date": dt.datetime.now(tz=dt.timezone.utc).strftime("%Y-%m-%d"),
        "cpu": cpu_model(),
        "cores": str(os.cpu_count()),
        "load at start": load(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "e3nn": version_of("e3nn") or "not installed",
        "torch-cormorant": torch_cormorant.__version__,
    }


def cpu_model() -> str:
    """Name of the processor, with the widest vector instructions torch uses."""
    name = platform.processor() or platform.machine()
    if _CPUINFO.is_file():
        for line in _CPUINFO.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def load() -> str:
    """Load average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def commit() -> str:
    """Short hash of the checkout, marked if code differs; ``COMMIT`` in an export."""
    git, exported = shutil.which("git"), ROOT / "COMMIT"
    if exported.exists():
        return exported.read_text(encoding="utf-8").strip()
    if git is None or not (ROOT / ".git").exists():
        return "unknown"

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            [git, "-C", str(ROOT), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip()

    short = ask("rev-parse", "--short", "HEAD")
    changed = ask("status", "--porcelain", "--", "torch_cormorant", "benchmarks")
    return f"{short or 'unknown'}{' with changes' if changed else ''}"
