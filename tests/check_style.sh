#!/usr/bin/env bash
# check_style.sh ROOT: clang-format 14 would change nothing, and shellcheck warns of nothing. What is not installed is left
# out; exit status 77 (skipped) where neither is, or where ROOT is no git checkout.
set -uo pipefail
cd "$1" || exit 1
failures=0 ran=0
[ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$(realpath .)" ] || { echo "skipped: not a git checkout"; exit 77; }

for name in clang-format-14 clang-format; do
  if "$name" --version 2>/dev/null | grep -q 'version 14\.'; then
    ran=1
    git ls-files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' | xargs "$name" --dry-run -Werror || failures=1
    break
  fi
done
if command -v shellcheck >/dev/null; then
  ran=1
  mapfile -t scripts < <(git ls-files '*.sh' 'slurm/*' .ci/run tests/slurm/slurm-sandbox)
  shellcheck --severity=warning --shell=bash "${scripts[@]}" || failures=1
fi
((ran)) || { echo "skipped: no clang-format 14 and no shellcheck"; exit 77; }
exit "$failures"
