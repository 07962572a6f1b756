"""The code of the documentation's pages has to run.

The blocks of a page run one after the other, as in a notebook, on small data and with what the
page takes as known: scikit-learn's names, data, a fitted net. An estimator that a block makes
and does not fit is fitted, with fewer epochs and candidates.
"""

import ast
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import nn

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:   .*\n|\n)+)", re.M)
PAGES = [ROOT / "docs" / "index.rst", *sorted((ROOT / "docs" / "guide").glob("*.rst"))]
PAGES = [page for page in PAGES if BLOCK.search(page.read_text("utf-8"))]
KNOWN = {
    thing.__name__: thing
    for thing in (
        AdvBPClassifier,
        AdvBPClassifierCV,
        GridSearchCV,
        MinMaxScaler,
        OneHotEncoder,
        RandomizedSearchCV,
        StandardScaler,
        clone,
        make_column_transformer,
        make_pipeline,
        torch,
    )
}
CHEAP = {"max_epochs": 2, "n_iter": 2, "n_jobs": None, "cv": 2}


class MyConvNet(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, channels, 5, stride=4),
            nn.Flatten(),
            nn.Linear(36 * channels, 10),
        )

    def forward(self, X):
        return self.layers(X)


def split(X, y):
    """Return the names that the pages give to the parts of the data."""
    parts = train_test_split(X, y, stratify=y, random_state=0)
    return dict(zip(["X_train", "X_test", "y_train", "y_test"], parts, strict=True))


def wine():
    return split(*load_wine(return_X_y=True))


def digits():
    """Return digits of 28 × 28 pixels, and a net that has learned them."""
    X, y = load_digits(return_X_y=True)
    X = np.pad(np.kron(X[:600].reshape(-1, 8, 8) / 16, np.ones((3, 3))), [(0, 0), (2, 2), (2, 2)])
    names = split(X.reshape(-1, 784).astype(np.float32), y[:600])
    net = AdvBPClassifier((30,), max_epochs=5, random_state=0, device="cpu")
    names["net"] = net.fit(names["X_train"], names["y_train"])
    return names | {"images": names["X_test"][:20], "labels": names["y_test"][:20]}


def table():
    """Return a table of numbers and categories, and an array with an indicator matrix."""
    X, y = load_wine(return_X_y=True)
    frame = pd.DataFrame({"alcohol": X[:, 0], "colour": (X[:, 9] > 4).astype(int)})
    names = {"numbers": ["alcohol"], "categories": ["colour"]}
    return split(frame, y) | names | {"X": X[:, :2], "Y": np.eye(3, dtype=int)[y]}


def search():
    """Return data, a pipeline and the candidates of a search over it."""
    pipeline = make_pipeline(StandardScaler(), AdvBPClassifier(random_state=0))
    return wine() | {"pipeline": pipeline, "candidates": {"advbpclassifier__epsilon": [0, 0.1]}}


GIVEN = {"preparing": table, "robustness": digits, "saving": digits, "searching": search}
GIVEN |= {"skorch": lambda: digits() | {"MyConvNet": MyConvNet}}


def is_unfitted(value):
    if not isinstance(value, BaseEstimator):
        return False
    try:
        check_is_fitted(value)
    except NotFittedError:
        return True
    return False


def fit_cheaply(estimator, names):
    """Fit an estimator, or a search, with fewer epochs and candidates."""
    cheap = {
        name: CHEAP[name.split("__")[-1]]
        for name in estimator.get_params()
        if name.split("__")[-1] in CHEAP
    }
    estimator.set_params(**cheap).fit(names["X_train"], names["y_train"])


def run(block, names):
    """Run the statements of a block, and fit what they leave unfitted."""
    before = set(names)
    for statement in ast.parse(block).body:
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), "<page>", "eval"), names)
            values = [value]
        else:
            exec(compile(ast.Module([statement], []), "<page>", "exec"), names)
            values = [names[name] for name in set(names) - before]
        for value in filter(is_unfitted, values):
            fit_cheaply(value, names)


@pytest.mark.filterwarnings("ignore:epsilon is .* standard deviations")  # of pale pixels
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = KNOWN | GIVEN.get(page.stem, wine)()
    for text in BLOCK.findall(page.read_text("utf-8")):
        block = inspect.cleandoc("\n" + text)
        if "from art." in block and find_spec("art") is None:
            continue  # the extra "attacks"
        run(block, names)


def test_the_first_example_is_that_of_the_readme():
    (block,) = BLOCK.findall((ROOT / "docs" / "install.rst").read_text("utf-8"))
    (example,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.M | re.S
    )
    assert ast.dump(ast.parse(inspect.cleandoc("\n" + block))) == ast.dump(ast.parse(example))
