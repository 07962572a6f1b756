"""Milliseconds that one revision of the package takes: `compare.py` starts it in each round.

    PYTHONPATH=WORKTREE python -P benchmarks/revision.py process_time TASK.json

A script that imports nothing from beside it, since the worktree may have no benchmarks; of the
package it takes only what all revisions have. The first argument is a clock of `time`.
"""

import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

clock = getattr(time, sys.argv[1])
START = clock()
import sk_advbp  # noqa: E402 - as the first, so that its time is that of all it imports

IMPORTED = clock() - START

import numpy as np  # noqa: E402

CALLS = 100  # of a prediction, which takes less than a millisecond


def milliseconds(run, times):
    """Return the median time of ``run()``; of times + 1 runs the first does not count."""
    taken = []
    for _ in range(times + 1):
        start = clock()
        run()
        taken.append(clock() - start)
    return 1000 * median(taken[1:])


def measured(task):
    """Return {what: milliseconds}."""
    found, times = {"import sk_advbp": 1000 * IMPORTED}, task["times"]
    for work in task["works"]:
        X, y = (np.load(path) for path in work["arrays"])
        for method, epsilon in task["methods"].items():
            net = sk_advbp.AdvBPClassifier(**work["settings"], epsilon=epsilon)
            fit = partial(net.fit, X, y)
            found[f"{method} fit, {work['name']}"] = milliseconds(fit, times)
    # X, y and the net are now those of the last work.
    search = sk_advbp.AdvBPClassifierCV(**task["search"])
    name = f"AdvBPClassifierCV, the same with max_epochs={task['search']['max_epochs']}"
    found[name] = milliseconds(partial(search.fit, X, y), times)
    for rows in (1, 100):
        predict = partial(net.predict_proba, X[:rows])
        found[f"predict_proba, rows: {rows}"] = milliseconds(predict, CALLS)
    return found


def main():
    """Measure and print, as JSON."""
    if not Path(sk_advbp.__file__).is_relative_to(os.environ["PYTHONPATH"]):
        raise SystemExit(f"{sk_advbp.__file__} is not of {os.environ['PYTHONPATH']}")
    print(json.dumps(measured(json.loads(Path(sys.argv[2]).read_text("utf-8")))))


if __name__ == "__main__":
    main()
