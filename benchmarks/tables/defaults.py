"""Error and log loss on the decision tables with one default changed at a time.

    python -m benchmarks.tables.defaults                   # of AdvBPClassifier
    python -m benchmarks.tables.defaults --search          # of AdvBPClassifierCV

Tables of classes, prepared as in ``tabular.py``; none of them is among those of its check. For
`AdvBPClassifier` each change is measured without a perturbation and with the default ε. What the
JSON file has already, measured with the same settings, is not measured again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import StratifiedShuffleSplit

from benchmarks.harness import markdown, using_threads
from benchmarks.passport import RESULTS, write_json
from benchmarks.tables import data
from benchmarks.tables.summary import changes_rows, difference, means
from benchmarks.tables.tabular import QUICK, finished, judged
from sk_advbp import AdvBPClassifier, AdvBPClassifierCV

DEFAULTS = "defaults"
ADAMW = {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 0.1}
FAST = {"optimizer__betas": (0.9, 0.95)}
SMOOTHED = {"criterion": torch.nn.CrossEntropyLoss, "criterion__label_smoothing": 0.1}


def of_theory(n, d):
    """Return the ε that theory suggests for standardised features, of linear models.

    ε = 0.4 √(π/2) √(2 ln(2d) / n)

    Notes
    -----
    Antônio H. Ribeiro et al., "Regularization properties of adversarially-trained linear
    regression", arXiv:2310.10807.
    """
    return float(0.4 * np.sqrt(np.pi / 2) * np.sqrt(2 * np.log(2 * d) / n))


OF_ONE_NET = {
    DEFAULTS: {},
    "lr=0.002": {"lr": 0.002},
    "lr=0.01": {"lr": 0.01},
    "max_epochs=50": {"max_epochs": 50},
    "max_epochs=200": {"max_epochs": 200},
    "batch_size=32": {"batch_size": 32},
    "batch_size=200": {"batch_size": 200},
    "hidden_layer_sizes=(256,)": {"hidden_layer_sizes": (256,)},
    "hidden_layer_sizes=(100, 100)": {"hidden_layer_sizes": (100, 100)},
    "AdamW, weight_decay=0.1": ADAMW,
    "betas=(0.9, 0.95)": FAST,
    "label_smoothing=0.1": SMOOTHED,
    "epsilon=0.02": {"epsilon": 0.02},
    "epsilon=0.04": {"epsilon": 0.04},
    "epsilon=0.16": {"epsilon": 0.16},
    "epsilon of theory": {"epsilon": of_theory},
}
OF_SEARCH = {
    DEFAULTS: {},
    "epsilons=[0]": {"epsilons": [0]},
    "epsilons=9": {"epsilons": 9},
    "max_epochs=30": {"max_epochs": 30},
    "max_epochs=100": {"max_epochs": 100},
    "n_nets=1": {"n_nets": 1},
    "n_nets=10": {"n_nets": 10},
    'scoring="accuracy"': {"scoring": "accuracy"},
    'scoring="neg_brier_score"': {"scoring": "neg_brier_score"},
    "hidden_layer_sizes=(100,)": {"hidden_layer_sizes": (100,)},
    "AdamW, weight_decay=0.1": ADAMW,
    "betas=(0.9, 0.95)": FAST,
    "SquashingScaler": {"scaler": "squashing"},
}
PLAIN, DEFAULT_EPSILON, CHOSEN = "ε = 0", "default ε", "chosen ε"


def options(argv=None):
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--search", action="store_true", help="those of AdvBPClassifierCV")
    parser.add_argument("--data", nargs="+", default=["decision"], help="names or .npz files")
    parser.add_argument("--source", default="", help="where the .npz files come from, for people")
    parser.add_argument("--changes", nargs="+", help="their names (default: all)")
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--rows", type=int, default=1000, help="at most, for training")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="tiny: does the script run at all?")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(argv)
    given.json = given.json or RESULTS / (
        "search_defaults.json" if given.search else "defaults.json"
    )
    return given


def fits(given, n, d):
    """Yield (ε in words, name of the change, estimator, scaler) of all that is to be fitted."""
    quick = QUICK if given.quick else {}
    for change, changed in (OF_SEARCH if given.search else OF_ONE_NET).items():
        if change not in (DEFAULTS, *(given.changes or [change])):
            continue
        changed = {name: of(n, d) if of is of_theory else of for name, of in changed.items()}
        scaler = changed.pop("scaler", "standard")
        if scaler == "squashing" and not data.SQUASHING:
            continue
        if given.search:
            yield CHOSEN, change, AdvBPClassifierCV(**changed | quick), scaler
            continue
        yield DEFAULT_EPSILON, change, AdvBPClassifier(**changed | quick), scaler
        if "epsilon" not in changed:
            yield PLAIN, change, AdvBPClassifier(epsilon=0.0, **changed | quick), scaler


def measured(name, given, known=None):
    """Return the figures of one table, with those of the changes that are `known`."""
    table = data.load(name, given.source)
    X, y, n = table.X, table.y, len(table.y)
    n_train = min(given.rows, int(0.75 * n))
    divisions = StratifiedShuffleSplit(
        given.splits, train_size=n_train, test_size=n - int(0.75 * n), random_state=0
    )
    found = {} if known is None else known["models"]
    new = {}
    for seed, (train, test) in enumerate(divisions.split(X, y)):
        scaled = {}
        for epsilon, change, net, scaler in fits(given, n_train, X.shape[1]):
            key = f"{change}, {epsilon}"
            if key in found:
                continue
            if scaler not in scaled:
                scaled[scaler] = data.prepared(X, table.categories, train, scaler)
            X_scaled, unit = scaled[scaler]
            net.set_params(epsilon_unit=unit, random_state=seed)
            start = time.process_time()
            net.fit(X_scaled[train], y[train])
            seconds = time.process_time() - start
            measures = judged(net, X_scaled[test], y[test], np.unique(y)) | {"seconds": seconds}
            for measure, value in measures.items():
                new.setdefault(key, {}).setdefault(measure, []).append(value)
    return {
        "table": table.name,
        "source": table.source,
        "rows": n_train,
        "models": found | new,
    }


def compared(tables):
    """Return {change: {ε in words: {measure: comparison to the defaults}}}, and times as ratios."""
    changes = {}
    for key in tables[0]["models"]:
        change, epsilon = key.rsplit(", ", 1)
        if change == DEFAULTS:
            continue
        base = f"{DEFAULTS}, {epsilon}"
        of_change = {
            measure: difference(means(tables, key, measure), means(tables, base, measure))
            for measure in ("error", "log loss")
        }
        ratios = means(tables, key, "seconds") / means(tables, base, "seconds")
        changes.setdefault(change, {})[epsilon] = of_change | {"time": float(np.median(ratios))}
    return changes


def main(argv=None):
    """Measure, print, write after each table."""
    given = options(argv)
    settings = {name: getattr(given, name) for name in ("search", "splits", "rows", "quick")}
    tables = finished(given.json, settings)
    if given.search and not data.SQUASHING:
        print("SquashingScaler is left out: it needs pip install skrub==0.11.0")
    with using_threads(given.threads):
        for name in data.names(given.data):
            label = data.label(name)
            tables[label] = measured(name, given, tables.get(label))
            print(label, flush=True)
            all_tables = list(tables.values())
            figures = {"settings": settings, "changes": compared(all_tables), "tables": all_tables}
            write_json(given.json, figures)
    print(markdown(changes_rows(figures["changes"])))


if __name__ == "__main__":
    main()
