"""MNIST, permutation invariant: adversarial against plain back-propagation.

    python benchmarks/mnist.py --data PATH/mnist.npz

trains each method with each seed, prints test errors, clean and under attack, and writes them
with all settings to ``benchmarks/results/mnist.json``. ``--choose`` holds out the last 10,000
training images instead, to choose settings without a look at the test images.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from passport import RESULTS, write_json

from sk_advbp import AdvBPClassifier
from sk_advbp.datasets import load_data

METHODS = {
    "plain": {"epsilon": 0.0},
    "random signs": {"epsilon": 0.08, "perturbation": "random"},
    "adversarial": {"epsilon": 0.08},
}
ATTACKS = {
    "FGSM 0.1": {"attack": "fgsm", "epsilon": 0.1},
    "PGD-20 0.1": {"attack": "pgd", "epsilon": 0.1, "n_steps": 20, "random_state": 0},
}


def options():
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist", help="mnist (from OpenML) or a .npz file")
    parser.add_argument("--hidden", default="400,400")
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", action="store_true", help="validate, do not test")
    parser.add_argument("--json", type=Path, default=RESULTS / "mnist.json")
    return parser.parse_args()


def errors(net, X, y):
    """Return the error on X in percent, clean and under each attack."""
    found = {"clean": 100 * (1 - net.score(X, y))}
    for name, attack in ATTACKS.items():
        found[name] = 100 * (1 - net.score(net.adversarial_examples(X, y, **attack), y))
    return found


def main():
    """Train, test, print, write."""
    given = options()
    X_train, X_test, y_train, y_test, _ = load_data(given.data)
    if given.choose:
        X_train, X_test = X_train[:-10000], X_train[-10000:]
        y_train, y_test = y_train[:-10000], y_train[-10000:]
    settings = {
        "hidden_layer_sizes": [int(size) for size in given.hidden.split(",")],
        "activation": given.activation,
        "max_epochs": given.epochs,
        "lr": given.lr,
        "batch_size": given.batch_size,
    }
    runs = []
    for seed in range(given.seeds):
        for method, of_method in METHODS.items():
            net = AdvBPClassifier(random_state=seed, **settings, **of_method)
            start = time.perf_counter()
            net.fit(X_train, y_train)
            seconds = time.perf_counter() - start
            found = errors(net, X_test, y_test)
            runs.append({"method": method, "seed": seed, "seconds": seconds, "error": found})
            print(f"seed {seed} {method:>12}: {found} in {seconds:.0f} s", flush=True)
    summary = {}
    for method in METHODS:
        of_seeds = [run["error"] for run in runs if run["method"] == method]
        summary[method] = {}
        for name in of_seeds[0]:
            values = [error[name] for error in of_seeds]
            spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
            summary[method][name] = {"mean": float(np.mean(values)), "sd": spread}
        line = ", ".join(f"{k} {v['mean']:.2f}" for k, v in summary[method].items())
        print(f"{method:>12}: mean error (%) {line}")
    figures = {
        "tested_on": "validation part" if given.choose else "test images",
        "settings": settings | {"lr_schedule": "linear", "optimizer": "Adam"},
        "methods": METHODS,
        "attacks": ATTACKS,
        "summary": summary,
        "runs": runs,
    }
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
