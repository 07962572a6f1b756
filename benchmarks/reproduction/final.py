"""The paper's figures on MNIST, with what a search had chosen: a net for each seed, tested once.

    python -m benchmarks.reproduction.final --data PATH/mnist.npz    # goes on where it stopped

For each round of searching ``final.json`` has one setting for each kind of units, as changes of
where `search_mnist.py` starts, and why it was chosen, on held-out training images alone. It was
committed before the first net with it was trained. They learn all training images, are scored once
on the test images, and write one JSON file each under ``benchmarks/results/reproduction/final/``.
Then random signs and plain nets, all else the same, show what the direction and ε do, and the
adversarial nets of all seeds answer together, by the mean of their probabilities.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.passport import RESULTS, write_json
from benchmarks.reproduction.callbacks import net_of_cell
from benchmarks.reproduction.cells import add_options, do_unfinished, on_this_machine
from benchmarks.reproduction.experiments import ADVERSARIAL, PLAIN, SIGNS
from benchmarks.reproduction.reproduce import slug
from benchmarks.reproduction.search_mnist import START
from benchmarks.reproduction.trials import Run, net_of, parts, percent, place_of

FOLDER = RESULTS / "reproduction/final"
CHOSEN = json.loads(Path(__file__).with_name("final.json").read_text("utf-8"))
ROUNDS = tuple(name for name in CHOSEN if name != "seeds")
# What each method changes of it, in the order in which they are done.
METHODS = {ADVERSARIAL: {}, PLAIN: {"epsilon": 0.0}, SIGNS: {"perturbation": "random"}}


class Together(NamedTuple):
    """Nets that answer together, and the file that says how well.

    Attributes
    ----------
    path : Path
    runs : list of Run
    """

    path: Path
    runs: list


def nets_of(of_round, units, method, folder=FOLDER):
    """Return the runs of all seeds with the setting that a round chose for these `units`."""
    settings = START[units] | CHOSEN[of_round][units]["changes"] | METHODS[method]
    kept = method == ADVERSARIAL
    return [
        Run(
            folder / of_round / f"{slug(units, method)}.s{seed}.json",
            "mnist",
            on_this_machine(settings),
            seed,
            validate=False,
            attacked=False,
            kept=kept,
        )
        for seed in range(CHOSEN["seeds"])
    ]


def finals(folder=FOLDER, of_rounds=None, of_units=None):
    """Return the runs method by method and seed by seed: a part of them has all kinds of units.

    Of all rounds and units, or of those that are named.
    """
    return [
        run
        for of_round, method in product(of_rounds or ROUNDS, METHODS)
        for of_seed in zip(
            *(
                nets_of(of_round, units, method, folder)
                for units in CHOSEN[of_round]
                if not of_units or units in of_units
            ),
            strict=True,
        )
        for run in of_seed
    ]


def together_of(of_round, units, folder=FOLDER):
    """Return the nets of all seeds that answer together."""
    path = folder / of_round / f"{units}.together.json"
    return Together(path, nets_of(of_round, units, ADVERSARIAL, folder))


def averages(folder=FOLDER):
    """Return which nets answer together."""
    return [
        together_of(of_round, units, folder) for of_round in ROUNDS for units in CHOSEN[of_round]
    ]


def do_average(together, paths, rows):
    """Write the error of the mean of the nets' probabilities; the nets are not kept any longer."""
    nets = [net_of(run, paths, rows, net_of_cell)[0] for run in together.runs]
    *_, X, y, _ = parts(together.runs[0], paths, rows)
    probabilities = np.mean([net.predict_proba(X) for net in nets], axis=0)
    error = percent(np.mean(nets[0].classes_[probabilities.argmax(axis=1)] == y))
    write_json(together.path, {"n_nets": len(nets), "scored_on": "test images", "error": error})
    for run in together.runs:
        place_of(run, paths, rows).unlink()
    print(f"{together.path.stem}: {error:.2f} %", flush=True)


def main(argv=None):
    """Do what is not yet done; `argv` takes the place of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--search", nargs="*", choices=ROUNDS, help="whose choices (default: all)")
    parser.add_argument("--units", nargs="*", help="of which nets (default: all)")
    parser.add_argument("--seeds", type=int, default=CHOSEN["seeds"], help="of each net")
    given = add_options(parser, FOLDER).parse_args(argv)
    runs = finals(given.results, given.search, given.units)
    do_unfinished([run for run in runs if run.seed < given.seeds], given)
    for together in averages(given.results):
        done = all(run.path.is_file() for run in together.runs)
        if done and not together.path.is_file():
            do_average(together, (("data", given.data),), given.rows)


if __name__ == "__main__":
    main()
