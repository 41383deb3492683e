"""Clang of the ziglang wheel as a compiler for another machine.

    python scripts/zig_cxx.py aarch64-linux-gnu.2.28 -c kernel.cpp ...

zig takes the version of glibc in its ``-target``, but not where it is only asked which
machine that is.
"""

from __future__ import annotations

import subprocess
import sys


def main() -> int:
    """Pass the arguments on, behind the target."""
    target, *arguments = sys.argv[1:]
    if arguments == ["-dumpmachine"]:
        print(target)
        return 0
    command = [sys.executable, "-m", "ziglang", "c++"]
    if arguments != ["--version"]:
        command += ["-target", target]
    return subprocess.run([*command, *arguments], check=False).returncode  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())
