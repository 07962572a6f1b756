"""What belongs to the moment of training is in no pickle, copy, checkpoint or trimmed net."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.callback import ProgressBar
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, EpochScoring, TrainEndCheckpoint
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from torch.utils.data import DataLoader, TensorDataset

from sk_advbp import AdvBPClassifier, AdvBPRegressor
from sk_advbp.callbacks import OverfittingWatch
from sk_advbp.training.net import PIECES_OF_TRAINING

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype("f4")
CODES = np.arange(60) % 3
Y = np.array(["ant", "bee", "cat"])[CODES]


def joblibbed(net):
    file = io.BytesIO()
    joblib.dump(net, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "joblib": joblibbed,
}
EVENTS = ["on_train_begin", "on_epoch_begin", "on_batch_end", "on_epoch_end", "on_train_end"]


class Copied(Callback):
    """Copy the net at the first of an event."""

    def __init__(self, way, event):
        def take(net, **kwargs):
            if self.copy is None:
                self.copy = way(net)
                self.weights = copy.deepcopy(net.module_.state_dict())

        self.copy = None
        setattr(self, event, take)

    def __getstate__(self):
        return {}


def estimators(**params):
    params = {"max_epochs": 2, "random_state": 0, "batch_size": 16} | params
    return [(AdvBPClassifier((5,), **params), Y), (AdvBPRegressor((5,), **params), 2.0 * CODES)]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("way", COPIES.values(), ids=COPIES)
def test_a_copy_that_is_taken_in_training_is_a_fitted_net(way, event):
    for net, y in estimators(early_stopping=True, random_start=0.5, lr_schedule="linear"):
        take = Copied(way, event)
        net.set_params(callbacks=[take]).fit(X, y)
        assert not vars(take.copy).keys() & set(PIECES_OF_TRAINING)
        expected = copy.deepcopy(net)
        expected.module_.load_state_dict(take.weights)
        for given in (X, TensorDataset(torch.tensor(X), torch.tensor(CODES))):
            np.testing.assert_allclose(
                *(n.adversarial_examples(X, y) for n in (take.copy, expected))
            )
            assert take.copy.predict(given).tolist() == expected.predict(given).tolist()
        take.copy.partial_fit(X, y)


@pytest.mark.parametrize("kind", ["Checkpoint", "TrainEndCheckpoint"])
def test_what_a_checkpoint_pickles(kind, tmp_path):
    others = dict.fromkeys(("f_params", "f_optimizer", "f_criterion", "f_history"))
    make = {"Checkpoint": Checkpoint, "TrainEndCheckpoint": TrainEndCheckpoint}[kind]
    for net, y in estimators(train_split=ValidSplit(3)):
        keep = make(dirname=tmp_path, f_pickle="net.pkl", fn_prefix="", **others)
        net.set_params(callbacks=[keep]).fit(X, y)
        kept = pickle.loads((tmp_path / "net.pkl").read_bytes())
        data = SkorchDataset(X, y)
        assert kept.predict(data).dtype == net.predict(data).dtype
        assert set(kept.predict(data)) <= set(y) or isinstance(net, AdvBPRegressor)
        assert not vars(kept).keys() & set(PIECES_OF_TRAINING)


class Pickled(Callback):
    """Pickle the net at the end of each epoch."""

    def __init__(self):
        self.pickles = []

    def on_epoch_end(self, net, **kwargs):
        self.pickles.append(pickle.dumps(net))

    def __getstate__(self):
        return {}


def test_no_data_and_no_second_set_of_weights():
    """Neither in training nor after, whoever watches: by the size, and by a mark in the data."""
    marked = RNG.normal(size=(60, 4))
    weights = (4 * 300 + 300 + 300 * 3 + 3) * 8
    take = Pickled()
    callbacks = [
        take,
        OverfittingWatch(restore=True),
        EarlyStopping("train_loss", load_best=True),
        EpochScoring("accuracy", lower_is_better=False),
    ]
    net = AdvBPClassifier((300,), callbacks=callbacks, max_epochs=3, early_stopping=True)
    net.set_params(validation_fraction=0.3, optimizer=torch.optim.SGD, random_state=0)
    net.set_callbacks(ProgressBar()).fit(marked, Y)
    net.set_params(callbacks=callbacks)
    for dumped in [*take.pickles, pickle.dumps(net)]:
        assert marked[7].tobytes() not in dumped
        # Once in the net, once in its buffer of gradients.
        assert len(dumped) < 2 * weights + 40_000


def test_a_watch_goes_on_after_a_pickle():
    watch = OverfittingWatch((X, Y), restore=True)
    net = AdvBPClassifier((5,), callbacks=[watch], max_epochs=2, random_state=0, warm_start=True)
    twin = pickle.loads(pickle.dumps(net.fit(X, Y)))
    assert twin.fit(X, Y).n_iter_ == 4
    assert twin.callbacks[0].best_epoch_ >= 1


def test_a_trimmed_net_predicts_and_is_attacked():
    for net, y in estimators(epsilon=0.1):
        own = [EpochScoring("r2", lower_is_better=False)] if y is not Y else []
        net.set_params(callbacks=own).fit(X, y)
        predicted, moved = net.predict(X), net.adversarial_examples(X, y, attack="pgd")
        moved = net.adversarial_examples(X, y, attack="pgd", random_state=0)
        whole = len(pickle.dumps(net))
        given = list(own)
        net.trim_for_prediction()
        assert own == given and len(pickle.dumps(net)) < whole
        for trimmed in (net, pickle.loads(pickle.dumps(net))):
            np.testing.assert_array_equal(trimmed.predict(X), predicted)
            again = trimmed.adversarial_examples(X, y, attack="pgd", random_state=0)
            np.testing.assert_array_equal(again, moved)
            with pytest.raises(Exception, match="trimmed for prediction"):
                trimmed.fit(X, y)
    with pytest.raises(Exception, match="not fitted"):
        AdvBPClassifier().trim_for_prediction()


class OwnSamples(torch.utils.data.Dataset):
    """One that worker processes can load."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i], CODES[i]


class Sent(DataLoader):
    """One that sends its data to another process and back, as workers get them."""

    def __init__(self, dataset, **options):
        dumped = pickle.dumps(dataset)
        assert len(dumped) < 10_000
        super().__init__(pickle.loads(dumped), **options)


@pytest.mark.parametrize("held_out", [{}, {"early_stopping": True, "validation_fraction": 0.3}])
@pytest.mark.parametrize("weight", [None, np.linspace(1, 2, 60)], ids=["", "weighted"])
def test_what_worker_processes_get(held_out, weight):
    """The data alone: of the net and its training nothing goes along."""
    for net, y in estimators(**held_out):
        both = [
            copy.deepcopy(net).set_params(iterator_train=loader, iterator_valid=loader)
            for loader in (DataLoader, Sent)
        ]
        predicted = [n.fit(X, y, weight).predict(X) for n in both]
        np.testing.assert_array_equal(*predicted)
        if weight is None:
            both = [n.fit(OwnSamples()) for n in both]
            np.testing.assert_array_equal(*(n.predict(X) for n in both))
