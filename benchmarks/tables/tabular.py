"""Error, log loss and time on tables: AdvBPClassifierCV and AdvBPRegressorCV beside other models.

    python -m benchmarks.tables.tabular                    # the tables that chose no default
    python -m benchmarks.tables.tabular --data digits a.npz keel:pima --json mine.json

All models get the same X, numbers standardised and categories one-hot (`data.py` says what a table
is), and have their default settings. RealMLP needs ``pip install pytabkit==1.7.3``, the tables of
KEEL and R two other packages. What the JSON file has already, measured with the same settings, is
not measured again.
"""

import argparse
import json
import logging
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.model_selection import ShuffleSplit, StratifiedShuffleSplit
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from benchmarks.harness import markdown, using_threads
from benchmarks.passport import RESULTS, passport, write_json
from benchmarks.tables import data
from benchmarks.tables.summary import (
    LINEAR,
    MLP,
    MODELS,
    ONE_NET,
    OURS,
    PLAIN,
    REALMLP,
    REALMLP_OF_LOG_LOSS,
    TREES,
    losses,
    summary_rows,
)
from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor, AdvBPRegressorCV

QUICK = {"hidden_layer_sizes": (4,), "max_epochs": 2}


def options(argv=None):
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["check"], help="names or .npz files")
    parser.add_argument("--source", default="", help="where the .npz files come from, for people")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--rows", type=int, default=1000, help="at most, for training")
    parser.add_argument("--scaler", choices=data.SCALERS, default="standard", help="of numbers")
    parser.add_argument("--models", nargs="+", help="their names (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="tiny: does the script run at all?")
    parser.add_argument("--json", type=Path, default=RESULTS / "tabular.json")
    given = parser.parse_args(argv)
    if given.scaler == "squashing" and not data.SQUASHING:
        parser.error("--scaler squashing needs pip install skrub==0.11.0")
    return given


def models(regression, seed, unit, given):
    """Return {name: model that is not fitted yet} for one division of a table.

    Parameters
    ----------
    regression : bool
    seed : int
    unit : ndarray of shape (n_columns,)
        What one of ε is for each column.
    given : argparse.Namespace
    """
    ours = {"epsilon_unit": unit, "random_state": seed} | (QUICK if given.quick else {})
    seeded = {"random_state": seed}
    if regression:
        found = {
            OURS: AdvBPRegressorCV(**ours),
            PLAIN: AdvBPRegressorCV(epsilons=[0], **ours),
            ONE_NET: AdvBPRegressor(**ours),
            MLP: TransformedTargetRegressor(MLPRegressor(**seeded), transformer=StandardScaler()),
            TREES: HistGradientBoostingRegressor(**seeded),
            LINEAR: RidgeCV(np.logspace(-3, 3, 13)),
        }
    else:
        found = {
            OURS: AdvBPClassifierCV(**ours),
            PLAIN: AdvBPClassifierCV(epsilons=[0], **ours),
            ONE_NET: AdvBPClassifier(**ours),
            MLP: MLPClassifier(**seeded),
            TREES: HistGradientBoostingClassifier(**seeded),
            LINEAR: LogisticRegression(max_iter=2000),
        }
    found |= real_mlps(regression, seed, given)
    return {name: model for name, model in found.items() if name in (given.models or found)}


def real_mlps(regression, seed, given):
    """Return RealMLP in its defaults, and as its authors set it for the log loss, if it is there.

    Notes
    -----
    David Holzmüller, Léo Grinsztajn, Ingo Steinwart, "Better by Default: Strong Pre-Tuned MLPs and
    Boosted Trees on Tabular Data", arXiv:2407.04491.
    """
    try:
        from pytabkit import RealMLP_TD_Classifier, RealMLP_TD_Regressor
    except ImportError:
        return {}
    # Lightning reports each fit.
    for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    common = {"random_state": seed, "device": "cpu", "n_threads": given.threads, "verbosity": 0}
    common |= {"n_epochs": 2} if given.quick else {}
    if regression:
        return {REALMLP: RealMLP_TD_Regressor(**common)}
    of_log_loss = {"use_ls": False, "val_metric_name": "cross_entropy"}
    return {
        REALMLP: RealMLP_TD_Classifier(**common),
        REALMLP_OF_LOG_LOSS: RealMLP_TD_Classifier(**common, **of_log_loss),
    }


def judged(model, X, y, classes):
    """Return error (%), log loss and Brier score of a fitted model on test data.

    The error of a regression is 100 (1 - R²), and it has nothing else.
    """
    error = 100 * (1 - model.score(X, y))
    if classes is None:
        return {"error": float(error)}
    probabilities = model.predict_proba(X)
    return {
        "error": float(error),
        "log loss": float(log_loss(y, probabilities, labels=classes)),
        "Brier score": float(brier_score_loss(y, probabilities, labels=classes)),
    }


def measured(name, given, known=None):
    """Return the figures of one table, with those of the models that are `known`."""
    table = data.load(name, given.source)
    known = known or {"models": {}, "commits": {}, "chosen": []}
    X, y, n = table.X, table.y, len(table.y)
    classes = None if table.regression else np.unique(y)
    n_train = min(given.rows, int(0.75 * n))
    splitter = ShuffleSplit if table.regression else StratifiedShuffleSplit
    divisions = splitter(
        given.splits, train_size=n_train, test_size=n - int(0.75 * n), random_state=0
    )
    found, chosen = {}, known["chosen"]
    for seed, (train, test) in enumerate(divisions.split(X, y)):
        X_scaled, unit = data.prepared(X, table.categories, train, given.scaler)
        for model_name, model in models(table.regression, seed, unit, given).items():
            if model_name in known["models"]:
                continue
            # The processor's, which others on the machine prolong less than those on the wall.
            start = time.process_time()
            model.fit(X_scaled[train], y[train])
            seconds = time.process_time() - start
            measures = judged(model, X_scaled[test], y[test], classes) | {"seconds": seconds}
            of_model = found.setdefault(model_name, {measure: [] for measure in measures})
            for measure, value in measures.items():
                of_model[measure].append(value)
            if model_name == OURS:
                chosen.append({"epsilon": model.epsilon_, "max_epochs": model.max_epochs_})
    found = known["models"] | found
    return {
        "table": table.name,
        "source": table.source,
        "regression": table.regression,
        "rows": [n_train, n - int(0.75 * n)],
        "columns": X.shape[1],
        "classes": None if classes is None else len(classes),
        "models": {model: found[model] for model in MODELS if model in found},
        "commits": dict.fromkeys(found, passport()["commit"]) | known["commits"],
        "chosen": chosen,
    }


def finished(path, settings):
    """Return {table: figures} of those in the file that were measured with these settings."""
    if not path.is_file():
        return {}
    figures = json.loads(path.read_text("utf-8"))
    return {t["table"]: t for t in figures["tables"]} if figures["settings"] == settings else {}


def main(argv=None):
    """Measure, print, write after each table."""
    given = options(argv)
    # MLPClassifier's 200 epochs are its default.
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "Found unknown categories")
    if not real_mlps(False, 0, given):
        print("RealMLP is left out: it needs pip install pytabkit==1.7.3")
    settings = {n: getattr(given, n) for n in ("splits", "rows", "scaler", "quick")}
    tables = finished(given.json, settings)
    with using_threads(given.threads):
        for name in data.names(given.data):
            label = data.label(name)
            tables[label] = measured(name, given, tables.get(label))
            errors = {m: np.mean(of["error"]) for m, of in tables[label]["models"].items()}
            print(label, ", ".join(f"{m}: {e:.2f}" for m, e in errors.items()), flush=True)
            all_tables = list(tables.values())
            figures = {"settings": settings, "losses": losses(all_tables), "tables": all_tables}
            write_json(given.json, figures)
    for regression in (False, True):
        of_kind = [t for t in tables.values() if t["regression"] == regression]
        if of_kind:
            print(f"\n{markdown(summary_rows(of_kind))}")


if __name__ == "__main__":
    main()
