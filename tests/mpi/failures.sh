#!/usr/bin/env bash
# What goes wrong on one rank or on all: one error line from rank 0, exit status 1, nobody hangs, nothing half-written.
source "$(dirname "$0")/common.sh" "$@"

# The example with NaN in a weight of block 2, which only its own quantization meets.
cp -r examples/tiny-llama "$folder/broken"
spoil_weight "$folder/broken"

for ranks in 1 2 3; do
  check "a failing block ends $ranks ranks" ends_with_1 quantize $ranks block-$ranks --set "model=$folder/broken"
  check "... with block and rank" says block-$ranks 'error: block 2 (rank [0-2]): .*model.layers.2.mlp.up_proj.weight'
  check "... in one line" one_error block-$ranks
  check "... keeping finished blocks" test -e "$folder/block-$ranks/blocks/block-0000.h5"
  check "... without a gathered file" fails test -e "$folder/block-$ranks/model.aqlm.h5"
  check "... without temporary files" [ -z "$(find "$folder/block-$ranks" -name '*.partial')" ]
done

# refused NAME TEXT OPTION...: two ranks refuse before anything is written.
refused() {
  local name=$1 text=$2
  shift 2
  check "$name is refused" ends_with_1 quantize 2 "$name" "$@"
  check "... saying why" says "$name" "$text"
  check "... in one line" one_error "$name"
  check "... before anything is written" fails test -e "$folder/$name"
}

refused missing-model '/nowhere' --set model=/nowhere
refused missing-tokens '/nowhere.npy' --set calibration.tokens=/nowhere.npy
refused unknown-key 'did you mean quantizer.scheme' --set quantizer.shceme=2x8
refused bad-group 'self_attn.q_proj: .*does not divide' --set quantizer.group=7
refused large-codebook 'self_attn.q_proj: .*larger than' --set quantizer.scheme=1x16
refused few-tokens '100000 sequences' --set calibration.sequences=100000
refused unknown-option '--bogus' --bogus
refused bad-progress 'live' --progress loud

# ranks_of NAME COMMAND... : COMMAND...: ranks that each have their own command line.
ranks_of() {
  local name=$1
  shift
  timeout 120 mpirun --bind-to none --oversubscribe -n 1 "$@" >"$folder/$name.log" 2>&1
}
right=("$program" quantize configs/tiny.yaml --backend cpu --output "$folder/alone")
cp "$program" "$folder/other-program"
echo >>"$folder/other-program"

# apart NAME TEXT COMMAND...: rank 1 alone differs, and the job ends before anything is written.
apart() {
  local name=$1 text=$2
  shift 2
  check "a rank with $name ends all" ends_with_1 ranks_of "$name" "${right[@]}" : -n 1 "$@"
  check "... and is named" says "$name" "error: rank 1: $text"
  check "... in one line" one_error "$name"
  check "... before anything is written" fails test -e "$folder/alone"
}
apart other-settings "on host $(hostname): other settings than rank 0's, \"seed: 7\" instead of \"seed: 0\"" "${right[@]}" --seed 7
apart other-program "on host $(hostname): another program file" "$folder/other-program" "${right[@]:1}"
apart no-config '.*tiny.yaml: ' --wdir / "${right[@]}"
finish
