"""Attacks on nets of several labels a row: any label that changes is a success."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sk_advbp import AdvBPClassifier
from sk_advbp.callbacks import OverfittingWatch
from sk_advbp.robustness import (
    AdversarialExamplesDisplay,
    adversarial_accuracy_score,
    adversarial_examples,
    make_adversarial_scorer,
    robustness_curve,
    to_art,
    transfer_accuracy_score,
)

D, M = 6, 4
RNG = np.random.default_rng(1)
X = RNG.normal(size=(120, D))
Y = (X @ RNG.normal(size=(D, M)) + 0.3 * RNG.normal(size=(120, M)) > 0.3).astype(int)
CSR = sparse.csr_matrix(Y)
W = RNG.integers(1, 4, size=len(X)).astype(float)


def classifier(**params):
    quick = {"hidden_layer_sizes": (8,), "max_epochs": 4, "random_state": 0, "device": "cpu"}
    return AdvBPClassifier(**quick | params)


NETS = {
    "one": {},
    "float32": {"dtype": "float32"},
    "several": {"n_nets": 3},
    "module": {"module": nn.Sequential(nn.Linear(D, 8), nn.Tanh(), nn.Linear(8, M))},
    "loss": {"criterion": nn.BCEWithLogitsLoss},
}


@pytest.fixture(scope="module", params=NETS)
def fitted(request):
    return classifier(epsilon=0.05, max_epochs=30, lr=0.02, **NETS[request.param]).fit(X, CSR)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_row_is_fooled_when_any_label_changes(fitted, norm):
    options = {"norm": norm, "n_steps": 5, "random_state": 0}
    scores = {}
    for attack in ("fgsm", "pgd"):
        moved = fitted.adversarial_examples(X, CSR, epsilon=0.3, attack=attack, **options)
        scores[attack] = adversarial_accuracy_score(fitted, X, Y, 0.3, attack=attack, **options)
        assert scores[attack] == accuracy_score(CSR, fitted.predict(moved))
    assert 0 < scores["pgd"] <= scores["fgsm"] < fitted.score(X, Y)
    one_wrong = fitted.predict(X).toarray()
    one_wrong[np.arange(len(X)), np.arange(len(X)) % M] ^= 1
    assert adversarial_accuracy_score(fitted, X, one_wrong, 0.0) == 0


def test_predicted_labels_are_the_default(fitted):
    answers = fitted.predict(X)
    np.testing.assert_array_equal(
        fitted.adversarial_examples(X), fitted.adversarial_examples(X, answers)
    )
    assert not np.allclose(fitted.adversarial_examples(X), fitted.adversarial_examples(X, 1 - Y))


@pytest.mark.parametrize("n_nets", [1, 3])
@pytest.mark.parametrize("y", [Y, None], ids=["given", "predicted"])
def test_gradient_is_that_of_automatic_differentiation(y, n_nets, monkeypatch):
    net = classifier(n_nets=n_nets, activation="tanh").fit(X, Y)
    options = {"epsilon": 0.3, "norm": "l2"}
    ours = net.adversarial_examples(X, y, **options)
    monkeypatch.setattr(AdvBPClassifier, "_has_closed_form", lambda self: False)
    np.testing.assert_allclose(ours, net.adversarial_examples(X, y, **options), atol=1e-10)


def test_functions_of_robustness():
    scaler = StandardScaler().fit(10 * X)
    net = make_pipeline(scaler, classifier(max_epochs=20, lr=0.02)).fit(10 * X, Y)
    curve = robustness_curve(net, 10 * X, CSR, [0, 0.1, 0.5], attack="fgsm", sample_weight=W)
    assert curve[0] == pytest.approx(net.score(10 * X, Y, sample_weight=W))
    assert curve[0] > curve[1] > curve[2]
    moved = adversarial_examples(net, 10 * X, CSR, epsilon=0.1)
    assert (np.abs(moved - 10 * X) <= 0.1 * scaler.scale_ + 1e-9).all()
    forest = RandomForestClassifier(20, random_state=0).fit(10 * X, Y)
    moved = adversarial_examples(net, 10 * X, CSR, epsilon=1)
    transferred = transfer_accuracy_score(net, forest, 10 * X, CSR, 1)
    assert transferred == accuracy_score(Y, forest.predict(moved)) < 0.9
    scorer = make_adversarial_scorer(0.1, attack="fgsm")
    scores = cross_val_score(net, 10 * X, Y, scoring=scorer, cv=3)
    clean = cross_val_score(net, 10 * X, Y, cv=3)
    assert (scores <= clean).all() and scores.sum() < clean.sum()


def test_watch_and_pictures_take_the_matrix():
    watch = OverfittingWatch((X[:30], Y[:30]), epsilon=0.1)
    net = classifier(callbacks=[watch]).fit(X, CSR)
    assert net.history[-1, "watch_clean"] == pytest.approx(net.score(X[:30], Y[:30]))
    shown = AdversarialExamplesDisplay.from_estimator(
        net, X[:3], Y[:3], epsilon=5, image_shape=(2, 3)
    )
    (clean, _), answers = shown.captions[0], net.predict(X[:3]).toarray()
    expected = [", ".join(map(str, np.flatnonzero(row))) or "none" for row in answers]
    assert clean == list(zip(expected, (answers == Y[:3]).all(1), strict=True))


def test_bridge_to_art_refuses():
    pytest.importorskip("art.estimators.classification", exc_type=ImportError)
    with pytest.raises(ValueError, match="one label a row"):
        to_art(classifier().fit(X, Y))
