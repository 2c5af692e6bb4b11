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
for name in timeline blocks layers fits tuning runs table ranks settings; do sections+=("<section id=\"$name\""); done
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

new_run killed 1
{
  sed -n '1,30p' "$root/tests/data/run/metrics.jsonl"
  printf '{"event":"start","rank":0,"ranks":4,"team_size":2,"backend":"cpu","program":"p","blocks":4,"time":1795427000}\n'
  printf '{"event":"taken_up","rank":2,"block":1,"layers":5,"epochs":2,"time":1795427001}\n'
  printf '{"event":"stage","rank":3,"block":null,"stage":"waiting","layer":null,"time":1795427001}\n'
  printf '{"event":"rank","rank":3,"forwarding":1,"waiting":2,"quantizing":1,"peak_memory":3e8,"peak_device_memory":4e9,"time":1795427009}\n'
  printf '{"event":"run","rank":0,"blocks":4,"dense_forward_passes":1.25,"time":1795427009}\n'
} >"$work/killed/metrics.jsonl"
report "$work/killed" || complain "a run that was killed has no page"
shows killed/report.html 'Run 1 was killed; in work were block 0 .fit mlp.down_proj, rank 0' '>lost<' 'team 1, rank 3' '4 in teams of 2' \
  'block 1 .5 layers, 2 epochs' '1.0 s .25%' '3,814.7 MiB' '<b>1.25</b><span>dense forward passes'
grep -q unreadable "$work/killed/report.html" && complain "a rank that waits is no unreadable line"

new_run empty 0
: >"$work/empty/metrics.jsonl"
report "$work/empty" || complain "a run without events has no page"
shows empty/report.html "${sections[@]}" '<b>new<' 'Nothing yet'
fails 'No such file or directory' "$work/whole" --out "$work/no/such/folder.html"

((failures == 0)) && echo "all as expected"
exit $((failures > 0))
