#!/usr/bin/env python3
"""check_ranks.py BUILD ROOT: a job of 64 tiny blocks on 1 to 32 ranks of this machine, by tools/scaling.py.

Every number of ranks must give the same bytes and forward every block once, and no rank may starve: each gets at least a quarter
of its even share, in whole blocks (so 32 ranks on fewer cores are free to have none). Exits with 77 (skipped) where NumPy is
missing.
"""
import collections
import os
import pathlib
import subprocess
import sys
import tempfile

RANKS = (1, 2, 4, 8, 16, 32)
BLOCKS = 64
MODEL = f"--hidden 32 --ffn 64 --heads 2 --kv-heads 2 --blocks {BLOCKS} --vocab 128 --sequences 16 --length 32".split()
SETTINGS = ("tuning.epochs=2", "quantizer.rounds=2", "tuning.batch=8", "quantizer.scheme=2x4", "quantizer.kmeans_iterations=10")


def problems_of(events, ranks):
    """What is wrong with a run, as lines."""
    passes = [e["dense_forward_passes"] for e in events if e["event"] == "run"]
    if passes != [1.0]:
        yield f"{ranks} ranks: dense forward passes {passes}, expected 1"
    done = collections.Counter(e["rank"] for e in events if e["event"] == "block")
    if sum(done.values()) != BLOCKS:
        yield f"{ranks} ranks: {sum(done.values())} blocks done, expected {BLOCKS}"
    least = min(done[rank] for rank in range(ranks))
    if least < BLOCKS // ranks // 4:
        yield f"{ranks} ranks: a rank got {least} of {BLOCKS} blocks: {dict(done)}"


def main():
    build, root = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    try:
        import numpy  # noqa: F401  (tools/random_model.py needs it)
    except ImportError:
        print("skipped: no NumPy")
        return 77
    sys.path.insert(0, str(root / "tools"))
    import scaling_model
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, root / "tools/scaling.py", ",".join(map(str, RANKS)), "cpu", *MODEL]
        for setting in SETTINGS:
            command += ["--set", setting]
        subprocess.run(command, env={**os.environ, "AQLM_BUILD": str(build), "AQLM_RUNS": runs}, check=True)
        found = [line for ranks in RANKS
                 for line in problems_of(scaling_model.events_of(f"{runs}/scaling/run-{ranks}-1"), ranks)]
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
