#!/usr/bin/env python3
"""Shows how busy a job keeps its GPU: by phase, the longest gaps, what runs before gaps, the kernels that take most time.

    tools/gpu_timeline.py [--library build/libgpu_timeline.so] [--out TIMELINE] -- build/aqlm-mpi quantize CONFIG --set output=RUN ...
    tools/gpu_timeline.py --read TIMELINE.PID [--run RUN]

The first form runs the command with the library, which is built where CUDA's CUPTI is found, then reads what it wrote (TIMELINE.PID, a
file a process; default /tmp/gpu_timeline). Phases are the stages in RUN/metrics.jsonl; RUN is the command's output setting. "Busy" is
the share of wall time with at least one kernel (or, second, any kernel, copy or fill) at work. Watching costs time itself, about 2 us
a launch. Needs NumPy.
"""
import argparse
import glob
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import numpy as np

ROWS = 12


class Timeline:
    """What the library wrote: intervals in order of their starts, in seconds since `origin` (Unix time), and their names."""

    def __init__(self, path):
        starts, ends, kinds, numbers, names = [], [], [], [], {}
        self.rank, self.lost = 0, None
        for line in open(path, errors="replace"):
            word, rest = line.rstrip("\n").split(" ", 1)
            if word == "name":
                number, text = rest.split(" ", 1)
                names[int(number)] = text
            elif word == "begin":
                origin, self.rank = map(int, rest.split())
            elif word == "end":
                end, self.lost = map(int, rest.split())
                self.end = (end - origin) * 1e-9
            else:
                start, end, number = map(int, rest.split())
                starts.append(start - origin)
                ends.append(end - origin)
                kinds.append(word)
                numbers.append(number)
        order = np.argsort(np.array(starts, dtype=np.int64), kind="stable")
        self.starts = np.array(starts, dtype=np.int64)[order] * 1e-9
        self.ends = np.array(ends, dtype=np.int64)[order] * 1e-9
        self.kernel = np.array([kind == "kernel" for kind in kinds], dtype=bool)[order]
        self.numbers = np.array(numbers, dtype=np.int64)[order]
        self.names = plain(names)
        self.origin = origin * 1e-9
        if self.lost is None:
            self.end = self.ends.max() if len(order) else 0.0


def plain(names):
    """Kernels' names without namespaces, template arguments and parameters."""
    if names and shutil.which("c++filt"):
        texts = subprocess.run(["c++filt"], input="\n".join(names.values()), capture_output=True, text=True).stdout
        names = dict(zip(names, texts.splitlines()))
    return {number: re.sub(r"^void |\(anonymous namespace\)::|\((?!anonymous).*", "", text)[:90] for number, text in names.items()}


def merge(starts, ends):
    """The union of intervals that are in order of their starts: [count, 2]."""
    if not len(starts):
        return np.zeros((0, 2))
    reach = np.maximum.accumulate(ends)
    fresh = np.r_[True, starts[1:] > reach[:-1]]
    return np.c_[starts[fresh], reach[np.r_[np.flatnonzero(fresh)[1:] - 1, len(starts) - 1]]]


def covered(union, times):
    """How much of the union lies before each of these times."""
    total = np.r_[0, np.cumsum(union[:, 1] - union[:, 0])]
    place = np.searchsorted(union[:, 0], times)
    inside = np.where(place > 0, np.minimum(times - union[place - 1, 0], union[place - 1, 1] - union[place - 1, 0]), 0) \
        if len(union) else np.zeros(len(times))
    return total[np.maximum(place - 1, 0)] + inside


def read_phases(run, timeline, begin, end):
    """(name, start, end) of what the rank did from `begin` to `end`, in order; without a run all is one phase."""
    marks = [("start", begin)]
    path = pathlib.Path(run, "metrics.jsonl") if run else None
    for line in open(path) if path and path.exists() else []:
        event = json.loads(line)
        at = event["time"] - timeline.origin
        if event["rank"] == timeline.rank and begin <= at <= end:
            if event["event"] == "stage":
                marks.append((event["stage"], at))
            elif event["event"] == "run":
                marks.append(("end", at))
    if len(marks) == 1:
        marks = [("all", begin)]
    return [(name, time, after) for (name, time), after in zip(marks, [time for _, time in marks[1:]] + [end])]


def print_phases(timeline, phases):
    kernels = merge(timeline.starts[timeline.kernel], timeline.ends[timeline.kernel])
    anything = merge(timeline.starts, timeline.ends)
    print(f"{'phase':<12}{'seconds':>10}{'kernels':>10}{'any work':>10}{'launches':>11}{'us each':>9}")
    rows = list(dict.fromkeys(name for name, _, _ in phases)) + ["in all"]
    for row in rows:
        spans = np.array([[start, end] for name, start, end in phases if row in (name, "in all")])
        seconds = (spans[:, 1] - spans[:, 0]).sum()
        busy, any_work = ((covered(union, spans[:, 1]) - covered(union, spans[:, 0])).sum() for union in (kernels, anything))
        inside = sum(np.count_nonzero(timeline.kernel & (timeline.starts >= start) & (timeline.starts < end)) for start, end in spans)
        each = 1e6 * busy / inside if inside else 0
        share = 100 / max(seconds, 1e-9)
        print(f"{row:<12}{seconds:>10.3f}{share * busy:>9.1f}%{share * any_work:>9.1f}%{inside:>11}{each:>9.1f}")
    return anything


def print_gaps(timeline, phases, union):
    """Between two pieces of work; the longest, and sums by the work that ran before."""
    if len(union) < 2:
        return
    starts, ends = union[:-1, 1], union[1:, 0]
    gaps = ends - starts
    reach = np.maximum.accumulate(timeline.ends)
    before = timeline.numbers[np.searchsorted(timeline.starts, ends) - 1]
    after = timeline.numbers[np.searchsorted(timeline.starts, ends)]
    marks = np.array([start for _, start, _ in phases])
    print(f"\nlongest of {len(gaps)} gaps ({gaps.sum():.3f} s in all; process start to first work "
          f"{union[0, 0] - phases[0][1]:.3f} s, last work to end {phases[-1][2] - reach[-1]:.3f} s)")
    for i in np.argsort(-gaps)[:ROWS]:
        phase = phases[max(np.searchsorted(marks, starts[i], "right") - 1, 0)][0]
        print(f"{1e3 * gaps[i]:>10.2f} ms at {starts[i] - phases[0][1]:>8.3f} s ({phase}): after {timeline.names[before[i]][:40]}, "
              f"before {timeline.names[after[i]][:40]}")
    print("\ngaps by the work that they follow")
    print_sums(timeline, before, gaps)


def print_sums(timeline, numbers, seconds):
    sums = np.bincount(numbers, weights=seconds)
    counts = np.bincount(numbers)
    for number in np.argsort(-sums)[:ROWS]:
        if counts[number]:
            print(f"{sums[number]:>10.3f} s {counts[number]:>9} of {1e6 * sums[number] / counts[number]:>9.1f} us  "
                  f"{timeline.names[number]}")


def show(path, run, begin=None, end=None):
    """`begin` and `end`: of the whole process, where they are known (Unix time)."""
    timeline = Timeline(path)
    phases = read_phases(run, timeline, begin - timeline.origin if begin else 0.0, end - timeline.origin if end else timeline.end)
    print(f"{path}: rank {timeline.rank}, {len(timeline.starts)} records, " +
          ("no end: the process was killed" if timeline.lost is None else f"{timeline.lost} lost"))
    union = print_phases(timeline, phases)
    print("\nkernels, copies and fills by their time")
    print_sums(timeline, timeline.numbers, timeline.ends - timeline.starts)
    print_gaps(timeline, phases, union)


def written(out):
    """The library's files: `out`, a point and the number of a process."""
    return sorted(path for path in glob.glob(f"{glob.escape(out)}.*") if path[len(out) + 1:].isdigit())


def run_command(options):
    """Returns the command's exit status."""
    for path in written(options.out):
        os.remove(path)
    if not os.path.exists(options.library):
        sys.exit(f"{options.library} is not there: CMake builds it where CUPTI is found")
    environment = dict(os.environ, CUDA_INJECTION64_PATH=os.path.abspath(options.library), GPU_TIMELINE=options.out)
    begin = time.time()
    status = subprocess.run(options.command, env=environment).returncode
    end = time.time()
    print(f"\nexit status {status} after {end - begin:.3f} s")
    for path in written(options.out):
        show(path, options.run, begin, end)
    return status


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", default="build/libgpu_timeline.so")
    parser.add_argument("--out", default="/tmp/gpu_timeline")
    parser.add_argument("--read")
    parser.add_argument("--run", help="run directory; default: what the command sets as output")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    for word in options.command:
        if word.startswith("output=") and not options.run:
            options.run = word.split("=", 1)[1]
    if options.read:
        return show(options.read, options.run)
    if not options.command:
        parser.error("which command?")
    return run_command(options)


if __name__ == "__main__":
    sys.exit(main())
