"""A run of aqlm-mpi as its files tell it (docs/file-formats.md): settings, events, what every rank did when."""

import collections
import json
import math
import re

LAYERS = {  # attention in blues, the MLP in warm colours
    "self_attn.q_proj": "#0b3c6f",
    "self_attn.k_proj": "#2f74b5",
    "self_attn.v_proj": "#6aaed6",
    "self_attn.o_proj": "#12968a",
    "mlp.gate_proj": "#8c2d04",
    "mlp.up_proj": "#d95f0e",
    "mlp.down_proj": "#f0a202",
}
STAGES = {
    "inputs": "#9aa5b1",
    "forward": "#2f74b5",
    "fit": "#12968a",
    "tuning": "#f0a202",
    "writing": "#7b4fa3",
    "waiting": "#e6e9ed",
    "lost": "#f2b8b5",  # behind the last event of a rank in a run that was killed
}
MOST_BLOCKS, MOST_RANKS = 65536, 65536  # no model and no job has more


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_index(value, limit):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < limit


def is_event(event):
    """Whether the fields that every event of its kind has can be relied on."""
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        return False
    if not is_number(event.get("time")) or abs(event["time"]) > 1e11 or not is_index(event.get("rank"), 2**31):
        return False
    if not all(isinstance(event.get(key), (str, type(None))) for key in ("stage", "layer")):
        return False
    return event.get("block") is None or is_index(event["block"], MOST_BLOCKS)


def read_events(path):
    """The events in their order, and how many lines hold none; a torn last line is no fault."""
    events, unreadable = [], 0
    if not path.exists():
        return events, unreadable
    *lines, torn = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for line in [*lines, torn]:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        if is_event(event):
            events.append(event)
        elif line.strip() and line is not torn:
            unreadable += 1
    return events, unreadable


def read_settings(path):
    """(key, value) of the config.yaml that the program wrote: sections of one level."""
    settings, section = [], ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.match(r"^( *)([a-z_]+): *(.*)$", line)
        if not match:
            continue
        indent, key, value = match.groups()
        if value:
            settings.append((section + key if indent else key, value.strip('"')))
        else:
            section = key + "."
    return settings


class Run:
    """What the files of a run directory tell; of two events that tell the same, the later holds."""

    def __init__(self, directory):
        self.directory = directory
        self.settings = read_settings(directory / "config.yaml")
        self.events, self.unreadable = read_events(directory / "metrics.jsonl")
        self.gathered = (directory / "model.aqlm.h5").exists()
        self.files = {path.name for path in directory.glob("blocks/block-*.h5")}
        self.starts = self.of_kind("start")
        self.finished = {event["block"]: event for event in self.of_kind("block") if self.has_file(event["block"])}
        self.layers = {(e["block"], e.get("layer")): e for e in self.of_kind("layer") if e.get("layer") in LAYERS}
        self.epochs = self.collect_epochs()

    def of_kind(self, kind):
        of_blocks = kind in ("stage", "layer", "epoch", "block", "failed", "taken_up")
        return [e for e in self.events if e["event"] == kind and (e.get("block") is not None or not of_blocks)]

    def has_file(self, block):
        return self.gathered or f"block-{block:04d}.h5" in self.files

    def collect_epochs(self):
        epochs = collections.defaultdict(dict)
        for event in self.of_kind("epoch"):
            if event.get("epoch") == 0:
                epochs[event["block"]].clear()
            if is_index(event.get("epoch"), 10**6):
                epochs[event["block"]][event["epoch"]] = event
        return dict(sorted(epochs.items()))

    def last(self, kinds, key, default=None):
        """The latest value of a field over events of these kinds."""
        values = [event[key] for event in self.events if event["event"] in kinds and event.get(key) is not None]
        return values[-1] if values else default

    def blocks(self):
        return self.last(["start", "run"], "blocks", "?")

    def state(self):
        if self.gathered:
            return "complete"
        if not self.events:
            return "new"
        return "ended" if has_ended(self.events) else "working"


def has_ended(events):
    """Other ranks may still tell something behind the end that rank 0 tells."""
    kinds = [event["event"] for event in events]
    return "end" in kinds and "start" not in kinds[len(kinds) - kinds[::-1].index("end"):]


def split_runs(events):
    """The events of every run: each begins with "start"."""
    runs = []
    for event in events:
        if event["event"] == "start" or not runs:
            runs.append([])
        runs[-1].append(event)
    return runs


def find_spans(events, killed):
    """(rank, begin, end, stage) in Unix seconds for one run: a rank is in a stage until its next event of stage, block,
    failure or its own end; before its first stage and behind a block it waits. What it did behind its last event of all
    is lost if the run was killed."""
    ranks, end = events[0].get("ranks"), max(event["time"] for event in events)
    idle = (events[0]["time"], "waiting")
    spans, since, last = [], dict.fromkeys(range(ranks if is_index(ranks, MOST_RANKS) else 0), idle), {}
    for event in events:
        last[event["rank"]] = event["time"]
        if event["event"] not in ("stage", "block", "failed", "rank"):
            continue
        if event["rank"] in since:
            begin, stage = since[event["rank"]]
            spans.append((event["rank"], begin, event["time"], stage))
        stage = event.get("stage") if event["event"] == "stage" else "waiting"
        since[event["rank"]] = (event["time"], stage if stage in STAGES else "waiting")
    for rank, (begin, stage) in since.items():
        told = max(begin, last.get(rank, begin)) if killed else end
        spans += [(rank, begin, told, stage), (rank, told, end, "lost")]
    return [span for span in spans if span[2] > span[1]]


def describe_work(events):
    """What was in work when a run was killed: the last stage of every block that it did not finish."""
    work = {}
    for event in events:
        if event.get("block") is None:
            continue
        if event["event"] == "stage":
            what = " ".join(event[key] for key in ("stage", "layer") if event.get(key))
            work[event["block"]] = f"block {event['block']} ({what}, rank {event['rank']})"
        elif event["event"] in ("block", "failed"):
            work.pop(event["block"], None)
    return ", ".join(text for _, text in sorted(work.items()))
