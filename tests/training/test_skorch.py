"""skorch's world: callbacks, history, checkpoints, datasets, iterators, custom modules."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score
from skorch import NeuralNetClassifier
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    LRScheduler,
    PrintLog,
    TrainEndCheckpoint,
)
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from sk_advbp import AdvBPClassifier

RNG = np.random.default_rng(0)
CENTERS = np.array([[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]])
N = 90
CODES = np.arange(N) % 3
Y = np.array(["ant", "bee", "cat"])[CODES]
X = CENTERS[CODES] + RNG.normal(size=(N, 4)) * 0.5
X32 = X.astype(np.float32)


def classifier(**params):
    defaults = {
        "hidden_layer_sizes": (8,),
        "max_epochs": 4,
        "batch_size": 16,
        "lr": 0.02,
        "random_state": 0,
    }
    return AdvBPClassifier(**defaults | params)


def weights(net):
    return [p.detach().numpy().tobytes() for p in net.module_.parameters()]


class OwnDataset(Dataset):
    """One that hands out samples and tells nothing of its arrays."""

    def __len__(self):
        return N

    def __getitem__(self, i):
        return X32[i], CODES[i]


class Net(nn.Module):
    """One hidden layer, with statistics."""

    def __init__(self, n_features=4, width=8, n_classes=3):
        super().__init__()
        self.hidden = nn.Linear(n_features, width)
        self.output = nn.Linear(width, n_classes)

    def forward(self, X):
        return self.output(torch.relu(self.hidden(X)))


class Recorder(Callback):
    """Write down what it is told."""

    def __init__(self):
        self.calls = []

    def initialize(self):
        self.calls.append(("initialize", {}))
        return self

    def on_train_begin(self, net, **kwargs):
        self.calls.append(("on_train_begin", kwargs))

    def on_epoch_end(self, net, **kwargs):
        self.calls.append(("on_epoch_end", kwargs))


class BatchRecorder(Recorder):
    def on_batch_end(self, net, batch, training, loss, y_pred, **kwargs):
        self.calls.append(("on_batch_end", {"loss": float(loss), "shape": tuple(y_pred.shape)}))

    def on_grad_computed(self, net, named_parameters, **kwargs):
        gradients = {name: p.grad.clone() for name, p in named_parameters}
        self.calls.append(("on_grad_computed", gradients))

    def of(self, name):
        return [kwargs for called, kwargs in self.calls if called == name]


def test_is_a_skorch_net():
    assert issubclass(AdvBPClassifier, NeuralNetClassifier)
    net = classifier().fit(X, Y)
    assert net.initialized_ and len(net.history) == 4
    assert {"epoch", "dur", "train_loss", "train_loss_best"} <= net.history[-1].keys()


# ---- callbacks -------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [Y, CODES, CODES * 10 + 1], ids=["strings", "codes", "tens"])
@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("on_train", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_epoch_scoring(labels, use_caching, on_train, weighted):
    """The scores are those of the net on the data; a function gets what predict takes."""

    def own(net, X, y):
        return accuracy_score(y, net.predict(X))

    scorings = {"accuracy": "accuracy", "loss": "neg_log_loss", "own": own}
    callbacks = [
        EpochScoring(s, name=n, use_caching=use_caching, on_train=on_train, lower_is_better=False)
        for n, s in scorings.items()
    ]
    net = classifier(callbacks=callbacks, train_split=ValidSplit(3), epsilon=0, max_epochs=10)
    net.fit(X, labels, np.linspace(1, 2, N) if weighted else None)
    last = net.history[-1]
    assert last["accuracy"] == last["own"] > 0.9
    assert -0.6 < last["loss"] < 0
    if not on_train and not weighted:
        assert last["accuracy"] == pytest.approx(last["valid_acc"])


def test_early_stopping_scheduler_and_others_of_skorch():
    stop = EarlyStopping("train_loss", patience=2, threshold=10.0, threshold_mode="abs")
    net = classifier(callbacks=[stop], max_epochs=20).fit(X, Y)
    assert net.n_iter_ == 3 and stop.misses_ == 2
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.5)
    net = classifier(callbacks=[schedule], lr_schedule="constant").fit(X, Y)
    assert net.history[:, "event_lr"] == [0.02, 0.01, 0.005, 0.0025]
    frozen = classifier(callbacks=[Freezer("layers.0.*")]).fit(X, Y)
    first = classifier(lr=1e-300, max_epochs=1).fit(X, Y)
    assert weights(frozen)[:2] == weights(first)[:2] and weights(frozen)[2:] != weights(first)[2:]
    clipped = classifier(callbacks=[GradientNormClipping(1e-12)], optimizer=torch.optim.SGD)
    np.testing.assert_allclose(
        clipped.fit(X, Y).predict_proba(X), first.predict_proba(X), rtol=1e-6
    )


def test_callbacks_are_the_users_own_objects_initialised_at_each_fit():
    recorder = Recorder()
    net = classifier(callbacks=[recorder], max_epochs=2).fit(X, Y)
    assert dict(net.callbacks_)["Recorder"] is recorder
    net.fit(X, Y)
    names = [name for name, _ in recorder.calls]
    assert names == ["initialize", "on_train_begin", "on_epoch_end", "on_epoch_end"] * 2
    begin = recorder.calls[1][1]
    np.testing.assert_array_equal(begin["X"], X)
    np.testing.assert_array_equal(begin["y"], Y)
    assert "dataset_train" in recorder.calls[2][1]


@pytest.mark.parametrize("module", [None, Net], ids=["own", "custom"])
@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
def test_batch_and_gradient_hooks(module, clean_weight):
    recorder = BatchRecorder()
    net = classifier(callbacks=[recorder], module=module, clean_weight=clean_weight).fit(X, Y)
    batches, gradients = recorder.of("on_batch_end"), recorder.of("on_grad_computed")
    assert len(batches) == len(gradients) == 4 * 6
    named = dict(net.module_.named_parameters())
    assert all(g.keys() == named.keys() for g in gradients)
    assert all(g[k].shape == named[k].shape and g[k].any() for g in gradients for k in g)
    assert [b["shape"] for b in batches[:6]] == [(16, 3)] * 5 + [(10, 3)]
    recorded = [b["loss"] for b in batches[:6]]
    assert net.history[0, "batches", :, "train_loss"] == pytest.approx(recorded)
    mean = np.average(recorded, weights=[16] * 5 + [10])
    assert net.history[0, "train_loss"] == pytest.approx(mean)
    # To listen changes nothing.
    assert weights(net) == weights(classifier(module=module, clean_weight=clean_weight).fit(X, Y))


def test_batches_are_recorded_only_where_somebody_listens():
    net = classifier(callbacks=[Recorder()]).fit(X, Y)
    assert all(len(row["batches"]) == 0 for row in net.history.to_list())
    assert net.history[:, "train_batch_count"] == [6] * 4


def test_set_params_of_callbacks_and_disable(capsys):
    net = classifier(verbose=1).set_params(callbacks__print_log=None).fit(X, Y)
    assert "print_log" not in dict(net.callbacks_) or dict(net.callbacks_)["print_log"] is None
    assert capsys.readouterr().out == ""
    assert weights(classifier(callbacks="disable").fit(X, Y)) == weights(classifier().fit(X, Y))
    patience = EarlyStopping("train_loss", patience=1)
    net = classifier(callbacks=[("stop", patience)], callbacks__stop__patience=9).fit(X, Y)
    assert dict(net.callbacks_)["stop"].patience == 9


class HalveTheRate(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.set_params(lr=net.lr / 2)


def test_a_callback_may_change_the_rate_while_training():
    net = classifier(callbacks=[HalveTheRate()], lr_schedule="constant", lr=0.8).fit(X, Y)
    assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(0.05) == net.lr


def test_printed(capsys):
    """One line an epoch with verbose=1, and not a word without."""
    classifier(early_stopping=True).fit(X, Y).partial_fit(X, Y).predict(X)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    classifier(verbose=1, train_split=ValidSplit(3), max_epochs=3).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    header, dashes, *rows = [line for line in lines if line.strip()]
    assert "train_loss" in header and "valid_acc" in header and set(dashes) <= {"-", " "}
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    sink = []
    classifier(callbacks=[PrintLog(sink=sink.append)], verbose=0, max_epochs=2).fit(X, Y)
    assert len(sink) == 4


# ---- saved parameters ------------------------------------------------------------------


@pytest.mark.parametrize("module", [None, Net], ids=["own", "custom"])
def test_checkpoint(tmp_path, module):
    checkpoint = Checkpoint(monitor="train_loss_best", dirname=tmp_path, load_best=False)
    end = TrainEndCheckpoint(dirname=tmp_path / "end")
    net = classifier(module=module, callbacks=[checkpoint, end]).fit(X, Y)
    assert net.history[-1, "train_loss_best"] is True
    saved = tmp_path / "end"
    files = {"f_params": "train_end_params.pt", "f_history": "train_end_history.json"}
    for source in ({"checkpoint": checkpoint}, {k: saved / v for k, v in files.items()}):
        other = classifier(module=module, random_state=5, max_epochs=1).fit(X, Y)
        assert weights(other) != weights(net)
        other.load_params(**source)
        assert weights(other) == weights(net) and other.loss_curve_ == net.loss_curve_
        np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))


@pytest.mark.parametrize("use_safetensors", [False, True])
def test_saved_parameters(tmp_path, use_safetensors):
    if use_safetensors:
        pytest.importorskip("safetensors")
    net, other = classifier().fit(X, Y), classifier(random_state=1).fit(X, Y)
    path = tmp_path / "weights"
    net.save_params(f_params=path, use_safetensors=use_safetensors)
    other.load_params(f_params=path, use_safetensors=use_safetensors)
    assert weights(other) == weights(net)
    if not use_safetensors:
        files = {f"f_{n}": tmp_path / n for n in ("params", "optimizer", "history", "criterion")}
        net.save_params(**files)
        other.load_params(**files)
        assert other.loss_curve_ == net.loss_curve_
        state = net.optimizer_.state_dict()["state"][0]["exp_avg"]
        assert torch.equal(other.optimizer_.state_dict()["state"][0]["exp_avg"], state)


def test_initialize_then_load_params(tmp_path):
    net = classifier(module=Net).fit(X, Y)
    net.save_params(f_params=tmp_path / "weights")
    other = classifier(module=Net, classes=np.unique(Y)).initialize()
    other.load_params(f_params=tmp_path / "weights")
    assert weights(other) == weights(net)


# ---- validation sets, datasets, iterators ----------------------------------------------

VALID = X[:30] + 0.1
SPLITS = {
    "folds": (ValidSplit(3, stratified=True), Y),
    "share": (ValidSplit(0.25, random_state=0), Y),
    "strings": (predefined_split(SkorchDataset(VALID, Y[:30])), Y),
    "float32": (predefined_split(SkorchDataset(VALID.astype(np.float32), Y[:30])), Y),
    "tensors": (
        predefined_split(TensorDataset(torch.tensor(VALID), torch.tensor(CODES[:30]))),
        CODES,
    ),
    "tens": (predefined_split(SkorchDataset(VALID, 10 * CODES[:30])), 10 * CODES),
}


@pytest.mark.parametrize("split, labels", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_train_split(split, labels, early_stopping):
    net = classifier(train_split=split, early_stopping=early_stopping, max_epochs=12)
    net.fit(X, labels)
    assert len(net.validation_scores_) == net.n_iter_ and max(net.validation_scores_) > 0.9
    assert np.isfinite(net.history[:, "valid_loss"]).all()
    if isinstance(split, ValidSplit):
        assert net.history[-1, "train_batch_count"] < 6
        return
    assert net.history[-1, "train_batch_count"] == 6
    scores = net.validation_scores_
    score = net.score(VALID, labels[:30])
    # Early stopping keeps the best weights.
    assert score == pytest.approx(max(scores) if early_stopping else scores[-1])


@pytest.mark.parametrize(
    "given",
    [
        (OwnDataset(),),
        (TensorDataset(torch.tensor(X32), torch.tensor(CODES)),),
        (SkorchDataset(X32, CODES),),
        (torch.tensor(X32), torch.tensor(CODES)),
        (SkorchDataset(X32, CODES), CODES),
    ],
    ids=["own", "TensorDataset", "skorch's", "tensors", "with y"],
)
@pytest.mark.parametrize("params", [{}, {"early_stopping": True, "validation_fraction": 0.3}])
def test_datasets_train_as_arrays_do(given, params):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    net = classifier(**params).fit(*given)
    reference = classifier(**params).fit(X32, CODES)
    probabilities = net.predict_proba(given[0])
    assert torch.equal(torch.get_rng_state(), before)
    if isinstance(given[0], OwnDataset):
        # DataLoader spends a number of the generator on a seed for its workers.
        assert net.loss_curve_[-1] < net.loss_curve_[0]
    else:
        assert weights(net) == weights(reference)
    np.testing.assert_allclose(probabilities, net.predict_proba(X32), rtol=1e-5)
    assert net.predict(given[0]).tolist() == net.predict(X32).tolist()
    assert (net.n_features_in_, net.classes_.tolist()) == (4, [0, 1, 2])


def test_own_dataset_in_its_order_trains_as_arrays_do():
    order = {"iterator_train__shuffle": False}
    assert weights(classifier(**order).fit(OwnDataset())) == weights(
        classifier(**order).fit(X32, CODES)
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_own_iterators(weighted):
    """A DataLoader's batches, in order, from the same initial weights, train the same."""
    w = np.linspace(0.5, 2, N) if weighted else None
    module = {"module": Net().double(), "dtype": "float64", "batch_size": 7}
    loaders = {"iterator_train": DataLoader, "iterator_valid": DataLoader}
    theirs = classifier(**module, **loaders).fit(X, Y, w)
    ours = classifier(**module, iterator_train__shuffle=False).fit(X, Y, w)
    assert weights(theirs) == weights(ours) and theirs.loss_curve_ == ours.loss_curve_
    np.testing.assert_allclose(theirs.predict_proba(X), ours.predict_proba(X), rtol=1e-12)
    options = {"iterator_train__shuffle": True, "early_stopping": True, "validation_fraction": 0.3}
    net = classifier(**loaders, **options, max_epochs=8).fit(X, Y, w)
    assert net.score(X, Y) > 0.9 and len(net.validation_scores_) == net.n_iter_


def test_drop_last_and_single_batch():
    net = classifier(iterator_train__drop_last=True).fit(X, Y)
    assert net.history[:, "train_batch_count"] == [5] * 4
    assert classifier(batch_size=-1).fit(X, Y).history[:, "train_batch_count"] == [1] * 4


class Scaled(Dataset):
    """One that has arrays, and makes something else of them."""

    def __init__(self, X, y):
        self.X, self.y = 1024 * X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i] / 1024, self.y[i]


def test_a_dataset_that_has_arrays_still_makes_its_samples():
    order = {"iterator_train__shuffle": False, "max_epochs": 20}
    valid = Scaled(X32[:30], CODES[:30])
    net = classifier(train_split=predefined_split(valid), **order).fit(Scaled(X32, CODES))
    reference = classifier(train_split=predefined_split(valid), **order).fit(X32, CODES)
    assert weights(net) == weights(reference)
    assert net.validation_scores_[-1] == pytest.approx(net.score(X32[:30], CODES[:30]))


@pytest.mark.parametrize("rows", [range(5, N), list(range(5, N)), np.arange(5, N)], ids=type)
def test_subsets_of_arrays(rows):
    reference = classifier().fit(X32[5:], CODES[5:])
    for whole in (
        TensorDataset(torch.tensor(X32), torch.tensor(CODES)),
        SkorchDataset(X32, CODES),
        SkorchDataset(pd.DataFrame(X32), CODES),
    ):
        assert weights(classifier().fit(Subset(whole, rows))) == weights(reference)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
@pytest.mark.parametrize("params", [{}, {"module": Net}], ids=["ours", "own module"])
def test_labels_of_any_dtype(dtype, params):
    class Labels(OwnDataset):
        def __getitem__(self, i):
            return X32[i], dtype(CODES[i])

    held_out = {"early_stopping": True, "validation_fraction": 0.3, "dtype": "float32"}
    net, reference = (classifier(**params, **held_out).fit(d) for d in (Labels(), OwnDataset()))
    assert weights(net) == weights(reference)
    assert net.validation_scores_ == reference.validation_scores_


class Augmented(OwnDataset):
    def __getitem__(self, i):
        return X32[i] + 0.1 * torch.randn(4).numpy(), CODES[i]


def test_a_dataset_that_draws_is_repeatable_and_leaves_no_trace():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first = classifier().fit(Augmented())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(4)
    assert weights(classifier().fit(Augmented())) == weights(first)


@pytest.mark.parametrize("sample", [{"a": X32[0]}, 1.0], ids=["dict", "number"])
def test_samples_that_are_no_arrays(sample):
    class Odd(OwnDataset):
        def __getitem__(self, i):
            return sample, CODES[i]

    with pytest.raises(ValueError, match=f"Got {type(sample).__name__} as the first x"):
        classifier().fit(Odd())


class Zeroed(Subset):
    """A subset that does more than to choose rows."""

    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return 0 * x, y

    __getitems__ = None


def test_a_subset_that_makes_something_else_of_its_samples():
    arrays = TensorDataset(torch.tensor(X32), torch.tensor(CODES))
    order = {"iterator_train__shuffle": False}
    net = classifier(**order).fit(Zeroed(arrays, range(N)))
    assert weights(net) == weights(classifier(**order).fit(0 * X32, CODES))


def test_a_dataset_without_y():
    with pytest.raises(ValueError, match="requires y"):
        classifier().fit(SkorchDataset(X32))
    net = classifier().fit(SkorchDataset(X32), Y)
    assert weights(net) == weights(classifier().fit(X32, Y))


def test_validation_on_a_dataset_that_draws_leaves_no_trace():
    scores = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        net = classifier(early_stopping=True, validation_fraction=0.3).fit(Augmented())
        assert torch.equal(torch.get_rng_state(), before)
        scores.append(net.history[:, "valid_loss"])
    assert scores[0] == scores[1]


class OneOfMany(nn.Module):
    """A loss that wants numbers for labels."""

    def __init__(self, reduction):
        super().__init__()

    def forward(self, logits, y):
        return nn.functional.binary_cross_entropy_with_logits(logits[:, 1], y, reduction="none")


def test_a_loss_of_ones_own_gets_the_labels_of_a_dataset_as_they_are():
    class Numbers(OwnDataset):
        def __getitem__(self, i):
            return X32[i], np.float32(CODES[i] == 1)

    net = classifier(criterion=OneOfMany).fit(Numbers())
    assert net.loss_curve_[-1] < net.loss_curve_[0]


class DrawnLoss(nn.Module):
    """A loss with weights that it draws."""

    def __init__(self, reduction):
        super().__init__()
        self.weight = torch.rand(3)

    def forward(self, logits, y):
        return nn.functional.cross_entropy(logits, y, self.weight.to(logits), reduction="none")


@pytest.mark.parametrize("iterator", [{}, {"iterator_train": DataLoader}], ids=["", "DataLoader"])
def test_a_loss_that_draws_is_repeatable_and_leaves_no_trace(iterator):
    trained = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        trained.append(weights(classifier(criterion=DrawnLoss, **iterator).fit(X, CODES)))
        assert torch.equal(torch.get_rng_state(), before)
    assert trained[0] == trained[1]
