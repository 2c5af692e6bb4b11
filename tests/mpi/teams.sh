#!/usr/bin/env bash
# Teams of two and three ranks make models as good as single ranks do, alone and beside other teams.
source "$(dirname "$0")/common.sh" "$@"

# errors RUN: the blocks' errors, by block.
errors() {
  grep '"event":"block"' "$folder/$1/metrics.jsonl" |
    sed -n 's/.*"block":\([0-9]*\).*"error":\([0-9.eE+-]*\).*/\1 \2/p' | sort -n | sort -unk1,1
}

# as_good RUN OTHER: four blocks each, and every error within 1 % of the other's.
as_good() {
  [ "$(errors "$1" | wc -l)" = 4 ] && join <(errors "$1") <(errors "$2") |
    awk '{ d = $2 - $3; if (d < 0) d = -d; if (!(d <= 0.01 * $3)) { print "block", $1 ":", $2, "and", $3; bad = 1 } } END { exit bad || NR != 4 }'
}

readable() { "$program" info "$folder/$1/model.aqlm.h5" >"$folder/info.log" 2>&1; }

# Quantized inputs carry a code that rounding tips over into all later blocks: some short steps of Adam tip none.
solvers() { if [ "$1" = quantized ]; then echo adam; else echo cg; fi; }

for inputs in dense quantized; do
  check "one rank finishes with $inputs inputs" quantize 1 $inputs --set run.inputs=$inputs --set "quantizer.solver=$(solvers $inputs)"
done

for job in "2 2 dense" "4 2 dense" "3 3 dense" "2 2 quantized"; do
  read -r ranks size inputs <<<"$job"
  run=$inputs-$ranks-$size
  check "$ranks ranks in teams of $size finish with $inputs inputs" quantize "$ranks" "$run" \
    --set run.inputs="$inputs" --set run.team_size="$size" --set "quantizer.solver=$(solvers "$inputs")"
  check "... every block as good as one rank's" as_good "$run" "$inputs"
  check "... in a readable file" readable "$run"
done

check "ranks that make no whole teams are refused" ends_with_1 quantize 3 odd --set run.team_size=2
check "... saying why" says odd 'run.team_size'
check "... in one line" one_error odd

# What goes wrong on one member ends all: NaN in a weight of block 2, as in failures.sh.
cp -r examples/tiny-llama "$folder/broken"
spoil_weight "$folder/broken"
check "a failing block ends two teams of two" ends_with_1 quantize 4 failing --set run.team_size=2 --set "model=$folder/broken"
check "... with block and layer" says failing 'error: block 2 (rank [0-3]): .*model.layers.2.mlp.up_proj.weight'
check "... in one line" one_error failing
check "... keeping finished blocks" test -e "$folder/failing/blocks/block-0000.h5"

long=(--set run.team_size=2 --set quantizer.rounds=30 --set tuning.epochs=4 --set tuning.patience=9)
check "a team runs undisturbed" quantize 2 whole "${long[@]}"
quantize 2 stopped "${long[@]}" &
job=$!
wait_for "$folder/stopped/blocks/block-0000.h5"
start=$SECONDS
kill -USR1 "$(processes aqlm-mpi stopped | tail -n 1)"
wait $job
result=$? took=$((SECONDS - start))
check "a signal to one member ends the team with 75" [ "$result" = 75 ]
check "... within 10 s" [ "$took" -le 10 ]
check "... and the team goes on" quantize 2 stopped "${long[@]}"
check "... to the bytes of an undisturbed team" same whole/model.aqlm.h5 stopped/model.aqlm.h5

# A run goes on with teams of another size.
cp -r "$folder/dense" "$folder/changed"
rm "$folder/changed/model.aqlm.h5" "$folder/changed"/blocks/block-000[23].h5*
check "a run of single ranks goes on as a team" quantize 2 changed --set run.team_size=2
check "... every block as good" as_good changed dense
finish
