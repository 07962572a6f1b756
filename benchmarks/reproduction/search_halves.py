"""What takes the error of small nets down, each half of the training images scored by the other.

    python -m benchmarks.reproduction.search_halves --table     # what has been found so far
    python -m benchmarks.reproduction.search_halves --seeds 4   # and train what is not yet trained

`search_mnist.py` chose among wide nets by one set of 10,000 images, which flattered what it took.
Here a candidate is a net of 2×400 units, and what it learns from is one half of the training
images: seeds take the halves in turn, so that two of them have scored all 60,000. What is reported
is the difference to `START` of the same seeds. The test images are never used.
"""

import argparse
from statistics import mean

from benchmarks.harness import markdown, mean_in_words
from benchmarks.reproduction import search_mnist
from benchmarks.reproduction.cells import Search, add_options, do_unfinished, in_words
from benchmarks.reproduction.search_mnist import AVERAGED, DECAY
from benchmarks.tables import summary

FOLDER = search_mnist.FOLDER.with_name("search_halves")
N_PARTS = 2
MOST_SEEDS = 8
SMALL = {"hidden_layer_sizes": (400, 400), "max_epochs": 30}
START = {
    "relu": search_mnist.START["relu"] | SMALL | {"epsilon": 0.1},
    "logistic": search_mnist.START["logistic"] | SMALL | {"lr": 0.003},
}
LONG = {"max_epochs": 60, "output": "softmax"}
SGD = {"optimizer": "SGD", "optimizer__momentum": 0.9, "lr": 0.3}

# (units, what differs), in the order in which they are done.
CANDIDATES = [
    ("relu", {}),
    ("relu", AVERAGED),
    ("relu", {"initial_scale": 0.4}),
    ("relu", {"batch_size": 32}),
    ("relu", {"output": "softmax"}),
    ("relu", {"clip": (0.0, 1.0)}),
    # Smaller mini-batches take far more off than anything before, softmax outputs half as much: do
    # they add up? Is it the number of steps, or their noise? And the same for logistic units.
    ("relu", {"batch_size": 32, "output": "softmax"}),
    ("logistic", {}),
    ("logistic", {"batch_size": 32}),
    ("relu", {"batch_size": 16, "output": "softmax"}),
    ("relu", {"batch_size": 32, "output": "softmax"} | AVERAGED),
    ("relu", LONG),
    # It is the number of steps: 1.26 to 1.31 % by twice the epochs, a half, a quarter or an eighth
    # of the mini-batch, with the average or without. What takes off more than being done does?
    ("relu", LONG | {"hidden_layer_sizes": (400, 400, 400)}),
    ("relu", LONG | DECAY),
    ("relu", LONG | {"epsilon_unit": "std", "epsilon": 0.4}),
    ("relu", LONG | SGD),
    # Nor do depth, decay, SGD (which learns too little) or steps that follow the pixels. Logistic
    # units, then, and where several nets answer together: five of the finals had hardly a lower
    # error than one of them, so that an ε which leaves more to chance may gain more by the average.
    ("logistic", {"max_epochs": 60}),
    ("relu", LONG | {"epsilon": 0.06}),
    ("logistic", {"max_epochs": 60, "initial_scale": 0.25}),
    # Smaller initial weights help logistic units as nothing else does, and a smaller ε does not
    # help rectified linear ones: still smaller weights, those for ReLU, and a larger ε.
    ("logistic", {"max_epochs": 60, "initial_scale": 0.1}),
    ("relu", LONG | {"initial_scale": 0.4}),
    ("logistic", {"max_epochs": 60, "initial_scale": 0.25, "epsilon": 0.1}),
    ("relu", LONG | {"epsilon": 0.12}),
    ("logistic", {"max_epochs": 60, "initial_scale": 0.25, "lr": 0.001}),
    ("relu", LONG | {"epsilon": 0.12, "initial_scale": 0.4}),
    # Smaller weights help both. How small, and how do they go with ε?
    ("relu", LONG | {"initial_scale": 0.2}),
    ("logistic", {"max_epochs": 60, "initial_scale": 0.1, "epsilon": 0.1}),
    ("relu", LONG | {"initial_scale": 0.1}),
    ("logistic", {"max_epochs": 60, "initial_scale": 0.05}),
    ("relu", LONG | {"initial_scale": 0.4, "batch_size": 32}),
    ("logistic", {"max_epochs": 60, "initial_scale": 0.1, "output": "logistic"}),
    # With weights that small logistic units are nearly level with rectified linear ones, which
    # like 0.4 best: about the author's later code, uniform within ±1/√fan_in, which is 0.41 of the
    # usual weights for these and 0.14 for logistic units.
    ("logistic", {"max_epochs": 60, "initial_scale": 0.05, "epsilon": 0.1}),
    ("relu", LONG | {"initial_scale": 0.4} | DECAY),
    ("logistic", {"max_epochs": 60, "initial_scale": 0.1, "epsilon": 0.12}),
    ("relu", {"epsilon_spread": (0.0, 2.0)}),
]


def search(folder=FOLDER, n_seeds=MOST_SEEDS, only=""):
    """Return the search for the candidates whose words have `only`."""
    candidates = [
        (units, changes, n_seeds)
        for units, changes in CANDIDATES
        if only in ", ".join([units, *in_words(changes)])
    ]
    return Search(folder, candidates, START, N_PARTS)


def above(one, start):
    """Return by how many points, seed by seed, the error is above that of `start`, in words."""
    ours, theirs = (dict(zip(of.of("seed"), of.of("error"), strict=True)) for of in (one, start))
    shared = sorted(ours.keys() & theirs.keys())
    found = summary.difference(*([errors[seed] for seed in shared] for errors in (ours, theirs)))
    return summary.in_words(found, 2)


def of_units(units, folder=FOLDER):
    """Return what was tried for the `units`, the lowest error first, and the start, if it was."""
    found = [one for one in search(folder).tried() if one.units == units]
    return found, next((one for one in found if not one.changes), None)


def rows_of(folder=FOLDER):
    """Return a row for each candidate that was tried, the lowest error first."""
    titles = ("error (%)", "seeds", "difference ± standard error", "training error (%)", "s")
    rows = [["units", "what differs", *titles]]
    for units in START:
        found, start = of_units(units, folder)
        for one in found:
            against = above(one, start) if start and one.changes else ""
            row = [units, one.changes or "(start)", mean_in_words(one.of("error"))]
            row += [f"{len(one.figures)}", against, mean_in_words(one.of("training_error"))]
            rows.append([*row, f"{mean(one.of('seconds')):.0f}"])
    return rows


def main(argv=None):
    """Do what is not yet done; `argv` takes the place of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what was found")
    parser.add_argument("--seeds", type=int, default=4, help="of each candidate")
    parser.add_argument("--only", default="", help="candidates whose words have this")
    given = add_options(parser, FOLDER).parse_args(argv)
    if not given.table:
        do_unfinished(search(given.results, given.seeds, given.only).cells(), given)
    print(markdown(rows_of(given.results)))


if __name__ == "__main__":
    main()
