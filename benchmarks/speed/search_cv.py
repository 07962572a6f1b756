"""Time of AdvBPClassifierCV, whose nets are trained in stacks, against GridSearchCV.

    python -m benchmarks.speed.search_cv

About 3 minutes on 2 cores that do nothing else. 5 folds × 8 values of ε on digits with the
default settings, the refit included, two jobs each. GridSearchCV's processes have started, and
have imported everything, before the first measured search.
"""

import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from benchmarks.harness import command_line, compare, finish, timed
from sk_advbp import AdvBPClassifier, AdvBPClassifierCV

FOLDS, VALUES, JOBS = 5, 8, 2
OURS, GRID = "AdvBPClassifierCV", "GridSearchCV(AdvBPClassifier())"
MUST, HOPED = 0.60, 0.45


def searches(epsilons, **params):
    """Return the two searches, not fitted, over the same folds, values and seeds."""
    common = {"cv": StratifiedKFold(FOLDS), "n_jobs": JOBS}
    net = {"random_state": 0, "device": "cpu", **params}
    return {
        OURS: AdvBPClassifierCV(epsilons=epsilons, **common, **net),
        GRID: GridSearchCV(AdvBPClassifier(**net), {"epsilon": epsilons}, **common),
    }


def main(argv=None):
    """Measure, print, write; `argv` takes the place of the command line."""
    given = command_line(__doc__.splitlines()[0], __file__).parse_args(argv)
    started = time.perf_counter()
    X, y = load_digits(return_X_y=True)
    X /= 16
    epsilons = np.linspace(0, 0.28, VALUES).tolist()
    quick = {"max_epochs": 1} if given.quick else {}
    measured = searches(epsilons, **quick)
    comparison = compare(
        f"{FOLDS} folds × {VALUES} values of ε, {JOBS} jobs, digits ({len(X)} rows)",
        {name: timed(lambda s=s: s.fit(X, y)) for name, s in measured.items()},
        repeats=given.repeats,
        threads=given.threads or JOBS,
        warm_up={
            name: lambda s=s: s.fit(X, y) for name, s in searches(epsilons, max_epochs=1).items()
        },
        ours=[OURS],
        targets={(OURS, GRID): (MUST, HOPED)},
    )
    finish(given, [comparison], started)


if __name__ == "__main__":
    main()
