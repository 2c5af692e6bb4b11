#!/usr/bin/env bash
# quickstart.sh: from a fresh clone to a first result.
#
#   ./quickstart.sh demo     install what is missing, build, quantize examples/tiny-llama, export it, show perplexities
#   ./quickstart.sh test     install what is missing, build, run every test
#   ./quickstart.sh build    install what is missing and build only
#
# Packages come from apt (through sudo unless root); on other systems the script says what to install.
# AQLM_BUILD (folder, default build) and AQLM_CMAKE (more CMake options) are passed on.
set -euo pipefail
cd "$(dirname "$0")"

build=${AQLM_BUILD:-build}
packages=(build-essential cmake pkg-config openmpi-bin libopenmpi-dev libhdf5-dev libopenblas-pthread-dev
          libjansson-dev libyaml-dev libssl-dev libcunit1-dev)
test_packages=(python3-venv python3-matplotlib) # for the Python peers of tests/interop, and tools/report.py

# Threads that wait for each other sleep instead of taking cores from the processes beside them.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}

say() { printf '\n== %s\n' "$*"; }
die() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
  done
}

install_packages() {
  if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    command -v cmake >/dev/null && command -v mpicc >/dev/null && return
    die "this system has no apt: install a C compiler, CMake >= 3.25, pkg-config, Open MPI, HDF5, OpenBLAS, jansson, \
libyaml, OpenSSL and CUnit with their headers, then run this script again"
  fi
  local missing=() as_root=()
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -eq 0 ] && return
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "please install as root: apt-get install ${missing[*]}"
    as_root=(sudo)
  fi
  say "Installing ${missing[*]}"
  "${as_root[@]}" apt-get -qq update
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
}

build_all() {
  say "Building into $build (options: ${AQLM_CMAKE:-none})"
  # shellcheck disable=SC2086  # AQLM_CMAKE holds several options
  cmake -S . -B "$build" ${AQLM_CMAKE:-} | grep -E 'CUDA backend|Error|Warning' || true
  cmake --build "$build" --parallel "$(nproc)"
}

# Open MPI binds one or two ranks to a core each and refuses more ranks than cores or root, unless told.
ranks() {
  local count=$1
  shift
  if [ "$(id -u)" -eq 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
  mpirun --bind-to none --oversubscribe -n "$count" "$@"
}

perplexity() {
  "$build/aqlm-mpi" evaluate "$1" --tokens examples/tiny-llama/validation.npy --seqlen 256 --backend cpu
}

demo() {
  local run=runs/tiny
  rm -rf "$run" "$run-export"
  say "Quantizing examples/tiny-llama with two ranks on the CPU"
  ranks 2 "$build/aqlm-mpi" quantize configs/tiny.yaml
  say "Exporting a Hugging Face AQLM folder"
  "$build/aqlm-mpi" export "$run/model.aqlm.h5" --out "$run-export"
  say "Before: examples/tiny-llama"
  perplexity examples/tiny-llama
  say "After: $run-export"
  perplexity "$run-export"
}

run_tests() {
  ctest --test-dir "$build" --output-on-failure --parallel "$(nproc)"
}

case ${1:-} in
  demo) install_packages "${packages[@]}"; build_all; demo ;;
  test) install_packages "${packages[@]}" "${test_packages[@]}"; build_all; run_tests ;;
  build) install_packages "${packages[@]}"; build_all ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
