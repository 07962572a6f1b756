"""What takes the error of small nets down, tried on several folds of the training images.

    python -m benchmarks.reproduction.search_folds --table     # what has been found so far
    python -m benchmarks.reproduction.search_folds --folds 3   # and train what is not yet trained

`search_mnist.py` chose among wide nets by one set of 10,000 images, which flattered what it took.
Here a candidate is a net of 2×400 units, so that it can be tried on several folds: with seed k the
k-th last 10,000 training images are held out and scored. All candidates have the same folds, and
what is reported is the difference to `START`, fold by fold. The test images are never used.
"""

import argparse
from math import sqrt
from statistics import mean, stdev

from benchmarks.harness import markdown, mean_in_words
from benchmarks.reproduction import search_mnist
from benchmarks.reproduction.search_mnist import (
    AVERAGED,
    DECAY,
    add_options,
    cells,
    do_unfinished,
    in_words,
    tried,
)

FOLDER = search_mnist.FOLDER.with_name("search_folds")
SMALL = {"hidden_layer_sizes": (400, 400), "max_epochs": 30}
START = {
    "relu": search_mnist.START["relu"] | SMALL | {"epsilon": 0.1},
    "logistic": search_mnist.START["logistic"] | SMALL | {"lr": 0.003},
}
SGD = {"optimizer": "SGD", "optimizer__momentum": 0.9, "lr": 0.1}

# (units, what differs), in the order in which they are done.
CANDIDATES = [
    ("relu", {}),
    ("relu", AVERAGED),
    ("relu", {"output": "softmax"}),
    ("relu", SGD),
    # SGD learns too little in 30 epochs, the others are level. What else bears on how it is learnt.
    ("relu", {"initial_scale": 0.4}),
    ("relu", {"batch_size": 32}),
    ("logistic", {}),
    ("logistic", {"initial_scale": 0.25}),
    ("logistic", {"batch_size": 32}),
    ("relu", {"clip": (0.0, 1.0)}),
    ("relu", {"epsilon_spread": (0.0, 2.0)}),
    ("relu", {"hidden_layer_sizes": (400, 400, 400)}),
    ("relu", {"max_norm": 2.0}),
    ("relu", {"output": "softmax", "criterion__label_smoothing": 0.1}),
    ("relu", DECAY),
    ("logistic", {"epsilon": 0.12}),
]


def errors_of(one):
    """Return the errors of a candidate, fold by fold."""
    return {figures["seed"]: figures["error"] for figures in one.figures}


def difference(one, start):
    """Return by how many points, fold by fold, the error is above that of `start`, in words."""
    ours, theirs = errors_of(one), errors_of(start)
    found = [ours[fold] - theirs[fold] for fold in sorted(ours.keys() & theirs.keys())]
    if len(found) < 2:
        return "".join(f"{difference:+.2f}" for difference in found)
    return f"{mean(found):+.2f} ± {stdev(found) / sqrt(len(found)):.2f}"


def rows_of(folder=FOLDER):
    """Return a row for each candidate that was tried, the lowest error first."""
    rows = [
        ["units", "what differs", "error (%)", "folds", "difference", "training error (%)", "s"]
    ]
    for units in START:
        found = tried(folder, [(u, changes, 6) for u, changes in CANDIDATES if u == units], START)
        start = next((one for one in found if not one.changes), None)
        for one in found:
            errors = errors_of(one)
            against = difference(one, start) if start and one.changes else ""
            row = [units, one.changes or "(start)", mean_in_words(list(errors.values()))]
            row += [f"{len(errors)}", against, mean_in_words(one.of("training_error"))]
            rows.append([*row, f"{mean(one.of('seconds')):.0f}"])
    return rows


def main(argv=None):
    """Do what is not yet done; `argv` takes the place of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what was found")
    parser.add_argument("--folds", type=int, default=2, help="of each candidate")
    parser.add_argument("--only", help="candidates whose words have this")
    given = add_options(parser, FOLDER).parse_args(argv)
    if not given.table:
        candidates = [
            (units, changes, given.folds)
            for units, changes in CANDIDATES
            if not given.only or given.only in ", ".join([units, *in_words(changes)])
        ]
        do_unfinished(cells(given.results, candidates, START), given)
    print(markdown(rows_of(given.results)))


if __name__ == "__main__":
    main()
