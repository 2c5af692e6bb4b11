#!/usr/bin/env bash
# check_report.sh ROOT: tools/report.py on the run directory tests/data/run, whole, cut short and damaged.
#
# AQLM_PYTHON names the Python to use; else the first python3 that has matplotlib, in the PATH or the system's. Exits with
# 77 (skipped) where there is none.
set -uo pipefail
root=$1 python=${AQLM_PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
export MPLCONFIGDIR=$work

complain() { echo "FAILED: $1"; head -n 3 "$work/err"; failures=$((failures + 1)); }

report() { "$python" "$root/tools/report.py" "$@" >"$work/out" 2>"$work/err"; }

new_run() { # NAME BLOCKS: a copy of the data with so many finished blocks
  mkdir -p "$work/$1/blocks"
  cp "$root/tests/data/run/"* "$work/$1"
  for ((block = 0; block < $2; block++)); do touch "$work/$1/blocks/block-000$block.h5"; done
}

fails() { # TEXT ARGUMENT...: one line with TEXT (a pattern) on stderr
  local text=$1
  shift
  report "$@" && complain "report.py $* did not fail"
  [[ $(wc -l <"$work/err") == 1 ]] && grep -qE "$text" "$work/err" || complain "report.py $*: expected one line with: $text"
}

shows() { # PAGE TEXT...: each (a pattern) is in the page
  local page=$work/$1 text
  shift
  for text; do grep -qE -- "$text" "$page" || complain "$(basename "$page") lacks $text"; done
}

has_matplotlib() { "$python" -c 'import matplotlib' 2>/dev/null; }

[[ -n ${AQLM_PYTHON:-} ]] || has_matplotlib || [[ ! -x /usr/bin/python3 ]] || python=/usr/bin/python3
command -v "$python" >/dev/null || { echo "skipped: no $python"; exit 77; }
new_run whole 4
touch "$work/whole/model.aqlm.h5"
mkdir "$work/without"
echo 'raise ImportError' >"$work/without/matplotlib.py"
fails 'not a run directory: it has no config.yaml' "$work"
PYTHONPATH=$work/without fails 'matplotlib is missing: python3 -m pip install matplotlib' "$work/whole"
has_matplotlib || { echo "skipped: $python has no matplotlib"; exit $((failures ? 1 : 77)); }

sections=()
for name in timeline blocks layers fits tuning runs table memory settings; do sections+=("<section id=\"$name\""); done
report "$work/whole" --out "$work/whole.html" || complain "a finished run has no page"
shows whole.html "${sections[@]}" '<b>complete</b>' '<b>4 of 4</b>' '<b>1</b><span>restarts' 'quantizer.scheme' '>rank 1<' '>run 2<'
[[ $(grep -o '<svg' "$work/whole.html" | wc -l) == 5 ]] || complain "a finished run does not have five pictures"
grep -q 'Nothing yet' "$work/whole.html" && complain "a section of a finished run is empty"
grep -qE '(src|href)="(http|file|/)|url\((http|file)|<script' "$work/whole.html" && complain "the page needs other files"

new_run cut 1
sed -n '1,30p' "$root/tests/data/run/metrics.jsonl" >"$work/cut/metrics.jsonl"
failed='{"event":"failed","rank":1,"block":1,"error":"<script>","time":1795426840}'
printf '%s\n' "$failed" 'garbage' '{"event":["block"]}' '{"event":"stage","rank":0,"block":1,"stage":[],"time":1}' >>"$work/cut/metrics.jsonl"
printf '{"event":"sta' >>"$work/cut/metrics.jsonl"
report "$work/cut" || complain "an unfinished run has no page"
shows cut/report.html "${sections[@]}" '<b>working<' '1 of 4' '3 unreadable lines' 'Block 1 failed on rank 1 .*&lt;script&gt;'

new_run empty 0
: >"$work/empty/metrics.jsonl"
report "$work/empty" || complain "a run without events has no page"
shows empty/report.html "${sections[@]}" '<b>new<' 'Nothing yet'
fails 'No such file or directory' "$work/whole" --out "$work/no/such/folder.html"

((failures == 0)) && echo "all as expected"
exit $((failures > 0))
