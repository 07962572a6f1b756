"""ONNX: labels and probabilities in onnxruntime are those of the estimator."""

import copy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)
from torch import nn

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor
from sk_advbp.export import to_onnx

onnxruntime = pytest.importorskip("onnxruntime")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4))
CODES = X[:, :3].argmax(1)
Y = np.array(["ant", "bee", "cat"])[CODES]
NUMBERS = 1000 + 100 * X[:, 0]
MATRIX = (X[:, :3] > 0.3).astype(int)
QUICK = {"hidden_layer_sizes": (6, 5), "max_epochs": 3, "batch_size": 16, "random_state": 0}
TABLE = pd.DataFrame({"age": X[:, 0] * 10 + 40, "n": CODES + 3, "colour": Y, "size": X[:, 1]})


class ConvNet(nn.Module):
    """A module with what differs between training and evaluation."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 3, 2), nn.BatchNorm1d(3), nn.GELU(), nn.Dropout(0.5), nn.Flatten()
        )
        self.output = nn.Linear(9, 3)

    def forward(self, X):
        return self.output(self.layers(X.unsqueeze(1)))


def in_onnxruntime(model, X):
    """Return {name: array} of what the model makes of X, from its bytes alone."""
    session = onnxruntime.InferenceSession(model.SerializeToString())
    if hasattr(X, "columns"):
        given = {name: X[[name]].to_numpy() for name in X.columns}
    else:
        given = {"X": X}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, given), strict=True))


def check_same(estimator, X, model=None):
    found = in_onnxruntime(model or to_onnx(estimator, X[:1]), X)
    if hasattr(estimator, "classes_"):
        expected = estimator.predict_proba(X)
        assert found["label"].tolist() == estimator.predict(X).tolist()
        np.testing.assert_allclose(found["probabilities"], expected, atol=1e-5)
        assert found["probabilities"].dtype == expected.dtype
    else:
        gaussian = getattr(estimator, "output", "identity") == "gaussian"
        assert found.keys() == ({"prediction", "std"} if gaussian else {"prediction"})
        expected = estimator.predict(X, return_std=True) if gaussian else [estimator.predict(X)]
        for ours, theirs in zip(found.values(), expected, strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# {id: (estimator, X, y)}
NETS = {
    "default": (AdvBPClassifier(**QUICK), X, Y),
    "float32": (AdvBPClassifier(**QUICK), X.astype(np.float32), Y),
    "float32 net": (AdvBPClassifier(**QUICK, dtype="float32"), X, Y),
    "integer X": (AdvBPClassifier(**QUICK), (X * 10).astype(np.int64), Y),
    "tanh": (AdvBPClassifier(**QUICK, activation="tanh"), X, CODES * 10),
    "logistic units": (AdvBPClassifier(**QUICK, activation="logistic"), X, CODES * 2.0),
    "identity": (AdvBPClassifier(**QUICK, activation="identity"), X, CODES == 1),
    "linear": (AdvBPClassifier(**QUICK | {"hidden_layer_sizes": ()}), X, Y.astype(object)),
    "logistic output": (AdvBPClassifier(**QUICK, output="logistic"), X, Y),
    "logistic, large": (
        AdvBPClassifier(**QUICK, output="logistic", epsilon=80.0),
        X * 1000,
        Y,
    ),
    "logits": (AdvBPClassifier(**QUICK, predict_nonlinearity=None), X, Y),
    "dropout": (AdvBPClassifier(**QUICK, dropout=0.5, input_dropout=0.1), X, Y),
    "one class": (AdvBPClassifier(**QUICK), X, np.full(len(X), 7)),
    "several": (AdvBPClassifier(**QUICK, n_nets=3), X, Y),
    "several, logistic": (AdvBPClassifier(**QUICK, n_nets=3, output="logistic"), X, Y),
    "several regressors": (AdvBPRegressor(**QUICK, n_nets=2), X, NUMBERS),
    "several labels": (AdvBPClassifier(**QUICK), X, MATRIX),
    "several labels, float32": (AdvBPClassifier(**QUICK, dtype="float32"), X, MATRIX),
    "several labels, nets": (AdvBPClassifier(**QUICK, n_nets=3), X, MATRIX),
    "logits of labels": (AdvBPClassifier(**QUICK, n_nets=2, predict_nonlinearity=None), X, MATRIX),
    "search": (AdvBPClassifierCV(**QUICK, epsilons=2, cv=2), X, Y),
    "regressor": (AdvBPRegressor(**QUICK), X, NUMBERS),
    "outputs": (AdvBPRegressor(**QUICK), X, np.c_[NUMBERS, X[:, 0]]),
    "gaussian": (AdvBPRegressor(**QUICK, output="gaussian"), X, NUMBERS),
    "gaussians": (
        AdvBPRegressor(**QUICK, output="gaussian", n_nets=3, dtype="float32"),
        X,
        np.c_[NUMBERS, X[:, 0]],
    ),
    "module of gaussians": (
        AdvBPRegressor(**QUICK, output="gaussian", module=nn.Linear(4, 2)),
        X,
        NUMBERS,
    ),
    "module float64": (AdvBPClassifier(module=ConvNet, dtype="float64", **QUICK), X, Y),
}


@pytest.mark.parametrize("estimator, X, y", NETS.values(), ids=NETS)
def test_nets(estimator, X, y):
    check_same(copy.deepcopy(estimator).fit(X, y), X)


@pytest.mark.parametrize(
    "scaler",
    [MinMaxScaler(), StandardScaler(), RobustScaler(), make_pipeline(StandardScaler())],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scalers(scaler, dtype):
    rows = (1000 + 50 * X).astype(dtype)
    model = make_pipeline(scaler, AdvBPClassifier(**QUICK)).fit(rows, Y)
    check_same(model, rows)


def test_a_module_that_counts_nets_of_its_own():
    """The attribute of the package's perceptron means nothing elsewhere."""

    class Counting(nn.Linear):
        n_nets = 4

    for net, y in (
        (AdvBPRegressor(module=Counting(4, 2), output="gaussian", **QUICK), NUMBERS),
        (AdvBPClassifier(module=Counting(4, 3), **QUICK), Y),
    ):
        check_same(net.fit(X, y), X)


def test_a_table_of_numbers_and_categories():
    columns = make_column_transformer(
        (MinMaxScaler(), ["age", "size"]),
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]),
        (OrdinalEncoder(), ["n"]),
    )
    model = make_pipeline(columns, AdvBPClassifier(**QUICK, output="logistic")).fit(TABLE, Y)
    check_same(model, TABLE)
    regressor = make_pipeline(columns, StandardScaler(), AdvBPRegressor(**QUICK))
    check_same(regressor.fit(TABLE, NUMBERS), TABLE)


def test_a_module_behind_a_scaler():
    """To which nothing has happened then."""
    model = make_pipeline(StandardScaler(), AdvBPClassifier(module=ConvNet, **QUICK)).fit(X, Y)
    module = model[-1].module_.train()
    before = [t.clone() for t in module.state_dict().values()]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    exported = to_onnx(model, X)
    assert module.training and torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, module.state_dict().values(), before))
    check_same(model, X, exported)


def test_searches():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), AdvBPClassifier(**QUICK)),
        {"advbpclassifier__epsilon": [0, 0.1]},
        cv=2,
    )
    check_same(search.fit(X, Y), X)
    search = GridSearchCV(AdvBPClassifier(**QUICK), {"epsilon": [0, 0.1]}, cv=2)
    check_same(make_pipeline(StandardScaler(), search).fit(X, Y), X)


def test_frozen_steps():
    scaler = FrozenEstimator(StandardScaler().fit(X))
    model = make_pipeline(scaler, None, AdvBPClassifier(**QUICK)).fit(X, Y)
    check_same(model, X)
    check_same(FrozenEstimator(model), X)


def test_samplers_do_nothing_later():
    sampling = pytest.importorskip("imblearn.over_sampling")
    pipelines = pytest.importorskip("imblearn.pipeline")
    sampler = sampling.RandomOverSampler(random_state=0)
    model = pipelines.make_pipeline(StandardScaler(), sampler, AdvBPClassifier(**QUICK))
    check_same(model.fit(X, Y), X)


def halved(logits):
    return logits / 2


def test_what_cannot_be_exported():
    with pytest.raises(NotFittedError):
        to_onnx(AdvBPClassifier(), X)
    for other in (LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())):
        with pytest.raises(TypeError, match="only an estimator of this package"):
            to_onnx(other.fit(X, Y), X)
    net = AdvBPClassifier(**QUICK, predict_nonlinearity=halved).fit(X, Y)
    with pytest.raises(ValueError, match="no predict_nonlinearity that is a function"):
        to_onnx(net, X)
    several = AdvBPClassifier(**QUICK, n_nets=2, predict_nonlinearity=None).fit(X, Y)
    with pytest.raises(ValueError, match="nor None of several nets"):
        to_onnx(several, X)
    dates = AdvBPClassifier(**QUICK).fit(X, CODES.astype("datetime64[D]"))
    with pytest.raises(ValueError, match=r"ONNX has no labels of dtype datetime64\[D\]"):
        to_onnx(dates, X)
    with pytest.raises(ValueError, match="has 3 features"):
        to_onnx(AdvBPClassifier(**QUICK).fit(X, Y), X[:, :3])


def test_without_the_extra(monkeypatch):
    net = AdvBPClassifier(**QUICK).fit(X, Y)
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match="come with the extra 'onnx'"):
        to_onnx(net, X)


SERVE = """
import sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
label, probabilities = session.run(None, {"X": np.load(sys.argv[2])})
assert label.tolist() == np.load(sys.argv[3]).tolist()
assert not {"torch", "sklearn", "sk_advbp"} & set(sys.modules)
"""


def test_a_service_needs_no_torch(tmp_path):
    model = make_pipeline(MinMaxScaler(), AdvBPClassifier(**QUICK)).fit(X, CODES)
    files = [str(tmp_path / name) for name in ("model.onnx", "X.npy", "labels.npy")]
    (tmp_path / "model.onnx").write_bytes(to_onnx(model, X).SerializeToString())
    np.save(files[1], X)
    np.save(files[2], model.predict(X))
    subprocess.run([sys.executable, "-c", SERVE, *files], check=True)
