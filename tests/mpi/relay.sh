#!/usr/bin/env bash
# Activations handed over between ranks: mapped on one node, or sent in pieces while both main threads compute.
source "$(dirname "$0")/common.sh" "$@"

# moves HOW LIMIT OPTION...: 40 MB from a rank that computes for 3 s arrive unchanged, HOW ("mapped", "copied"), within LIMIT s.
moves() {
  local how=$1 limit=$2
  shift 2
  timeout 120 mpirun --bind-to none --oversubscribe -n 2 "$program" bench relay -m 40 -b 3 "$@" >"$folder/bench.log" 2>&1 || return 1
  awk -v how="$how" -v limit="$limit" '$3 == how { found = $(NF - 1) < limit } END { exit !found }' "$folder/bench.log"
}

check "a rank maps what another one of its node holds, while that computes" moves mapped 2
check "a rank is sent what another one holds, while that computes" moves copied 2 --copy
check "... which takes the communication thread" fails moves copied 2 --copy --no-thread
check "... or else comes late" moves copied 20 --copy --no-thread
finish
