#!/usr/bin/env python3
"""Predicts how long a job takes on more ranks, from the phases of one that ran on one rank.

    tools/scaling_model.py RUN_DIR --ranks 2,8,64 [--team 1,2] [--blocks 32] [--set NAME=VALUE]...

RUN_DIR is a finished run of one rank (run.team_size 1). Prints one line a pair of ranks and team size: seconds from the first
block's start to the last block's commit, speed-up, efficiency. --blocks repeats the run's blocks, but the first, for a model of
so many. The constants below can be set by name; docs/performance.md holds their measured values.
"""
import argparse
import heapq
import json
import pathlib

# Of one H100 beside another in one host, measured (docs/performance.md).
CONSTANTS = {
    "fetch": 8e9,          # bytes a second: a boundary from another rank's memory to one's own GPU
    "offer": 28e9,         # a boundary from the GPU into host memory, which is made beside the forward pass
    "warm": 0.25,          # seconds that a rank's first block takes longer
    "call": 1.1e-4,        # seconds of a call of a team, small or large
    "team_bytes": 100e9,   # bytes a second that such a call moves
    "adam_steps": 100,     # calls a round of fitting: one a step
    "parameters": 16,      # calls a step of block tuning: one a parameter
    "batch": 32,
    "save": 1e10,          # bytes a second: tuning's state into host memory, by one member for all (3e8 until it was written beside the next epoch)
}


def events_of(run):
    with open(pathlib.Path(run) / "metrics.jsonl") as file:
        return [json.loads(line) for line in file]


def first_and_last(events):
    """The start of the first block that was taken and the commit of the last one."""
    start = min(e["time"] for e in events if e["event"] == "stage" and e["block"] is not None)
    return start, max(e["time"] for e in events if e["event"] == "block")


def blocks_of(events):
    """Per block in order: seconds of its parts, its rounds and its epochs."""
    blocks = {}
    for e in events:
        if e["event"] in ("stage", "layer", "epoch", "block") and e["block"] is not None:
            blocks.setdefault(e["block"], []).append(e)
    result = []
    for index in sorted(blocks):
        parts = {}
        for e in blocks[index]:
            if e["event"] == "stage":
                parts.setdefault(e["stage"], e["time"])
        own = blocks[index]
        end = [e["time"] for e in own if e["event"] == "block"][-1]
        result.append({
            "inputs": parts["forward"] - parts["inputs"], "forward": parts["fit"] - parts["forward"],
            "fit": parts["tuning"] - parts["fit"], "tuning": parts["writing"] - parts["tuning"], "writing": end - parts["writing"],
            "rounds": sum(e["rounds"] for e in own if e["event"] == "layer"),
            "layers": sum(1 for e in own if e["event"] == "layer"),
            "epochs": max([e["epoch"] for e in own if e["event"] == "epoch"], default=0)})
    return result


def in_team(block, team, job, constants):
    """The block's parts for a member of a team: work divided, calls between the members, and what one of them does alone."""
    if team == 1:
        return block
    alone = min(block["tuning"], block["epochs"] * job["state_bytes"] / constants["save"])
    calls = block["rounds"] * (constants["adam_steps"] + 4) + 20 * block["layers"]
    steps = -(-job["sequences"] // constants["batch"]) * block["epochs"] * constants["parameters"]
    return {**block, "forward": block["forward"] / team, "fit": block["fit"] / team + calls * constants["call"],
            "tuning": (block["tuning"] - alone) / team + alone + steps * constants["call"]}


def simulate(blocks, teams, boundary_bytes, constants):
    """Seconds until the last of the blocks is done: each goes to whoever is free first once the one before is forwarded."""
    free = [(0.0, team) for team in range(teams)]
    frontier, holder, known = 0.0, None, set()
    for index, block in enumerate(blocks):
        when, team = heapq.heappop(free)
        now = max(when, frontier) + block["inputs"]
        if index > 0 and team not in known:
            now += constants["warm"]
        if index > 0 and team != holder:
            now += boundary_bytes / constants["fetch"]
        now += block["forward"]
        if teams > 1 and index + 1 < len(blocks):
            now += boundary_bytes / constants["offer"]
        known.add(team)
        frontier, holder = now, team
        heapq.heappush(free, (now + block["fit"] + block["tuning"] + block["writing"], team))
    return max(when for when, _ in free)


def predict(blocks, job, ranks, team, constants):
    """job: what job_of tells of the whole job. Ranks that make no whole team are left out."""
    members = [in_team(block, team, job, constants) for block in blocks]
    return simulate(members, ranks // team, job["boundary_bytes"] / team, constants)


def repeated(blocks, count):
    """The first block is the first of its kind; the others are repeated in turn."""
    rest = blocks[1:] or blocks
    return [blocks[0]] + [rest[i % len(rest)] for i in range(count - 1)] if count else blocks


def state_bytes(scheme, group):
    """Of the codebooks of a block's seven linears as tuning keeps them: values, best values, two moments, float32."""
    codebooks, bits = scheme.split("x")
    return 7.0 * 4 * 4 * int(codebooks) * 2 ** int(bits) * int(group)


def job_of(run):
    """Sequences, the bytes of one boundary and of tuning's state, from the run's resolved configuration."""
    keys = {}
    section = ""
    for line in (pathlib.Path(run) / "config.yaml").read_text().splitlines():
        name, _, value = line.strip().partition(":")
        section = section if line.startswith(" ") else name
        keys[f"{section}.{name}" if line.startswith(" ") else name] = value.split("#")[0].strip().strip("\"'")
    hidden = json.loads((pathlib.Path(keys["model"]) / "config.json").read_text())["hidden_size"]
    sequences, length = int(keys["calibration.sequences"]), int(keys["calibration.length"])
    return {"sequences": sequences, "boundary_bytes": 2.0 * sequences * length * hidden,
            "state_bytes": state_bytes(keys["quantizer.scheme"], keys["quantizer.group"])}


def numbers(text):
    return [int(part) for part in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--ranks", type=numbers, default=[2])
    parser.add_argument("--team", type=numbers, default=[1])
    parser.add_argument("--blocks", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=", ".join(CONSTANTS))
    options = parser.parse_args()
    constants = dict(CONSTANTS)
    for setting in options.set:
        name, _, value = setting.partition("=")
        if name not in constants:
            parser.error(f"no constant {name}; there are {', '.join(constants)}")
        constants[name] = float(value)
    blocks, job = repeated(blocks_of(events_of(options.run)), options.blocks), job_of(options.run)
    one = predict(blocks, job, 1, 1, constants)
    print(f"{'ranks':>5} {'team':>4} {'seconds':>9} {'speed-up':>9} {'of ideal':>9}")
    for ranks in options.ranks:
        for team in options.team:
            if ranks >= team:
                seconds = predict(blocks, job, ranks, team, constants)
                print(f"{ranks:5d} {team:4d} {seconds:9.1f} {one / seconds:9.2f} {100 * one / seconds / ranks:8.0f}%")


if __name__ == "__main__":
    main()
