#!/usr/bin/env bash
# One, two and three ranks write the same bytes, with dense and with quantized inputs.
source "$(dirname "$0")/common.sh" "$@"

for inputs in dense quantized; do
  for ranks in 1 2 3; do
    check "$ranks ranks finish with $inputs inputs" quantize $ranks $inputs-$ranks --set run.inputs=$inputs
  done
  for ranks in 2 3; do
    check "$ranks ranks write one rank's model ($inputs inputs)" same $inputs-1/model.aqlm.h5 $inputs-$ranks/model.aqlm.h5
    check "$ranks ranks write one rank's block 3 ($inputs inputs)" \
      same $inputs-1/blocks/block-0003.h5 $inputs-$ranks/blocks/block-0003.h5
  done
done
check "inputs change the result" fails same dense-1/blocks/block-0003.h5 quantized-1/blocks/block-0003.h5
check "a warning says who idles" says quantized-3 'rank 0 works, 2 more idle'
finish
