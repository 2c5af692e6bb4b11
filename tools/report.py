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
import pathlib
import sys

from report_charts import draw_block_errors, draw_fit_curves, draw_layer_errors, draw_timeline, draw_tuning_curves, load_matplotlib
from report_run import MOST_RANKS, Run, describe_work, has_ended, is_index, is_number, split_runs

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
