"""The state that pickles, copies and skops have: arrays and plain values, and what it builds."""

import copy
import io
import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, Freezer, PrintLog
from torch import nn

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor

sio = pytest.importorskip("skops.io")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = np.array(["ant", "bee", "cat"])[X[:, :3].argmax(1)]
NUMBERS = X[:, :2] @ RNG.normal(size=(2, 2))
QUICK = {"hidden_layer_sizes": (6,), "max_epochs": 3, "batch_size": 16, "random_state": 0}

TYPES = [
    "sk_advbp.training.batches.ArrayDataset",
    "sk_advbp.training.batches.Batches",
    "torch.optim.adam.Adam",
]
# {id: (estimator, y, further types of its skops file)}
FITTED = {
    "classifier": (AdvBPClassifier(**QUICK), Y, []),
    "verbose": (AdvBPClassifier(**QUICK, early_stopping=True, verbose=1), Y, []),
    "objects": (AdvBPClassifier(**QUICK), Y.astype(object), []),
    "arrays": (AdvBPClassifier(**QUICK, epsilon=np.full(4, 0.1), clip=(-3, 3)), Y, []),
    "logistic": (AdvBPClassifier(**QUICK, output="logistic", dropout=0.2), Y == "ant", []),
    "rms": (
        AdvBPClassifier(**QUICK, optimizer=torch.optim.RMSprop, optimizer__momentum=0.5),
        Y,
        ["torch.optim.rmsprop.RMSprop"],
    ),
    "regressor": (AdvBPRegressor(**QUICK), NUMBERS, []),
    "several": (AdvBPClassifier(**QUICK, n_nets=3), Y, []),
    "search": (AdvBPClassifierCV(**QUICK, epsilons=2, cv=2), Y, []),
}
fitted = pytest.mark.parametrize("estimator, y, further", FITTED.values(), ids=FITTED)


def tensors(net):
    """Every tensor of the net and of its optimizer, as bytes."""
    optimizer = net.optimizer_.state_dict()["state"].values()
    of_optimizer = [state[k].numpy().tobytes() for state in optimizer for k in sorted(state)]
    return [p.detach().numpy().tobytes() for p in net.module_.parameters()] + of_optimizer


def leaves(value):
    """The objects of a state that are neither dicts, lists nor tuples, and have attributes."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if type(value) in (list, tuple):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


@fitted
def test_the_state_has_arrays_and_plain_values_only(estimator, y, further, capsys):
    state = estimator.fit(X, y).__getstate__()
    plain = (np.ndarray, np.generic, str, int, float, type, type(None))
    assert {type(leaf) for leaf in leaves(state) if not isinstance(leaf, plain)} == set()


@fitted
def test_skops(estimator, y, further, capsys):
    """The documented types, and after loading the same net, which goes on the same."""
    net = estimator.fit(X, y)
    data = sio.dumps(net)
    untrusted = sio.get_untrusted_types(data=data)
    expected = {*TYPES, *further, f"{type(net).__module__}.{type(net).__name__}"}
    assert set(untrusted) == expected - ({"torch.optim.adam.Adam"} if further else set())
    twin = sio.loads(data, trusted=untrusted)
    np.testing.assert_array_equal(twin.predict(X), net.predict(X))
    assert tensors(twin) == tensors(net) and twin.history == net.history
    if not isinstance(net, AdvBPClassifierCV):
        assert tensors(twin.partial_fit(X, y)) == tensors(copy.deepcopy(net).partial_fit(X, y))


def run_if_loaded(path):
    """The bytes of a pickle that leaves a file where it is loaded."""

    class Planted:
        def __reduce__(self):
            return open, (str(path), "w")

    return pickle.dumps(Planted())


def test_a_planted_pickle_does_not_run(tmp_path):
    """In every file of the archive, and as bytes in every attribute, skorch's own too."""
    net = AdvBPClassifier(**QUICK).fit(X, Y)
    trace = tmp_path / "ran"
    planted, data = run_if_loaded(trace), sio.dumps(net)
    trusted = sio.get_untrusted_types(data=data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files["schema.json"])
    assert '"BytesNode"' not in files["schema.json"].decode()
    node = {"__class__": "bytes", "__module__": "builtins", "__loader__": "BytesNode"}
    node |= {"file": "planted.bin", "__id__": 0}
    attributes = schema["content"]["content"]
    variants = [files | {name: planted} for name in files if name != "schema.json"]
    for name in [*attributes, "__cuda_dependent_attributes__"]:
        altered = copy.deepcopy(schema)
        altered["content"]["content"][name] = node
        if name not in attributes:
            altered["content"]["key_types"]["content"].append(
                altered["content"]["key_types"]["content"][0]
            )
        variants.append(files | {"schema.json": json.dumps(altered).encode()})
    assert len(variants) > 60
    refused = 0
    for variant in variants:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in (variant | {"planted.bin": planted}).items():
                archive.writestr(name, content)
        try:
            loaded = sio.loads(buffer.getvalue(), trusted=trusted)
            loaded.predict(X)
            loaded.partial_fit(X, Y)
        except Exception as error:
            refused += "has a pickle in it" in str(error)
        assert not trace.exists()
    assert refused == 1
    pickle.loads(planted).close()
    assert trace.exists()


# ---- pickles and copies ----------------------------------------------------------------


class Net(nn.Sequential):
    def __init__(self, width=5):
        super().__init__(nn.Linear(4, width), nn.ReLU(), nn.BatchNorm1d(width), nn.Linear(width, 3))


class Counter(Callback):
    """A callback that is read after the fit."""

    def __init__(self):
        self.epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.epochs += 1


@pytest.mark.parametrize("module", [Net, Net()], ids=["class", "object"])
def test_a_module_of_ones_own_keeps_what_is_its_own(module):
    net = AdvBPClassifier(module=module, **QUICK).fit(X, Y)
    net.module_.note = {"what": "kept"}
    twin = pickle.loads(pickle.dumps(net))
    assert twin.module_.note == {"what": "kept"}
    assert tensors(twin.partial_fit(X, Y)) == tensors(net.partial_fit(X, Y))


def test_the_net_is_rebuilt_as_it_was_built_whatever_is_set_since():
    net = AdvBPClassifier(**QUICK, dropout=0.1, optimizer__weight_decay=0.1).fit(X, Y)
    net.set_params(hidden_layer_sizes=(9, 9), activation="tanh", optimizer=torch.optim.SGD)
    twin = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(twin.predict_proba(X), net.predict_proba(X))
    assert twin.hidden_layer_sizes == (9, 9) and type(twin.optimizer_) is torch.optim.Adam
    assert tensors(twin) == tensors(net)
    given = {"hidden_layer_sizes": (6,), "activation": "relu", "optimizer": torch.optim.Adam}
    nets = [one.set_params(**given).partial_fit(X, Y) for one in (net, twin)]
    assert tensors(nets[0]) == tensors(nets[1])


def test_groups_of_parameters_with_rates_of_their_own():
    groups = [("layers.1.*", {"lr": 0.1})]
    net = AdvBPClassifier(**QUICK, optimizer__param_groups=groups).fit(X, Y)
    twin = pickle.loads(pickle.dumps(net))
    for one in (net, twin):
        one.partial_fit(X, Y)
        assert [group["lr"] for group in one.optimizer_.param_groups] == [0.1, 0.005]
    assert tensors(twin) == tensors(net)


def test_frozen_parameters_stay_frozen():
    net = AdvBPClassifier(**QUICK, callbacks=[Freezer("layers.0.*")]).fit(X, Y)
    twin = pickle.loads(pickle.dumps(net))
    assert [p.requires_grad for p in twin.module_.parameters()] == [False, False, True, True]


def test_callbacks_of_the_user_are_kept_and_those_of_each_fit_made_anew(capsys):
    lines = []
    own = [Counter(), PrintLog(sink=lines.append)]
    net = AdvBPClassifier(**QUICK, callbacks=own, verbose=1).fit(X, Y)
    twin = copy.deepcopy(net)
    names = ["epoch_timer", "print_log", "Counter", "PrintLog"]
    assert [name for name, _ in twin.callbacks_] == names
    twin.partial_fit(X, Y)
    assert twin.callbacks[0].epochs == 4 and net.callbacks[0].epochs == 3
    assert "dur" in twin.history[-1] and "train_loss" in capsys.readouterr().out


class PickleAtEpoch(Callback):
    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            self.pickled = pickle.dumps(copy.copy(net).set_params(callbacks=None))


def test_a_net_that_is_pickled_while_it_trains():
    taker = PickleAtEpoch()
    AdvBPClassifier(**QUICK, callbacks=[taker]).fit(X, Y)
    twin = pickle.loads(taker.pickled)
    assert twin.n_iter_ == 2 and twin.predict(X).shape == Y.shape
    assert twin._schedule is None and not twin._training


@pytest.mark.parametrize("module", [None, Net], ids=["own", "custom"])
def test_a_net_comes_back_in_the_mode_that_it_was_in(module):
    net = AdvBPClassifier(module=module, **QUICK).fit(X, Y)
    for mode in (False, True):
        net.module_.train(mode)
        twin = pickle.loads(pickle.dumps(net))
        assert twin.module_.training is mode and vars(twin).keys() == vars(net).keys()


def test_trimmed_and_unfitted_nets():
    net = AdvBPClassifier(**QUICK).fit(X, Y)
    expected = net.predict_proba(X)
    net.trim_for_prediction()
    twin = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(twin.predict_proba(X), expected)
    assert twin.optimizer_ is None and twin.callbacks_ == []
    unfitted = pickle.loads(pickle.dumps(AdvBPClassifier(module=Net, epsilon=0.5)))
    assert unfitted.epsilon == 0.5 and not unfitted.initialized_
    built = AdvBPClassifier(module__in_features=4, classes=[0, 1]).initialize()
    assert tensors(pickle.loads(pickle.dumps(built))) == tensors(built)


def test_loading_leaves_the_global_random_states():
    net = AdvBPClassifier(**QUICK).fit(X, Y)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    pickle.loads(pickle.dumps(net))
    assert torch.equal(torch.get_rng_state(), before)
