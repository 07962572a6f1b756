import pickle
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, StandardScaler
from skorch.callbacks import EpochScoring
from skorch.helper import predefined_split
from torch import nn

from sk_advbp import AdvBPClassifier
from sk_advbp.core.attacks import Objective, pgd, random_start
from sk_advbp.core.perturbation import uniform_in_ball
from sk_advbp.estimators.regressor import AdvBPRegressor
from sk_advbp.robustness import (
    adversarial_accuracy_score,
    adversarial_examples,
    make_adversarial_scorer,
    robustness_curve,
    transfer_accuracy_score,
)
from sk_advbp.training import ArrayDataset

X_IRIS, Y_IRIS = load_iris(return_X_y=True)
NAMES = load_iris().target_names[Y_IRIS]
CPU = {"device": "cpu", "random_state": 0}


class WithNoise(nn.Sequential):
    """A module with running statistics, dropout, and noise that is always on."""

    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))

    def forward(self, x):
        return super().forward(x) + 1e-9 * torch.rand(())


@lru_cache
def fitted(kind):
    options = {
        "float64": {"dtype": "float64"},
        "float32": {"dtype": "float32", "activation": "logistic", "output": "logistic"},
        "own loss": {"dtype": "float64", "criterion": nn.MultiMarginLoss},
        "own module": {"module": WithNoise},
    }[kind]
    net = AdvBPClassifier((12,), max_epochs=30, lr=0.02, epsilon=0.1, **CPU | options)
    return net.fit(X_IRIS, NAMES)


KINDS = ["float64", "float32", "own loss", "own module"]


def state(net):
    """All that an attack must leave as it is."""
    return pickle.dumps(
        (
            [(name, value.numpy().tobytes()) for name, value in net.module_.state_dict().items()],
            [parameter.grad is None for parameter in net.module_.parameters()],
            [module.training for module in net.module_.modules()],
            net.generator_.get_state().numpy().tobytes(),
            torch.get_rng_state().numpy().tobytes(),
            np.random.get_state()[1].tobytes(),  # noqa: NPY002 - the global one
            sorted(vars(net)),
        )
    )


epsilons = st.one_of(
    st.floats(0, 2),
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=4, max_size=4).map(np.array),
)
clips = st.one_of(
    st.just("same"),
    st.none(),
    st.tuples(st.floats(0, 3), st.floats(3.1, 6)),
    st.just((np.zeros(4), np.array([5.0, 3.0, 4.0, 1.0]))),
)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(KINDS),
    attack=st.sampled_from(["fgsm", "pgd"]),
    norm=st.sampled_from(["linf", "l2"]),
    epsilon=epsilons,
    clip=clips,
    given_labels=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_invariants(kind, attack, norm, epsilon, clip, given_labels, seed):
    net = fitted(kind)
    rows = np.random.default_rng(seed).choice(150, 20, replace=False)
    X, y = X_IRIS[rows], NAMES[rows] if given_labels else None
    options = {"attack": attack, "norm": norm, "clip": clip, "n_steps": 4, "n_restarts": 2}
    options |= {"epsilon": epsilon, "random_state": seed}
    net.module_[2].train() if kind == "own module" else None  # a mode that the user has set
    before = state(net)
    moved = net.adversarial_examples(X, y, **options)
    assert state(net) == before
    assert moved.shape == X.shape and moved.dtype == np.float64
    # One rounding unit of the dtype in which the net computes, at the largest value.
    unit = np.spacing(np.array(9, net.dtype_)).astype(float)
    change = moved - X
    assert (np.abs(change) <= np.asarray(epsilon) + unit).all()
    if norm == "l2":
        scaled = change[:, np.broadcast_to(epsilon, 4) > 0] / np.max(epsilon)
        assert (np.linalg.norm(scaled, axis=1) <= 1 + 8 * unit / max(np.max(epsilon), unit)).all()
    still = np.broadcast_to(epsilon, 4) == 0
    assert np.array_equal(moved[:, still], X[:, still])
    if clip is not None and clip != "same":
        low, high = clip
        assert (moved >= np.minimum(low, X) - unit).all()
        assert (moved <= np.maximum(high, X) + unit).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_epsilon_zero_returns_X(kind, attack):
    moved = fitted(kind).adversarial_examples(X_IRIS, NAMES, epsilon=0, attack=attack)
    assert np.array_equal(moved, X_IRIS)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_chunked_equals_unchunked(attack, norm):
    net = fitted("float64")
    options = {"attack": attack, "norm": norm, "epsilon": 0.4, "n_restarts": 3, "random_state": 5}
    whole = net.adversarial_examples(X_IRIS, NAMES, **options)
    chunked = clone(net).set_params(iterator_valid__batch_size=13).fit(X_IRIS, NAMES)
    np.testing.assert_allclose(
        chunked.adversarial_examples(X_IRIS, NAMES, **options), whole, rtol=0, atol=1e-9
    )


@pytest.mark.parametrize("kind", ["float64", "float32"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("given_labels", [True, False])
def test_closed_form_is_autograd(kind, norm, given_labels, monkeypatch):
    net = fitted(kind)
    options = {"epsilon": 0.3, "norm": norm, "y": NAMES if given_labels else None}
    moved = net.adversarial_examples(X_IRIS, **options)
    assert net._has_closed_form()
    monkeypatch.setattr(AdvBPClassifier, "_has_closed_form", lambda self: False)
    np.testing.assert_allclose(net.adversarial_examples(X_IRIS, **options), moved, atol=2e-6)


def test_regressor_too():
    X, y = X_IRIS[:, :3], X_IRIS[:, 3]
    net = AdvBPRegressor((12,), max_epochs=30, epsilon=0.1, **CPU).fit(X, y)
    moved = net.adversarial_examples(X, y, epsilon=0.2)
    assert net.score(moved, y) < net.score(X, y)
    assert net._has_closed_form()
    net._has_closed_form = lambda: False
    np.testing.assert_allclose(net.adversarial_examples(X, y, epsilon=0.2), moved, atol=1e-9)
    with pytest.raises(TypeError, match="accuracy is of classifiers"):
        adversarial_accuracy_score(net, X, y, 0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_score_is_that_of_the_examples_and_pgd_never_weaker(kind, norm):
    net, weight = fitted(kind), np.linspace(0, 1, 150)
    for epsilon in (0.1, 0.3, 0.6):
        options = {"norm": norm, "n_restarts": 2, "random_state": 1}
        scores = {
            attack: adversarial_accuracy_score(
                net, X_IRIS, NAMES, epsilon, attack=attack, sample_weight=weight, **options
            )
            for attack in ("fgsm", "pgd")
        }
        assert scores["pgd"] <= min(scores["fgsm"], net.score(X_IRIS, NAMES, weight))
        for attack, score in scores.items():
            moved = net.adversarial_examples(
                X_IRIS, NAMES, epsilon=epsilon, attack=attack, **options
            )
            assert net.score(moved, NAMES, weight) == pytest.approx(score, abs=1e-12)


def test_form_of_the_input():
    net = fitted("float32")
    frame = pd.DataFrame(X_IRIS, columns=list("abcd"), index=range(150, 300))
    named = clone(net).fit(frame, NAMES)
    moved = named.adversarial_examples(frame, NAMES, epsilon=[0.1, 0, 0, 0])
    assert isinstance(moved, pd.DataFrame) and moved.columns.equals(frame.columns)
    assert moved.index.equals(frame.index) and moved["b"].equals(frame["b"])
    named.predict(moved)  # without a warning about names
    expected = net.adversarial_examples(X_IRIS, NAMES, epsilon=0.1)
    for X in (sparse.csr_array(X_IRIS), torch.tensor(X_IRIS), X_IRIS.tolist()):
        moved = net.adversarial_examples(X, NAMES, epsilon=0.1)
        assert isinstance(moved, np.ndarray) and np.array_equal(moved, expected)
    assert net.adversarial_examples(X_IRIS.astype(np.float32)).dtype == np.float32
    assert net.adversarial_examples(X_IRIS.astype(int)).dtype == np.float32


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"attack": "cw"}, "'attack' parameter of adversarial_examples must be"),
        ({"clip": "all"}, "clip must be .* or 'same'. Got 'all'"),
        ({"clip": (1, 0)}, "low < high"),
        ({"epsilon": -1}, "epsilon must be finite and >= 0"),
        ({"epsilon": [0.1, 0.2]}, "of the shape of one sample"),
        ({"norm": "l1"}, "'norm' parameter"),
        ({"n_steps": 0}, "'n_steps' parameter"),
        ({"step_size": 0.0}, "'step_size' parameter"),
        ({"n_restarts": 0}, "'n_restarts' parameter"),
        ({"y": ["rose"] * 150}, "not among the classes"),
    ],
)
def test_what_is_refused(options, complaint):
    with pytest.raises(ValueError, match=complaint):
        fitted("float64").adversarial_examples(X_IRIS, **options)


# ---- scorers -----------------------------------------------------------------------------


def test_scorer_in_scikit_learns_places():
    scorer = make_adversarial_scorer(0.3, attack="fgsm")
    assert repr(scorer) == "make_adversarial_scorer(0.3, attack='fgsm')"
    scorer = pickle.loads(pickle.dumps(scorer))
    net = fitted("float64")
    assert scorer(net, X_IRIS, NAMES) == adversarial_accuracy_score(
        net, X_IRIS, NAMES, 0.3, attack="fgsm"
    )
    pipeline = make_pipeline(StandardScaler(), AdvBPClassifier((8,), max_epochs=10, **CPU))
    scoring = {"clean": "accuracy", "pgd": make_adversarial_scorer(0.3)}
    scores = cross_validate(pipeline, X_IRIS, NAMES, scoring=scoring, cv=3)
    assert (scores["test_pgd"] <= scores["test_clean"]).all()
    grid = {"advbpclassifier__epsilon": [0.0, 0.3]}
    search = GridSearchCV(pipeline, grid, scoring=scorer, cv=3).fit(X_IRIS, NAMES)
    assert search.score(X_IRIS, NAMES) == adversarial_accuracy_score(
        search, X_IRIS, NAMES, 0.3, attack="fgsm"
    )
    with pytest.raises(TypeError, match=r"unknown options \['steps'\]"):
        make_adversarial_scorer(0.3, steps=5)


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("on_train", [True, False])
def test_scorer_in_skorchs_epoch_scoring(on_train, use_caching):
    """The last epoch's score is that of the finished net on the same rows."""
    X, y = X_IRIS[::2], NAMES[::2]
    held_out = ArrayDataset(X, np.searchsorted(np.unique(NAMES), y), y=np.unique(NAMES).__getitem__)
    callback = EpochScoring(
        make_adversarial_scorer(0.3),
        lower_is_better=False,
        on_train=on_train,
        use_caching=use_caching,
    )
    options = {"max_epochs": 3, "train_split": predefined_split(held_out), **CPU}
    net = AdvBPClassifier((8,), callbacks=[callback], **options)
    net.fit(X_IRIS[1::2], NAMES[1::2])
    if on_train:
        X, y = X_IRIS[1::2], NAMES[1::2]
    expected = adversarial_accuracy_score(net, X, y, 0.3)
    assert net.history[-1, "pgd_accuracy"] == pytest.approx(expected, abs=1e-12)
    unwatched = AdvBPClassifier((8,), **options).fit(X_IRIS[1::2], NAMES[1::2])
    assert np.array_equal(unwatched.predict_proba(X), net.predict_proba(X))


# ---- pipelines, curve, transfer ----------------------------------------------------------


@pytest.mark.parametrize(
    "transformers",
    [
        (StandardScaler(),),
        (MinMaxScaler(), StandardScaler()),
        (PCA(3, random_state=0),),
        (MinMaxScaler(clip=True),),
        (FunctionTransformer(np.log1p, np.expm1),),
        ("passthrough",),
    ],
)
def test_pipeline_examples_in_original_units(transformers):
    net = AdvBPClassifier(
        (8,), max_epochs=20, lr=0.02, clip=(0, 1) if "clip" in str(transformers) else None
    )
    pipeline = make_pipeline(*transformers, net.set_params(**CPU)).fit(X_IRIS, NAMES)
    moved = adversarial_examples(pipeline, X_IRIS, NAMES, epsilon=0.2)
    clean = pipeline[:-1].transform(X_IRIS)
    inside = pipeline[-1].adversarial_examples(clean, NAMES, epsilon=0.2)
    np.testing.assert_allclose(pipeline[:-1].transform(moved), inside, atol=1e-6)
    assert pipeline.score(moved, NAMES) == adversarial_accuracy_score(
        pipeline, X_IRIS, NAMES, 0.2, attack="fgsm"
    )
    assert np.array_equal(adversarial_examples(pipeline, X_IRIS, epsilon=0), X_IRIS)


@pytest.mark.parametrize(
    ("transformer", "complaint"),
    [
        (MinMaxScaler(clip=True), "cannot be inverted, .* clip"),
        (FunctionTransformer(np.log1p), "cannot be inverted"),
        (RandomForestClassifier, "only an AdvBPClassifier"),
    ],
)
def test_pipelines_that_cannot_be_attacked(transformer, complaint):
    if transformer is RandomForestClassifier:
        forest = RandomForestClassifier(5, random_state=0).fit(X_IRIS, NAMES)
        with pytest.raises(TypeError, match=complaint):
            adversarial_examples(forest, X_IRIS)
        return
    pipeline = make_pipeline(transformer, AdvBPClassifier((8,), max_epochs=5, **CPU))
    with pytest.raises(ValueError, match=complaint):
        adversarial_examples(pipeline.fit(X_IRIS, NAMES), X_IRIS, NAMES, epsilon=0.3)


def test_named_columns_through_a_pipeline():
    frame = pd.DataFrame(X_IRIS, columns=list("abcd"))
    net = AdvBPClassifier((8,), max_epochs=5, **CPU)
    pipeline = make_pipeline(StandardScaler(), net).set_output(transform="pandas")
    moved = adversarial_examples(pipeline.fit(frame, NAMES), frame, NAMES, epsilon=0.3)
    assert moved.columns.equals(frame.columns)
    assert pipeline.score(moved, NAMES) < pipeline.score(frame, NAMES)


def test_curve():
    net = fitted("float64")
    curve = robustness_curve(net, X_IRIS, NAMES, [0, 0.1, np.full(4, 0.1), 3.0], n_steps=5)
    assert curve.shape == (4,) and curve.dtype == np.float64
    assert curve[0] == net.score(X_IRIS, NAMES)
    assert curve[0] > curve[1] == curve[2] > curve[3]


def test_transfer():
    X, y = load_digits(return_X_y=True)
    X = X / 16
    source = make_pipeline(MinMaxScaler(), AdvBPClassifier((30,), epsilon=0, max_epochs=30, **CPU))
    source.fit(X[:1000], y[:1000])
    X_test, y_test = X[1000:], y[1000:]
    own = transfer_accuracy_score(source, source, X_test, y_test, 0.15)
    assert own == adversarial_accuracy_score(source, X_test, y_test, 0.15, attack="fgsm")
    for target in (RandomForestClassifier(30, random_state=0), LogisticRegression(max_iter=500)):
        target.fit(X[:1000], y[:1000])
        score = transfer_accuracy_score(source, target, X_test, y_test, 0.15, attack="pgd")
        assert own < score < target.score(X_test, y_test) - 0.05


# ---- PGD's starts, and rows at rest ------------------------------------------------------


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_starts_do_not_depend_on_batches(norm, dtype):
    x = torch.zeros(50, 3, 5, dtype=dtype)

    def starts(*sizes):
        generator = torch.Generator().manual_seed(3)
        return torch.cat([random_start(part, 0.7, norm, generator) for part in x.split(sizes)])

    torch.testing.assert_close(starts(50), starts(1, 30, 19), rtol=1e-6, atol=0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_are_as_uniform_as_those_of_training(norm):
    """Second moments of each feature, of 20,000 points, and the share of the inner ball."""
    epsilon = torch.tensor([0.5, 0.0, 2.0, 1.0], dtype=torch.float64)
    x = torch.zeros(20_000, 4, dtype=torch.float64)
    ours, theirs = (
        draw(x, epsilon, norm, torch.Generator().manual_seed(0))
        for draw in (random_start, uniform_in_ball)
    )
    assert (ours[:, 1] == 0).all()
    torch.testing.assert_close(ours.square().mean(0), theirs.square().mean(0), rtol=0.05, atol=0)
    order = 2 if norm == "l2" else torch.inf
    length = torch.linalg.vector_norm(ours / epsilon.clamp_min(1e-9), ord=order, dim=1)
    assert length.max() <= 1 + 1e-12
    assert (length < 0.8).double().mean().item() == pytest.approx(0.8**3, abs=0.015)


def test_rows_at_rest_are_the_fooled_ones():
    slopes = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))

    def row_losses(x, slopes):
        calls.append(len(x))
        losses = (x * slopes).sum(1)
        return losses, losses > 1.2

    fooled, work = [], []
    for until_fooled in (False, True):
        calls = []
        objective = Objective(row_losses, slopes)
        generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
        moved = pgd(
            objective, torch.zeros(40, 6), 0.3, generators=generators, until_fooled=until_fooled
        )
        work.append(sum(calls))
        fooled.append(objective.judge(moved)[1])
    assert torch.equal(*fooled)
    assert 0 < fooled[0].sum() < 40
    assert work[1] < work[0]


@pytest.mark.parametrize("until_fooled", [False, True])
def test_a_batch_starts_where_all_rows_would_have_started(until_fooled):
    """Also after a batch whose rows were all fooled before the last restart."""
    seed = torch.Generator().manual_seed(0)
    x, slopes = (torch.randn(60, 6, generator=seed) for _ in range(2))
    objective = Objective(lambda x, s: ((x * s).sum(1), (x * s).sin().sum(1) > 0), slopes)
    fooled_from_the_start = objective.judge(x)[1].argsort(descending=True)
    objective, x = objective[fooled_from_the_start], x[fooled_from_the_start]

    def attacked(*parts):
        generators = [torch.Generator().manual_seed(number) for number in range(4)]
        options = {"n_steps": 1, "generators": generators, "until_fooled": until_fooled}
        return torch.cat([pgd(objective[part], x[part], 0.1, **options) for part in parts])

    assert objective[:20].judge(x[:20])[1].all() and not objective.judge(x)[1].all()
    assert torch.equal(attacked(slice(60)), attacked(slice(20), slice(20, 60)))


def test_lengths_and_weights_are_checked():
    net = fitted("float32")
    for X, y in ((X_IRIS[:5], NAMES[:6]), (X_IRIS[:6], NAMES[:5])):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            net.adversarial_examples(X, y)
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            adversarial_accuracy_score(net, X, y, 0.1)
    for weight, match in ((np.ones(149), "shape"), (-np.ones(150), "Negative")):
        with pytest.raises(ValueError, match=match):
            adversarial_accuracy_score(net, X_IRIS, NAMES, 0.1, sample_weight=weight)


def test_a_net_stays_what_it_was_trained_as():
    """Parameters that are set afterwards count from the next fit."""
    net = AdvBPClassifier((8,), epsilon=0.2, norm="l2", clip=(0, 9), max_epochs=5, **CPU)
    net.fit(X_IRIS, NAMES)
    calls = {
        "probabilities": lambda: net.predict_proba(X_IRIS),
        "logarithms": lambda: net.predict_log_proba(X_IRIS),
        "examples": lambda: net.adversarial_examples(X_IRIS, NAMES),
    }
    before = {name: call() for name, call in calls.items()}
    net.set_params(epsilon=1.0, norm="linf", clip=None, output="logistic")
    for name, call in calls.items():
        np.testing.assert_array_equal(call(), before[name], err_msg=name)


def test_sparse_through_a_pipeline():
    X = sparse.csr_matrix(X_IRIS)
    net = make_pipeline(MaxAbsScaler(), AdvBPClassifier((8,), max_epochs=5, **CPU)).fit(X, NAMES)
    moved = adversarial_examples(net, X, NAMES, epsilon=0.1)
    dense = make_pipeline(MaxAbsScaler(), AdvBPClassifier((8,), max_epochs=5, **CPU))
    expected = adversarial_examples(dense.fit(X_IRIS, NAMES), X_IRIS, NAMES, epsilon=0.1)
    np.testing.assert_allclose(moved, expected, atol=1e-12)


def test_torch_default_dtype_is_not_asked():
    net = AdvBPClassifier((8,), norm="l2", random_start=0.5, max_epochs=2, dtype="float32", **CPU)
    torch.set_default_dtype(torch.float64)
    options = {"attack": "pgd", "random_state": 0}
    try:
        moved = net.fit(X_IRIS, NAMES).adversarial_examples(X_IRIS, NAMES, **options)
    finally:
        torch.set_default_dtype(torch.float32)
    again = net.fit(X_IRIS, NAMES).adversarial_examples(X_IRIS, NAMES, **options)
    np.testing.assert_array_equal(moved, again)


def test_scorer_takes_routed_weights():
    weight = np.linspace(0, 2, 150)
    net = AdvBPClassifier((8,), max_epochs=3, **CPU)
    parts = [(np.arange(0, 150, 2), np.arange(1, 150, 2))]

    def score(scorer):
        options = {"scoring": scorer, "cv": parts, "params": {"sample_weight": weight}}
        return cross_validate(net, X_IRIS, NAMES, **options)["test_score"][0]

    train, test = parts[0]
    with config_context(enable_metadata_routing=True):
        net.set_fit_request(sample_weight=True)
        fitted = clone(net).fit(X_IRIS[train], NAMES[train], weight[train])
        for asks, w in ((True, weight[test]), (False, None)):
            expected = adversarial_accuracy_score(
                fitted, X_IRIS[test], NAMES[test], 0.3, sample_weight=w
            )
            scorer = make_adversarial_scorer(0.3).set_score_request(sample_weight=asks)
            assert score(pickle.loads(pickle.dumps(scorer))) == pytest.approx(expected)
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            score(make_adversarial_scorer(0.3))


def test_a_net_keeps_its_module_and_loss():
    net = fitted("own module")
    own_loss = AdvBPClassifier((8,), criterion=nn.MultiMarginLoss, max_epochs=5, **CPU)
    own_loss.fit(X_IRIS, NAMES)
    for trained in (clone(net).fit(X_IRIS, NAMES), own_loss):
        before = trained.adversarial_examples(X_IRIS, NAMES), trained.predict_proba(X_IRIS)
        trained.set_params(module=None, criterion=None)
        after = trained.adversarial_examples(X_IRIS, NAMES), trained.predict_proba(X_IRIS)
        np.testing.assert_array_equal(np.hstack(after), np.hstack(before))
