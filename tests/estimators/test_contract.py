"""The scikit-learn side: estimator checks, constructions, seeds, copies, metadata, callbacks."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import sklearn
import torch
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_iris
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_html_repr
from sklearn.utils.estimator_checks import check_estimator
from skorch.callbacks import EpochScoring
from torch import nn

from sk_advbp import AdvBPClassifier

X, Y = load_iris(return_X_y=True)
X = (X - X.mean(0)) / X.std(0)
Y = load_iris().target_names[Y]
QUICK = {"hidden_layer_sizes": (8,), "max_epochs": 3, "batch_size": 32, "random_state": 0}
GOOD = {**QUICK, "max_epochs": 25, "lr": 0.02}


def classifier(**params):
    return AdvBPClassifier(**QUICK | params)


def weights(net):
    return [p.detach().numpy().tobytes() for p in net.module_.parameters()]


class DropoutNet(nn.Sequential):
    """A module of the user's that draws from torch's global generator."""

    def __init__(self, n_features=4):
        super().__init__(nn.Linear(n_features, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 3))


# ---- estimator checks ------------------------------------------------------------------

EQUIVALENCE = {
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
}
FEW = {"max_epochs": 10, "lr": 0.02}
MORE = {"max_epochs": 20, "lr": 0.02}  # here a check of class weights wants more steps
CHECKED = [
    ({}, set()),
    ({**MORE, "activation": "tanh"}, set()),
    ({**MORE, "activation": "identity"}, set()),
    ({**FEW, "activation": "logistic"}, set()),
    ({**FEW, "epsilon": 0}, set()),
    ({**FEW, "norm": "l2"}, set()),
    ({**FEW, "clean_weight": 0.5}, set()),
    ({**FEW, "class_weight": "balanced"}, set()),
    ({**FEW, "early_stopping": True}, set()),
    ({**FEW, "output": "logistic"}, set()),
    ({**FEW, "dropout": 0.2}, EQUIVALENCE),
    ({**FEW, "input_dropout": 0.1}, EQUIVALENCE),
    ({**FEW, "random_start": 0.5}, EQUIVALENCE),
    ({**FEW, "perturbation": "random"}, EQUIVALENCE),
    ({**FEW, "dtype": "float32"}, EQUIVALENCE),
]


@pytest.mark.parametrize("params, allowed", CHECKED, ids=lambda p: str(p)[:60])
def test_estimator_checks(params, allowed):
    results = check_estimator(AdvBPClassifier(**params), on_skip=None, on_fail=None)
    other = {r["check_name"]: r for r in results if r["status"] != "passed"}
    if params.get("class_weight") is None:  # else it takes one label a row
        skipped = other.pop("check_classifiers_multilabel_output_format_decision_function")
        assert "does not have a decision_function" in str(skipped["exception"])  # as MLPClassifier
    assert {name: r for name, r in other.items() if name not in allowed} == {}
    assert {r["status"] for r in other.values()} <= {"failed"}
    assert len(results) >= 64


# ---- constructions ---------------------------------------------------------------------

NET = AdvBPClassifier(**GOOD)
GRID = {
    "epsilon": [0.0, 0.1],
    "activation": ["relu", "tanh"],
    "hidden_layer_sizes": [(4,), (6, 5)],
    "optimizer__weight_decay": [0.0, 1e-3],
}
CONSTRUCTIONS = {
    "pipeline": make_pipeline(StandardScaler(), NET),
    "halving": HalvingGridSearchCV(NET, {"epsilon": [0.0, 0.1]}, cv=2, random_state=0),
    "halving epochs": HalvingGridSearchCV(
        NET,
        {"epsilon": [0.0, 0.1]},
        resource="max_epochs",
        min_resources=5,
        max_resources=25,
        factor=2,
        cv=2,
    ),
    "calibrated": CalibratedClassifierCV(NET, cv=2),
    "bagging": BaggingClassifier(NET, n_estimators=3, random_state=0),
    "voting": VotingClassifier([("net", NET), ("lr", LogisticRegression())], voting="soft"),
    "one vs rest": OneVsRestClassifier(NET),
}


@pytest.mark.parametrize("name", CONSTRUCTIONS)
def test_constructions(name):
    model = clone(CONSTRUCTIONS[name]).fit(X, Y)
    assert model.score(X, Y) > 0.85
    proba = model.predict_proba(X)
    assert proba.shape == (150, 3)
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-5)


def test_grid_search_in_two_processes_is_that_in_one():
    searches = [GridSearchCV(classifier(lr=0.03), GRID, cv=2, n_jobs=n).fit(X, Y) for n in (1, 2)]
    one, two = searches
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )
    assert len(set(one.cv_results_["mean_test_score"])) > 3
    assert weights(one.best_estimator_) == weights(two.best_estimator_)
    assert two.score(X, Y) > 0.6


def test_cross_validate_and_permutation_importance():
    scores = cross_validate(NET, X, Y, cv=3, scoring=["accuracy", "neg_log_loss", "roc_auc_ovr"])
    assert scores["test_accuracy"].mean() > 0.85 and scores["test_roc_auc_ovr"].mean() > 0.95
    net = clone(NET).fit(X, Y)
    importances = permutation_importance(net, X, Y, n_repeats=3, random_state=0).importances_mean
    assert importances.shape == (4,) and importances[2:].min() > 0.02


# ---- seeds -----------------------------------------------------------------------------

RANDOM = {
    "default": {},
    "dropout": {"dropout": 0.3, "input_dropout": 0.1},
    "random start": {"random_start": 0.5},
    "l2 start": {"random_start": 0.5, "norm": "l2"},
    "random": {"perturbation": "random"},
    "early stopping": {"early_stopping": True},
    "custom module": {"module": DropoutNet},
    "module object": {"module": DropoutNet()},
    "train_split": {"train_split": None, "early_stopping": True, "validation_fraction": 0.3},
    "data loader": {
        "iterator_train": torch.utils.data.DataLoader,
        "iterator_train__shuffle": True,
        "iterator_valid": torch.utils.data.DataLoader,
    },
}
randoms = pytest.mark.parametrize("params", RANDOM.values(), ids=RANDOM)


def global_states():
    return torch.get_rng_state().tolist(), str(np.random.get_state())  # noqa: NPY002


def seed_global_states(seed):
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002


@randoms
def test_a_seed_gives_the_weights_and_leaves_the_global_states(params):
    seed_global_states(5)
    before = global_states()
    net = classifier(**params).fit(X, Y)
    net.partial_fit(X, Y)
    net.predict_proba(X)
    net.adversarial_examples(X, Y, attack="pgd", n_steps=2)
    assert global_states() == before
    seed_global_states(6)
    again = classifier(**params).fit(X, Y).partial_fit(X, Y)
    assert weights(net) == weights(again)
    if "module object" not in params and not isinstance(params.get("module"), nn.Module):
        assert weights(classifier(**params | {"random_state": 1}).fit(X, Y)) != weights(net)


def test_without_a_seed_each_fit_differs():
    net = classifier(random_state=None)
    seed_global_states(0)
    first = weights(net.fit(X, Y))
    seed_global_states(0)
    assert weights(net.fit(X, Y)) != first


def test_random_state_instance():
    first = weights(classifier(random_state=np.random.RandomState(3)).fit(X, Y))
    assert weights(classifier(random_state=np.random.RandomState(3)).fit(X, Y)) == first
    shared = classifier(random_state=np.random.RandomState(3))
    shared.fit(X, Y)
    assert weights(shared.fit(X, Y)) != first


@pytest.mark.parametrize("params", [{}, {"dropout": 0.2}, {"module": DropoutNet}])
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_jobs_beside_each_other_give_the_same(backend, params):
    """Also in threads, where a global generator would be shared."""
    ensembles = []
    for n_jobs in (1, 2):
        with joblib.parallel_backend(backend):
            ensembles.append(
                BaggingClassifier(classifier(**params), 4, random_state=0, n_jobs=n_jobs).fit(X, Y)
            )
    one, two = ([weights(e) for e in ensemble.estimators_] for ensemble in ensembles)
    assert one == two


# ---- copies ----------------------------------------------------------------------------

COPIES = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "deepcopy": copy.deepcopy,
    "clone then fit": lambda net: clone(net).fit(X, Y),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize(
    "params",
    [{}, {"module": DropoutNet()}, {"epsilon": np.array([0.1, 0, 0, 0]), "clip": (-1, 1)}],
    ids=["default", "module object", "arrays"],
)
def test_copies(copied, params):
    net = classifier(**params).fit(X, Y)
    before = weights(net)
    twin = copied(net)
    np.testing.assert_array_equal(twin.predict_proba(X), net.predict_proba(X))
    assert twin.device == "auto" and twin.device_ == net.device_
    net.partial_fit(X, Y)
    assert weights(twin) == before
    assert weights(twin.partial_fit(X, Y)) == weights(net)


def test_clone_copies_what_is_an_object_and_a_fit_does_not_train_it():
    module = DropoutNet()
    before = [p.clone() for p in module.parameters()]
    net = classifier(module=module, optimizer__weight_decay=0.1, epsilon=np.zeros(4)).fit(X, Y)
    assert all(map(torch.equal, module.parameters(), before))
    twin = clone(net)
    assert not hasattr(twin, "module_") and twin.module is not module
    assert twin.get_params()["optimizer__weight_decay"] == 0.1
    assert twin.get_params().keys() == classifier(optimizer__weight_decay=0.1).get_params().keys()


def test_clone_copies_callbacks_and_a_pickle_keeps_them():
    callback = EpochScoring("accuracy", name="train_acc", on_train=True)
    net = classifier(callbacks=[("acc", callback)]).fit(X, Y)
    twin = clone(net)
    assert twin.callbacks[0][1] is not callback and net.callbacks[0][1] is callback
    assert twin.fit(X, Y).history[:, "train_acc"] == net.history[:, "train_acc"]
    loaded = pickle.loads(pickle.dumps(net)).partial_fit(X, Y)
    assert len(loaded.history[:, "train_acc"]) == 4


def test_representations():
    net = classifier(epsilon=0.25)
    for fitted in (net, clone(net).fit(X, Y)):
        assert repr(fitted).startswith("AdvBPClassifier(") and "epsilon=0.25" in repr(fitted)
        assert "AdvBPClassifier" in estimator_html_repr(fitted)
        assert "epsilon" in fitted._repr_html_()
    assert "Dropout" in repr(classifier(module=DropoutNet()).fit(X, Y))
    assert is_classifier(net)


# ---- metadata, scikit-learn's callbacks, Ctrl-C --------------------------------------------------


def test_metadata_routing_of_sample_weight():
    w = np.repeat([3.0, 0.0, 1.0], 50)
    with sklearn.config_context(enable_metadata_routing=True):
        net = classifier().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, net).fit(X, Y, sample_weight=w)
        scaled = StandardScaler().fit_transform(X)
        assert weights(pipeline[-1]) == weights(classifier().fit(scaled, Y, sample_weight=w))
        net.set_score_request(sample_weight=True).set_partial_fit_request(sample_weight=True)
        net.set_partial_fit_request(classes=True)
        scores = cross_validate(net, X, Y, params={"sample_weight": w}, cv=2)
        assert scores["test_score"].shape == (2,)


def test_progress_bar_shows_the_epochs(capsys):
    pytest.importorskip("rich")
    classifier().set_callbacks(ProgressBar()).fit(X, Y)
    out = capsys.readouterr().out
    assert "AdvBPClassifier" in out and "100%" in out
    search = GridSearchCV(classifier(), {"epsilon": [0, 0.1]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, Y)
    out = capsys.readouterr().out
    assert "AdvBPClassifier" in out and "GridSearchCV" in out


def test_scoring_monitor():
    monitor = ScoringMonitor(scoring="accuracy")
    net = classifier(lr=0.05, max_epochs=4).set_callbacks(monitor).fit(X, Y)
    rows = monitor.get_logs().data
    scores = [row["accuracy"] for row in rows if row["task_name"] == "epoch"]
    assert len(scores) == 4 and scores[-1] == net.score(X, Y) > scores[0] > 0


class StopAfter:
    """A callback of scikit-learn's that asks for the end after some epochs."""

    def __init__(self, epochs):
        self.epochs, self.calls = epochs, []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context, **kwargs):
        self.calls.append(("end", context.task_name))
        return self.calls.count(("end", "epoch")) == self.epochs


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_callback_of_scikit_learn_stops_the_fit(epochs):
    stop = StopAfter(epochs)
    net = classifier(max_epochs=5).set_callbacks(stop).fit(X, Y)
    assert net.n_iter_ == epochs and net.predict(X).shape == Y.shape
    assert stop.calls[0] == "setup" and stop.calls[-1] == "teardown"
    assert stop.calls.count(("begin", "epoch")) == stop.calls.count(("end", "epoch")) == epochs


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("step", [1, 4, 6, 7])
@pytest.mark.parametrize("call", ["fit", "partial_fit"])
def test_ctrl_c_leaves_a_usable_estimator(monkeypatch, call, step, early_stopping):
    original, calls = AdvBPClassifier.train_step, []

    def interrupted(self, batch, **fit_params):
        calls.append(batch)
        if len(calls) == step:
            raise KeyboardInterrupt
        return original(self, batch, **fit_params)

    net = classifier(early_stopping=early_stopping, max_epochs=5)
    if call == "partial_fit":
        net.fit(X, Y)
        step = min(step, 4)
    with monkeypatch.context() as patch:
        patch.setattr(AdvBPClassifier, "train_step", interrupted)
        with pytest.warns(ConvergenceWarning, match="Training interrupted by user"):
            getattr(net, call)(X, Y)
    assert len(calls) == step
    assert net.score(X, Y) > 0.1 and net.n_iter_ == len(net.loss_curve_) < 10
    assert np.isfinite(net.loss_curve_).all()
    assert weights(pickle.loads(pickle.dumps(net))) == weights(net)
    before = weights(net)
    assert weights(net.partial_fit(X, Y)) != before
