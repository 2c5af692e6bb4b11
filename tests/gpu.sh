#!/usr/bin/env bash
# Builds with CUDA and runs all suites on a machine with an NVIDIA GPU; run in the repository's root.
#
#   tests/gpu.sh [CTEST ARGUMENT...]    e.g. tests/gpu.sh -R cuda
#
#   OUT=DIR             where the logs go (build-gpu/logs)
#   JOBS=N              compilers at once (all cores)
#   ARCHITECTURES=LIST  what kernels are compiled for (90-real: Hopper)
#   SANITIZE=1          then compute-sanitizer's memcheck, racecheck and initcheck over the CUDA suites
#
# A machine that reaches no package registry gets its libraries from .gpu/ (gpu-kit and its packages) if that
# folder was carried along. The last lines are a table, one line a suite; the exit code says whether all passed.
set -uo pipefail

build="build-gpu"
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

# check SUITE TOOL: one line of the table, what compute-sanitizer found. An API call that fails where a test wants it to
# (too much memory) is no finding.
check() {
  local suite=$1 tool=$2 log=$out/$1-$2.log options=() result
  [ "$tool" = memcheck ] && options=(--report-api-errors no)
  if timeout 300 compute-sanitizer --tool "$tool" "${options[@]}" --error-exitcode 99 "$build/tests/$suite" cuda >"$log" 2>&1; then
    result=clean
  else
    result="failed (exit $?): $(grep -o '[A-Z]* SUMMARY: .*' "$log" | tail -n 1)"
  fi
  printf '%-42s %s\n' "$suite-$tool" "$result" >>"$out/table.txt"
}

# memcheck over all suites with a case on CUDA; racecheck and initcheck, which slow programs down a hundredfold, over those
# that call every kernel with small shapes.
sanitize() {
  local all small
  all=$(ctest --test-dir $build -N -R 'cuda$' | sed -n 's/.*: \(test_.*\)-cuda$/\1/p')
  small=$(grep -E '^test_(ops_|quant_(search|kmeans|coded|gram)|tensor)' <<<"$all")
  export -f check
  export out build
  {
    for suite in $all; do echo "$suite memcheck"; done
    for tool in racecheck initcheck; do for suite in $small; do echo "$suite $tool"; done; done
  } | OMP_NUM_THREADS=2 xargs -P "$((jobs / 2 > 0 ? jobs / 2 : 1))" -L 1 bash -c 'check $0 $1'
  ! grep -q ' failed' "$out/table.txt" || failures=1
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

[ "${SANITIZE:-0}" != 1 ] || sanitize

[ $failures = 0 ] || grep -B2 -A30 -E '\*\*\*Failed|\*\*\*Exception|Subprocess' "$out/ctest.log" | head -n 150
echo
cat "$out/table.txt"
exit $failures
