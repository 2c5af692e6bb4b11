#!/usr/bin/env bash
# Builds with CUDA and runs all suites on a machine with an NVIDIA GPU; run in the repository's root.
#
#   tests/gpu.sh [CTEST ARGUMENT...]    e.g. tests/gpu.sh -R cuda
#
#   OUT=DIR             where the logs go (build-gpu/logs)
#   JOBS=N              compilers at once (all cores)
#   ARCHITECTURES=LIST  what kernels are compiled for (90-real: Hopper)
#   SANITIZE=1          then compute-sanitizer's memcheck, racecheck and initcheck over the CUDA suites
#   TOOLS="memcheck"    which of its tools
#
# A machine that reaches no package registry gets its libraries from .gpu/ (gpu-kit and its packages) if that
# folder was carried along. The last lines are a table, one line a suite; the exit code says whether all passed.
set -uo pipefail

build=build-gpu
out=${OUT:-$build/logs}
jobs=${JOBS:-$(nproc)}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PATH=$PATH:/usr/local/cuda/bin
mkdir -p "$out"

# Runs a command into a log; on failure shows the log's end and stops.
step() {
  local name=$1
  shift
  local start=$SECONDS
  if "$@" >"$out/$name.log" 2>&1; then
    echo "$name: done in $((SECONDS - start)) s"
  else
    echo "$name failed; the end of $out/$name.log:"
    tail -n 40 "$out/$name.log"
    exit 1
  fi
}

# One line a suite: what compute-sanitizer's tool found. Suites without a case on CUDA are not run.
sanitize() {
  local tool=$1 suite name log result
  for suite in $(ctest --test-dir $build -N -R 'cuda$' | sed -n 's/.*: \(test_.*\)-cuda$/\1/p'); do
    name=$suite-$tool log=$out/$suite-$tool.log
    if timeout 600 compute-sanitizer --tool "$tool" --error-exitcode 99 \
      "$build/tests/$suite" cuda >"$log" 2>&1; then
      result=clean
    elif grep -q 'ERROR SUMMARY: [1-9]' "$log"; then
      result=$(grep -o 'ERROR SUMMARY: .*' "$log" | tail -n 1)
      failures=1
    else
      result="failed (exit $?)"
      failures=1
    fi
    printf '%-42s %s\n' "$name" "$result" >>"$out/table.txt"
  done
}

failures=0
: >"$out/table.txt"
[ -d .gpu/debs ] && step install bash .gpu/gpu-kit install .gpu/debs
step configure cmake -S . -B $build -DAQLM_CUDA=ON \
  -DCMAKE_CUDA_ARCHITECTURES="${ARCHITECTURES:-90-real}"
step build cmake --build $build --parallel "$jobs"

ctest --test-dir $build --output-on-failure --no-tests=error "$@" >"$out/ctest.log" 2>&1 || failures=1
sed -n 's/^ *[0-9]*\/[0-9]* Test *#[0-9]*: \([^ ]*\) \.*\** *\(.*\)/\1 \2/p' "$out/ctest.log" |
  while read -r name result; do printf '%-42s %s\n' "$name" "$result"; done >>"$out/table.txt"

if [ "${SANITIZE:-0}" = 1 ]; then
  for tool in ${TOOLS:-memcheck racecheck initcheck}; do sanitize "$tool"; done
fi

[ $failures = 0 ] || grep -B2 -A30 -E '\*\*\*Failed|\*\*\*Exception|Subprocess' "$out/ctest.log" | head -n 150
echo
cat "$out/table.txt"
exit $failures
