"""The pictures of tools/report.py: each takes a report_run.Run and gives an SVG image, or None without data."""

import io
import sys

from report_run import LAYERS, MOST_RANKS, STAGES, find_spans, has_ended, is_index, is_number, split_runs

INK, FAINT, ACCENT, BEFORE = "#1f2933", "#d3dae1", "#2f74b5", "#b9c4cf"


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
