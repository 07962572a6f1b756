"""Time of whole fits, and of predicting: ours, loops by hand, skorch, scikit-learn, ART.

    python -m benchmarks.speed.fit_time

About 10 minutes on 2 cores. A fit is all of it: building the net, checking the arrays,
training. On MNIST half an epoch, one of 30,000 rows: the time is linear in both.
"""

import time
from functools import partial

import torch

from benchmarks.harness import command_line, compare, finish, timed
from benchmarks.speed.peers import ADVERSARIAL, ART, OURS, PLAIN, SKLEARN, SKORCH, fits, ours
from benchmarks.speed.work import mnist_works, small_works

FLOAT32, BFLOAT16, AMP = OURS
PREDICTION, FORWARD = "predict_proba", "forward pass, batches of 4,096"

TRAINING_ROWS = 30_000

# The table: {(kind of net, batch size): {(ours, peer): (must, hoped)}}.
SMALL = {
    (FLOAT32, ADVERSARIAL): (0.70, 0.55),
    (FLOAT32, PLAIN): (1.10, 0.90),
    (FLOAT32, SKORCH): (0.25, 0.18),
    (FLOAT32, SKLEARN): (0.90, 0.75),
}
MNIST_128 = {(FLOAT32, SKLEARN): (0.65, None), (BFLOAT16, SKLEARN): (0.55, 0.40)}
TARGETS = {
    ("small", 128): SMALL,
    ("small", 64): SMALL,
    ("2×400", 128): MNIST_128,
    ("2×1200", 128): {
        **MNIST_128,
        (FLOAT32, ADVERSARIAL): (1.05, 0.97),
        (FLOAT32, ART): (0.55, 0.48),
        (BFLOAT16, ART): (0.45, 0.38),
    },
    ("2×1200", 512): {
        (FLOAT32, ADVERSARIAL): (1.05, 0.97),
        (BFLOAT16, PLAIN): (1.30, 1.20),
        (AMP, PLAIN): (0.70, 0.55),
        (FLOAT32, SKLEARN): (0.95, None),
        (BFLOAT16, SKLEARN): (0.75, None),
        (FLOAT32, ART): (0.70, None),
        (BFLOAT16, ART): (0.55, None),
    },
}


def compare_fits(work, repeats):
    """Return the figures of all fits of a work; the warm-up has few of its steps."""
    few = work.of_steps(3, 1)
    return compare(
        work.name,
        {name: timed(partial(fit, work)) for name, fit in fits().items()},
        warm_up={name: partial(fit, few) for name, fit in fits().items()},
        repeats=repeats,
        threads=work.threads,
        ours=list(OURS),
        targets=TARGETS.get((work.kind, work.batch_size)),
    )


@torch.inference_mode()
def forward_pass(module, X):
    """Return what the module makes of all rows, 4,096 at a time."""
    return torch.cat([module(x) for x in X.split(4096)])


def compare_predictions(work, repeats):
    """Return the figures of `predict_proba` and of the bare forward pass of the same net."""
    few = work.of_steps(3, 1)
    net = ours(few).fit(few.X, few.y)
    X, _ = work.tensors
    rows, columns = X.shape
    return compare(
        f"prediction of {rows:,}×{columns}, {'-'.join(map(str, work.hidden))}",
        {
            PREDICTION: timed(partial(net.predict_proba, work.X)),
            FORWARD: timed(partial(forward_pass, net.module_, X)),
        },
        repeats=repeats,
        threads=work.threads,
        ours=[PREDICTION],
        targets={(PREDICTION, FORWARD): (1.15, None)},
    )


def main(argv=None):
    """Measure, print, write; `argv` takes the place of the command line."""
    given = command_line(__doc__.splitlines()[0], __file__).parse_args(argv)
    started = time.perf_counter()
    torch.manual_seed(0)
    works = small_works(given) + mnist_works(given, rows=TRAINING_ROWS)
    comparisons = [compare_fits(work, given.repeats) for work in works]
    comparisons.append(compare_predictions(mnist_works(given)[-1], given.repeats))
    finish(given, comparisons, started)


if __name__ == "__main__":
    main()
