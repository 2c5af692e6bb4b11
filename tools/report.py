#!/usr/bin/env python3
"""Draws a run of aqlm-mpi as one self-contained web page.

    tools/report.py RUN_DIR [--out report.html]

Reads config.yaml, metrics.jsonl and the names of the files in RUN_DIR (docs/file-formats.md), so it
works while the run does, after it ended, and after it died. Needs matplotlib.
"""

import argparse
import collections
import datetime
import html
import io
import json
import math
import pathlib
import re
import sys

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
INK, FAINT, ACCENT, BEFORE = "#1f2933", "#d3dae1", "#2f74b5", "#b9c4cf"
MOST_BLOCKS, MOST_RANKS = 65536, 65536  # no model and no job has more

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #f5f7f9; color: #1f2933; font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 24px 48px; }
h1 { font-size: 25px; margin: 0; } h2 { font-size: 17px; margin: 0 0 4px; }
p { margin: 0 0 10px; color: #52606d; } code { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 13px; }
section { background: #fff; border: 1px solid #e1e6eb; border-radius: 8px; padding: 16px 20px; margin-top: 16px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(460px, 1fr)); gap: 0 16px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(116px, 1fr)); gap: 10px; margin-top: 16px; }
.card { background: #fff; border: 1px solid #e1e6eb; border-radius: 8px; padding: 10px 14px; }
.card b { display: block; font-size: 19px; font-weight: 600; } .card span { color: #52606d; font-size: 13px; }
.note { border-left: 4px solid #d64545; } svg { display: block; width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: left; color: #52606d; font-weight: 500; white-space: nowrap; } th, td { padding: 3px 18px 3px 0; border-bottom: 1px solid #eef1f4; }
.settings { columns: 3 280px; column-gap: 32px; } .settings span { color: #52606d; }
.settings div { display: flex; justify-content: space-between; gap: 16px; break-inside: avoid; border-bottom: 1px solid #eef1f4; padding: 2px 0; }
.settings code { overflow-wrap: anywhere; text-align: right; }
"""


# ---- reading ----


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


# ---- drawing ----


def load_matplotlib():
    try:
        import matplotlib
    except ImportError:
        sys.exit("report.py: error: matplotlib is missing: python3 -m pip install matplotlib")
    matplotlib.use("svg")
    import matplotlib.pyplot as pyplot

    pyplot.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "aqlm-mpi", "font.family": "sans-serif", "font.size": 10,
        "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#eef1f4",
        "axes.axisbelow": True, "legend.frameon": False, "figure.constrained_layout.use": True,
    })  # fmt: skip
    return pyplot


def to_svg(pyplot, figure):
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    pyplot.close(figure)
    text = stream.getvalue()
    return text[text.index("<svg"):]


def whole_ticks(axes):
    axes.xaxis.get_major_locator().set_params(integer=True)


def log_scale(axes):
    """Ticks at 1, 2 and 5, in plain numbers: a range of errors may hold no power of ten."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def legend_beside(axes):
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)


def draw_block_errors(pyplot, run):
    blocks = sorted(run.finished)
    if not blocks:
        return None
    figure, axes = pyplot.subplots(figsize=(5.6, 3.1))
    for key, label, colour, width in (("fitted_error", "before tuning", BEFORE, 0.8), ("error", "after", ACCENT, 0.5)):
        points = [(b, run.finished[b][key]) for b in blocks if is_number(run.finished[b].get(key))]
        if points:
            axes.bar(*zip(*points), width=width, color=colour, label=label)
    axes.set(xlabel="block", ylabel="relative error of its outputs")
    axes.grid(axis="x", visible=False)
    whole_ticks(axes)
    axes.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
    return to_svg(pyplot, figure)


def draw_layer_errors(pyplot, run):
    figure, axes = pyplot.subplots(figsize=(5.6, 3.1))
    drawn = False
    for layer, colour in LAYERS.items():
        points = sorted((b, e["error"]) for (b, name), e in run.layers.items() if name == layer and is_number(e.get("error")) and e["error"] > 0)
        if points:
            axes.plot(*zip(*points), marker="o", markersize=3.5, linewidth=1.4, color=colour, label=layer.split(".")[1])
            drawn = True
    axes.set(xlabel="block", ylabel="relative error of the fit")
    whole_ticks(axes)
    if drawn:
        log_scale(axes)
        legend_beside(axes)
    return to_svg(pyplot, figure) if drawn else pyplot.close(figure)


def draw_fit_curves(pyplot, run):
    figure, axes = pyplot.subplots(figsize=(5.6, 3.1))
    labelled = set()
    order = list(LAYERS)
    for (_, layer), event in sorted(run.layers.items(), key=lambda item: (order.index(item[0][1]), item[0][0])):
        rounds = event.get("round_errors")
        errors = [event.get("kmeans_error"), *(rounds if isinstance(rounds, list) else [])]
        points = [(i, error) for i, error in enumerate(errors) if is_number(error) and error > 0]
        if len(points) < 2:
            continue
        label = None if layer in labelled else layer.split(".")[1]
        labelled.add(layer)
        axes.plot(*zip(*points), linewidth=1, alpha=0.8, color=LAYERS[layer], label=label)
    axes.set(xlabel="round (0: k-means)", ylabel="relative error of the fit")
    whole_ticks(axes)
    if labelled:
        log_scale(axes)
        legend_beside(axes)
    return to_svg(pyplot, figure) if labelled else pyplot.close(figure)


def draw_tuning_curves(pyplot, run):
    curves = {}
    for block, epochs in run.epochs.items():
        for key in ("validation_error", "training_error"):
            points = [(n, e[key]) for n, e in sorted(epochs.items()) if is_number(e.get(key)) and e[key] > 0]
            if points:
                curves[block, key] = points
    if not curves:
        return None
    figure, axes = pyplot.subplots(figsize=(5.6, 3.1))
    last = max(block for block, _ in curves)
    colours = pyplot.get_cmap("viridis")
    for (block, key), points in curves.items():
        style = dict(linewidth=1.6) if key == "validation_error" else dict(linewidth=1, linestyle=":")
        label = f"block {block}" if key == "validation_error" or (block, "validation_error") not in curves else None
        axes.plot(*zip(*points), color=colours(0.9 * block / max(last, 1)), label=label, **style)
    axes.set(xlabel="epoch (0: before tuning)", ylabel="relative error of the outputs")
    whole_ticks(axes)
    if len(run.epochs) <= 10:
        legend_beside(axes)
    return to_svg(pyplot, figure)


def pick_unit(seconds):
    for unit, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds > 3 * unit:
            return unit, name
    return 1, "seconds"


def draw_timeline(pyplot, run):
    """The runs one after another, without the time between them."""
    parts = split_runs(run.events)
    runs = [(part, find_spans(part, not has_ended(part) and part is not parts[-1])) for part in parts]
    ranks = sorted({span[0] for _, spans in runs for span in spans})
    if not ranks:
        return None
    lengths = [max(e["time"] for e in events) - events[0]["time"] for events, _ in runs]
    unit, name = pick_unit(sum(lengths))
    figure, axes = pyplot.subplots(figsize=(11.4, 1.3 + min(0.34 * len(ranks), 10)))
    offset, gap = 0.0, 0.01 * sum(lengths)
    for number, ((events, spans), length) in enumerate(zip(runs, lengths)):
        for stage, colour in STAGES.items():
            bars = [(rank, begin, end) for rank, begin, end, what in spans if what == stage]
            axes.barh([ranks.index(rank) for rank, _, _ in bars], [(end - begin) / unit for _, begin, end in bars],
                      left=[(begin - events[0]["time"] + offset) / unit for _, begin, _ in bars],
                      height=0.72, color=colour, edgecolor="white", linewidth=0.4)  # fmt: skip
        if number:
            axes.axvline((offset - gap / 2) / unit, color="#d64545", linewidth=1.2)
            axes.annotate(f"run {number + 1}", (offset / unit, 1.01), xycoords=("data", "axes fraction"), color="#d64545", fontsize=9)
        offset += length + gap
    step = 1 + len(ranks) // 40
    team = run.last(["start"], "team_size", 1)
    team = team if is_index(team, MOST_RANKS) and team > 1 else 1
    names = [f"rank {rank}" if team == 1 else f"team {rank // team}, rank {rank}" for rank in ranks]
    axes.set_yticks(range(0, len(ranks), step), names[::step])
    for place, rank in enumerate(ranks):
        if place and team > 1 and rank % team == 0:
            axes.axhline(place - 0.5, color=INK, linewidth=0.6)
    axes.set_xlabel(f"{name} at work")
    axes.set_xlim(0, max(offset - gap, 1e-9) / unit)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    seen = {span[3] for _, spans in runs for span in spans}
    shown = {stage: colour for stage, colour in STAGES.items() if stage != "lost" or stage in seen}
    patches = [pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in shown.values()]
    axes.legend(patches, shown, ncols=len(shown), loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=1.8, fontsize=9)
    return to_svg(pyplot, figure)


# ---- the page ----


def describe_seconds(seconds):
    seconds = int(seconds + 0.5)
    for unit, high, part, low in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if seconds >= unit:
            return f"{seconds // unit}{high}{seconds % unit // part:02d}{low}"
    return f"{seconds}s"


def describe_moment(unix_seconds):
    try:
        return datetime.datetime.fromtimestamp(unix_seconds).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "?"


def show(value, form="{}"):
    if not is_number(value):
        return "–" if value is None or isinstance(value, float) else html.escape(str(value))
    return form.format(value)


def table(head, rows):
    cells = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{cells}</tr>{lines}</table>"


def section(name, title, text, body):
    empty = "<p>Nothing yet.</p>"
    return f'<section id="{name}"><h2>{title}</h2><p>{text}</p>{body or empty}</section>'


def cards(run):
    errors = [event["error"] for event in run.finished.values() if is_number(event.get("error"))]
    mean = sum(errors) / len(errors) if errors else None
    work = sum(max(e["time"] for e in events) - events[0]["time"] for events in split_runs(run.events))
    peaks = [e["peak_memory"] for e in run.events if is_number(e.get("peak_memory"))]
    done = max(len(run.finished), len(run.files))
    values = [
        (run.state(), "state"),
        (f"{done} of {show(run.blocks())}", "blocks done"),
        (show(run.last(["block", "run"], "bits_per_weight"), "{:.3f}"), "bits per weight"),
        (show(mean, "{:.4f}"), "mean block error"),
        (describe_seconds(work), "at work"),
        (str(max(len(run.starts) - 1, 0)), "restarts"),
        (show(max(peaks) / 2**20 if peaks else None, "{:,.0f} MiB"), "peak memory"),
        (show(run.last(["run"], "dense_forward_passes"), "{:.2f}"), "dense forward passes"),
    ]
    return '<div class="cards">' + "".join(f'<div class="card"><b>{v}</b><span>{k}</span></div>' for v, k in values) + "</div>"


def notes(run):
    lines = [f"Block {e['block']} failed on rank {e['rank']} ({describe_moment(e['time'])}): {html.escape(str(e.get('error')))}"
             for e in run.of_kind("failed")]  # fmt: skip
    parts = split_runs(run.events)
    for number, events in enumerate(parts[:-1], 1):
        if not has_ended(events):
            work = describe_work(events)
            lines.append(f"Run {number} was killed; in work were {html.escape(work)}." if work else f"Run {number} was killed.")
    if run.unreadable:
        lines.append(f"{run.unreadable} unreadable line{'s' * (run.unreadable > 1)} in metrics.jsonl.")
    body = "".join(f"<p>{line}</p>" for line in lines)
    return f'<section id="notes" class="note"><h2>Notes</h2>{body}</section>' if lines else ""


def describe_ranks(start):
    ranks, team = start.get("ranks"), start.get("team_size")
    return show(ranks) + (f" in teams of {team}" if is_index(team, MOST_RANKS) and team > 1 else "")


def describe_taken_up(events):
    texts = []
    for event in events:
        if event["event"] == "taken_up" and event.get("block") is not None:
            parts = [f"{event[key]} {key}" for key in ("layers", "epochs") if is_index(event.get(key), 10**6) and event[key]]
            texts.append(f"block {event['block']} ({', '.join(parts)})")
    return html.escape(", ".join(texts))


def runs_table(run):
    rows, parts = [], split_runs(run.events)
    for events in parts:
        start, last = events[0], next((event for event in reversed(events) if event["event"] == "end"), {})
        blocks = sum(event["event"] == "block" for event in events)
        error = "killed" if events is not parts[-1] else "it has not said that it ended"
        error = (last.get("error") or "all done") if last else error
        rows.append((len(rows) + 1, describe_moment(start["time"]), describe_seconds(max(e["time"] for e in events) - start["time"]),
                     describe_ranks(start), show(start.get("backend")), show(start.get("program")), describe_taken_up(events),
                     blocks, html.escape(str(error))))  # fmt: skip
    head = ["run", "began", "took", "ranks", "backend", "program", "taken up", "blocks finished", "end"]
    return table(head, rows) if rows else None


def peaks_of(events, key):
    peaks = collections.defaultdict(float)
    for event in events:
        if is_number(event.get(key)):
            peaks[event["rank"]] = max(peaks[event["rank"]], event[key])
    return peaks


def ranks_table(run):
    """Of the whole directory: seconds as the ranks tell them when a run ends, and peaks of memory."""
    seconds, keys = collections.defaultdict(lambda: [0.0, 0.0, 0.0]), ("quantizing", "forwarding", "waiting")
    for event in run.of_kind("rank"):
        if all(is_number(event.get(key)) for key in keys):
            seconds[event["rank"]] = [a + event[key] for a, key in zip(seconds[event["rank"]], keys)]
    host, device = peaks_of(run.events, "peak_memory"), peaks_of(run.events, "peak_device_memory")
    rows = []
    for rank in sorted({*seconds, *host, *device}):
        told = [f"{value:,.1f} s ({100 * value / (sum(seconds[rank]) or 1):.0f}%)" for value in seconds[rank]] if rank in seconds else ["–"] * 3
        peaks = [f"{peak[rank] / 2**20:,.1f} MiB" if rank in peak else "–" for peak in (host, device)]
        rows.append((rank, *told, *peaks))
    return table(["rank", *keys, "peak host memory", "peak GPU memory"], rows) if rows else None


def blocks_table(run):
    rows = [(block, show(event.get("error"), "{:.6f}"), show(event.get("fitted_error"), "{:.6f}"),
             show(event.get("epochs")), show(event.get("best_epoch")), show(event.get("seconds"), "{:,.1f}"), event["rank"])
            for block, event in sorted(run.finished.items())]  # fmt: skip
    return table(["block", "error", "before tuning", "epochs", "best", "seconds", "rank"], rows) if rows else None


def settings_list(run):
    rows = [f"<div><span>{html.escape(key)}</span><code>{html.escape(value)}</code></div>" for key, value in run.settings]
    return f'<div class="settings">{"".join(rows)}</div>'


def make_page(pyplot, run):
    name = html.escape(run.directory.resolve().name)
    settings = dict(run.settings)
    model = html.escape(pathlib.PurePath(settings.get("model", "?")).name)
    body = [
        f"<h1>{name}</h1><p>{model} quantized with aqlm-mpi, {show(settings.get('quantizer.scheme'))}</p>",
        cards(run),
        notes(run),
        section("timeline", "What every rank did when",
                "Runs stand one after another; red lines are restarts. Inputs: a block's inputs are received or forwarded.",
                draw_timeline(pyplot, run)),
        '<div class="pair">',
        section("blocks", "Error by block", "Of a block's outputs, before and after tuning.", draw_block_errors(pyplot, run)),
        section("layers", "Error by layer", "Of each linear after its fit.", draw_layer_errors(pyplot, run)),
        section("fits", "Fit curves", "Every linear of every block, round by round.", draw_fit_curves(pyplot, run)),
        section("tuning", "Tuning curves", "Held-out sequences (lines) and training sequences (dots).",
                draw_tuning_curves(pyplot, run)),
        "</div>",
        section("runs", "Runs", "Every start of this directory.", runs_table(run)),
        section("ranks", "Ranks", "Seconds of all runs that ended, and the most memory that a rank's process has held.",
                ranks_table(run)),
        section("table", "Blocks", "Finished ones, as their last events tell.", blocks_table(run)),
        section("settings", "Settings", "From config.yaml.", settings_list(run)),
    ]  # fmt: skip
    return (f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>'
            f'<body><main>{"".join(body)}</main></body></html>\n')  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description="Draws a run of aqlm-mpi as one self-contained web page.")
    parser.add_argument("run_dir", metavar="RUN_DIR", type=pathlib.Path, help="the directory of the run, finished or not")
    parser.add_argument("--out", type=pathlib.Path, help="the page to write (RUN_DIR/report.html)")
    options = parser.parse_args()
    if not (options.run_dir / "config.yaml").is_file():
        sys.exit(f"report.py: error: {options.run_dir}: not a run directory: it has no config.yaml")
    pyplot = load_matplotlib()
    out = options.out or options.run_dir / "report.html"
    try:
        out.write_text(make_page(pyplot, Run(options.run_dir)), encoding="utf-8")
    except OSError as error:
        sys.exit(f"report.py: error: {error.filename}: {error.strerror}")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
