"""What several nets cost: fits of `n_nets` nets against one, of the same parameters.

python -m benchmarks.speed.several_nets --threads 1
"""

import time
from dataclasses import replace

from benchmarks.harness import command_line, compare, finish, timed
from benchmarks.speed.work import mnist_works, small_works
from sk_advbp import AdvBPClassifier

NUMBERS = (1, 2, 5, 8)
# What eight nets may take, as multiples of one, and what was hoped for.
TARGETS = {"small": (3.5, 2.5), "2×400": (8.0, None)}


def fit(work, n_nets):
    """Return a fit of so many nets on the work."""
    net = AdvBPClassifier(
        work.hidden,
        n_nets=n_nets,
        epsilon=work.epsilon,
        lr=work.lr,
        batch_size=work.batch_size,
        max_epochs=work.epochs,
        random_state=0,
    )
    return lambda: net.fit(work.X, work.y)


def main(argv=None):
    """Measure, print, write."""
    given = command_line(__doc__.splitlines()[0], __file__).parse_args(argv)
    started = time.perf_counter()
    mnist = [work for work in mnist_works(given, rows=12_800) if work.batch_size == 128]
    comparisons = []
    small = [replace(work, hidden=(100,)) for work in small_works(given)]
    for work in (*small, *mnist[:1]):
        fits = {f"{n} nets" if n > 1 else "one net": timed(fit(work, n)) for n in NUMBERS}
        targets = {("8 nets", "one net"): TARGETS[work.kind]} if work.kind in TARGETS else {}
        comparisons.append(
            compare(
                work.name,
                fits,
                repeats=given.repeats,
                threads=work.threads,
                ours=[name for name in fits if name != "one net"],
                targets=targets,
            )
        )
    finish(given, comparisons, started)


if __name__ == "__main__":
    main()
