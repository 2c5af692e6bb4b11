#!/usr/bin/env bash
# A run directory is taken up where it was, by the same job only.
source "$(dirname "$0")/common.sh" "$@"

blocks_made() { grep -c '"event":"block"' "$folder/$1/metrics.jsonl"; }

check "a run finishes" quantize 2 run
cp "$folder/run/model.aqlm.h5" "$folder/first.h5"

check "a complete run ends at once" quantize 2 run
check "... and says so" says run 'complete already'
check "... and makes no block again" [ "$(blocks_made run)" = 4 ]

rm "$folder/run/blocks/block-0002.h5" "$folder/run/model.aqlm.h5"
echo half >"$folder/run/blocks/block-0002.h5.partial"
check "a run with a missing block goes on" quantize 3 run
check "... makes that block only" [ "$(blocks_made run)" = 5 ]
check "... to the same bytes" same run/model.aqlm.h5 first.h5
check "... and clears temporary files" fails test -e "$folder/run/blocks/block-0002.h5.partial"

truncate --size=20000 "$folder/run/blocks/block-0001.h5"
rm "$folder/run/model.aqlm.h5"
check "a run with a damaged block goes on" quantize 1 run
check "... and says so" says run 'block 1 is quantized again'
check "... to the same bytes" same run/model.aqlm.h5 first.h5

flip() { printf '\x5a' | dd of="$folder/$1" bs=1 seek="$2" conv=notrunc status=none; }

flip run/blocks/block-0002.h5 9000
flip run/model.aqlm.h5 9000
check "a run with flipped bytes in a block and in the gathered file goes on" quantize 2 run
check "... setting the block aside" test -e "$folder/run/blocks/block-0002.h5.damaged"
check "... to the same bytes" same run/model.aqlm.h5 first.h5
flip run/model.aqlm.h5 12345
check "a damaged gathered file is gathered again" quantize 2 run
check "... and set aside" test -e "$folder/run/model.aqlm.h5.damaged"
check "... to the same bytes" same run/model.aqlm.h5 first.h5
check "digests are sha256sum's" sh -c "cd '$folder/run' && sha256sum --quiet -c ./*.sha256 && cd blocks && sha256sum --quiet -c ./*.sha256"

# killed RANKS RUN FILE: one rank is killed in the middle of a block, when FILE has been written; mpirun ends the rest.
killed() {
  touch "$folder/before"
  quantize "$1" "$2" "${long[@]}" &
  local job=$!
  until [ -n "$(find "$folder/$2" -path "*/work/$3" -newer "$folder/before" 2>/dev/null)" ]; do
    kill -0 $job 2>/dev/null || return 1
    sleep 0.02
  done
  kill -9 "$(processes aqlm-mpi "$2" | tail -n 1)"
  ! wait $job
}

layers_fitted() { grep -o '"event":"layer",.*"error"' "$folder/$1/metrics.jsonl" | cut -d, -f3,4 | sort; }
no_layer_twice() { [ -z "$(layers_fitted "$1" | uniq -d)" ] && [ "$(layers_fitted "$1" | wc -l)" = 28 ]; }

long=(--set quantizer.rounds=40 --set quantizer.tolerance=0 --set tuning.epochs=20 --set tuning.patience=30 --set tuning.learning_rate=1e-5)
check "a longer run finishes" quantize 2 whole "${long[@]}"
check "... and keeps no state of finished blocks" [ -z "$(find "$folder/whole/work" -type f)" ]
for file in '*/self_attn.k_proj.h5' '*/tuning.state' '*/mlp.gate_proj.h5'; do
  check "a rank is killed while there is $file" killed 2 torn "$file"
done
check "a run that was killed in the middle of blocks goes on" quantize 2 torn "${long[@]}"
check "... telling what it takes up" grep -q '"event":"taken_up"' "$folder/torn/metrics.jsonl"
check "... fitting no finished layer again" no_layer_twice torn
check "... to the same bytes" same torn/model.aqlm.h5 whole/model.aqlm.h5

long+=(--set run.team_size=2)
check "a team finishes" quantize 2 team "${long[@]}"
check "a member of a team is killed" killed 2 teams '*/tuning.state'
check "... and the team goes on" quantize 2 teams "${long[@]}"
check "... fitting no finished layer again" no_layer_twice teams
check "... to the same bytes" same team/model.aqlm.h5 teams/model.aqlm.h5

check "quantized inputs finish" quantize 1 inputs --set run.inputs=quantized
cp "$folder/inputs/model.aqlm.h5" "$folder/second.h5"
rm "$folder/inputs/blocks/block-0003.h5" "$folder/inputs/model.aqlm.h5"
check "quantized inputs go on from block files" quantize 2 inputs --set run.inputs=quantized
check "... to the same bytes" same inputs/model.aqlm.h5 second.h5

block() { sha256sum <"$folder/$1/blocks/block-000$2.h5"; }
same_blocks() { [ "$(block "$1" "$3")" = "$(block "$2" "$3")" ]; }

cp -r "$folder/run" "$folder/again"
check "a block is redone with other settings" quantize 2 again --restart-block 1 --set quantizer.rounds=3 --set tuning.epochs=2
check "... alone" [ "$(blocks_made again)" = $(($(blocks_made run) + 1)) ]
check "... with another result" fails same_blocks again run 1
check "... the old one kept" test -e "$folder/again/blocks/block-0001.h5.replaced"
cp "$folder/again/model.aqlm.h5" "$folder/third.h5"
check "the run's own command takes the redone block up" quantize 1 again
check "... as complete" says again 'complete already'
check "redone with the run's settings" quantize 1 again --restart-block 1
check "... the result is the run's" same again/model.aqlm.h5 run/model.aqlm.h5
check "another scheme for one block is refused" ends_with_1 quantize 2 again --restart-block 1 --set quantizer.scheme=1x4
check "... by name" says again 'quantizer.scheme was 2x4 and is now 1x4'
cp -r "$folder/inputs" "$folder/later"
check "with quantized inputs a block is redone" quantize 2 later --set run.inputs=quantized --restart-block 2 --set quantizer.rounds=3
check "... and those behind it" [ "$(blocks_made later)" = $(($(blocks_made inputs) + 2)) ]

cp -r examples/tiny-llama "$folder/moved"
check "another path of the model is taken" quantize 2 run --set model="$folder/moved"
check "... as complete" says run 'complete already'
printf x | dd of="$folder/moved/model.safetensors" bs=1 seek=100000 conv=notrunc status=none
check "a changed model is refused" ends_with_1 quantize 2 run --set model="$folder/moved"
check "... by its file" says run 'another model (its model.safetensors had'
check "... by one line" one_error run

flip run/config.yaml 40
check "a run with a damaged config.yaml goes on" quantize 1 run
check "... and says so" says run 'config.yaml.damaged and written again'
flip run/config.yaml 40
check "... but not with other settings" ends_with_1 quantize 1 run --seed 7
check "... which it says" says run 'was made with other settings'
check "... until they are the run's" quantize 1 run

check "other settings are refused" ends_with_1 quantize 2 run --seed 7
check "... by name" says run 'run.seed was 0 and is now 7'
check "... by one line" one_error run
check "... and the result stays" same run/model.aqlm.h5 first.h5
finish
