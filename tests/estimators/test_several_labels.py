"""Several labels a row: the interface of MLPClassifier, and what is computed."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, StackingClassifier
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EpochScoring
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV

D, M = 6, 4
RNG = np.random.default_rng(1)
X = RNG.normal(size=(120, D))
Y = (X @ RNG.normal(size=(D, M)) + 0.3 * RNG.normal(size=(120, M)) > 0.3).astype(int)
CSR = sparse.csr_matrix(Y)
W = RNG.integers(1, 4, size=len(X)).astype(float)
NAMES = list("abcdef")
QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0, "device": "cpu"}


def classifier(**params):
    return AdvBPClassifier(**QUICK | params)


def weights(net):
    return [p.detach().numpy() for p in net.module_.parameters()]


def with_column(value):
    Y_ = Y.copy()
    Y_[:, 1] = value
    return Y_


# ---- beside MLPClassifier ----------------------------------------------------------------


def then(net, *calls):
    for y, options in calls:
        net = net.partial_fit(X, y, **options)
    return net


ALL = {"classes": np.arange(M)}
CALLS = {
    "dense": lambda net: net.fit(X, Y),
    "bool": lambda net: net.fit(X, Y.astype(bool)),
    "float": lambda net: net.fit(X, Y.astype(float)),
    "list": lambda net: net.fit(X.tolist(), Y.tolist()),
    "CSR": lambda net: net.fit(X, CSR),
    "CSR array": lambda net: net.fit(X, sparse.csr_array(Y)),
    "CSC": lambda net: net.fit(X, sparse.csc_matrix(Y)),
    "CSR twice": lambda net: net.fit(sparse.csr_matrix(X), CSR),
    "DataFrame": lambda net: net.fit(pd.DataFrame(X, columns=NAMES), pd.DataFrame(Y)),
    "one label": lambda net: net.fit(X, Y[:, :1]),
    "one sparse label": lambda net: net.fit(X, CSR[:, :1]),
    "two labels": lambda net: net.fit(X, Y[:, :2]),
    "a label of no row": lambda net: net.fit(X, with_column(0)),
    "a label of all rows": lambda net: net.fit(X, with_column(1)),
    "rows without label": lambda net: net.fit(X, Y * (np.arange(len(Y)) % 2)[:, None]),
    "no label at all": lambda net: net.fit(X, 0 * Y),
    "one row": lambda net: net.fit(X[:1], Y[:1]),
    "weights": lambda net: net.fit(X, Y, sample_weight=W),
    "early stopping": lambda net: net.set_params(early_stopping=True).fit(X, Y),
    "early stopping, CSR": lambda net: net.set_params(early_stopping=True).fit(X, CSR),
    "numbers": lambda net: net.fit(X, Y + np.arange(M)),
    "fractions": lambda net: net.fit(X, Y + 0.5),
    "strings": lambda net: net.fit(X, Y.astype(str)),
    "partial_fit": lambda net: then(net, (Y, ALL), (Y[::-1], {})),
    "partial_fit, CSR": lambda net: then(net, (CSR, ALL), (CSR, ALL)),
    "partial_fit without classes": lambda net: then(net, (Y, {})),
    "partial_fit of fewer classes": lambda net: then(net, (Y, {"classes": [0, 1]})),
    "partial_fit of other classes": lambda net: then(net, (Y, ALL), (Y, {"classes": [0, 1, 2]})),
    "partial_fit of fewer labels": lambda net: then(net, (Y, ALL), (Y[:, :3], {})),
    "warm start": lambda net: net.set_params(warm_start=True).fit(X, Y).fit(X, Y),
    "warm start, one label": lambda net: net.set_params(warm_start=True).fit(X, Y).fit(X, Y[:, 0]),
    "warm start, more": lambda net: net.set_params(warm_start=True).fit(X, Y[:, :2]).fit(X, Y),
}  # fmt: skip


def seen_of(net, call):
    """What a user sees of a call: the forms of the answers, or the kind of error; warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted = call(net)
        except (TypeError, ValueError) as error:
            return type(error)
    names = getattr(fitted, "feature_names_in_", None)
    rows = X if names is None else pd.DataFrame(X, columns=names)
    y, p, log_p = fitted.predict(rows), fitted.predict_proba(rows), fitted.predict_log_proba(rows)
    if p.shape[1] > 2 or y.ndim == 2:
        np.testing.assert_array_equal(y.toarray() if sparse.issparse(y) else y, p > 0.5)
    np.testing.assert_allclose(log_p, np.log(p), atol=1e-12)
    truth = Y if p.shape[1] == M else Y[:, : y.shape[1]] if y.ndim == 2 else Y[:, 0]
    assert fitted.score(rows, truth) == accuracy_score(truth, y)
    return {
        "predict": (type(y), y.dtype, y.shape),
        "predict_proba": (type(p), p.dtype, p.shape),
        "classes_": (fitted.classes_.dtype, fitted.classes_.tolist()),
        "score": type(fitted.score(rows, truth, sample_weight=W)),
        "names": names if names is None else names.tolist(),
        "warnings": {w.category for w in caught} - {ConvergenceWarning},
    }


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_interface_is_that_of_mlp_classifier(call):
    theirs = seen_of(MLPClassifier((8,), max_iter=4, random_state=0), call)
    assert seen_of(classifier(), call) == theirs
    assert call not in (CALLS["dense"], CALLS["CSR"]) or theirs["predict"][2] == Y.shape
    assert call is not CALLS["one label"] or theirs["warnings"] == {DataConversionWarning}


CONSTRUCTIONS = {
    "pipeline": lambda net: make_pipeline(StandardScaler(), net),
    "chain": lambda net: ClassifierChain(net, order="random", random_state=0),
    "one a label": MultiOutputClassifier,
    "one vs rest": OneVsRestClassifier,
    "stack": lambda net: StackingClassifier(
        [("net", net)], RandomForestClassifier(10, random_state=0), cv=2
    ),
    "grid": lambda net: GridSearchCV(
        net, {"hidden_layer_sizes": [(4,), (20,)]}, scoring="f1_samples", cv=2
    ),
}


@pytest.mark.filterwarnings("ignore:.*Maximum iterations", "ignore:F-score is ill-defined")
@pytest.mark.parametrize("construction", CONSTRUCTIONS.values(), ids=CONSTRUCTIONS)
def test_constructions(construction):
    theirs = construction(MLPClassifier((20,), max_iter=20, random_state=0)).fit(X, Y)
    ours = construction(classifier(max_epochs=20, lr=0.02)).fit(X, Y)
    for method in ("predict", "predict_proba"):
        forms = [np.shape(getattr(model, method)(X)) for model in (ours, theirs)]
        assert forms[0] == forms[1]
    assert ours.score(X, Y) > 0.5


# ---- what is computed --------------------------------------------------------------------


def test_certain_labels_have_finite_logarithms():
    net = classifier(epsilon=0, dtype="float32").fit(X, Y)
    with torch.no_grad():
        net.module_.layers[-1].bias[:2] = torch.tensor([1e4, -1e4])
    log_p = net.predict_log_proba(X)
    assert np.isfinite(log_p).all() and (log_p[:, 0] == 0).all() and (log_p[:, 1] < -9e3).all()


def test_losses_of_torch_take_the_matrix():
    """The sum over the labels is ours; another loss has floats to compare with."""
    ours = classifier().fit(X, Y, sample_weight=W)
    theirs = classifier(criterion=nn.BCEWithLogitsLoss).fit(X, Y, sample_weight=W)
    for a, b in zip(weights(ours), weights(theirs), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    assert classifier(criterion=nn.MultiLabelSoftMarginLoss).fit(X, Y).predict(X).shape == Y.shape


class OneByOne(Dataset):
    def __init__(self, y):
        self.y = y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return torch.from_numpy(X[i]), self.y[i]


@pytest.mark.parametrize("y", [Y, Y.astype(float), Y.astype(bool)], ids=["int", "float", "bool"])
def test_datasets_are_arrays(y):
    options = {"iterator_train__shuffle": False, "dtype": "float64"}
    net = classifier(**options).fit(X, Y)
    tensors = TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    for dataset in (tensors, OneByOne(y)):
        other = classifier(**options).fit(dataset)
        for a, b in zip(weights(net), weights(other), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
        np.testing.assert_array_equal(other.predict(dataset), net.predict(X))
    with pytest.raises(ValueError, match=r"columns of 0 and 1.* Got 2 in 4 columns"):
        classifier().fit(OneByOne(2 * Y))


@pytest.mark.parametrize("n_nets", [1, 3])
@pytest.mark.parametrize("y", [Y, CSR], ids=["dense", "CSR"])
def test_held_out_score_is_the_subset_accuracy(y, n_nets):
    """Of validation data in any form, and as skorch's callbacks see it."""
    train, valid = slice(0, 80), slice(80, 120)
    in_skorch = [
        (
            f"acc{use_caching}",
            EpochScoring("accuracy", name=f"acc{use_caching}", use_caching=use_caching),
        )
        for use_caching in (True, False)
    ]
    dataset = TensorDataset(torch.from_numpy(X[valid]), torch.from_numpy(Y[valid]))
    net = classifier(
        n_nets=n_nets,
        train_split=predefined_split(dataset),
        callbacks=in_skorch,
        max_epochs=12,
        lr=0.02,
    ).fit(X[train], y[train])
    assert net.validation_scores_[-1] == pytest.approx(net.score(X[valid], y[valid]))
    for name, _ in in_skorch:
        assert net.history[:, name] == pytest.approx(net.validation_scores_)
    assert 0 < net.validation_scores_[-1] < 1


def test_fits_that_fail_leave_the_net_as_it_was():
    net = classifier(epsilon=0.1).fit(X, CSR)
    before = pickle.dumps(weights(net)), net.predict_proba(X).tobytes(), net.classes_.tolist()
    for fit, complaint in (
        (lambda: clone(net).set_params(class_weight={0: 2}).fit(X, Y), r"class_weight.*\{0: 2\}"),
        (lambda: net.set_params(class_weight="balanced").partial_fit(X, Y), "class_weight"),
        (
            lambda: net.set_params(class_weight=None).partial_fit(X, Y[:, 0]),
            r"\(120,\).* 4 columns",
        ),
        (lambda: net.set_params(classes=[1, 2, 3, 4]).fit(X, Y), r"\[0, 1, 2, 3\].*\[1, 2, 3, 4\]"),
        (lambda: net.adversarial_examples(X, Y[:, :3]), r"\(120, 3\).* of 4 columns"),
        (lambda: net.adversarial_examples(X, Y[:, 0]), r"\(120,\).* of 4 columns"),
        (lambda: net.adversarial_examples(X, CSR[:5]), "inconsistent numbers of samples"),
    ):
        with pytest.raises(ValueError, match=complaint):
            fit()
        after = pickle.dumps(weights(net)), net.predict_proba(X).tobytes(), net.classes_.tolist()
        assert after == before
    loaded = pickle.loads(pickle.dumps(net))
    assert sparse.issparse(net.predict(X)) and sparse.issparse(loaded.predict(X))
    # A later fit may be of one label a row again.
    assert net.set_params(classes=None).fit(X, Y[:, 0]).predict(X).shape == (len(X),)
    with pytest.raises(ValueError, match=r"\(120, 4\)\. Expected one label a row"):
        net.adversarial_examples(X, Y)


# ---- epsilon by cross-validation ---------------------------------------------------------

ONE_BY_ONE = {"callbacks": [("watch", EpochScoring("accuracy", name="seen"))]}


@pytest.mark.filterwarnings("ignore:F-score is ill-defined")
@pytest.mark.filterwarnings("ignore:epsilon is .* standard deviations")  # in the grid search
@pytest.mark.parametrize("how", [{}, ONE_BY_ONE], ids=["stacked", "one by one"])
@pytest.mark.parametrize("scoring", [None, "f1_samples"])
@pytest.mark.parametrize("y", [Y, CSR], ids=["dense", "CSR"])
def test_search_is_a_grid_search_over_plain_folds(y, scoring, how):
    epsilons = [0.0, 0.2, 0.7]
    options = {"lr": 0.02, "max_epochs": 15, **how}
    single = {"epsilons": epsilons, "cv": 3, "scoring": scoring, "n_nets": 1}
    ours = AdvBPClassifierCV(**QUICK | options | single)
    ours.fit(X, y, sample_weight=np.ones(len(X)))
    grid = GridSearchCV(classifier(**options), {"epsilon": epsilons}, cv=KFold(3), scoring=scoring)
    grid.fit(X, y)
    for name in ("mean_test_score", "std_test_score", "rank_test_score"):
        np.testing.assert_allclose(ours.cv_results_[name], grid.cv_results_[name], atol=1e-12)
    assert len(set(ours.cv_results_["mean_test_score"])) == 3
    assert ours.epsilon_ == grid.best_params_["epsilon"]
    for a, b in zip(weights(ours), weights(grid.best_estimator_), strict=True):
        np.testing.assert_array_equal(a, b)
    assert type(ours.predict(X)) is type(y) and ours.score(X, y) == grid.best_estimator_.score(X, y)


def test_search_of_several_nets():
    search = AdvBPClassifierCV(n_nets=3, epsilons=[0, 0.1], cv=2, **QUICK).fit(X, Y)
    mean = np.mean([net.predict_proba(X) for net in search.estimators_], axis=0)
    np.testing.assert_allclose(search.predict_proba(X), mean, atol=1e-12)
    assert search.estimators_[0].predict(X).shape == Y.shape
