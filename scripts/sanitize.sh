#!/usr/bin/env bash
# The kernel built with AddressSanitizer and UndefinedBehaviorSanitizer, and the tests
# that call it: the first read or write beyond a buffer ends the run.
#   bash scripts/sanitize.sh PYTHON [arguments of pytest]
set -euo pipefail
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
shift
cd "$(dirname "$0")/.."
tree=$PWD/build/sanitize
compiler=${CXX:-g++}
library=$("$compiler" -print-file-name=libasan.so 2>/dev/null || true)
if [ ! -e "$library" ]; then
    echo "SKIPPED: sanitizers, $compiler has no libasan.so"
    exit 0
fi
rm -rf "$tree"
mkdir -p "$tree"
cp -r setup.py pyproject.toml torch_cormorant tests benchmarks "$tree"
# One instruction set, the best here: three times less to compile.
set_of=$(cd "$tree" && "$python" -c "
from pathlib import Path
info = Path(\"/proc/cpuinfo\")
flags = info.read_text().split() if info.exists() else []
found = [n for n, f in ((\"avx512\", \"avx512bw\"), (\"avx2\", \"fma\")) if f in flags]
print((found or [\"baseline\"])[0])")
CORMORANT_KERNEL_SET=${CORMORANT_KERNEL_SET:-$set_of} CORMORANT_KERNEL_FLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all" \
    "$python" "$tree/setup.py" kernel
# leaks: Python itself keeps memory to the end
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1
export LD_PRELOAD="$library $("$compiler" -print-file-name=libubsan.so)"
export PYTHONPATH="$tree" OMP_NUM_THREADS=1
(cd "$tree" && "$python" -c '
import pathlib, sys
from torch_cormorant.ops import cpu_kernel
built = pathlib.Path(cpu_kernel.FILE)
assert built.is_relative_to(sys.argv[1]) and b"__asan_init" in built.read_bytes()
print("testing", built, cpu_kernel.instruction_set())
' "$tree")
cd "$tree" # pytest takes the package of the folder that it runs in
exec "$(dirname "$python")/pytest" -q -p no:cacheprovider -p no:xdist "$@"
