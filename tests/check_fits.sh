#!/usr/bin/env bash
# Fits the layers of AQLM_SHARED/layers and holds the errors at the stop against the reference's.
#
#   check_fits.sh AQLM-MPI BACKEND SHARED
#
# The figures are those of BASELINES.md there ("at the stop"); a fit may end at most 0.5% above, and
# a beam of 4 at least as low as a beam of 1. Exits with 77 (skipped) where the data or the device
# is missing.
set -euo pipefail
program=$1 backend=$2 shared=${AQLM_SHARED:-$3}

[ -d "$shared/layers" ] || { echo "skipped: no $shared/layers"; exit 77; }

attention=blocks.0.self_attn.q_proj mlp=blocks.4.mlp.down_proj
failures=0 narrow=

at_most() { awk -v found="$1" -v limit="$2" 'BEGIN { exit !(found <= limit) }'; }

fit() { # layer scheme beam -> error at the stop
    "$program" bench layer --input "$shared/layers/$1.h5" --scheme "$2" --beam "$3" \
        --backend "$backend" --json | sed -n 's/.*"stop_error": \([0-9.e-]*\).*/\1/p'
}

check() { # layer scheme beam reference
    local error limit verdict=ok
    error=$(fit "$1" "$2" "$3")
    limit=$(awk -v reference="$4" 'BEGIN { print reference * 1.005 }')
    at_most "${error:-9}" "$limit" || verdict="ABOVE $limit"
    if [ "$3" = 1 ]; then narrow=$error; fi
    if [ "$3" = 4 ]; then at_most "$error" "$narrow" || verdict="ABOVE a beam of 1"; fi
    [ "$verdict" = ok ] || failures=$((failures + 1))
    printf '%-28s %s beam %s  %s (reference %s)  %s\n' "$1" "$2" "$3" "$error" "$4" "$verdict"
}

if [ "$backend" = cuda ] && ! reason=$("$program" bench layer --backend cuda --rounds 1 \
    --kmeans-iterations 1 --input "$shared/layers/$attention.h5" 2>&1); then
    echo "skipped: $reason"
    exit 77
fi

check $attention 2x8 1 0.01235
check $attention 2x8 4 0.01162
check $attention 1x8 1 0.04899
check $attention 2x6 1 0.02861
check $mlp 2x8 1 0.07390
check $mlp 2x8 4 0.07348
check $mlp 1x8 1 0.24426
check $mlp 2x6 1 0.14852
exit $((failures > 0))
