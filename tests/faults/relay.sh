#!/usr/bin/env bash
# Activations of another rank of the node that cannot be mapped, as between containers, are sent: the same bytes, one forward pass.
source "$(dirname "$0")/common.sh" "$@"
make_reference

passes() { grep '"event":"run"' "$folder/$1/metrics.jsonl" | grep -cE '"dense_forward_passes":1(\.0+)?[,}]'; }
unmapped='activations are copied: /proc/[0-9]*/fd/[0-9]*: .*Permission denied'

check "ranks map each other's activations" fails says whole "$unmapped"
for ranks in 2 3; do
  FAULT='open:/proc/*/fd/*:1:EACCES' together $ranks run-$ranks
  check "$ranks ranks that cannot map them finish" [ $? = 0 ]
  check "... having said why they are sent" says run-$ranks "$unmapped"
  check "... with one forward pass over the model" [ "$(passes run-$ranks)" = 1 ]
  check "... to the same bytes" identical run-$ranks
done
FAULT='open:/proc/*/fd/*:1:EACCES:1' together 2 one
check "one rank that cannot is enough" [ $? = 0 ]
check "... to be told" says one "$unmapped"
check "... and to come to the same bytes" identical one
finish
