"""Test errors on tables: AdvBPClassifierCV against plain back-propagation and other models.

    python -m benchmarks.tables.tabular                    # what scikit-learn ships
    python -m benchmarks.tables.tabular --data a.npz b.npz # your own tables

A table is a .npz file with ``X``, ``y`` and, if there are any, ``feature_names`` and
``categorical`` (a mask, numbers or names of the columns that are categories). Numbers are
standardised and categories made one-hot, within each split. A table whose y has fractions is one
for regression, where the error is 100 (1 - R²).
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
from scipy import stats
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, ShuffleSplit, StratifiedShuffleSplit
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.harness import mean_in_words
from benchmarks.passport import RESULTS, write_json
from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor
from sk_advbp.estimators.cross_validation import selected
from sk_advbp.tables import epsilon_of_columns

SHIPPED = {
    "digits": load_digits,
    "breast cancer": load_breast_cancer,
    "wine": load_wine,
    "diabetes": load_diabetes,
}
BEST, ONE_SE, PLAIN, DEFAULT = "best", "one_se", "epsilon 0", "default epsilon"
# More than this above plain back-propagation, and beyond chance, is a loss.
TOLERATED, CHANCE = 0.1, 0.005


def options(argv=None):
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=list(SHIPPED), help="names or .npz files")
    parser.add_argument("--source", default="", help="where the .npz files come from, for people")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--rows", type=int, default=12_000, help="at most, for training")
    parser.add_argument("--epsilons", type=int, help="points of the path (default: the class's)")
    parser.add_argument("--hidden", help="sizes of the layers, as 256,256 (default: the class's)")
    parser.add_argument("--epochs", type=int, help="(default: the class's)")
    parser.add_argument("--lr", type=float, help="(default: the class's)")
    parser.add_argument("--batch-size", type=int, help="(default: the class's)")
    parser.add_argument("--weight-decay", type=float, help="of Adam (default: none)")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--nets-only", action="store_true", help="leave out the other models")
    parser.add_argument("--json", type=Path, default=RESULTS / "tabular.json")
    return parser.parse_args(argv)


def settings(given):
    """Return the parameters of our nets that differ from their defaults."""
    chosen = {
        "hidden_layer_sizes": given.hidden and tuple(map(int, given.hidden.split(","))),
        "max_epochs": given.epochs,
        "lr": given.lr,
        "batch_size": given.batch_size,
        "optimizer__weight_decay": given.weight_decay,
    }
    return {name: value for name, value in chosen.items() if value is not None}


def load(name):
    """Return (X, y, mask of the categories) of a table."""
    if name in SHIPPED:
        X, y = SHIPPED[name](return_X_y=True)
        return X, y, np.zeros(X.shape[1], bool)
    with np.load(name, allow_pickle=False) as file:
        X, y = file["X"], file["y"]
        marked = file["categorical"] if "categorical" in file else np.empty(0, int)
        names = file["feature_names"] if "feature_names" in file else np.arange(X.shape[1])
    if marked.dtype != bool:
        marked = np.isin(names if marked.dtype.kind in "US" else np.arange(X.shape[1]), marked)
    return X, y, marked


def prepared(X, categories, train):
    """Return (X as the models get it, what one of ε is for each column)."""
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), np.flatnonzero(~categories)),
            (
                "categories",
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                np.flatnonzero(categories),
            ),
        ]
    ).fit(X[train])
    return columns.transform(X), epsilon_of_columns(columns)


class Split:
    """One division of a table into a training and a test part, and the errors on the latter."""

    def __init__(self, X, y, train, test, seed):
        self.train, self.test = (X[train], y[train]), (X[test], y[test])
        self.seed = seed
        self.errors, self.seconds = {}, {}

    def measure(self, name, model):
        """Fit `model` and take down its error (%) and time."""
        start = time.perf_counter()
        model.fit(*self.train)
        self.seconds[name] = time.perf_counter() - start
        self.errors[name] = 100 * (1 - model.score(*self.test))
        return model

    def same(self, name, as_name):
        """Take down that the model `name` is that of `as_name`; its time is not known."""
        self.errors[name] = self.errors[as_name]


def classify(split, unit, given):
    """Measure all classifiers; return the chosen ε."""
    common = settings(given) | {"epsilon_unit": unit, "random_state": split.seed}
    path = {} if given.epsilons is None else {"epsilons": given.epsilons}
    search = split.measure(BEST, AdvBPClassifierCV(**common, **path, n_jobs=given.jobs))
    results = search.cv_results_
    folds = np.stack([results[f"split{i}_test_score"] for i in range(5)], axis=1)
    one_se = float(search.epsilons_[selected(search.epsilons_, folds, "one_se")])
    default = AdvBPClassifier().epsilon
    done = {search.epsilon_: BEST}
    for name, epsilon in ((ONE_SE, one_se), (PLAIN, 0.0), (DEFAULT, default)):
        if epsilon in done:  # same data, same seed, same ε
            split.same(name, done[epsilon])
        else:
            split.measure(name, AdvBPClassifier(**common, epsilon=epsilon))
            done[epsilon] = name
    if not given.nets_only:
        split.measure("MLPClassifier", MLPClassifier(random_state=split.seed))
        split.measure(
            "HistGradientBoosting", HistGradientBoostingClassifier(random_state=split.seed)
        )
        split.measure("logistic regression", LogisticRegression(max_iter=2000))
    return {BEST: search.epsilon_, ONE_SE: one_se}


def regress(split, unit, given):
    """Measure all regressors; return the chosen ε."""
    net = AdvBPRegressor(**settings(given), epsilon_unit=unit, random_state=split.seed)
    path = [0.0, *np.geomspace(0.01, 0.2, (given.epsilons or 6) - 1).tolist()]
    search = split.measure(BEST, GridSearchCV(net, {"epsilon": path}, n_jobs=given.jobs))
    split.measure(PLAIN, net.set_params(epsilon=0.0))
    split.measure(DEFAULT, net.set_params(epsilon=AdvBPRegressor().epsilon))
    if not given.nets_only:
        split.measure("MLPRegressor", MLPRegressor(random_state=split.seed))
        split.measure(
            "HistGradientBoosting", HistGradientBoostingRegressor(random_state=split.seed)
        )
        split.measure("ridge regression", RidgeCV(np.logspace(-3, 3, 13)))
    return {BEST: search.best_params_["epsilon"]}


def measured(name, given):
    """Return the figures of one table."""
    X, y, categories = load(name)
    numeric = y.dtype.kind == "f" and bool((y % 1).any())
    regression = numeric or name == "diabetes"
    n_train = min(given.rows, int(0.75 * len(y)))
    splitter = ShuffleSplit if regression else StratifiedShuffleSplit
    divisions = splitter(
        given.splits, train_size=n_train, test_size=len(y) - int(0.75 * len(y)), random_state=0
    )
    splits, chosen = [], []
    for seed, (train, test) in enumerate(divisions.split(X, y)):
        prepared_X, unit = prepared(X, categories, train)
        split = Split(prepared_X, y, train, test, seed)
        chosen.append((regress if regression else classify)(split, unit, given))
        splits.append(split)
    return {
        "table": Path(name).stem,
        "source": "scikit-learn" if name in SHIPPED else given.source,
        "regression": regression,
        "rows": [n_train, int(len(y) - int(0.75 * len(y)))],
        "columns": int(X.shape[1]),
        "classes": None if regression else len(np.unique(y)),
        "errors": {m: [split.errors[m] for split in splits] for m in splits[0].errors},
        "seconds": {
            m: [split.seconds[m] for split in splits if m in split.seconds]
            for m in splits[0].errors
        },
        "epsilons": chosen,
    }


def comparison(errors):
    """Return how far the error of "best" lies above that of ε = 0, and whether that is clear."""
    above = np.subtract(errors[BEST], errors[PLAIN])
    n = len(above)
    half = stats.t.ppf(1 - CHANCE, n - 1) * above.std(ddof=1) / np.sqrt(n) if n > 1 else np.inf
    clearly = bool(above.mean() > TOLERATED and above.mean() - half > 0)
    return {"mean": float(above.mean()), "lower": float(above.mean() - half), "clearly": clearly}


def mean_ranks(tables):
    """Return the mean rank of each method over the tables of classes; equal errors share one."""
    tables = [t for t in tables if not t["regression"]]
    if not tables:
        return {}
    methods = list(tables[0]["errors"])
    means = np.array([[np.mean(t["errors"][m]) for m in methods] for t in tables])
    return dict(zip(methods, stats.rankdata(means, axis=1).mean(axis=0).tolist(), strict=True))


def show(table):
    """Print the figures of one table."""
    print(f"\n{table['table']}: {table['rows'][0]} training rows, chosen {table['epsilons']}")
    for method, errors in table["errors"].items():
        seconds = table["seconds"][method]
        took = f" in {np.mean(seconds):.1f} s" if seconds else ""
        print(f"{method:>22} {mean_in_words(errors):>14} %{took}")
    above = table["best above epsilon 0"]
    print(f"best - epsilon 0: {above['mean']:+.2f}" + (" CLEARLY WORSE" * above["clearly"]))


def main(argv=None):
    """Measure, print, write."""
    given = options(argv)
    # MLPClassifier's 200 epochs are its default.
    warnings.simplefilter("ignore", ConvergenceWarning)
    warnings.filterwarnings("ignore", "Found unknown categories")
    tables = []
    for name in given.data:
        table = measured(name, given)
        table["best above epsilon 0"] = comparison(table["errors"])
        show(table)
        tables.append(table)
        # After each table, since all of them take long.
        ranks = mean_ranks(tables)
        figures = {"settings": {k: str(v) for k, v in vars(given).items()}, "mean ranks": ranks}
        write_json(given.json, figures | {"tables": tables})
    print("\nmean ranks over the tables of classes:")
    for method, rank in sorted(ranks.items(), key=lambda item: item[1]):
        print(f"{method:>22} {rank:.2f}")


if __name__ == "__main__":
    main()
