#!/usr/bin/env bash
# Coordinating a job costs next to nothing, and forwards every block once (limits for a machine that does other work, too).
source "$(dirname "$0")/common.sh" "$@"

cheap() {
  "$program" bench coordinator --ranks 96 --team 4 --blocks 40 --quantize 0.5 --json >"$folder/bench.log" || return 1
  tr ',{}' '\n' <"$folder/bench.log" | awk -F: '
    { gsub(/"/, "", $1); value[$1] = $2 }
    END { exit !(value["busy"] < 0.1 && value["wait_99"] < 0.1 && value["dense_forward_passes"] == 1 && value["messages"] > 200) }'
}
check "96 ranks in teams of 4 hardly keep the coordinator busy, nor wait for it" cheap
check "ranks that make no whole teams are refused" fails "$program" bench coordinator --ranks 5 --team 2
finish
