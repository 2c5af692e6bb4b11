#!/usr/bin/env bash
# check_timeline.sh ROOT: what tools/gpu_timeline.py says of a made-up timeline. Exits with 77 (skipped) without NumPy.
set -uo pipefail
python3 -c 'import numpy' 2>/dev/null || { echo "skipped: no python3 with NumPy"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

says() { # PATTERN
  grep -qE -- "$1" "$work/out" || { echo "FAILED: no line with: $1"; failures=$((failures + 1)); }
}

# Two kernels that overlap, a copy, a pause of 2 s, a kernel; the job's phases begin at seconds 1, 3 and 7 of 10.
cat >"$work/timeline.1" <<'END'
begin 1000000000000000000 0
name 5 _Z5firstPf
kernel 1000000001000000000 1000000002000000000 5
kernel 1000000001500000000 1000000002500000000 5
name 7 host to device
copy 1000000003000000000 1000000004000000000 7
kernel 1000000006000000000 1000000007000000000 5
end 1000000010000000000 3
END
cat >"$work/metrics.jsonl" <<'END'
{"event": "stage", "rank": 0, "time": 1000000001.0, "block": 0, "stage": "forward", "layer": null}
{"event": "stage", "rank": 1, "time": 1000000002.0, "block": 1, "stage": "tuning", "layer": null}
{"event": "stage", "rank": 0, "time": 1000000003.0, "block": 0, "stage": "fit", "layer": "x"}
{"event": "run", "rank": 0, "time": 1000000007.0}
END
python3 "$1/tools/gpu_timeline.py" --read "$work/timeline.1" --run "$work" >"$work/out" || failures=1
says 'rank 0, 4 records, 3 lost'
says '^forward +2\.000 +75\.0% +75\.0% +2'
says '^fit +4\.000 +25\.0% +50\.0% +1'
says '^in all +10\.000 +25\.0% +35\.0% +3'
says '2000\.00 ms at +4\.000 s \(fit\): after host to device'
exit "$failures"
