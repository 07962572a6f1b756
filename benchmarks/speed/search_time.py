"""Time of a grid search with two processes: ours and the minimal skorch subclass.

    python -m benchmarks.speed.search_time

About 2 minutes on 2 cores. 5 folds × 8 values of ε on digits, 30 epochs, then the refit. The
processes have started, and have imported everything, before the first measured search.
"""

import time
from functools import partial

import numpy as np
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from benchmarks.harness import command_line, compare, finish, timed
from benchmarks.speed.peers import OURS, SKORCH, minimal_skorch, ours
from benchmarks.speed.work import small_works

FLOAT32 = next(iter(OURS))
FOLDS, VALUES, PROCESSES = 5, 8, 2


def search(net, work, threads, values=VALUES):
    """Search ε for `net` on the work."""
    grid = {"epsilon": np.linspace(0, 0.14, values).tolist()}
    with parallel_config("loky", inner_max_num_threads=threads):
        searching = GridSearchCV(net, grid, cv=StratifiedKFold(FOLDS), n_jobs=PROCESSES)
        return searching.fit(work.X, work.y)


def main(argv=None):
    """Measure, print, write; `argv` takes the place of the command line."""
    given = command_line(__doc__.splitlines()[0], __file__).parse_args(argv)
    started = time.perf_counter()
    _, digits = small_works(given)
    values = 2 if given.quick else VALUES
    nets = {FLOAT32: partial(ours, **OURS[FLOAT32]), SKORCH: minimal_skorch}
    tiny = digits.of_steps(2, 1)
    comparison = compare(
        f"{FOLDS} folds × {values} values of ε, {PROCESSES} processes, {digits.name}",
        {
            name: timed(partial(search, net(digits), digits, digits.threads, values))
            for name, net in nets.items()
        },
        warm_up={
            name: partial(search, net(tiny), tiny, digits.threads) for name, net in nets.items()
        },
        repeats=given.repeats,
        threads=digits.threads,
        ours=[FLOAT32],
        targets={(FLOAT32, SKORCH): (0.30, None)},
    )
    finish(given, [comparison], started)


if __name__ == "__main__":
    main()
