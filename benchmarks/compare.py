"""Times of two revisions of the package, in turn: what to run before and after a change.

    python -m benchmarks.compare main                  # the working tree against main
    python -m benchmarks.compare v0.1.0 --head HEAD    # two commits

About 3 minutes. The small works of ``fit_time.py``, a short search, predictions of few rows, and
the import of the package. In each round both sides have a process of their own, which imports the
package from their worktree. A ratio is taken within each round, then the median of them; where the
extremes of ten leave out 1, that is hardly chance. How far they lie apart for no reason shows a
revision against itself. Times are the processor's: with one thread and nothing else on the machine
they are those of the clock on the wall, and on a busy machine others prolong them far less.
"""

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.harness import figure, in_words, markdown, ratio, rounds, say
from benchmarks.passport import ROOT, git, passport
from benchmarks.speed.peers import settings
from benchmarks.speed.work import small_works

BASE, HEAD = "base", "head"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def commit_of(revision):
    """Return the commit that `revision` names; None where it names none."""
    return git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")


def options(argv=None):
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="a revision, as git names it")
    parser.add_argument("--head", help="another one (default: the working tree)")
    parser.add_argument("--repeats", type=int, default=10, help="rounds (default 10)")
    parser.add_argument("--threads", type=int, default=1, help="of torch and BLAS (default 1)")
    parser.add_argument(
        "--clock",
        choices=("process_time", "perf_counter"),
        default="process_time",
        help="of Python's time; perf_counter where there are more threads (default process_time)",
    )
    parser.add_argument("--quick", action="store_true", help="tiny: does the script run at all?")
    given = parser.parse_args(argv)
    for revision in filter(None, (given.base, given.head)):
        if commit_of(revision) is None:
            parser.error(f"{revision} names no commit of a git repository in {ROOT}")
    return given


@contextmanager
def worktree(revision, folder):
    """Lend a new worktree of a revision at `folder`; without one the working tree itself."""
    if revision is None:
        yield ROOT
        return
    add = ["git", "worktree", "add", "--quiet", "--detach", folder, revision]
    subprocess.run(add, cwd=ROOT, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", folder], cwd=ROOT, check=True)


def write_task(given, folder):
    """Write what `revision.py` measures into the folder; return the path."""
    works = small_works(given)
    described = []
    for work in works:
        arrays = [str(folder / f"{work.data}.{name}.npy") for name in ("X", "y")]
        for path, array in zip(arrays, (work.X, work.y), strict=True):
            np.save(path, array)
        described.append({"name": work.name, "arrays": arrays, "settings": settings(work)})
    task = {
        "times": 1 if given.quick else 3,
        "works": described,
        "methods": {"plain": 0.0, "adversarial": works[-1].epsilon},
        "search": settings(works[-1]) | {"max_epochs": 1 if given.quick else 5},
    }
    path = folder / "task.json"
    path.write_text(json.dumps(task), encoding="utf-8")
    return path


def measured(tree, task, given):
    """Return {what: milliseconds} of the package in a worktree, from a new process."""
    script = ROOT / "benchmarks" / "revision.py"
    child = subprocess.run(
        [sys.executable, "-P", script, given.clock, task],
        env=os.environ | {"PYTHONPATH": str(tree)} | dict.fromkeys(THREADS, str(given.threads)),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return json.loads(child.stdout)


def compare(given):
    """Return {what: {side: [milliseconds of each round]}}."""
    found = []
    with (
        tempfile.TemporaryDirectory() as name,
        worktree(given.base, Path(name, BASE)) as base,
        worktree(given.head, Path(name, HEAD)) as head,
    ):
        trees, task = {BASE: base, HEAD: head}, write_task(given, Path(name))
        for tree in trees.values():  # else the first import of a new worktree takes longer
            compileall.compile_dir(tree / "sk_advbp", quiet=1)
        for i, sides in rounds(trees, given.repeats):
            say(f"round {i}/{given.repeats}: {', then '.join(sides)}")
            found.append({side: measured(trees[side], task, given) for side in sides})
    return {
        what: {side: [of_round[side][what] for of_round in found] for side in trees}
        for what in found[0][BASE]
    }


def table(times):
    """Return the table of the times and their ratios, as text."""
    rows = [["median (min – max)", BASE, HEAD, f"{HEAD} / {BASE}"]]
    for what, of_sides in times.items():
        figures = [figure(of_sides[side], "ms") for side in (BASE, HEAD)]
        figures.append(ratio(of_sides[HEAD], of_sides[BASE]))
        rows.append([what, *map(in_words, figures)])
    return markdown(rows)


def provenance(given):
    """Return what the figures come from, in a line for each side and one for both."""
    of = passport()
    head = "the working tree at HEAD" + (", with changes" if of["uncommitted"] else "")
    versions = ", ".join(f"{k} {v}" for k, v in of["versions"].items() if k != "sk_advbp")
    return (
        f"base: {given.base}, {commit_of(given.base)}\n"
        f"head: {given.head or head}, {commit_of(given.head or 'HEAD')}\n"
        f"threads: {given.threads}, rounds: {given.repeats}, clock: {given.clock}; "
        f"{of['processor']}, {of['cores']} cores; Python {of['python']}, {versions}"
    )


def main(argv=None):
    """Measure and print; `argv` takes the place of the command line."""
    given = options(argv)
    times = compare(given)
    print(provenance(given), table(times), sep="\n\n")


if __name__ == "__main__":
    main()
