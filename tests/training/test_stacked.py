"""Nets that are trained together are the nets of separate fits."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV
from sk_advbp.estimators.cross_validation import Folds, _members, cross_validated
from sk_advbp.training import stacked
from sk_advbp.training.stacked import Stack, stackable, stacks

N, D, M = 61, 5, 3
EPOCHS = 5
EPSILONS = np.array([0.0, 0.05, 0.3])


def data(n=N, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, D))
    return X, np.arange(n) % M, rng.integers(0, 4, size=n).astype(float)


def label_matrix(n=N):
    """Every combination of M labels, that of none, too."""
    return np.arange(n)[:, None] // 2 ** np.arange(M) % 2


def uneven_splits(n):
    """Folds whose training parts have other sizes, and other numbers of batches of 16."""
    rows = np.random.default_rng(1).permutation(n)
    parts = np.split(rows, [n // 5, n // 4, n // 2])
    return [(np.setdiff1d(rows, part), part) for part in parts]


def net(**params):
    """A net as the search has it: not fitted, but it knows the data."""
    quick = {"hidden_layer_sizes": (6, 4), "max_epochs": EPOCHS, "batch_size": 16, "lr": 0.02}
    classes = {"classes": np.arange(M), "dtype": "float64", "device": "cpu", "random_state": 3}
    several_labels = params.pop("several_labels", False)
    made = AdvBPClassifier(**quick | classes | params)
    made._target_shape = (M,) if several_labels else ()
    known = {"n_features_in_": D, "sample_shape_": (D,), "dtype_": made.dtype, "device_": "cpu"}
    vars(made).update(known)
    return made


def parameters(fitted):
    return [p.detach().numpy() for p in fitted.module_.parameters()]


def separate_and_stacked(made, weighted=False, n=N, seed=0):
    """Yield the parameters of each net, from a fit of its own and from a stack."""
    X, y, weight = data(n, seed)
    weight = weight if weighted else None
    y = label_matrix(n) if made._target_shape else y
    target = made._targets.encode(y)
    folds = Folds(X, y, target, weight, uneven_splits(n))
    cells = [(epsilon, f) for f in range(len(folds.splits)) for epsilon in EPSILONS]
    candidates = _members(made, folds, cells)
    members = [member for member, _ in candidates]
    tensors = torch.from_numpy(X), torch.from_numpy(target)
    for numbers in stacks(made, members):
        stack = Stack(made, [members[i] for i in numbers])
        stack.train(*tensors)
        for place, i in enumerate(numbers):
            epsilon, fold = cells[i]
            train = folds.splits[fold][0]
            alone = AdvBPClassifier(**made.get_params(deep=False)).set_params(epsilon=epsilon)
            alone.fit(X[train], y[train], sample_weight=weight[train] if weighted else None)
            yield alone, stack.estimator(place), X


OPTIONS = [
    {},
    {"activation": "tanh", "output": "logistic"},
    {"activation": "tanh", "several_labels": True},
    {"clean_weight": 0.4, "norm": "l2", "several_labels": True},
    {"activation": "logistic", "norm": "l2"},
    {"activation": "identity", "hidden_layer_sizes": ()},
    {"clean_weight": 0.4},
    {"clean_weight": 1.0},
    {"clip": (-0.5, np.array([0.1, 0.2, 0.5, 1.0, 2.0]))},
    {"lr_schedule": "constant"},
    {"batch_size": -1},
    {"batch_size": 7},
    {"class_weight": "balanced"},
    {"class_weight": {0: 0, 1: 1, 2: 3}},
    {"epsilon_unit": "std"},
    {"epsilon_unit": [0, 1, 2, 0.5, 0.1], "norm": "l2"},
    {"optimizer": torch.optim.AdamW, "optimizer__weight_decay": 0.1},
    {"optimizer__amsgrad": True, "optimizer__foreach": True},
    {"optimizer": torch.optim.SGD},
    {
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "optimizer__nesterov": True,
        "optimizer__weight_decay": 0.01,
    },
    {"optimizer": torch.optim.RMSprop, "lr": 0.005},
    {"optimizer": torch.optim.RMSprop, "optimizer__centered": True, "lr": 0.005},
    {"optimizer__param_groups": [("layers.0.*", {"lr": 0.001})]},
]


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: str(o)[:60])
def test_each_net_is_that_of_a_separate_fit(options, weighted):
    made = net(**options)
    assert stackable(made)
    for alone, of_stack, X in separate_and_stacked(made, weighted):
        for theirs, ours in zip(parameters(alone), parameters(of_stack), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)
        np.testing.assert_allclose(of_stack.loss_curve_, alone.loss_curve_, rtol=1e-8)
        np.testing.assert_allclose(of_stack.predict_proba(X), alone.predict_proba(X), atol=1e-8)
        np.testing.assert_allclose(of_stack.epsilon_unit_, alone.epsilon_unit_)


@settings(deadline=None, max_examples=15)
@given(
    n=st.integers(24, 80),
    seed=st.integers(0, 2**31),
    batch_size=st.sampled_from([-1, 1, 5, 16, 200]),
    sizes=st.lists(st.integers(1, 6), max_size=2).map(tuple),
    weighted=st.booleans(),
)
def test_any_sizes(n, seed, batch_size, sizes, weighted):
    made = net(
        hidden_layer_sizes=sizes,
        batch_size=batch_size,
        random_state=seed,
        max_epochs=2,
        activation="tanh",
    )
    for alone, of_stack, _ in separate_and_stacked(made, weighted, n, seed):
        for theirs, ours in zip(parameters(alone), parameters(of_stack), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-8)


def test_float32_is_as_good_a_net():
    """Rounding parts two runs: a sign may flip. What the nets learn is the same."""
    X, y, _ = data(300)
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    made = net(dtype="float32", classes=[0, 1, 2], max_epochs=20)
    folds = Folds(X.astype(np.float32), y, y, None, uneven_splits(len(y)))
    ours = cross_validated(made, folds, EPSILONS)[0]
    theirs = cross_validated(made.set_params(callbacks=[("none", None)]), folds, EPSILONS)[0]
    assert np.abs(ours - theirs).mean() < 0.02


NOT_STACKABLE = [
    {"dropout": 0.1},
    {"input_dropout": 0.1},
    {"random_start": 0.1},
    {"perturbation": "random"},
    {"early_stopping": True},
    {"train_split": object()},
    {"callbacks": [("c", object())]},
    {"verbose": 1},
    {"module": nn.Linear(D, M)},
    {"criterion": nn.CrossEntropyLoss},
    {"iterator_train": DataLoader},
    {"iterator_train__shuffle": False},
    {"module__dropout": 0.1},
    {"optimizer": torch.optim.LBFGS},
    {"optimizer": torch.optim.Adagrad},
]


@pytest.mark.parametrize("options", NOT_STACKABLE, ids=lambda o: next(iter(o)))
def test_what_a_stack_cannot_do_is_left_to_separate_fits(options):
    assert stackable(net()) and stackable(net(callbacks="disable"))
    assert not stackable(net(**options))


def test_members_of_a_stack_take_the_same_number_of_steps():
    made = net()
    X, y, _ = data()
    folds = Folds(X, y, y, None, uneven_splits(N))
    cells = [(epsilon, f) for f in range(4) for epsilon in EPSILONS]
    members = [m for m, _ in _members(made, folds, cells)]
    divided = stacks(made, members)
    assert sorted(chain.from_iterable(divided)) == list(range(len(cells)))
    assert len({m.stream.n_batches for m in members}) > 1
    for numbers in divided:
        assert len({members[i].stream.n_batches for i in numbers}) == 1
        assert len({members[i].moves for i in numbers}) == 1


@pytest.mark.parametrize("limit, most", [(1, 1), (2**15, 3), (2**30, 20)])
def test_memory_bounds_a_stack(monkeypatch, limit, most):
    made = net()
    X, y, _ = data()
    folds = Folds(X, y, y, None, [(np.arange(40), np.arange(40, N))])
    members = [m for m, _ in _members(made, folds, [(0.1, 0)] * 60)]
    monkeypatch.setattr(stacked, "STACK_BYTES", limit)
    longest = max(map(len, stacks(made, members)))
    assert longest <= most and (longest > 1) == (most > 1)
    assert len(stacks(made, members, n_jobs=7)) % 7 == 0 or longest == 1


def test_divergence_is_named():
    X, y, _ = data()
    search = AdvBPClassifierCV(
        (8,), epsilons=[0, 0.1], lr=1e200, max_epochs=3, cv=3, dtype="float64", random_state=0
    )
    with pytest.raises(ValueError, match=r"non-finite in epoch \d for epsilon.*smaller lr"):
        search.fit(X, y)
    assert not vars(search).keys() - search.get_params(deep=False).keys()
