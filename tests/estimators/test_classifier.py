"""What the parameters of AdvBPClassifier mean, its attributes, and what it makes of the data."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.metrics import accuracy_score
from sklearn.utils.class_weight import compute_sample_weight

from sk_advbp import AdvBPClassifier
from sk_advbp.core import MultilayerPerceptron

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
Y = load_iris().target_names[Y]


def classifier(**params):
    quick = {"hidden_layer_sizes": (8,), "max_epochs": 3, "batch_size": 32, "random_state": 0}
    return AdvBPClassifier(**quick | params)


def weights(net):
    return [p.detach().numpy().tobytes() for p in net.module_.parameters()]


# ---- parameters and attributes ---------------------------------------------------------


def test_init_sets_nothing_but_the_parameters():
    net = AdvBPClassifier((3, 4), "tanh", optimizer__weight_decay=0.1)
    assert vars(net).keys() == net.get_params(deep=False).keys()
    assert net.hidden_layer_sizes == (3, 4) and net.activation == "tanh"
    assert (net.epsilon, net.norm, net.clip, net.clean_weight) == (0.08, "linf", None, 0)
    assert net.batch_size >= 64 and net.dropout == net.input_dropout == net.random_start == 0
    with pytest.raises(TypeError):
        AdvBPClassifier((3,), "tanh", 0.1)


def test_no_weight_decay_by_default():
    groups = classifier().fit(X, Y).optimizer_.param_groups
    assert [g["weight_decay"] for g in groups] == [0]


def test_fitted_attributes():
    net = classifier(early_stopping=True, max_epochs=5).fit(X, Y)
    assert net.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert net.n_features_in_ == 4 and net.sample_shape_ == (4,)
    assert net.n_iter_ == len(net.history) == len(net.loss_curve_) == 5
    assert len(net.validation_scores_) == 5 and set(map(type, net.validation_scores_)) == {float}
    assert net.device == "auto" and net.device_ == ("cuda" if torch.cuda.is_available() else "cpu")
    assert net.dtype == "auto" and net.dtype_ == "float64"
    shapes = [tuple(p.shape) for p in net.module_.parameters()]
    assert shapes == [(8, 4), (8,), (3, 8), (3,)]
    assert classifier().fit(X, Y).validation_scores_ is None
    binary = classifier().fit(X, Y == "setosa")
    assert binary.module_.layers[-1].out_features == 2 and binary.classes_.dtype == bool


@pytest.mark.parametrize(
    "given, n, dtype, expected",
    [
        (np.float64, 150, "auto", "float64"),
        (np.int64, 150, "auto", "float64"),
        (np.float32, 150, "auto", "float32"),
        (np.float16, 150, "auto", "float32"),
        (np.float64, 6_250, "auto", "float64"),
        (np.float64, 6_251, "auto", "float32"),
        (np.float64, 150, "float32", "float32"),
        (np.float32, 150, "float64", "float64"),
    ],
)
def test_dtype(given, n, dtype, expected):
    x, y = np.resize(X, (n, 4)).astype(given), np.resize(Y, n)
    net = classifier(max_epochs=1, batch_size=10_000, dtype=dtype).fit(x, y)
    assert net.dtype_ == expected and net.dtype == dtype
    assert {str(p.dtype) for p in net.module_.parameters()} == {f"torch.{expected}"}
    for made in (net.predict_proba(x[:9]), net.predict_log_proba(x[:9])):
        assert made.dtype == expected


@pytest.mark.parametrize("labels", [Y, Y == "setosa", np.searchsorted(np.unique(Y), Y) * 2.0 - 3])
@pytest.mark.parametrize("output", ["softmax", "logistic"])
def test_predictions_agree_with_each_other(output, labels):
    net = classifier(output=output, lr=0.02, max_epochs=20).fit(X, labels)
    logits = net.module_(torch.tensor(X)).detach().numpy()
    proba = net.predict_proba(X)
    if output == "softmax":
        expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    else:  # softmax of log-sigmoid: sigmoids, normalised
        expected = 1 / (1 + np.exp(-logits))
        expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(proba, expected, rtol=1e-10)
    np.testing.assert_allclose(np.exp(net.predict_log_proba(X)), proba, rtol=1e-10)
    assert (net.predict(X) == net.classes_[proba.argmax(1)]).all()
    assert net.predict(X).dtype == labels.dtype
    assert net.score(X, labels) == accuracy_score(labels, net.predict(X)) > 0.6


def test_log_probabilities_are_finite_where_probabilities_round_to_zero():
    net = classifier(lr=0.02).fit(X, Y)
    assert net.predict_proba(1e4 * X).min() == 0
    assert np.isfinite(net.predict_log_proba(1e4 * X)).all()


def test_predict_nonlinearity():
    net = classifier().fit(X, Y)
    logits = net.module_(torch.tensor(X)).detach().numpy()
    net.set_params(predict_nonlinearity=None)
    np.testing.assert_array_equal(net.predict_proba(X), logits)
    net.set_params(predict_nonlinearity=torch.sigmoid)
    np.testing.assert_allclose(net.predict_proba(X), 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(net.predict_log_proba(X), -np.log1p(np.exp(-logits)))


@pytest.mark.parametrize("output", ["softmax", "logistic"])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_one_class(output, early_stopping):
    net = classifier(output=output, early_stopping=early_stopping).fit(X, np.full(150, "only"))
    assert (net.predict(X) == "only").all()
    np.testing.assert_array_equal(net.predict_proba(X), np.ones((150, 1)))
    np.testing.assert_array_equal(net.predict_log_proba(X), np.zeros((150, 1)))
    assert net.adversarial_examples(X).shape == X.shape


@pytest.mark.parametrize("w", [None, np.linspace(0.5, 2, 150)], ids=["", "weighted"])
@pytest.mark.parametrize("class_weight", ["balanced", {"setosa": 3, "virginica": 0.5}])
def test_class_weight_multiplies_sample_weight(class_weight, w):
    rows = np.r_[0:150, 0:40]
    x, y = X[rows], Y[rows]
    w = None if w is None else w[rows]
    net = classifier(class_weight=class_weight).fit(x, y, w)
    if class_weight == "balanced":
        mass = np.ones(len(y)) if w is None else w
        counts = {label: mass[y == label].sum() for label in np.unique(y)}
        factor = np.array([mass.sum() / (3 * counts[label]) for label in y])
    else:
        factor = compute_sample_weight({"versicolor": 1, **class_weight}, y)
    by_hand = classifier().fit(x, y, factor if w is None else w * factor)
    for ours, theirs in zip(net.module_.parameters(), by_hand.module_.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("w", [None, np.linspace(0, 2, 150)], ids=["", "weighted"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_epsilon_in_units_of_the_standard_deviation(form, w):
    x = X * [1, 10, 0.1, 0] + 3
    mass = np.ones(150) if w is None else w
    std = np.sqrt(np.average((x - np.average(x, 0, mass)) ** 2, 0, mass))
    std[3] = 0
    net = classifier(epsilon=0.2, epsilon_unit="std").fit(form(x), Y, w)
    np.testing.assert_allclose(net.epsilon_unit_, std, rtol=1e-10)
    by_hand = classifier(epsilon=0.2 * std).fit(x, Y, w)
    for ours, theirs in zip(net.module_.parameters(), by_hand.module_.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    unit = [1.0, 0, 0.5, 2]
    own = classifier(epsilon=0.2, epsilon_unit=unit).fit(x, Y)
    assert weights(own) == weights(classifier(epsilon=0.2 * np.array(unit)).fit(x, Y))


@pytest.mark.parametrize("batch_size", [7, -1])
def test_a_row_of_weight_zero_is_not_there(batch_size):
    keep = np.arange(150) % 3 > 0
    zero = classifier(batch_size=batch_size).fit(X, Y, keep.astype(float))
    assert weights(zero) == weights(
        classifier(batch_size=batch_size).fit(X[keep], Y[keep], np.ones(keep.sum()))
    )


def test_float32_input_is_not_copied(monkeypatch):
    x, seen = X.astype(np.float32), []
    original = AdvBPClassifier.train

    def train(self, dataset, *args, **kwargs):
        seen.append(dataset)
        return original(self, dataset, *args, **kwargs)

    monkeypatch.setattr(AdvBPClassifier, "train", train)
    before = x.copy()
    classifier().fit(x, Y)
    (dataset,) = seen
    assert np.shares_memory(dataset[:][0].numpy(), x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("epsilon, passes", [(0.1, 2), (0, 1)])
def test_dropout_draws_fresh_masks_in_each_pass(monkeypatch, epsilon, passes):
    drawn, original = [], MultilayerPerceptron.dropout_masks

    def dropout_masks(self, x):
        masks = original(self, x)
        if self.training:
            drawn.append([m.clone() for m in masks])
        return masks

    monkeypatch.setattr(MultilayerPerceptron, "dropout_masks", dropout_masks)
    classifier(dropout=0.5, input_dropout=0.5, batch_size=50, epsilon=epsilon).fit(X, Y)
    assert len(drawn) == passes * 3 * 3
    first = [masks[0].tolist() for masks in drawn]
    assert all(a != b for i, a in enumerate(first) for b in first[:i])


# ---- early stopping --------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fraction", [0.1, 0.25])
def test_early_stopping_holds_out_a_stratified_part_and_keeps_the_best(
    fraction, weighted, monkeypatch
):
    w = np.linspace(0.1, 2, 150) if weighted else None
    held_out, original = [], AdvBPClassifier.get_split_datasets

    def get_split_datasets(self, *args, **kwargs):
        train, valid = original(self, *args, **kwargs)
        held_out.append((train.indices, valid.indices))
        return train, valid

    monkeypatch.setattr(AdvBPClassifier, "get_split_datasets", get_split_datasets)
    options = {"validation_fraction": fraction, "n_iter_no_change": 4}
    net = classifier(early_stopping=True, max_epochs=60, lr=0.02, **options).fit(X, Y, w)
    ((train, valid),) = held_out
    assert len(valid) == np.ceil(150 * fraction)
    assert sorted([*train, *valid]) == list(range(150))
    counts = np.unique(Y[valid], return_counts=True)[1]
    assert len(counts) == 3 and np.ptp(counts) <= 1
    scores = net.validation_scores_
    assert net.n_iter_ < 60 and np.argmax(scores) + 1 + 4 <= net.n_iter_
    w = w if w is None else w[valid]
    kept = accuracy_score(Y[valid], net.predict(X[valid]), sample_weight=w)
    assert kept == pytest.approx(max(scores))


@pytest.mark.parametrize("n, holds_out", [(90, False), (91, True), (20, False)])
def test_fewer_than_ten_rows_are_not_held_out(n, holds_out):
    rows = np.arange(n) * 150 // n
    net = classifier(early_stopping=True, max_epochs=2).fit(X[rows], Y[rows])
    assert (net.validation_scores_ is not None) == holds_out


def test_without_held_out_rows_the_training_loss_is_watched():
    rows = np.arange(0, 150, 3)
    net = classifier(early_stopping=True, max_epochs=40, n_iter_no_change=3, tol=100.0)
    assert net.fit(X[rows], Y[rows]).n_iter_ == 4
    assert net.set_params(tol=0.0, lr=1e-4).fit(X[rows], Y[rows]).n_iter_ == 40


def test_a_class_of_one_row_is_no_obstacle():
    labels = np.where(np.arange(150) == 7, "rare", Y)
    net = classifier(early_stopping=True).fit(X, labels)
    assert len(net.classes_) == 4 and len(net.validation_scores_) == 3


def test_nothing_stops_a_fit_without_early_stopping():
    assert classifier(tol=100.0, n_iter_no_change=1, max_epochs=7).fit(X, Y).n_iter_ == 7


# ---- data ------------------------------------------------------------------------------

FORMS = {
    "csr_matrix": sparse.csr_matrix,
    "csc_matrix": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "coo_array": sparse.coo_array,
    "list": np.ndarray.tolist,
    "fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "DataFrame": lambda a: pd.DataFrame(a, columns=list("abcd")),
    "tensor": torch.tensor,
}


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_the_data_is_the_same(form, early_stopping):
    w = np.linspace(0, 2, len(Y))
    dense = classifier(early_stopping=early_stopping).fit(X, Y, w)
    other = classifier(early_stopping=early_stopping).fit(form(X), Y, w)
    assert weights(other) == weights(dense)
    np.testing.assert_array_equal(other.predict_proba(form(X)), dense.predict_proba(X))
    assert other.validation_scores_ == dense.validation_scores_
    expected = list("abcd") if hasattr(form(X), "columns") else None
    assert getattr(other, "feature_names_in_", np.array(None)).tolist() == expected
