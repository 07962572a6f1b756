"""The choice of ε by cross-validation."""

import pickle
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from joblib import parallel_config
from scipy import sparse
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, log_loss, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    LeaveOneGroupOut,
    ShuffleSplit,
    StratifiedKFold,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from torch import nn

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressorCV
from sk_advbp.estimators.cross_validation import results, selected
from sk_advbp.estimators.epsilon_search import automatic_path
from sk_advbp.parameters import InvalidParameterError, standard_deviation
from sk_advbp.robustness import adversarial_accuracy_score, make_adversarial_scorer

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
Y = load_iris().target_names[Y]
EPSILONS = [0.3, 0.0, 0.1]
QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 4, "batch_size": 32, "random_state": 0}
QUICK["lr"] = 0.02
ONE_BY_ONE = {"optimizer": torch.optim.Adagrad}
WEIGHT = np.random.default_rng(0).integers(0, 3, size=len(Y)).astype(float)


def search(**params):
    return AdvBPClassifierCV(**QUICK | {"epsilons": EPSILONS, "cv": 3, "n_nets": 1} | params)


# ---- the choice ------------------------------------------------------------------------

HALVES = st.integers(0, 8).map(lambda i: i / 8)


@settings(deadline=None)
@given(
    scores=st.integers(1, 6).flatmap(
        lambda n: st.integers(1, 5).flatmap(lambda k: arrays(float, (n, k), elements=HALVES))
    ),
    data=st.data(),
)
def test_choice_follows_its_definition(scores, data):
    """Against plain loops over exact eighths."""
    n, k = scores.shape
    epsilons = np.array(data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))) / 10
    means = [sum(row) / k for row in scores.tolist()]
    best = [i for i in range(n) if abs(means[i] - max(means)) < 1e-9]
    chosen = selected(epsilons, scores)
    assert chosen in best and epsilons[chosen] == min(epsilons[i] for i in best)
    error = np.std(scores[chosen], ddof=1) / np.sqrt(k) if k > 1 else 0
    within = [i for i in range(n) if means[i] >= means[chosen] - error - 1e-9]
    robust = selected(epsilons, scores, "one_se")
    if k > 1:
        assert epsilons[robust] == max(epsilons[i] for i in within)
    else:
        assert robust == chosen


def test_equal_folds_in_another_order_are_a_tie():
    scores = np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1]])
    assert len(set(scores.mean(1))) > 1  # rounding
    assert selected(np.array([0.3, 0.2, 0.1]), scores) == 2


def test_nan_is_never_chosen():
    scores = np.array([[np.nan, 1.0], [0.1, 0.2]])
    assert selected(np.array([0.0, 0.1]), scores) == 1
    epsilons = {"epsilon": np.array([0.0, 0.1])}
    assert results(epsilons, scores, scores, scores)["rank_test_score"].tolist() == [2, 1]
    with pytest.raises(ValueError, match="No epsilon has a finite mean score"):
        selected(np.array([0.0]), scores[:1])


# ---- against a grid search -------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, ONE_BY_ONE], ids=["stacked", "one by one"])
@pytest.mark.parametrize("scoring", [None, "accuracy", "neg_log_loss", "roc_auc_ovr"])
def test_same_as_a_grid_search(scoring, how):
    ours = search(scoring=scoring, **how).fit(X, Y)
    grid = GridSearchCV(
        AdvBPClassifier(**QUICK | how),
        {"epsilon": EPSILONS},
        cv=3,
        scoring=scoring or "neg_log_loss",
    ).fit(X, Y)
    assert ours.cv_results_.keys() == grid.cv_results_.keys()
    for name, expected in grid.cv_results_.items():
        if "score" in name and "time" not in name:
            np.testing.assert_allclose(ours.cv_results_[name], expected, atol=1e-8)
        assert len(ours.cv_results_[name]) == len(expected)
    assert ours.cv_results_["params"] == grid.cv_results_["params"]
    assert (ours.cv_results_["param_epsilon"] == grid.cv_results_["param_epsilon"]).all()
    assert (ours.cv_results_["mean_fit_time"] > 0).all()
    if scoring in (None, "neg_log_loss"):  # without ties, on which a grid search takes the first
        assert ours.epsilon_ == grid.best_params_["epsilon"]
        assert ours.best_index_ == grid.best_index_
        np.testing.assert_allclose(ours.best_score_, grid.best_score_, atol=1e-8)
        np.testing.assert_array_equal(ours.predict_proba(X), grid.predict_proba(X))


def test_the_net_is_that_of_the_chosen_epsilon():
    net = search().fit(X, Y)
    assert net.epsilon_ in EPSILONS and net.epsilon == net.epsilon_
    assert net.epsilons_.tolist() == EPSILONS and EPSILONS[net.best_index_] == net.epsilon_
    same = AdvBPClassifier(**QUICK, epsilon=net.epsilon_).fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), same.predict_proba(X))
    np.testing.assert_array_equal(net.adversarial_examples(X, Y), same.adversarial_examples(X, Y))
    assert net.loss_curve_ == same.loss_curve_
    assert net.score(X, Y) == accuracy_score(Y, net.predict(X))


@pytest.mark.parametrize(
    ("given", "n", "expected"),
    [(np.float64, 1250, "float64"), (np.float64, 1251, "float32"), (np.float32, 150, "float32")],
)
def test_dtype(given, n, expected):
    x, y = np.resize(X, (n, 4)).astype(given), np.resize(Y, n)
    net = search(epsilons=[0.1], max_epochs=1, cv=2, batch_size=10_000).fit(x, y)
    assert net.dtype_ == expected and net.predict_proba(x[:9]).dtype == expected


def test_ties_go_to_the_smaller_epsilon():
    easy = np.repeat([[-5.0], [5.0]], 20, axis=0), np.repeat([0, 1], 20)
    by_accuracy = {"epsilons": [0.2, 0.0, 0.1], "max_epochs": 30, "scoring": "accuracy"}
    net = search(**by_accuracy).fit(*easy)
    assert net.best_score_ == 1 and net.epsilon_ == 0
    robust = search(**by_accuracy, selection="one_se").fit(*easy)
    assert robust.epsilon_ == 0.2 and robust.best_score_ == 1


@pytest.mark.parametrize("how", [{}, ONE_BY_ONE], ids=["stacked", "one by one"])
@pytest.mark.parametrize("scoring", [None, "accuracy"])
def test_weights_enter_fits_and_scores(scoring, how):
    """Against the folds written out."""
    cv = StratifiedKFold(3)
    net = search(cv=cv, scoring=scoring, **how).fit(X, Y, sample_weight=WEIGHT)
    for fold, (train, test) in enumerate(cv.split(X, Y)):
        for i, epsilon in enumerate(EPSILONS):
            alone = AdvBPClassifier(**QUICK | how, epsilon=epsilon)
            alone.fit(X[train], Y[train], sample_weight=WEIGHT[train])
            if scoring == "accuracy":
                expected = alone.score(X[test], Y[test], WEIGHT[test])
            else:
                proba = alone.predict_proba(X[test])
                expected = -log_loss(Y[test], proba, sample_weight=WEIGHT[test])
            found = net.cv_results_[f"split{fold}_test_score"][i]
            np.testing.assert_allclose(found, expected, atol=1e-8)


def test_folds_are_shuffled_where_nobody_says_how():
    """In a table that is sorted by y within a class, unshuffled folds have strange rows."""
    explicit = StratifiedKFold(5, shuffle=True, random_state=QUICK["random_state"])
    found, expected = (search(cv=cv).fit(X, Y).cv_results_ for cv in (None, explicit))
    np.testing.assert_array_equal(found["mean_test_score"], expected["mean_test_score"])
    in_order = search(cv=5).fit(X, Y).cv_results_
    assert (in_order["mean_test_score"] != found["mean_test_score"]).any()
    x = np.linspace(-3, 3, 80)[:, None]
    curve = {"epsilons": [0.0], "max_epochs": 60, "n_nets": 1, "random_state": 0}
    scores = [
        AdvBPRegressorCV((20,), cv=cv, lr=0.02, **curve).fit(x, x[:, 0] ** 2).best_score_
        for cv in (None, 5)
    ]
    assert scores[0] > 0.9 > scores[1]


def test_a_scorer_without_weights_is_called_without():
    def scorer(estimator, X, y):
        return -estimator.epsilon  # of the nets of the folds

    net = search(scoring=scorer).fit(X, Y, sample_weight=WEIGHT)
    assert net.epsilon_ == 0 and net.best_score_ == 0
    unweighted = make_scorer(lambda y, predicted: accuracy_score(y, predicted))
    assert 0 <= search(scoring=unweighted).fit(X, Y, sample_weight=WEIGHT).best_score_ <= 1


@pytest.mark.parametrize("how", [{}, ONE_BY_ONE], ids=["stacked", "one by one"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_choice_by_accuracy_under_attack(how, weight):
    """Each fold's score is that of a separate net under the same attack."""
    scorer = make_adversarial_scorer(0.5, n_steps=3)
    split = next(StratifiedKFold(3).split(X, Y))
    net = search(scoring=scorer, cv=[split], **how).fit(X, Y, sample_weight=weight)
    train, test = split
    in_fit, in_score = (None, None) if weight is None else (weight[train], weight[test])
    for i, epsilon in enumerate(EPSILONS):
        alone = AdvBPClassifier(**QUICK | how, epsilon=epsilon)
        alone.fit(X[train], Y[train], sample_weight=in_fit)
        expected = adversarial_accuracy_score(
            alone, X[test], Y[test], 0.5, n_steps=3, sample_weight=in_score
        )
        np.testing.assert_allclose(net.cv_results_["split0_test_score"][i], expected, atol=1e-8)
    clean = search(cv=[split], scoring="accuracy", **how).fit(X, Y, sample_weight=weight)
    assert net.best_score_ < clean.best_score_


# ---- the path --------------------------------------------------------------------------


@settings(deadline=None)
@given(
    n=st.integers(1, 9),
    deviation=arrays(float, 4, elements=st.floats(0, 1e3).map(lambda v: 0 if v < 1e-3 else v)),
    unit=st.one_of(
        st.just(1.0), arrays(float, 4, elements=st.floats(0, 2).map(lambda v: round(v, 1)))
    ),
)
def test_path_begins_with_zero_and_goes_up(n, deviation, unit):
    path = automatic_path(n, unit, deviation)
    assert len(path) == n and path[0] == 0 and (np.diff(path) > 0).all()
    moving = (np.broadcast_to(unit, 4) > 0) & (deviation > 0)
    if n > 1 and moving.any():
        typical = np.sqrt(np.mean((deviation / np.where(moving, unit, 1))[moving] ** 2))
        np.testing.assert_allclose(path[-1], 0.32 * typical, rtol=1e-5)
    if n > 3:
        ratios = path[2:] / path[1:-1]
        np.testing.assert_allclose(ratios, ratios[0], rtol=1e-4)


def test_path_follows_the_units_of_the_data():
    path = search(epsilons=4).fit(X, Y).epsilons_
    np.testing.assert_allclose(path, [0, 0.02, 0.08, 0.32], rtol=1e-6)
    np.testing.assert_allclose(search(epsilons=4).fit(5 * X, Y).epsilons_, 5 * path, rtol=1e-5)
    in_std = search(epsilons=4, epsilon_unit="std").fit(X * [1, 10, 100, 0.01], Y)
    np.testing.assert_allclose(in_std.epsilons_, path, rtol=1e-5)
    np.testing.assert_allclose(in_std.epsilon_unit_, [1, 10, 100, 0.01])


def test_units_of_standard_deviations_do_not_depend_on_scale():
    scale = np.array([1, 8, 64, 1 / 16])  # exact in binary
    first_layer_scaled = {"epsilons": EPSILONS, "epsilon_unit": "std"}
    a = search(**first_layer_scaled).fit(X, Y)
    b = search(epsilons=EPSILONS, epsilon_unit=a.epsilon_unit_).fit(X, Y)
    np.testing.assert_allclose(standard_deviation(X * scale), a.epsilon_unit_ * scale)
    np.testing.assert_array_equal(a.predict_proba(X), b.predict_proba(X))


# ---- the contract ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "params",
    [{}, {"selection": "one_se", "epsilon_unit": "std", "scoring": "neg_log_loss"}, ONE_BY_ONE],
    ids=["default", "one_se", "one by one"],
)
def test_every_check_of_scikit_learn_passes(params):
    net = AdvBPClassifierCV(epsilons=2, cv=3, max_epochs=10, lr=0.02, **params)
    checks = check_estimator(net, on_fail=None, on_skip=None)
    failed = {c["check_name"]: str(c["exception"]) for c in checks if c["status"] != "passed"}
    if params.get("scoring") == "neg_log_loss":  # of one label a row, says scikit-learn
        several = {name for name, e in failed.items() if "values do not sum to one" in e}
        assert several and all("multilabel" in name for name in several)
        failed = {name: e for name, e in failed.items() if name not in several}
    skipped = failed.pop("check_classifiers_multilabel_output_format_decision_function", "")
    assert not skipped or "does not have a decision_function" in skipped  # as MLPClassifier
    assert not failed and len(checks) >= 60


def test_pipelines_cross_validate_and_nested_search():
    model = make_pipeline(StandardScaler(), search(n_jobs=2))
    frame = pd.DataFrame(X, columns=list("abcd"))
    scores = cross_validate(model, frame, Y, cv=2, return_estimator=True)
    assert (scores["test_score"] > 0.3).all()
    assert all(fitted[-1].epsilon_ in EPSILONS for fitted in scores["estimator"])
    nested = GridSearchCV(search(), {"hidden_layer_sizes": [(4,), (8,)]}, cv=2).fit(X, Y)
    assert nested.best_estimator_.epsilon_ in EPSILONS
    named = search().fit(frame, Y)
    assert named.feature_names_in_.tolist() == list("abcd")


@pytest.mark.parametrize("random_state", [None, np.random.RandomState(0)])
@pytest.mark.parametrize("how", [{}, ONE_BY_ONE], ids=["stacked", "one by one"])
def test_seeds_of_other_kinds(how, random_state):
    first, second = (search(random_state=random_state, **how).fit(X, Y) for _ in range(2))
    assert not np.array_equal(first.predict_proba(X), second.predict_proba(X))


def test_init_clone_and_pickle():
    net = search(optimizer__weight_decay=0.1)
    assert vars(net).keys() == net.get_params(deep=False).keys()
    assert "epsilon" not in net.get_params() and "warm_start" not in net.get_params()
    for absent in ("partial_fit", "epsilon", "epsilon_"):
        assert not hasattr(net, absent)
    with pytest.raises(NotFittedError):
        net.predict(X)
    net.fit(X, Y)
    again = pickle.loads(pickle.dumps(net))
    assert again.epsilon_ == net.epsilon_
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))
    assert not hasattr(clone(net), "epsilon_")


def test_same_result_however_many_jobs():
    before = torch.get_num_threads(), torch.get_rng_state()
    one, two = (search(n_jobs=n).fit(X, Y) for n in (None, 2))
    with parallel_config("loky"):
        three = search(n_jobs=2).fit(X, Y)
        by_two = search(n_jobs=2, **ONE_BY_ONE).fit(X, Y)
    by_one = search(**ONE_BY_ONE).fit(X, Y)
    for name in ("mean_test_score", "std_test_score"):
        np.testing.assert_allclose(two.cv_results_[name], one.cv_results_[name], atol=1e-8)
        np.testing.assert_allclose(three.cv_results_[name], one.cv_results_[name], atol=1e-8)
        np.testing.assert_array_equal(by_two.cv_results_[name], by_one.cv_results_[name])
    np.testing.assert_array_equal(two.predict_proba(X), one.predict_proba(X))
    assert torch.get_num_threads() == before[0] and torch.equal(torch.get_rng_state(), before[1])


def test_sparse_input():
    sparse_X = sparse.csr_matrix(np.maximum(X, 0))
    dense = search().fit(sparse_X.toarray(), Y)
    of_sparse = search().fit(sparse_X, Y)
    np.testing.assert_allclose(of_sparse.predict_proba(sparse_X), dense.predict_proba(sparse_X))
    scores = (net.cv_results_["mean_test_score"] for net in (dense, of_sparse))
    np.testing.assert_allclose(*scores)


def test_read_only_input():
    frozen = X.copy()
    frozen.setflags(write=False)
    np.testing.assert_array_equal(search().fit(frozen, Y).predict(X), search().fit(X, Y).predict(X))


GROUPS = np.arange(len(Y)) % 4
SPLITS = list(LeaveOneGroupOut().split(X, Y, GROUPS))


@pytest.mark.parametrize(
    "cv, n_folds",
    [
        (None, 5),
        (4, 4),
        (SPLITS, 4),
        ([(GROUPS != 0, GROUPS == 0)], 1),
        (ShuffleSplit(2, random_state=0), 2),
    ],
    ids=["None", "4", "groups", "masks", "ShuffleSplit"],
)
def test_any_folds(cv, n_folds):
    net = search(cv=cv, selection="one_se").fit(X, Y)
    assert f"split{n_folds - 1}_test_score" in net.cv_results_
    assert f"split{n_folds}_test_score" not in net.cv_results_


def of_first_label(net, X, y):
    return net.predict_proba(X)[:, net.classes_ == y[0]].mean()


def test_a_class_that_a_fold_lacks():
    rows = np.arange(len(Y))
    lacking = [(rows[Y != name], rows[Y == name]) for name in np.unique(Y)]
    net = search(cv=lacking, max_epochs=2)
    net.set_params(scoring=of_first_label)
    assert 0 < net.fit(X, Y).best_score_ < 0.5
    assert len(net.classes_) == 3


class Counting(Callback):
    def __init__(self):
        self.epochs_ = 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs_ += 1


class Own(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


@pytest.mark.parametrize(
    "options",
    [
        {"module": Own},
        {"dropout": 0.2},
        {"early_stopping": True},
        {"random_start": 0.5, "norm": "l2"},
        {"verbose": 1},
    ],
    ids=lambda o: next(iter(o)),
)
def test_what_cannot_be_stacked_works_too(options, capsys):
    net = search(**options).fit(X, Y)
    assert net.epsilon_ in EPSILONS and net.score(X, Y) > 0.3
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == (4 + 2 if "verbose" in options else 0)  # of the last fit alone


def test_callbacks_of_the_user_see_the_last_fit():
    counting = Counting()
    net = search(callbacks=[counting]).fit(X, Y)
    assert net.n_iter_ == counting.epochs_ == 4


# ---- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, message",
    [
        ({"epsilons": 0}, "'epsilons' parameter"),
        ({"epsilons": "many"}, "'epsilons' parameter"),
        ({"epsilons": []}, r"epsilons must be .* Got \[\]"),
        ({"epsilons": [0, -0.1]}, r"epsilons must be .* Got .*-0\.1"),
        ({"epsilons": [0, np.nan]}, "epsilons must be .* Got .*nan"),
        ({"epsilons": [[0, 0.1]]}, "epsilons must be .* Got"),
        ({"epsilons": ["a"]}, "epsilons must be .* Got"),
        ({"selection": "first"}, "'selection' parameter"),
        ({"scoring": "acc"}, "'scoring' parameter"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter"),
        ({"epsilon_unit": "sd"}, "epsilon_unit must be .*'std'.* Got 'sd'"),
        ({"epsilon_unit": [1, 1, -1, 1]}, "epsilon_unit must be .*>= 0"),
        ({"epsilon_unit": [1, 1]}, r"epsilon_unit must be .*\(4,\)"),
    ],
)
def test_bad_parameters(params, message):
    net = search(**params)
    with pytest.raises(InvalidParameterError, match=message):
        net.fit(X, Y)


def test_a_fold_without_weight():
    weight = np.ones(len(Y))
    weight[SPLITS[1][1]] = 0
    with pytest.raises(ValueError, match="test part of a fold has weight zero"):
        search(cv=SPLITS).fit(X, Y, sample_weight=weight)


def test_epsilon_is_no_parameter():
    with pytest.raises(TypeError, match=r"unexpected parameter 'epsilon'.*'epsilons'"):
        AdvBPClassifierCV(epsilon=0.1).fit(X, Y)


def test_a_failed_search_leaves_the_estimator_as_it_was():
    net = search().fit(X, Y)
    before = vars(net).copy()
    with pytest.raises(ValueError):
        net.set_params(lr=1e200).fit(X, Y)
    assert vars(net) == before | {"lr": 1e200}


class Streamed(torch.utils.data.Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i].astype(np.float32), i % 3


def test_datasets():
    net = search().fit(Dataset(X, Y))
    np.testing.assert_array_equal(net.predict(X), search().fit(X, Y).predict(X))
    with pytest.raises(ValueError, match="needs X and y as arrays"):
        search().fit(Streamed())


# ---- scikit-learn's callbacks ----------------------------------------------------------


class Tasks:
    """Write down how many tasks of which name have ended."""

    def __init__(self):
        self.ended = Counter()

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.ended[context.task_name] += 1

    def teardown(self, estimator, context):
        pass


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("params", [{}, {"dropout": 0.1}], ids=["together", "one by one"])
def test_the_tasks_of_a_search(params, n_jobs):
    if params and n_jobs:
        pytest.skip("processes take long to start")
    tasks = Tasks()
    net = AdvBPClassifierCV((5,), epsilons=[0, 0.1], cv=3, max_epochs=4, n_jobs=n_jobs, **params)
    plain = clone(net.set_params(random_state=0)).fit(X, Y)
    watched = net.set_callbacks(tasks).fit(X, Y)
    np.testing.assert_array_equal(watched.predict_proba(X), plain.predict_proba(X))
    np.testing.assert_array_equal(
        watched.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
    )
    n_parts = 6 if params else tasks.ended["nets"]
    of_parts = 0 if params else 4 * n_parts
    assert tasks.ended == {
        "fit": 1,
        "cross-validation": 1,
        "chosen epsilon": 1,
        "nets": n_parts,
        "epoch": 4 + of_parts,
    }
    monitor = ScoringMonitor(scoring="accuracy")
    net.set_callbacks(monitor).fit(X, Y)
    np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))


def test_a_progress_bar_of_a_search(capsys):
    pytest.importorskip("rich")
    net = AdvBPClassifierCV((5,), epsilons=2, cv=2, max_epochs=3, random_state=0)
    net.set_callbacks(ProgressBar()).fit(X, Y)
    out = capsys.readouterr().out
    assert "cross-validation" in out and "chosen epsilon" in out and "100%" in out
