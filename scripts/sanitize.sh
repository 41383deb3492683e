#!/usr/bin/env bash
# The kernel built with sanitizers, and the tests that call it: the first read or write
# beyond a buffer, or the first race between threads, ends the run.
#   bash scripts/sanitize.sh PYTHON address|thread [arguments of pytest]
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
kind=$2
shift 2
cd "$(dirname "$0")/.."
tree=$PWD/build/sanitize-$kind
compiler=${CXX:-g++}
case $kind in
address) flags="-fsanitize=address,undefined -fno-sanitize-recover=all" names="asan ubsan" ;;
thread) flags="-fsanitize=thread" names="tsan" ;;
*) echo "address or thread, not '$kind'" >&2 && exit 2 ;;
esac
libraries=
for name in $names; do
    libraries+="$("$compiler" -print-file-name="lib$name.so") "
done
if [ ! -e "${libraries%% *}" ]; then
    echo "SKIPPED: sanitizers, $compiler has no ${libraries%% *}"
    exit 0
fi
rm -rf "$tree"
mkdir -p "$tree"
cp -r setup.py pyproject.toml torch_cormorant tests benchmarks "$tree"
rm -f "$tree/torch_cormorant/ops/_cpu_kernel.so"
# One instruction set, the best here: three times less to compile.
set_of=$("$python" -c '
from pathlib import Path
info = Path("/proc/cpuinfo")
flags = info.read_text().split() if info.exists() else []
found = [n for n, f in (("avx512", "avx512bw"), ("avx2", "fma")) if f in flags]
print((found or ["baseline"])[0])')
CORMORANT_KERNEL_SET=${CORMORANT_KERNEL_SET:-$set_of} \
    CORMORANT_KERNEL_FLAGS="-O1 -g -fno-omit-frame-pointer $flags" \
    "$python" "$tree/setup.py" kernel
# leaks: Python itself keeps memory to the end
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
# code without the sanitizer, as Python's and torch's, is left out
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1 report_signal_unsafe=0"
export LD_PRELOAD=$libraries PYTHONPATH=$tree OMP_NUM_THREADS=1
cd "$tree" # pytest takes the package of the folder that it runs in
"$python" - "$tree" "__${names%% *}_init" <<'END'
import pathlib
import sys

from torch_cormorant.ops import cpu_kernel

built = pathlib.Path(cpu_kernel.FILE)
assert built.is_relative_to(sys.argv[1]) and sys.argv[2].encode() in built.read_bytes()
print("testing", built, cpu_kernel.instruction_set(), flush=True)
END
exec "$(dirname "$python")/pytest" -q -p no:cacheprovider -p no:xdist "$@"
