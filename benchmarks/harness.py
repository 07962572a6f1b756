"""What the benchmarks share: options, interleaved rounds, ratios, figures in words, tables.

A contestant is a function without arguments that does the work once and returns what is
measured. All contestants of a comparison run one after the other in every round, each round
beginning with another one; a ratio is the median of the ratios within the rounds, so that a
machine that slows down for a while slows both sides.
"""

import argparse
import gc
import os
import sys
import time
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import mean, median, stdev

import torch
from threadpoolctl import threadpool_limits

from benchmarks.passport import RESULTS, ROOT, write_json

# Variables that decide how threads wait and how many there are.
THREAD_VARIABLES = ("OMP_", "MKL_", "OPENBLAS_", "KMP_", "GOMP_")


def command_line(description, script):
    """Return the parser of the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--repeats", type=int, default=5, help="measured rounds (default 5)")
    parser.add_argument("--quick", action="store_true", help="tiny: does the script run at all?")
    parser.add_argument(
        "--threads", type=int, help="of torch and BLAS (default: 1 on small nets, else all cores)"
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/mnist.npz")
    parser.add_argument("--rows", type=int, help="of MNIST")
    parser.add_argument("--json", type=Path, default=RESULTS / f"{Path(script).stem}.json")
    return parser


@contextmanager
def using_threads(number):
    """Give torch and the BLAS of NumPy and SciPy the same `number` of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(before)


def timed(run):
    """Return the contestant that measures the seconds of ``run()``."""

    def contestant():
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return contestant


def say(line):
    """Report progress, apart from the results on stdout."""
    print(line, file=sys.stderr, flush=True)


def rounds(names, repeats):
    """Yield (round, from 1; the names in their order), each beginning with another name."""
    names = list(names)
    for i in range(repeats):
        first = i % len(names)
        yield i + 1, names[first:] + names[:first]


def interleaved(contestants, repeats, label):
    """Return {name: [measured value of each round]}."""
    values = {name: [] for name in contestants}
    for i, names in rounds(contestants, repeats):
        for name in names:
            gc.collect()
            values[name].append(float(contestants[name]()))
        now = ", ".join(f"{name} {in_digits(of[-1])}" for name, of in values.items())
        say(f"{label}, round {i}/{repeats}: {now}")
    return values


def compare(
    on, contestants, *, repeats, threads, warm_up=None, ours=(), targets=None, limits=None, unit="s"
):
    """Measure the `contestants` and return the figures as JSON holds them.

    Parameters
    ----------
    on : str
        The work, for people.
    contestants : dict of str to callable
    repeats, threads : int
    warm_up : dict of str to callable, or None
        What runs once, unmeasured, before; None: the contestants.
    ours : sequence of str
        The names whose ratios to all others are taken.
    targets : dict of (ours, other) to (must, hoped), or None
        What the issue asks of the ratio.
    limits : dict of str to float, or None
        What the issue asks of a contestant's value itself.
    unit : str
    """
    say(f"{on}: warm-up")
    with using_threads(threads):
        for warm in (contestants if warm_up is None else warm_up).values():
            warm()
        values = interleaved(contestants, repeats, on)
    limits, targets = limits or {}, targets or {}
    measured = {name: figure(values[name], unit, limits.get(name)) for name in contestants}
    ratios = []
    for our, name in product(ours, [name for name in contestants if name not in ours]):
        of_pair = ratio(values[our], values[name], *targets.get((our, name), ()))
        ratios.append({"ours": our, "to": name} | of_pair)
    return {"on": on, "threads": threads, "measured": measured, "ratios": ratios}


def figure(values, unit, must=None, hoped=None):
    """Return median, extremes and all of the `values`, and what they are wanted to be at most."""
    found = {"median": median(values), "min": min(values), "max": max(values), "unit": unit}
    return found | {"must": must, "hoped": hoped, "values": list(values)}


def ratio(ours, others, must=None, hoped=None):
    """Return the figure of the ratios within the rounds."""
    of_rounds = [a / b for a, b in zip(ours, others, strict=True)]
    return figure(of_rounds, "", must, hoped)


def in_digits(value):
    """Return three digits of `value`, never in powers of ten."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def in_words(figure):
    """Return "median (min - max) unit" as text."""
    low, high = in_digits(figure["min"]), in_digits(figure["max"])
    return f"{in_digits(figure['median'])} ({low} – {high}) {figure['unit']}".rstrip()


def mean_in_words(values, digits=2):
    """Return "mean ± standard deviation" of the `values`; one alone has no deviation."""
    if not values:
        return "–"
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def errors_by_method(runs):
    """Return a row for each kind of error, and a column for each method, of several seeds."""
    methods = dict.fromkeys(run["method"] for run in runs)
    rows = [["error (%)", *methods]]
    for kind in runs[0]["error"]:
        errors = [[r["error"][kind] for r in runs if r["method"] == m] for m in methods]
        rows.append([kind, *map(mean_in_words, errors)])
    return rows


def beside_target(text, figure):
    """Return `text` and, where there is one, the target; a cross where it is not reached."""
    if figure["must"] is None:
        return text
    return f"{text}, ≤ {figure['must']:g}" + ("" if figure["median"] <= figure["must"] else " ✗")


def markdown(rows):
    """Return the table of `rows`, the first of which has the titles, aligned for the terminal."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def table(comparisons):
    """Return one table of all `comparisons`: values, and the ratios of ours to each."""
    ours = list(dict.fromkeys(r["ours"] for c in comparisons for r in c["ratios"]))
    rows = [["work", "contestant", "median (min – max)", *(f"{our} / it" for our in ours)]]
    for comparison in comparisons:
        threads = "1 thread" if comparison["threads"] == 1 else f"{comparison['threads']} threads"
        title = f"{comparison['on']} ({threads})"
        ratios = {(r["ours"], r["to"]): r for r in comparison["ratios"]}
        for name, value in comparison["measured"].items():
            of_ours = [ratios.get((our, name)) for our in ours]
            cells = [beside_target(f"{r['median']:.2f}", r) if r else "" for r in of_ours]
            rows.append([title, name, beside_target(in_words(value), value), *cells])
            title = ""
    return markdown(rows)


def targets_table(comparisons):
    """Return the table of the figures that have a target."""
    rows = [["figure", "on", "measured", "must be", "hoped for", "reached"]]
    for comparison in comparisons:
        figures = {f"{r['ours']} / {r['to']}": r for r in comparison["ratios"]}
        for what, value in (figures | comparison["measured"]).items():
            if value["must"] is None:
                continue
            must = f"≤ {value['must']:g} {value['unit']}".rstrip()
            hoped = "" if value["hoped"] is None else f"≤ {value['hoped']:g}"
            reached = "yes" if value["median"] <= value["must"] else "no"
            rows.append([what, comparison["on"], in_words(value), must, hoped, reached])
    return markdown(rows) if len(rows) > 1 else ""


def finish(given, comparisons, started):
    """Print the table and the total time, and write the figures with their passport."""
    seconds = time.perf_counter() - started
    print(table(comparisons), flush=True)
    say(f"total {seconds:.0f} s; figures in {given.json}")
    environment = {k: v for k, v in os.environ.items() if k.startswith(THREAD_VARIABLES)}
    figures = {"quick": given.quick, "repeats": given.repeats, "seconds": seconds}
    write_json(given.json, figures | {"environment": environment, "comparisons": comparisons})
