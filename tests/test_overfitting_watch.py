import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from torch import nn

from sk_advbp import AdvBPClassifier
from sk_advbp.callbacks import OverfittingWatch
from sk_advbp.estimators.regressor import AdvBPRegressor
from sk_advbp.robustness import adversarial_accuracy_score

X, Y = load_iris(return_X_y=True)
NAMES = load_iris().target_names[Y]
HELD_OUT = X[::2], NAMES[::2]
OPTIONS = {"max_epochs": 6, "device": "cpu", "random_state": 0}


def watched(watch, **options):
    return AdvBPClassifier((8,), callbacks=[watch], **OPTIONS | options).fit(X[1::2], NAMES[1::2])


def told(monkeypatch, *accuracies):
    """Let the watch see these triples of accuracies, one an epoch."""
    told = iter(accuracies)
    monkeypatch.setattr(OverfittingWatch, "_accuracies", lambda self, *args: next(told))


COLLAPSE = [
    (0.5, 0.4, 0.3),
    (0.9, 0.6, 0.5),
    (0.9, 0.7, 0.45),
    (0.9, 0.9, 0.1),
    (0.9, 0.95, 0.0),
    (0.9, 0.95, 0.0),
]


def test_history_has_the_accuracies_of_the_net():
    watch = OverfittingWatch(HELD_OUT, epsilon=0.3, n_steps=4, max_rows=50, random_state=3)
    net = watched(watch)
    X_, y = HELD_OUT[0][:50], HELD_OUT[1][:50]
    fgsm, pgd = (
        adversarial_accuracy_score(net, X_, y, 0.3, attack=attack, n_steps=4, random_state=3)
        for attack in ("fgsm", "pgd")
    )
    last = net.history[-1, ("watch_clean", "watch_fgsm", "watch_pgd")]
    assert last == (net.score(X_, y), fgsm, pgd)
    assert watch.collapsed_epoch_ is None


def test_held_out_rows_of_the_net_itself():
    watch = OverfittingWatch()
    net = watched(watch, early_stopping=True, validation_fraction=0.2, max_epochs=2)
    clean = net.history[:, "watch_clean"]
    assert clean == pytest.approx(net.history[:, "valid_acc"])
    with pytest.raises(ValueError, match=r"needs held-out data: give it data=\(X, y\), or"):
        watched(OverfittingWatch())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_watched_training_is_unwatched_training(dropout):
    options = {"dropout": dropout, "random_start": 0.5}
    net = watched(OverfittingWatch(HELD_OUT, restore=True), **options)
    alone = AdvBPClassifier((8,), **OPTIONS | options).fit(X[1::2], NAMES[1::2])
    assert np.array_equal(net.predict_proba(X), alone.predict_proba(X))


def test_collapse_warns_once(monkeypatch):
    told(monkeypatch, *COLLAPSE)
    watch = OverfittingWatch(HELD_OUT)
    message = "epoch 4: since epoch 2, accuracy under FGSM has risen from 0.60 to 0.90.* 0.50 to"
    with pytest.warns(ConvergenceWarning, match=message) as caught:
        net = watched(watch)
    assert len(caught) == 1
    assert (watch.best_epoch_, watch.collapsed_epoch_) == (2, 4)
    assert net.n_iter_ == 6


@pytest.mark.parametrize(
    "accuracies",
    [
        [(0.9, 0.7 + 0.01 * i, 0.6 - 0.03 * i) for i in range(6)],  # falls by less than `drop`
        [(0.9, 0.7 - 0.1 * i, 0.6 - 0.1 * i) for i in range(6)],  # FGSM falls, too
        [(0.9, 0.7, 0.1 * i) for i in range(6)],
    ],
)
def test_what_is_no_collapse(monkeypatch, accuracies):
    told(monkeypatch, *accuracies)
    watched(OverfittingWatch(HELD_OUT))  # a warning would be an error


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_stop_and_restore(monkeypatch):
    good = AdvBPClassifier((8,), lr_schedule="constant", **OPTIONS | {"max_epochs": 2})
    good = good.fit(X[1::2], NAMES[1::2]).predict_proba(X)
    for stop, restore in ((True, True), (True, False), (False, True)):
        told(monkeypatch, *COLLAPSE)
        watch = OverfittingWatch(HELD_OUT, stop=stop, restore=restore)
        net = watched(watch, lr_schedule="constant")
        assert net.n_iter_ == (4 if stop else 6)
        assert np.array_equal(net.predict_proba(X), good) == restore
        assert not net._training


def test_partial_fit_is_one_training(monkeypatch):
    told(monkeypatch, *COLLAPSE)
    watch = OverfittingWatch(HELD_OUT)
    net = AdvBPClassifier((8,), callbacks=[watch], classes=np.unique(NAMES), **OPTIONS)
    for _ in range(3):
        net.partial_fit(X[1::2], NAMES[1::2])
    assert (watch.best_epoch_, watch.collapsed_epoch_) == (2, None)
    with pytest.warns(ConvergenceWarning, match="epoch 4: since epoch 2"):
        net.partial_fit(X[1::2], NAMES[1::2])
    told(monkeypatch, *COLLAPSE)
    net.set_params(max_epochs=2).fit(X[1::2], NAMES[1::2])  # a fit begins anew
    assert (watch.best_epoch_, watch.collapsed_epoch_) == (2, None)


class SmallConvNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten()),
            *(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10)),
        )


def test_a_run_that_does_collapse():
    """A convolutional net on digits: robust by ε = 0.2, then trained with twice that."""
    images, y = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 1, 8, 8)
    train, held_out, y_train, y_held_out = train_test_split(
        images, y, test_size=500, random_state=0, stratify=y
    )
    held_out, unseen = held_out[:150], (held_out[150:], y_held_out[150:])
    options = {"epsilon": 0.2, "n_steps": 8, "stop": True, "restore": True}
    watch = OverfittingWatch((held_out, y_held_out[:150]), **options)
    net = AdvBPClassifier(
        module=SmallConvNet,
        epsilon=0.2,
        lr=0.003,
        lr_schedule="constant",
        callbacks=[watch],
        warm_start=True,
        **OPTIONS | {"max_epochs": 8},
    )
    net.fit(train, y_train)  # nothing to warn of
    before = adversarial_accuracy_score(net, *unseen, 0.2)
    net.set_params(epsilon=0.4, lr=0.007, max_epochs=30)
    with pytest.warns(ConvergenceWarning, match="Catastrophic overfitting in epoch"):
        net.fit(train, y_train)
    assert net.n_iter_ == watch.collapsed_epoch_ < 38
    then, last = net.history[watch.best_epoch_ - 1], net.history[-1]
    assert last["watch_fgsm"] > then["watch_fgsm"]
    assert last["watch_pgd"] < then["watch_pgd"] - 0.2
    # The weights of the best epoch are back, in a net that saw none of these rows.
    restored = adversarial_accuracy_score(net, *unseen, 0.2)
    assert restored > max(last["watch_pgd"] + 0.1, before - 0.1)


def test_of_classifiers_only():
    watch = OverfittingWatch((X, Y))
    with pytest.raises(TypeError, match="OverfittingWatch compares accuracies, of classifiers"):
        AdvBPRegressor(max_epochs=1, callbacks=[watch]).fit(X, Y)
