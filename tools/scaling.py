#!/usr/bin/env python3
"""The same job on one rank and on several, alone and in teams: seconds, speed-ups, and where the time went.

    tools/scaling.py RANKS BACKEND [--teams] [--set KEY=VALUE]... [MODEL_OPTION...]
    tools/scaling.py 1,2,4,8 cuda --teams --hidden 4096 --ffn 11008 --blocks 16 --sequences 64 --length 2048

MODEL_OPTIONs go to tools/random_model.py, which makes the model and its tokens. Every run of RANKS has teams of one, whose
files must be equal byte by byte; with --teams there is one more a number of ranks, with one team of all. Seconds run from the
first block's start to the last block's commit; "predicted" is what tools/scaling_model.py makes of the run on one rank.
Environment: AQLM_BUILD: the build folder [build]; AQLM_RUNS: where model and run directories go [runs].
"""
import argparse
import filecmp
import os
import pathlib
import subprocess
import sys

import numpy as np

import scaling_model

HEAD = ("ranks", "team", "seconds", "speed-up", "predicted", "computing", "forwarding", "waiting", "in team", "moved GB", "host GB",
        "GPU GB", "passes")
CONFIG = """model: {model}
output: {runs}/run
calibration:
  tokens: {model}/tokens.npy
  sequences: {sequences}
  length: {length}
  validation: {validation}
quantizer:
  scheme: 2x8
"""


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ranks", type=scaling_model.numbers)
    parser.add_argument("backend", choices=["cpu", "cuda"])
    parser.add_argument("--teams", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_known_args()


class Scaling:
    def __init__(self, options, model_options):
        self.options = options
        self.program = pathlib.Path(os.environ.get("AQLM_BUILD", "build")) / "aqlm-mpi"
        self.runs = pathlib.Path(os.environ.get("AQLM_RUNS", "runs")) / "scaling"
        self.config = self.runs / "config.yaml"
        self.one = None  # the run of one rank
        self.runs.mkdir(parents=True, exist_ok=True)
        model = self.runs / "model"
        if not (model / "tokens.npy").exists():
            maker = pathlib.Path(__file__).with_name("random_model.py")
            subprocess.run([sys.executable, maker, model, *model_options], check=True)
        sequences, length = np.load(model / "tokens.npy", mmap_mode="r").shape
        self.config.write_text(CONFIG.format(model=model, runs=self.runs, sequences=sequences, length=length,
                                             validation=sequences // 8))

    def run(self, ranks, team):
        folder = self.runs / f"run-{ranks}-{team}"
        subprocess.run(["rm", "-rf", folder], check=True)
        command = ["mpirun", "--bind-to", "none", "--oversubscribe", "-n", str(ranks), self.program, "quantize", self.config,
                   "--backend", self.options.backend, "--output", folder, "--progress", "plain", "--set", f"run.team_size={team}"]
        for setting in self.options.set:
            command += ["--set", setting]
        root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} if os.geteuid() == 0 else {}
        with open(f"{folder}.log", "w") as log:
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, **root}, check=False)
        if done.returncode:
            sys.exit(f"{ranks} ranks in teams of {team} failed: see {folder}.log")
        return folder

    def predicted(self, ranks, team):
        blocks = scaling_model.blocks_of(scaling_model.events_of(self.one))
        return scaling_model.predict(blocks, scaling_model.job_of(self.one), ranks, team, scaling_model.CONSTANTS)

    def row(self, ranks, team):
        folder = self.run(ranks, team)
        self.one = self.one or folder
        events = scaling_model.events_of(folder)
        start, end = scaling_model.first_and_last(events)
        own = [e for e in events if e["event"] == "rank"]
        spent = {name: sum(e[name] for e in own) for name in ("forwarding", "waiting", "quantizing", "team_seconds", "team_bytes",
                                                               "fetched_bytes")}
        whole = spent["forwarding"] + spent["waiting"] + spent["quantizing"]
        share = [f"{100 * part / whole:.1f}%" for part in (whole - spent["forwarding"] - spent["waiting"] - spent["team_seconds"],
                                                           spent["forwarding"], spent["waiting"], spent["team_seconds"])]
        device = max(e["peak_device_memory"] or 0 for e in own)
        passes = [e["dense_forward_passes"] for e in events if e["event"] == "run"][-1]
        if self.one == folder:
            self.first = end - start
        show(ranks, team, f"{end - start:.1f}", f"{self.first / (end - start):.2f}",
             f"{self.predicted(ranks, team):.1f}" if folder != self.one and self.alone else "", *share,
             f"{1e-9 * (spent['team_bytes'] + spent['fetched_bytes']):.3f}", f"{1e-9 * max(e['peak_memory'] for e in own):.2f}",
             f"{1e-9 * device:.2f}", f"{passes:.2f}")
        return folder

    @property
    def alone(self):
        return self.one.name == "run-1-1"


def show(*cells):
    print(" ".join(f"{cell!s:>10}" for cell in cells), flush=True)


def main():
    options, model_options = parse()
    scaling = Scaling(options, model_options)
    show(*HEAD)
    for ranks in options.ranks:
        folder = scaling.row(ranks, 1)
        if not filecmp.cmp(folder / "model.aqlm.h5", scaling.one / "model.aqlm.h5", shallow=False):
            sys.exit(f"{folder}/model.aqlm.h5 differs from that in {scaling.one}")
    print(f"the same bytes for all of these: model.aqlm.h5 of {', '.join(str(ranks) for ranks in options.ranks)} ranks")
    for ranks in options.ranks:
        if options.teams and ranks > 1:
            scaling.row(ranks, ranks)


if __name__ == "__main__":
    main()
