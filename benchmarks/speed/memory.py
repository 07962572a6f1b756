"""Peak memory of a fit on MNIST, and time a row and epoch for more and more rows.

    python -m benchmarks.speed.memory

About 5 minutes on 2 cores. Each fit has a process of its own, which reads the arrays from
files, imports everything and fits a tiny net; what counts is by how much its memory grows
beyond that, at its highest, during the fit.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.harness import command_line, compare, figure, finish, timed, using_threads
from benchmarks.passport import ROOT
from benchmarks.speed.peers import ADVERSARIAL, OURS, fits, ours
from benchmarks.speed.work import Work, mnist_works

MEGABYTES = 100  # beyond arrays and imports
ROWS = (20_000, 50_000, 100_000, 200_000, 500_000)
WITHIN = 1.15


def memory(name):
    """Return megabytes of this process: ``"VmRSS"`` now, ``"VmHWM"`` at the highest so far.

    Elsewhere than on Linux both are the highest so far.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024 / 1e6


def growth(task):
    """Return the megabytes that a fit takes beyond arrays and imports; runs in the child."""
    X, y = (np.load(task["arrays"][name]) for name in ("X", "y"))
    work = Work("", X, y, tuple(task["hidden"]), task["batch_size"], 1, task["threads"], "")
    fit = fits()[task["contestant"]]
    random = np.random.default_rng(0)
    tiny = random.random((256, 20), np.float32), random.integers(2, size=256)
    with using_threads(work.threads):
        fit(Work("", *tiny, (8,), 64, 1, work.threads, ""))
        before = memory("VmRSS")
        fit(work)
    return memory("VmHWM") - before


def growth_in_child(task):
    """Return `growth` of the task in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed.memory", "--child", json.dumps(task)]
    child = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return float(child.stdout)


def compare_memory(work, names, repeats):
    """Return the figures of the peak memory of the fits of these `names`."""
    with tempfile.TemporaryDirectory() as folder:
        arrays = {name: f"{folder}/{name}.npy" for name in ("X", "y")}
        # Read back without a copy on the way, which would hide what a fit takes.
        np.save(arrays["X"], work.X)
        np.save(arrays["y"], work.y)
        task = {"arrays": arrays, "hidden": work.hidden, "batch_size": work.batch_size}
        task["threads"] = work.threads
        return compare(
            f"peak memory beyond arrays and imports, {work.name}",
            {name: partial(growth_in_child, task | {"contestant": name}) for name in names},
            warm_up={},
            repeats=repeats,
            threads=work.threads,
            limits=dict.fromkeys(OURS, MEGABYTES),
            unit="MB",
        )


def compare_rows(given):
    """Return the figures of the time a row and epoch."""
    epochs, rows = (1, (1000, 2000)) if given.quick else (10, ROWS)
    random = np.random.default_rng(0)
    X, y = random.standard_normal((max(rows), 20), np.float32), random.integers(2, size=max(rows))
    threads = given.threads or 1

    def nanoseconds(n):
        work = Work("noise", X[:n], y[:n], (64,), 128, epochs, threads, "small")
        fit = timed(lambda: ours(work, perturbation_dtype="float32").fit(work.X, work.y))
        return 1e9 * fit() / (n * epochs)

    figures = compare(
        f"time a row and epoch, noise n×20, 64, batch 128, epochs: {epochs}",
        {f"n = {n:,}": partial(nanoseconds, n) for n in rows},
        warm_up={"": partial(nanoseconds, min(rows))},
        repeats=given.repeats,
        threads=threads,
        unit="ns",
    )
    medians = [of_n["median"] for of_n in figures["measured"].values()]
    ratio = max(medians) / min(medians)
    figures["measured"]["slowest n / fastest n"] = figure([ratio], "", WITHIN)
    return figures


def main(argv=None):
    """Measure, print, write; `argv` takes the place of the command line."""
    parser = command_line(__doc__.splitlines()[0], __file__)
    parser.add_argument("--child", help="for the processes that the script starts itself")
    given = parser.parse_args(argv)
    if given.child:
        print(growth(json.loads(given.child)))
        return
    started = time.perf_counter()
    work = mnist_works(given)[-1]
    names = [*OURS, ADVERSARIAL][: 1 if given.quick else None]
    comparisons = [compare_memory(work, names, given.repeats), compare_rows(given)]
    finish(given, comparisons, started)


if __name__ == "__main__":
    main()
