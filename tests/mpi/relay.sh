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

# What the job's own event says of the last run of a directory.
passes() { grep '"event":"run"' "$folder/$1/metrics.jsonl" | tail -n 1 | sed 's/.*"dense_forward_passes":\([0-9.]*\).*/\1/'; }

# passes_are NUMBER RUN
passes_are() { awk -v a="$(passes "$2")" -v b="$1" 'BEGIN { exit !(a != "" && a - b < 1e-6 && b - a < 1e-6) }'; }

forced() { AQLM_RELAY=mpi quantize "$@"; }

for ranks in 1 2 3; do
  check "$ranks ranks finish" quantize $ranks shared-$ranks
  check "... with one forward pass over the model" passes_are 1 shared-$ranks
  check "... to one rank's bytes" same shared-1/model.aqlm.h5 shared-$ranks/model.aqlm.h5
done
for ranks in 2 3; do
  check "$ranks ranks finish that send everything" forced $ranks sent-$ranks
  check "... with one forward pass over the model" passes_are 1 sent-$ranks
  check "... to one rank's bytes" same shared-1/model.aqlm.h5 sent-$ranks/model.aqlm.h5
done

check "a run with snapshots finishes" quantize 2 snapshots --set run.snapshot_every=1
check "... having told their disk use" says snapshots 'activations of every 1 blocks, .* GB each'
check "... to the same bytes" same shared-1/model.aqlm.h5 snapshots/model.aqlm.h5
check "... leaving none" [ -z "$(find "$folder/snapshots/snapshots" -type f)" ]

# Killed while it works on block 2, with boundary 2 on the disk; with and without that snapshot.
slow=(--set run.snapshot_every=2 --set tuning.epochs=8 --set tuning.patience=8)
check "a slower run finishes" quantize 1 slow "${slow[@]}"
quantize 1 killed "${slow[@]}" &
check "... and is killed within block 2" wait_for "$folder/killed/blocks/block-0001.h5"
processes aqlm-mpi killed | xargs -r kill -9
wait
check "... when it has a snapshot" test -e "$folder/killed/snapshots/boundary-0002-of-1-0.act"
check "... and has not made block 2" fails test -e "$folder/killed/blocks/block-0002.h5"
cp -r "$folder/killed" "$folder/without"
cp -r "$folder/killed" "$folder/damaged"
rm -r "$folder/without/snapshots"
printf x | dd of="$folder/damaged/snapshots/boundary-0002-of-1-0.act" bs=1 seek=6000 conv=notrunc status=none
for run in killed without damaged; do
  check "the run goes on ($run)" quantize 2 $run "${slow[@]}"
  check "... to the same bytes" same slow/model.aqlm.h5 $run/model.aqlm.h5
done
check "a restart from a snapshot forwards the rest only" passes_are 0.5 killed
check "... and without it from the start" passes_are 1 without
check "a damaged snapshot is set aside" says damaged 'boundary-0002.*damaged'
check "... and made up for" passes_are 1 damaged
finish
