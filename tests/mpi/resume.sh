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

check "quantized inputs finish" quantize 1 inputs --set run.inputs=quantized
cp "$folder/inputs/model.aqlm.h5" "$folder/second.h5"
rm "$folder/inputs/blocks/block-0003.h5" "$folder/inputs/model.aqlm.h5"
check "quantized inputs go on from block files" quantize 2 inputs --set run.inputs=quantized
check "... to the same bytes" same inputs/model.aqlm.h5 second.h5

check "other settings are refused" ends_with_1 quantize 2 run --seed 7
check "... by name" says run 'run.seed was 0 and is now 7'
check "... by one line" one_error run
check "... and the result stays" same run/model.aqlm.h5 first.h5
finish
