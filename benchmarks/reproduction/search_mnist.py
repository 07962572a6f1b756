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
import json
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from benchmarks.harness import markdown, mean_in_words
from benchmarks.passport import RESULTS, ROOT
from benchmarks.reproduction.callbacks import net_of_cell
from benchmarks.reproduction.experiments import ADAM
from benchmarks.reproduction.reproduce import slug
from benchmarks.reproduction.trials import Run, do
from sk_advbp.core.precision import has_bfloat16_products

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


def in_words(changes):
    """Return each setting that differs and its value, without what only says of which kind."""
    words = []
    for name, value in changes.items():
        if value is not True:
            short = "x".join(map(str, value)) if isinstance(value, (tuple, list)) else value
            words.append(f"{name.removeprefix('optimizer__')} {short}")
    return words


def on_this_machine(settings):
    """Return `settings` in bfloat16 where this machine has products in it: elsewhere it is slow."""
    return settings | {"amp": has_bfloat16_products("cpu")}


def cells(folder=FOLDER, candidates=None, start=None, n_parts=None):
    """Return the runs of the search, in their order.

    Of so many parts of the training images the seeds hold out one in turn; None: the last 10,000.
    """
    return [
        Run(
            folder / f"{slug(units, *in_words(changes))}.s{seed}.json",
            "mnist",
            on_this_machine((start or START)[units] | changes),
            seed,
            validate=True,
            attacked=False,
            fold=n_parts and (seed % n_parts, n_parts),
        )
        for units, changes, n_seeds in (CANDIDATES if candidates is None else candidates)
        for seed in range(n_seeds)
    ]


# ---- what was found ------------------------------------------------------------------


class Tried(NamedTuple):
    """A candidate of which a cell is finished, and the figures of each seed.

    Attributes
    ----------
    units : str
    error : float
        The mean over seeds, in percent.
    changes : str
        What differs from `START`, in words.
    figures : list of dict
    """

    units: str
    error: float
    changes: str
    figures: list

    def of(self, name):
        """Return one of the figures, seed by seed."""
        return [figures[name] for figures in self.figures]


def tried(folder=FOLDER, candidates=None, start=None, n_parts=None):
    """Return the candidates of which a cell is finished, the lowest error first."""
    found = []
    for candidate in CANDIDATES if candidates is None else candidates:
        units, changes, _ = candidate
        paths = [
            run.path for run in cells(folder, [candidate], start, n_parts) if run.path.is_file()
        ]
        figures = [json.loads(path.read_text("utf-8")) for path in paths]
        if figures:
            error = mean(of_seed["error"] for of_seed in figures)
            found.append(Tried(units, error, ", ".join(in_words(changes)), figures))
    return sorted(found, key=lambda one: one[:3])


def rows_of(folder=FOLDER, candidates=None):
    """Return a row for each candidate that was tried, the lowest error first."""
    rows = [["units", "what differs", "error (%)", "of each seed", "training error (%)", "s"]]
    for one in tried(folder, candidates):
        errors = one.of("error")
        row = [one.units, one.changes, mean_in_words(errors)]
        row += [", ".join(f"{error:.2f}" for error in errors)]
        rows.append(
            [*row, mean_in_words(one.of("training_error")), f"{mean(one.of('seconds')):.0f}"]
        )
    return rows


# ---- command line --------------------------------------------------------------------


def add_options(parser, folder):
    """Return `parser` with the options of what goes on where it stopped."""
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data/mnist.npz"))
    parser.add_argument("--at-most", type=int, help="nets to train now (default: all)")
    parser.add_argument("--rows", type=int, help="of the training images (default: all)")
    parser.add_argument("--results", type=Path, default=folder, help="folder of the JSON files")
    return parser


def do_unfinished(runs, given):
    """Do the runs that have no file, as the options `given` say."""
    unfinished = [run for run in runs if not run.path.is_file()]
    for run in unfinished[: given.at_most]:
        do(run, (("data", given.data),), given.rows, build=net_of_cell)


def main(argv=None):
    """Do what is not yet done; `argv` takes the place of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", action="store_true", help="only print what was found")
    given = add_options(parser, FOLDER).parse_args(argv)
    if not given.table:
        do_unfinished(cells(given.results), given)
    print(markdown(rows_of(given.results)))


if __name__ == "__main__":
    main()
