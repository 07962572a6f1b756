"""A score counts what it does not know as wrong; labels of another kind are refused."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sk_advbp import AdvBPClassifier
from sk_advbp.callbacks import OverfittingWatch
from sk_advbp.robustness import (
    RobustnessCurveDisplay,
    adversarial_accuracy_score,
    make_adversarial_scorer,
    robustness_curve,
    transfer_accuracy_score,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
CODES = (X[:, 0] > 0).astype(int)
NEW = np.array([3, 40, 41])  # the rows of a label that comes later


def net(**params):
    return AdvBPClassifier((5,), max_epochs=5, random_state=0, **params)


KINDS = {
    "numbers": (CODES, 2),
    "first": (CODES + 5, 0),
    "between": (CODES * 10, 5),
    "strings": (np.array(["ant", "cat"])[CODES], "bee"),
    "longer strings": (np.array(["a", "b"])[CODES], "z" * 50),
    "objects": (np.array(["ant", "cat"], dtype=object)[CODES], "bee"),
    "flags": (CODES.astype(bool), 2),
    "one class": (np.zeros(60, int), 1),
}
MODELS = {
    "net": net,
    "module": lambda: net(module=nn.Linear(3, 2)),
    "pipeline": lambda: make_pipeline(StandardScaler(), net()),
}


@pytest.mark.parametrize("y, new", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("weighted", [False, True])
def test_labels_that_are_not_known_count_as_errors(model, y, new, weighted):
    fitted = model().fit(X, y)
    later = np.asarray(y).astype(object)
    later[NEW] = new
    later = np.array(later.tolist())
    w = np.linspace(1, 2, 60) if weighted else None
    known = np.setdiff1d(np.arange(60), NEW)
    share = known.size / 60 if w is None else w[known].sum() / w.sum()
    of_known = X[known], later[known].astype(np.asarray(y).dtype)
    options = {"sample_weight": w if w is None else w[known]}
    for attack in ("fgsm", "pgd"):
        found = adversarial_accuracy_score(
            fitted, X, later, 0.2, attack=attack, sample_weight=w, n_steps=3
        )
        part = adversarial_accuracy_score(fitted, *of_known, 0.2, attack="fgsm", **options)
        if attack == "fgsm":
            assert found == pytest.approx(share * part)
        assert 0 <= found <= share + 1e-12
    # At ε = 0 it is the accuracy, and so is the transfer to itself.
    clean = accuracy_score(later, fitted.predict(X), sample_weight=w)
    scorer = make_adversarial_scorer(0.0)
    for value in (
        scorer(fitted, X, later, sample_weight=w),
        robustness_curve(fitted, X, later, [0], sample_weight=w)[0],
        transfer_accuracy_score(fitted, fitted, X, later, 0.0, sample_weight=w),
    ):
        assert value == pytest.approx(clean)
    with pytest.raises(ValueError, match=r"not among the classes .*: \["):
        (fitted[-1] if hasattr(fitted, "steps") else fitted).adversarial_examples(X, later)


@pytest.mark.parametrize("y, new", KINDS.values(), ids=KINDS)
def test_nothing_known_at_all(y, new):
    fitted = net().fit(X, y)
    assert adversarial_accuracy_score(fitted, X, np.full(60, new), 0.1) == 0
    assert transfer_accuracy_score(fitted, fitted, X, np.full(60, new), 0.1) == 0


WRONG_KIND = [
    (CODES, np.array(["a", "b"])[CODES]),
    (CODES, np.array(["a", "b"], dtype=object)[CODES]),
    (CODES, pd.Series(np.array(["a", "b"])[CODES], dtype="str")),
    (CODES, pd.Series(np.array(["a", "b"])[CODES], dtype="category")),
    (np.array(["0", "1"])[CODES], CODES),
    (np.array(["0", "1"])[CODES], CODES.astype(float)),
    (np.array(["0", "1"])[CODES], CODES.astype(bool)),
]


@pytest.mark.parametrize("y, other", WRONG_KIND)
def test_labels_of_another_kind(y, other):
    fitted = net().fit(X, y)
    before = fitted.predict_proba(X)
    for call in (
        lambda: adversarial_accuracy_score(fitted, X, other, 0.1),
        lambda: make_adversarial_scorer(0.1)(fitted, X, other),
        lambda: robustness_curve(fitted, X, other, [0.1]),
        lambda: transfer_accuracy_score(fitted, fitted, X, other, 0.1),
        lambda: fitted.adversarial_examples(X, other),
        lambda: fitted.partial_fit(X, other),
        lambda: net(classes=np.unique(y)).fit(X, other),
    ):
        with pytest.raises(ValueError, match="y contains labels that are not among the classes"):
            call()
    np.testing.assert_array_equal(fitted.predict_proba(X), before)


@pytest.mark.filterwarnings("ignore:The least populated class")
def test_a_search_in_which_a_fold_alone_has_a_class():
    y = np.array(["a"] * 30 + ["b"] * 29 + ["rare"])
    scoring = {"clean": "accuracy", "attacked": make_adversarial_scorer(0.1), "fgsm": None}
    scoring["fgsm"] = make_adversarial_scorer(0.0, attack="fgsm")
    search = GridSearchCV(
        net(), {"epsilon": [0, 0.1]}, cv=3, refit="attacked", scoring=scoring, error_score="raise"
    ).fit(X, y)
    found = search.cv_results_
    np.testing.assert_allclose(found["mean_test_fgsm"], found["mean_test_clean"])
    assert (found["mean_test_attacked"] <= found["mean_test_clean"]).all()
    scores = cross_validate(net(), X, y, cv=3, scoring=scoring, error_score="raise")
    assert np.isfinite(scores["test_attacked"]).all()


def test_a_watch_and_a_display():
    y = np.where(np.arange(60) % 7, CODES, 2)
    watch = OverfittingWatch((X, y), epsilon=0.1)
    known = y < 2
    fitted = net(callbacks=[watch]).fit(X[known], y[known])
    assert fitted.history[-1, "watch_clean"] == pytest.approx(fitted.score(X, y))
    display = RobustnessCurveDisplay.from_estimator(fitted, X, y, epsilons=[0, 0.1])
    assert display.accuracies[0, 0] == pytest.approx(fitted.score(X, y))
