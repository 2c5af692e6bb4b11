#!/usr/bin/env bash
# One, two and three ranks write the same bytes, with dense and with quantized inputs, and fitting several linears at a time.
source "$(dirname "$0")/common.sh" "$@"

passes_once() { grep -q '"event":"run".*"dense_forward_passes":1.0[,}]' "$folder/$1/metrics.jsonl"; }
tells_each_rank() { [ "$(grep -c '"event":"rank"' "$folder/$1/metrics.jsonl")" = "$2" ]; }

for inputs in dense quantized; do
  for ranks in 1 2 3; do
    check "$ranks ranks finish with $inputs inputs" quantize $ranks $inputs-$ranks --set run.inputs=$inputs
    check "... forwarding the dense model once in all" passes_once $inputs-$ranks
    check "... each telling what its time went into" tells_each_rank $inputs-$ranks $ranks
  done
  for ranks in 2 3; do
    check "$ranks ranks write one rank's model ($inputs inputs)" same $inputs-1/model.aqlm.h5 $inputs-$ranks/model.aqlm.h5
    check "$ranks ranks write one rank's block 3 ($inputs inputs)" \
      same $inputs-1/blocks/block-0003.h5 $inputs-$ranks/blocks/block-0003.h5
  done
done
check "a rank that fits three linears at a time finishes" quantize 1 lanes --set run.lanes=3
check "... to the same bytes" same dense-1/model.aqlm.h5 lanes/model.aqlm.h5
export AQLM_RELAY=mpi
check "3 ranks that send activations instead of mapping them finish" quantize 3 sent
check "... to the same bytes" same dense-1/model.aqlm.h5 sent/model.aqlm.h5
check "... forwarding the dense model once in all" passes_once sent
check "inputs change the result" fails same dense-1/blocks/block-0003.h5 quantized-1/blocks/block-0003.h5
check "a warning says who idles" says quantized-3 'rank 0 works, 2 more idle'
finish
