"""What skorch documents, on our estimators as on skorch's own net."""

import inspect

import numpy as np
import pandas as pd
import pytest
import skorch.callbacks
import skorch.dataset
import skorch.helper
import torch
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import (
    BatchScoring,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    Freezer,
    GradientNormClipping,
    Initializer,
    InputShapeSetter,
    LoadInitState,
    LRScheduler,
    ParamMapper,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    TrainEndCheckpoint,
    Unfreezer,
    WarmRestartLR,
)
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from skorch.helper import (
    DataFrameTransformer,
    SkorchDoctor,
    SliceDataset,
    SliceDict,
    predefined_split,
)
from torch import nn
from torch.utils.data import TensorDataset

from sk_advbp import AdvBPClassifier, AdvBPRegressor

RNG = np.random.default_rng(0)
CODES = np.arange(60) % 3
X = (np.eye(4)[CODES] * 2 + RNG.normal(size=(60, 4))).astype("f4")
T, U = torch.tensor(X), torch.tensor(CODES)
DATA = TensorDataset(T, U)


class Net(nn.Module):
    def __init__(self, input_dim=4, width=8):
        super().__init__()
        self.hidden = nn.Linear(input_dim, width)
        self.output = nn.Linear(width, 3)

    def forward(self, x):
        return self.output(torch.relu(self.hidden(x)))


class WithProbabilities(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)


class WithTwoOutputs(Net):
    def forward(self, x):
        return super().forward(x), x


class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.LazyLinear(3))


COMMON = {"max_epochs": 3, "batch_size": 16, "optimizer": torch.optim.SGD}


def skorchs(module=Net, criterion=nn.CrossEntropyLoss, **params):
    defaults = {"train_split": None, "verbose": 0, "lr": 0.1}
    return NeuralNetClassifier(module, criterion=criterion, **COMMON | defaults | params)


def ours(module=Net, criterion=nn.CrossEntropyLoss, **params):
    params = COMMON | {"lr": 0.1, "lr_schedule": "constant"} | params
    return AdvBPClassifier(module=module, criterion=criterion, epsilon=0.05, **params)


def perceptron(**params):
    of_size = {"module__in_features": 4, "classes": [0, 1, 2], "lr_schedule": "constant"}
    return AdvBPClassifier((8,), epsilon=0.05, **COMMON | of_size | {"lr": 0.1} | params)


OURS = {"own module": ours, "perceptron": perceptron}
CASES = {}


def case(*names):
    """Have a function of (make, folder) run beside skorch's; it covers public `names`."""

    def register(function):
        CASES[function.__name__] = function, names
        return function

    return register


def with_callbacks(make, *callbacks, **params):
    return make(callbacks=list(callbacks), **params).fit(X, CODES)


# ---- callbacks -------------------------------------------------------------------------


@case("Checkpoint", "LoadInitState")
def checkpoint(make, folder):
    keep = Checkpoint(dirname=folder, monitor="train_loss_best")
    net = with_callbacks(make, keep)
    loaded = with_callbacks(make, keep, LoadInitState(keep))
    return sorted(f.name for f in folder.iterdir()), len(loaded.history) > len(net.history)


@case("TrainEndCheckpoint")
def train_end_checkpoint(make, folder):
    keep = TrainEndCheckpoint(dirname=folder)
    with_callbacks(make, keep)
    loaded = with_callbacks(make, keep, LoadInitState(keep))
    return sorted(f.name for f in folder.iterdir()), len(loaded.history)


@case("ProgressBar", "PrintLog", "EpochTimer")
def prints(make, folder):
    lines = []
    log = PrintLog(sink=lines.append)
    net = with_callbacks(make, ProgressBar(detect_notebook=False), log, EpochTimer(), verbose=1)
    return "dur" in net.history[-1], len(lines) > 3


@case("BatchScoring", "PassthroughScoring", "EpochScoring")
def scorings(make, folder):
    options = {"lower_is_better": False, "on_train": True}
    net = with_callbacks(
        make,
        ("a", BatchScoring("accuracy", name="of_batches", **options)),
        ("b", EpochScoring("accuracy", name="of_epoch", **options)),
        ("c", PassthroughScoring("train_loss", on_train=True)),
    )
    last = net.history[-1]
    return {"of_batches", "of_epoch", "train_loss_best"} <= last.keys(), type(last["of_epoch"])


@case("LRScheduler", "WarmRestartLR")
def schedules(make, folder):
    rates = []
    for scheduler in (
        LRScheduler(WarmRestartLR, min_lr=0.001, max_lr=0.1, base_period=1),
        LRScheduler("StepLR", step_size=1, gamma=0.5),
        LRScheduler("ReduceLROnPlateau", monitor="train_loss"),
        LRScheduler("CyclicLR", step_every="batch", base_lr=0.01, max_lr=0.1, cycle_momentum=False),
    ):
        net = with_callbacks(make, scheduler)
        rates.append([row.get("event_lr") for row in net.history.to_list()])
    return rates[0], rates[1], rates[3], scheduler.simulate(3, 0.1).tolist()


@case("Freezer", "Unfreezer", "Initializer", "ParamMapper")
def mappers(make, folder):
    def constant(p):
        return nn.init.constant_(p, 0.25)

    net = with_callbacks(make, Initializer("*weight", fn=constant), Freezer("*weight"))
    thawed = with_callbacks(make, Freezer("*bias"), Unfreezer("*bias", at=2))
    mapped = with_callbacks(make, ParamMapper("*", fn=constant, at=1), lr=1e-30)
    return [
        {float(p.detach().min()) for n, p in net.module_.named_parameters() if "weight" in n},
        all(p.requires_grad for p in thawed.module_.parameters()),
        {float(p.detach().max()) for p in mapped.module_.parameters()},
    ]


@case("GradientNormClipping", "EarlyStopping")
def others(make, folder):
    stop = EarlyStopping("train_loss", patience=1, threshold=9.0, threshold_mode="abs")
    stopped = with_callbacks(make, stop, max_epochs=9)
    clipped = with_callbacks(make, GradientNormClipping(1e-30), max_epochs=1)
    return len(stopped.history), len(clipped.history), stop.best_epoch_


@case("InputShapeSetter")
def input_shape(make, folder):
    if make is perceptron:
        setter, of_size = InputShapeSetter(param_name="in_features"), "module__in_features"
    else:
        setter, of_size = InputShapeSetter(), "module__input_dim"
    net = with_callbacks(make, setter, **{of_size: 1})
    again = net.fit(X[:, :2], CODES)
    return net.get_params()[of_size], again.predict(X[:, :2]).shape


@case("SkorchDoctor")
def doctor(make, folder):
    found = SkorchDoctor(make()).fit(X, CODES)
    counts = [len(r) for r in (found.activation_recs_, found.gradient_recs_)]
    return [len(r) for r in found.activation_recs_.values()], len(counts)


@case("set_params")
def parameters_of_callbacks(make, folder):
    stop = EarlyStopping("train_loss", patience=9)
    net = with_callbacks(make, ("stop", stop))
    net.set_params(callbacks__stop__patience=3)
    net.partial_fit(X, CODES)
    return stop.patience


# ---- helpers ---------------------------------------------------------------------------


@case("SliceDataset", "SliceDict")
def slices(make, folder):
    x, y = SliceDataset(DATA), SliceDataset(DATA, idx=1)
    net = make().fit(x, y)
    search = GridSearchCV(make(), {"lr": [0.01, 0.1]}, cv=2, scoring="accuracy")
    scores = cross_val_score(make(), x[np.arange(50)], CODES[:50], cv=2)
    found = [search.fit(x, target).cv_results_["mean_test_score"] for target in (y, CODES)]
    return net.predict(x[5:20]).shape, np.isfinite([*found, scores]).all()


@case("predefined_split", "ValidSplit", "Dataset", "get_split_datasets")
def splits(make, folder):
    held_out = make(train_split=predefined_split(SkorchDataset(X[:9], CODES[:9]))).fit(X, CODES)
    net = make(train_split=ValidSplit(3)).fit(X, CODES)
    parts = net.get_split_datasets(X, CODES)
    return [len(part) for part in parts], len(held_out.history[:, "valid_loss"])


# ---- methods ---------------------------------------------------------------------------


@case("forward", "forward_iter", "get_dataset", "get_iterator")
def forward(make, folder):
    net = make().fit(X, CODES)
    shapes = [tuple(net.forward(x).shape) for x in (X, T, DATA, X[::-1], X[::2])]
    grads = net.forward(T, training=True).requires_grad, net.forward(T).requires_grad
    total = sum(len(part) for part in net.forward_iter(T))
    lengths = [len(net.get_dataset(x, y)) for x, y in ((X, CODES), (T, U))]
    rows = sum(len(x) for x, _ in net.get_iterator(net.get_dataset(T), training=True))
    return shapes, grads, total, lengths, rows, len(net.get_dataset(X, CODES)[0])


@case("infer", "evaluation_step", "validation_step", "train_step", "train_step_single")
def steps(make, folder):
    net = make().fit(X, CODES)
    batch = T[:5], U[:5]
    found = [sorted({"loss", "y_pred"} & set(getattr(net, name)(batch))) for name in STEPS]
    return found, [tuple(net.infer(x).shape) for x in (T, X)], len(net.evaluation_step(batch))


STEPS = ("validation_step", "train_step", "train_step_single")


@case("get_loss", "get_train_step_accumulator", "get_all_learnable_params", "get_params_for")
def pieces(make, folder):
    net = make().fit(X, CODES)
    logits = net.forward(T)
    expected = float(nn.functional.cross_entropy(logits, U))
    found = [float(net.get_loss(logits, y)) for y in (U, CODES)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    accumulator = type(net.get_train_step_accumulator())
    return accumulator, len(list(net.get_all_learnable_params())), net.get_params_for("optimizer")


@case("fit_loop", "run_single_epoch", "notify", "history")
def loops(make, folder):
    net = make().fit(X, CODES)
    net.fit_loop(X, CODES, epochs=2)
    net.notify("on_epoch_end", dataset_train=DATA, dataset_valid=None)
    net.history.new_epoch()
    iterator = net.get_iterator(DATA, training=True)
    net.run_single_epoch(iterator, training=True, prefix="train", step_fn=net.train_step)
    return len(net.history)


@case("initialize", "save_params", "load_params", "partial_fit")
def saved_and_loaded(make, folder):
    """Of a net that is built, loaded, and trained a little, the weights are those loaded."""
    net = make().fit(X, CODES)
    files = {f"f_{n}": folder / n for n in ("params", "optimizer", "criterion", "history")}
    net.save_params(**files)
    lengths = []
    for go_on in ("partial_fit", "fit"):
        other = make(warm_start=True, max_epochs=1).initialize()
        other.load_params(**files)
        other.set_params(lr=1e-30)
        getattr(other, go_on)(X, CODES)
        assert all(map(torch.equal, other.module_.parameters(), net.module_.parameters()))
        lengths.append(len(other.history))
    np.testing.assert_array_equal(other.predict(X), net.predict(X))
    return lengths


@case("trim_for_prediction", "get_params", "check_is_fitted", "check_training_readiness")
def trimmed(make, folder):
    net = with_callbacks(make, ("timer", EpochTimer()))
    known = {"callbacks__timer", "lr", "max_epochs"} <= net.get_params().keys()
    net.trim_for_prediction()
    with pytest.raises(Exception, match="trimmed for prediction"):
        net.fit(X, CODES)
    return known, net.predict(X).shape, net.callbacks_


@case("predict", "predict_proba", "fit", "score")
def lazy_modules(make, folder):
    net = make() if make is perceptron else make(Lazy)
    net.fit(X, CODES)
    return net.predict_proba(X).shape, net.predict(T).shape


@case("get_default_callbacks")
def default_callbacks(make, folder):
    return isinstance(make().get_default_callbacks(), list)


@case("initialize_module", "initialize_criterion", "initialize_optimizer", "initialized_instance")
@case("initialize_callbacks", "initialize_history", "initialize_virtual_params")
def built(make, folder):
    net = make().initialize()
    for name in ("module", "criterion", "optimizer", "callbacks", "history", "virtual_params"):
        getattr(net, f"initialize_{name}")()
    return net.initialized_, isinstance(net.initialized_instance(nn.Linear(2, 2), {}), nn.Linear)


@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
@pytest.mark.parametrize("name", CASES)
def test_as_skorchs_own_net(name, make, tmp_path, capsys):
    found = []
    for i, of in enumerate((skorchs, make)):
        folder = tmp_path / str(i)
        folder.mkdir()
        torch.manual_seed(0)
        found.append(CASES[name][0](of, folder))
    assert found[0] == found[1] or name in ("doctor", "pieces")


# What needs a package beyond ours and tqdm, or is no part of a net like ours.
LEFT_OUT = {
    *("NeptuneLogger", "WandbLogger", "TensorBoard", "SacredLogger", "MlflowLogger"),
    *("TrackioLogger", "Callback", "AccelerateMixin", "parse_args"),
    # told by skorch to a net, or a piece of scikit-learn's protocol
    *("on_train_begin", "on_train_end", "on_epoch_begin", "on_epoch_end", "on_batch_begin"),
    *("on_batch_end", "on_grad_computed", "check_data", "torch_compile", "set_fit_request"),
    *("set_partial_fit_request", "set_score_request", "get_metadata_routing"),
    *("get_params_for_optimizer",),  # by `get_params_for` and every fit
    *("DataFrameTransformer",),  # below: refused
}


def test_nothing_of_skorch_is_forgotten():
    public = {*skorch.callbacks.__all__, *skorch.helper.__all__}
    methods = inspect.getmembers(NeuralNet, inspect.isfunction)
    public |= {name for name, _ in methods if not name.startswith("_")}
    covered = {name for _, names in CASES.values() for name in names} | {"initialize_callbacks"}
    covered |= {"initialize_history", "initialize_virtual_params"}
    assert public - covered - LEFT_OUT == set()


# ---- what differs ----------------------------------------------------------------------


@pytest.mark.parametrize("given", [X.tolist(), pd.DataFrame(X), np.asfortranarray(X)], ids=type)
@pytest.mark.parametrize("make", OURS.values(), ids=OURS)
def test_forward_takes_what_predict_takes(make, given):
    net = make().fit(X, CODES)
    torch.testing.assert_close(net.forward(given), net.forward(X))
    with pytest.raises(ValueError, match="2 features, but"):
        net.forward(X[:, :2])


@pytest.mark.parametrize(
    "given",
    [
        SliceDict(x=X),
        {"x": X},
        DataFrameTransformer().fit_transform(pd.DataFrame(X, columns=[*"abcd"])),
    ],
    ids=["SliceDict", "dict", "DataFrameTransformer"],
)
def test_several_inputs_are_refused(given):
    with pytest.raises(ValueError, match="X must be one array"):
        ours().fit(given, CODES)


def test_nll_loss_takes_probabilities_of_modules_and_logits_of_the_perceptron():
    net = ours(WithProbabilities, nn.NLLLoss, max_epochs=20).fit(X, CODES)
    with torch.no_grad():
        np.testing.assert_allclose(net.predict_proba(X), net.module_(T), rtol=1e-6)
        expected = -torch.log(net.module_(T)[range(60), CODES]).mean()
    assert float(net.get_loss(net.forward(X), CODES)) == pytest.approx(float(expected), rel=1e-4)
    np.testing.assert_allclose(net.predict_log_proba(X), np.log(net.predict_proba(X)), atol=1e-3)
    assert net.score(X, CODES) > 0.7
    same = [perceptron(criterion=c, random_state=0) for c in (nn.NLLLoss, nn.CrossEntropyLoss)]
    np.testing.assert_allclose(*(n.fit(X, CODES).predict_proba(X) for n in same), rtol=1e-4)


def test_nll_loss_takes_logarithms_too_and_refuses_anything_else():
    linear = nn.Linear(4, 3)
    nets = [
        ours(nn.Sequential(linear, nn.LogSoftmax(1)), nn.NLLLoss, random_state=0),
        ours(nn.Sequential(linear), random_state=0),
    ]
    np.testing.assert_allclose(*(n.fit(X, CODES).predict_proba(X) for n in nets), rtol=1e-4)
    for module in (Net, nn.Sequential(linear, nn.Sigmoid()), nn.Sequential(linear, nn.ReLU())):
        with pytest.raises(ValueError, match="module must return probabilities"):
            ours(module, nn.NLLLoss).fit(X, CODES)


def test_of_several_outputs_the_first_counts():
    class Reconstructing(AdvBPClassifier):
        def get_loss(self, y_pred, y_true, X=None, training=False):
            logits, again = y_pred
            assert again.shape[1] == 4
            return super().get_loss(logits, y_true, X=X, training=training)

    params = {"module": WithTwoOutputs, "max_epochs": 3, "early_stopping": True}
    params |= {"validation_fraction": 0.3, "random_state": 0}
    net, plain, usual = (
        estimator(**params | {"module": module}).fit(X, CODES)
        for estimator, module in (
            (Reconstructing, WithTwoOutputs),
            (AdvBPClassifier, WithTwoOutputs),
            (AdvBPClassifier, Net),
        )
    )
    logits, again = net.forward(X)
    assert logits.shape == (60, 3) and torch.equal(again, T)
    for other in (plain, usual):
        np.testing.assert_array_equal(net.predict_proba(X), other.predict_proba(X))
        np.testing.assert_array_equal(
            net.adversarial_examples(X, CODES), other.adversarial_examples(X, CODES)
        )


def test_a_net_that_is_only_built_predicts_nothing():
    net = perceptron().initialize()
    for method in (net.predict, net.forward, lambda X: net.fit_loop(X, CODES)):
        with pytest.raises(NotFittedError):
            method(X)
    with pytest.raises(ValueError, match="give module__in_features, and classes"):
        AdvBPClassifier().initialize()
    with pytest.raises(ValueError, match="lazy layers"):
        ours(Lazy).initialize()


def test_a_regressor_goes_on_from_loaded_weights(tmp_path):
    y = X[:, 0] * 100 + 5
    params = {"max_epochs": 1, "module__in_features": 4, "module__out_features": 1, "lr": 1e-30}
    net = AdvBPRegressor((8,), **params, dtype="float32").fit(X, y)
    net.save_params(f_params=tmp_path / "weights")
    other = AdvBPRegressor((8,), **params, random_state=5).initialize()
    other.load_params(f_params=tmp_path / "weights")
    np.testing.assert_array_equal(other.partial_fit(X, y).predict(X), net.predict(X))
    other = AdvBPRegressor((8,), **params, warm_start=True).initialize()
    before = [p.clone() for p in other.module_.parameters()]
    with pytest.raises(ValueError, match="finite numbers"):
        other.fit(X, np.array(["a"] * 60))
    assert all(map(torch.equal, other.module_.parameters(), before))


def test_a_built_net_takes_only_data_that_fit():
    net = perceptron(warm_start=True).initialize()
    with pytest.raises(ValueError, match="labels that are not among the classes"):
        net.partial_fit(X, CODES + 1)
    own = ours(warm_start=True).initialize()
    with pytest.raises(ValueError, match=r"tensor of shape \(n, 2\)"):
        own.fit(X[CODES < 2], CODES[CODES < 2])
    assert own.fit(X, CODES).score(X, CODES) > 0


def test_steps_outside_of_a_training_are_adversarial_too():
    moved = []

    class Watched(Net):
        def forward(self, x):
            moved.append(x.detach().clone())
            return super().forward(x)

    net = ours(Watched, random_start=0.5, random_state=0).fit(X, CODES)
    state = set(vars(net))
    moved.clear()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    net.train_step_single((T, U))
    assert len(moved) == 2 and 0 < (moved[1] - T).abs().max() <= 0.05 + 1e-6
    net.fit_loop(X, CODES, epochs=1)
    assert set(vars(net)) == state and torch.equal(torch.get_rng_state(), before)
