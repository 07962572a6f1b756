"""Test errors on tables with one default setting of AdvBPClassifier changed at a time.

    python -m benchmarks.tables.defaults --data digits wine a.npz b.npz

Tables as of ``tabular.py``, prepared in the same way, of classes alone. No ε is chosen: each
setting is measured without (0) and with a perturbation (0.1).
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedShuffleSplit

from benchmarks.passport import RESULTS, write_json
from benchmarks.tables.data import SHIPPED, load, prepared
from sk_advbp import AdvBPClassifier

DEFAULTS = "defaults"
CHANGES = {
    DEFAULTS: {},
    "lr=0.002": {"lr": 0.002},
    "lr=0.01": {"lr": 0.01},
    "max_epochs=50": {"max_epochs": 50},
    "max_epochs=200": {"max_epochs": 200},
    "batch_size=32": {"batch_size": 32},
    "batch_size=200": {"batch_size": 200},
    "hidden_layer_sizes=(200,)": {"hidden_layer_sizes": (200,)},
    "hidden_layer_sizes=(100, 100)": {"hidden_layer_sizes": (100, 100)},
    "AdamW, weight_decay=0.1": {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 0.1},
}
EPSILONS = [0.0, 0.1]


def options(argv=None):
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    classes = [name for name in SHIPPED if name != "diabetes"]
    parser.add_argument("--data", nargs="*", default=classes, help="names or .npz files")
    parser.add_argument("--source", default="", help="where the .npz files come from, for people")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--rows", type=int, default=500, help="at most, for training")
    parser.add_argument("--epochs", type=int, help="(to see whether it runs)")
    parser.add_argument("--json", type=Path, default=RESULTS / "defaults.json")
    return parser.parse_args(argv)


def measured(name, given):
    """Return {setting: errors of shape (splits, epsilons)} and the seconds of each, of a table."""
    _, _, X, y, categories = load(name)
    n_test = len(y) - int(0.75 * len(y))
    n_train = min(given.rows, int(0.75 * len(y)))
    divisions = StratifiedShuffleSplit(
        given.splits, train_size=n_train, test_size=n_test, random_state=0
    )
    found, seconds = {c: [] for c in CHANGES}, dict.fromkeys(CHANGES, 0.0)
    epochs = {} if given.epochs is None else {"max_epochs": given.epochs}
    for seed, (train, test) in enumerate(divisions.split(X, y)):
        prepared_X, unit = prepared(X, categories, train)
        for change, changed in CHANGES.items():
            net = AdvBPClassifier(epsilon_unit=unit, random_state=seed, **changed | epochs)
            start = time.perf_counter()
            scores = [
                net.set_params(epsilon=epsilon)
                .fit(prepared_X[train], y[train])
                .score(prepared_X[test], y[test])
                for epsilon in EPSILONS
            ]
            seconds[change] += time.perf_counter() - start
            found[change].append([100 * (1 - score) for score in scores])
    return {
        "table": Path(name).stem,
        "source": "scikit-learn" if name in SHIPPED else given.source,
        "rows": n_train,
        "errors": found,
        "seconds": seconds,
    }


def compared(tables, change, which):
    """Return how the errors with a change compare to those of the defaults, at one ε.

    Parameters
    ----------
    tables : list of dict
    change : str
    which : int
        Index among the EPSILONS.

    Returns
    -------
    comparison : dict
        Mean difference in points over the tables, its standard error, and how many tables have
        a smaller and a larger error.
    """
    of_tables = [
        np.mean([errors[which] for errors in t["errors"][change]])
        - np.mean([errors[which] for errors in t["errors"][DEFAULTS]])
        for t in tables
    ]
    below, above = (int(np.sum(side)) for side in (np.less(of_tables, 0), np.greater(of_tables, 0)))
    error = float(np.std(of_tables, ddof=1) / np.sqrt(len(tables))) if len(tables) > 1 else 0.0
    return {"mean": float(np.mean(of_tables)), "se": error, "below": below, "above": above}


def main(argv=None):
    """Measure, print, write."""
    given = options(argv)
    tables = []
    for name in given.data:
        tables.append(measured(name, given))
        of_defaults = np.mean(tables[-1]["errors"][DEFAULTS], axis=0).round(2)
        print(f"{tables[-1]['table']}: errors of the defaults {of_defaults} %", flush=True)
    summary = {
        change: {str(epsilon): compared(tables, change, i) for i, epsilon in enumerate(EPSILONS)}
        for change in CHANGES
        if change != DEFAULTS
    }
    for change, of_epsilon in summary.items():
        print(change, of_epsilon)
    settings = {k: str(v) for k, v in vars(given).items()}
    write_json(given.json, {"settings": settings, "changes": summary, "tables": tables})


if __name__ == "__main__":
    main()
