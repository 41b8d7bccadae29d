#!/bin/bash
# Every check of `make test` after the build: CPU, layout, sanitizers, fast tests, slow tests. All stages run even where one
# fails; the last line counts the tests of all of them, as ctest would.
#     scripts/test.sh [BUILD_DIR]
set -u
cd "$(dirname "$0")/.." || exit 1
build="${1:-build}"
jobs="${JOBS:-$(nproc)}"
failed_stages=()
logs="$build/test-logs"
mkdir -p "$logs"
rm -f "$logs"/*.log

stage() {  # stage NAME COMMAND...: its output on the screen and in a log
  local name="$1"
  shift
  echo "== $name"
  "$@" 2>&1 | tee "$logs/$name.log"
  [ "${PIPESTATUS[0]}" -eq 0 ] || failed_stages+=("$name")
}

layout() {
  git ls-files '*.h' '*.cc' | xargs clang-format --dry-run -Werror
}

# ThreadSanitizer of this compiler cannot live with much address randomisation; a container may forbid switching it off.
run_plain() {
  if setarch "$(uname -m)" -R true 2>/dev/null; then setarch "$(uname -m)" -R "$@"; else "$@"; fi
}

sanitized() {  # sanitized SANITIZERS: the parts that hold no llama.cpp and no LibTorch
  local folder="build-${1//,/-}"
  cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DAURORA_SERVER=OFF -DAURORA_TRAINER=OFF \
    -DAURORA_SANITIZE="$1" >/dev/null &&
    ninja -C "$folder" -j "$jobs" --quiet &&
    run_plain ctest --test-dir "$folder" --output-on-failure -j "$jobs" --no-tests=error
}

cpu() {  # which kernels, of ours and of stock, the tests ran on
  LC_ALL=C lscpu | grep -E '^(Model name|CPU\(s\)):' || grep -m 1 '^model name' /proc/cpuinfo || uname -m
  local flags has=""
  flags=" $(grep -m 1 -E '^(flags|Features)' /proc/cpuinfo | cut -d: -f2) "
  for flag in avx2 avx512f avx512_vnni amx_int8; do
    case "$flags" in *" $flag "*) has+=" $flag" ;; *) has+=" no-$flag" ;; esac
  done
  echo "flags:$has"
}

AURORA_TEST_TARGET="$(scripts/fetch_model.py | tail -n 1)"  # the parity test on a real target
export AURORA_TEST_TARGET
AURORA_NATS_SERVER="${AURORA_NATS_SERVER:-$(scripts/fetch_nats_server.py | tail -n 1)}"
export AURORA_NATS_SERVER

stage cpu cpu
stage layout layout
stage address-undefined sanitized address,undefined
stage thread sanitized thread
stage fast ctest --test-dir "$build" -LE slow --output-on-failure -j "$jobs" --no-tests=error
stage slow ctest --test-dir "$build" -L slow --output-on-failure

total=0
failures=0
while read -r bad all; do
  failures=$((failures + bad))
  total=$((total + all))
done < <(sed -n 's/.* \([0-9]*\) tests failed out of \([0-9]*\)$/\1 \2/p' "$logs"/*.log)
if [ ${#failed_stages[@]} -gt 0 ]; then
  echo "failed: ${failed_stages[*]}"
fi
passed=$((total > 0 ? (total - failures) * 100 / total : 0))
echo "$passed% tests passed, $failures tests failed out of $total"
[ ${#failed_stages[@]} -eq 0 ]
