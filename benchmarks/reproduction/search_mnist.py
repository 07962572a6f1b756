"""The search for the paper's figures on MNIST: 0.95 % with logistic units, 0.78 % with ReLU.

    python -m benchmarks.reproduction.search_mnist                 # goes on where it stopped
    python -m benchmarks.reproduction.search_mnist --at-most 3     # no more than three cells of it
    python -m benchmarks.reproduction.search_mnist --table         # what has been found so far

Single nets, each trained without the last 10,000 training images and scored on them; the test
images are never used. A cell is a candidate with a seed, and writes one JSON file under
``benchmarks/results/reproduction/search/``; README.md there says what was tried in which order
and why.
"""

import argparse
from statistics import mean

from benchmarks.harness import markdown, mean_in_words
from benchmarks.passport import RESULTS
from benchmarks.reproduction.cells import Search, add_options, do_unfinished
from benchmarks.reproduction.experiments import ADAM

FOLDER = RESULTS / "reproduction/search"

# ---- what is tried -------------------------------------------------------------------

# What `reproduce.py` had chosen for either kind of units; candidates say what they change.
START = {
    "relu": ADAM
    | {"hidden_layer_sizes": (800, 800), "activation": "relu", "output": "logistic"}
    | {"epsilon": 0.08, "max_epochs": 40},
    "logistic": ADAM
    | {"hidden_layer_sizes": (800, 800), "activation": "logistic", "output": "softmax"}
    | {"epsilon": 0.08, "max_epochs": 40},
}
DECAY = {"optimizer__weight_decay": 0.1, "optimizer__decoupled_weight_decay": True}
AVERAGED = {"lr_schedule": "constant", "average": 0.9995}
MIXED = {"epsilon": 0.12, "clean_weight": 0.3}

# (units, what differs, number of seeds), in the order in which they are done.
CANDIDATES = [
    # A clean share helped 2×1200; is it the share or the width? And a faster rate.
    ("relu", MIXED, 1),
    ("logistic", {"lr": 0.003}, 1),
    ("relu", {"epsilon": 0.1} | DECAY, 1),
    # At that rate logistic units learn all training images but one, and may bear a larger ε.
    ("logistic", {"lr": 0.003, "epsilon": 0.12}, 2),
    ("relu", {"epsilon": 0.2, "clean_weight": 0.5}, 1),
    # That was too much. The decay took as much off as the clean share: do they add up, and does
    # it help logistic units?
    ("relu", MIXED | DECAY, 1),
    ("logistic", {"lr": 0.003, "epsilon": 0.12} | DECAY, 1),
    ("relu", {"epsilon": 0.1} | AVERAGED, 2),
    # They do not add up in 40 epochs, after which some training images are still wrong, and decay
    # harms logistic units. The average at a constant rate is the best of this width: the same for
    # logistic units, and beside the clean share.
    ("logistic", {"lr": 0.003, "epsilon": 0.12} | AVERAGED, 1),
    # The average does nothing for logistic units: more epochs, then. For ReLU it may bear a faster
    # rate, whose noise it takes away, and a larger ε.
    ("logistic", {"lr": 0.003, "epsilon": 0.12, "max_epochs": 80}, 1),
    ("relu", {"epsilon": 0.1, "lr": 0.002} | AVERAGED, 1),
    ("logistic", {"lr": 0.003} | MIXED, 1),
    ("logistic", {"lr": 0.003, "epsilon": 0.12, "output": "logistic"}, 1),
    # Neither twice the epochs nor a clean share nor these outputs do anything for logistic units.
    # An ε that grows, since they learn slowly at first; a larger one; and that for ReLU, averaged.
    ("logistic", {"lr": 0.003, "epsilon": 0.12, "epsilon_ramp": (0.5, 1.5)}, 1),
    ("logistic", {"lr": 0.003, "epsilon": 0.15}, 1),
    ("relu", {"epsilon": 0.12} | AVERAGED, 2),
    ("relu", MIXED | AVERAGED, 1),
    ("logistic", {"lr": 0.003, "epsilon": 0.1, "max_epochs": 80} | AVERAGED, 1),
    ("relu", {"hidden_layer_sizes": (1200, 1200), "epsilon": 0.1} | AVERAGED, 1),
]


# ---- what was found ------------------------------------------------------------------


def search(folder=FOLDER):
    """Return the search whose files are in `folder`."""
    return Search(folder, CANDIDATES, START)


def rows_of(folder=FOLDER):
    """Return a row for each candidate that was tried, the lowest error first."""
    rows = [["units", "what differs", "error (%)", "of each seed", "training error (%)", "s"]]
    for one in search(folder).tried():
        errors = one.of("error")
        row = [one.units, one.changes, mean_in_words(errors)]
        row += [", ".join(f"{error:.2f}" for error in errors)]
        rows.append(
            [*row, mean_in_words(one.of("training_error")), f"{mean(one.of('seconds')):.0f}"]
        )
    return rows


# ---- command line --------------------------------------------------------------------


def main(argv=None):
    """Do what is not yet done; `argv` takes the place of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what was found")
    given = add_options(parser, FOLDER).parse_args(argv)
    if not given.table:
        do_unfinished(search(given.results).cells(), given)
    print(markdown(rows_of(given.results)))


if __name__ == "__main__":
    main()
