"""`save_model` and `load_model`: everything comes back, nothing runs, misfits are refused."""

import copy
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.exceptions import NotFittedError
from skorch.callbacks import EpochScoring
from skorch.dataset import ValidSplit
from torch import nn

import sk_advbp
from sk_advbp import (
    AdvBPClassifier,
    AdvBPClassifierCV,
    AdvBPRegressor,
    AdvBPRegressorCV,
    load_model,
)
from sk_advbp.estimators import loading
from sk_advbp.keeping import read_file, safetensors, write_file
from sk_advbp.training.batches import dense

SAVED = Path(__file__).parent / "saved"
RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
CODES = X[:, :3].argmax(1)
Y = np.array(["ant", "bee", "cat"])[CODES]
NUMBERS = X[:, 0] * 100 + X[:, 1]
QUICK = {"hidden_layer_sizes": (6,), "max_epochs": 3, "batch_size": 16, "random_state": 0}


class Net(nn.Module):
    """One with a buffer."""

    def __init__(self, width=5):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3)
        )

    def forward(self, X):
        return self.layers(X)


def frame():
    import pandas as pd

    return pd.DataFrame(X, columns=["a", "b", "c", "d"])


# {id: (estimator, X, y)}
FITTED = {
    "default": (AdvBPClassifier(**QUICK), X, Y),
    "integers": (AdvBPClassifier(**QUICK), X, CODES * 10),
    "floats": (AdvBPClassifier(**QUICK), X, CODES - 0.0),
    "booleans": (AdvBPClassifier(**QUICK, output="logistic"), X, CODES == 1),
    "objects": (AdvBPClassifier(**QUICK), X, Y.astype(object)),
    "dates": (AdvBPClassifier(**QUICK), X, CODES.astype("datetime64[D]")),
    "one class": (AdvBPClassifier(**QUICK), X, np.zeros(len(X))),
    "float32": (AdvBPClassifier(**QUICK), X.astype(np.float32), Y),
    "names": (AdvBPClassifier(**QUICK), frame(), Y),
    "linear": (AdvBPClassifier(**QUICK | {"hidden_layer_sizes": ()}), X, Y),
    "options": (
        AdvBPClassifier(
            **QUICK,
            epsilon=np.array([0.1, 0, 0.2, np.float32(0.1)]),
            epsilon_unit="std",
            clip=(-2.0, [3, 3, 3, 3]),
            norm="l2",
            class_weight={"ant": 2, "bee": 1.0, "cat": np.float32(0.5)},
            classes=["ant", "bee", "cat", "dog"],
            optimizer=torch.optim.SGD,
            optimizer__momentum=0.9,
            criterion=nn.CrossEntropyLoss,
            criterion__label_smoothing=0.1,
            early_stopping=True,
            dropout=0.1,
            device=torch.device("cpu").type,
        ),
        X,
        Y,
    ),
    "groups": (
        AdvBPClassifier(**QUICK, optimizer__param_groups=[("layers.1.*", {"lr": 0.1})]),
        X,
        Y,
    ),
    "several": (AdvBPClassifier(**QUICK, n_nets=3, output="logistic"), X, Y),
    "several labels": (AdvBPClassifier(**QUICK), X, (X[:, :3] > 0).astype(int)),
    "sparse labels": (AdvBPClassifier(**QUICK, n_nets=2), X, sparse.csr_matrix(X[:, :3] > 0)),
    "search": (AdvBPClassifierCV(**QUICK, epsilons=[0, 0.1], cv=2), X, Y),
    "regressor": (AdvBPRegressor(**QUICK), X, NUMBERS),
    "numbers": (
        AdvBPRegressorCV(**QUICK | {"max_epochs": (2, 4)}, epsilons=[0, 0.1], cv=2, n_nets=2),
        X,
        NUMBERS,
    ),
    "outputs": (AdvBPRegressor(**QUICK), X, np.c_[NUMBERS, X[:, 0]]),
    "module": (AdvBPClassifier(module=Net, module__width=7, **QUICK), X, Y),
    "module object": (AdvBPClassifier(module=Net(), **QUICK), X, Y),
}
every = pytest.mark.parametrize("estimator, X, y", FITTED.values(), ids=FITTED)


def saved(net, tmp_path):
    path = tmp_path / "model.safetensors"
    net.save_model(path)
    return path


def tensors(net):
    """Every tensor of the net and of its optimizer, as bytes."""
    optimizer = net.optimizer_.state_dict()["state"].values()
    of_optimizer = [state[k].numpy().tobytes() for state in optimizer for k in sorted(state)]
    return [t.numpy().tobytes() for t in net.module_.state_dict().values()] + of_optimizer


@every
def test_everything_comes_back(tmp_path, estimator, X, y):
    net = copy.deepcopy(estimator).fit(X, y)
    loaded = load_model(saved(net, tmp_path), module=net.module)
    assert type(loaded) is type(net) and vars(loaded).keys() == vars(net).keys()
    for name in [
        n for n in vars(net) if n.startswith(("n_", "feature", "classes_i", "y_", "best"))
    ]:
        np.testing.assert_array_equal(vars(loaded)[name], vars(net)[name])
        assert getattr(vars(loaded)[name], "dtype", None) == getattr(vars(net)[name], "dtype", None)
    for name, value in net.get_params(deep=False).items():
        if not (name == "class_weight" or name.startswith("callbacks__")):
            np.testing.assert_equal(loaded.get_params(deep=False)[name], value)
    assert loaded.history == net.history and tensors(loaded) == tensors(net)
    for method in ("predict", "predict_proba", "adversarial_examples"):
        if hasattr(net, method):
            args = (X, y) if method == "adversarial_examples" else (X,)
            ours, theirs = (getattr(fitted, method)(*args) for fitted in (loaded, net))
            assert type(ours) is type(theirs)
            np.testing.assert_array_equal(dense(ours), dense(theirs))


@every
def test_training_goes_on_as_it_would_have(tmp_path, estimator, X, y):
    net = copy.deepcopy(estimator).fit(X, y)
    loaded = load_model(saved(net, tmp_path), module=net.module)
    train = "partial_fit" if hasattr(net, "partial_fit") else "fit"
    assert tensors(getattr(loaded, train)(X, y)) == tensors(getattr(net, train)(X, y))


def test_a_net_that_was_trimmed_for_prediction(tmp_path):
    net = AdvBPClassifier(**QUICK, output="logistic").fit(X, Y)
    expected, whole = net.predict_proba(X), saved(net, tmp_path).stat().st_size
    net.trim_for_prediction()
    path = saved(net, tmp_path)
    assert path.stat().st_size < whole
    np.testing.assert_array_equal(load_model(path).predict_proba(X), expected)
    np.testing.assert_array_equal(net.predict_proba(X), expected)


# ---- what cannot be written ----------------------------------------------------------------


def half(logits):
    return logits / 2


class Loss(nn.CrossEntropyLoss):
    """One of the user's own."""


@pytest.mark.parametrize(
    "params",
    [
        {"callbacks": [EpochScoring("accuracy", name="train_acc", on_train=True)]},
        {"predict_nonlinearity": half},
        {"train_split": ValidSplit(3)},
        {"criterion": Loss},
        {"random_state": np.random.RandomState(0)},
    ],
    ids=lambda params: next(iter(params)),
)
def test_a_parameter_that_cannot_be_written_is_named(tmp_path, params):
    net = AdvBPClassifier(**QUICK | params).fit(X, Y)
    with pytest.raises(TypeError, match=rf"{next(iter(params))}[\w.]* cannot be written to a file"):
        saved(net, tmp_path)
    assert not list(tmp_path.iterdir())


class Own(AdvBPClassifier):
    pass


def test_other_estimators_that_cannot_be_written(tmp_path):
    with pytest.raises(NotFittedError):
        saved(AdvBPClassifier(), tmp_path)
    with pytest.raises(ValueError, match="the package's own classes"):
        saved(Own(**QUICK).fit(X, Y), tmp_path)
    net = AdvBPClassifier(module=Net, **QUICK).fit(X, Y)
    with pytest.raises(ValueError, match="is not the one that was fitted"):
        saved(net.set_params(module=None), tmp_path)
    net = AdvBPClassifier(**QUICK).fit(X, Y)
    nn.init.constant_(net.module_.layers[0].bias, torch.nan)
    with pytest.raises(ValueError, match=r"layers\.0\.bias of module_ is not finite"):
        saved(net, tmp_path)


# ---- what cannot be loaded -----------------------------------------------------------------

NET = AdvBPClassifier(**QUICK)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What a good file has."""
    path = tmp_path_factory.mktemp("saved") / "good"
    copy.deepcopy(NET).fit(X, Y).save_model(path)
    return read_file(path)


def altered(parts, place, value):
    """The parts with another value at a place in the content, or of an array."""
    content, arrays = copy.deepcopy(parts)
    if isinstance(value, np.ndarray):
        return content, arrays | {place: value}
    *way, last = place.split("/")
    inner = content
    for step in way:
        inner = inner[step]
    inner[last] = value
    return content, arrays


WEIGHT = "module_.layers.0.weight"
SIZES = "fitted/_built_from/dict/hidden_layer_sizes"
MISFITS = [
    ("format", 2, "in format 2; this version, .*, reads format 1"),
    ("class", "os.system", "os.system"),
    ("own_module", "Net", "it needs module=Net, the class. Got module=None"),
    (WEIGHT, np.zeros((4, 6)), r"exp_avg of layers\.0\.weight has shape \(6, 4\)"),
    (WEIGHT, np.zeros((6, 5)), "have 51 weights. Got 57"),
    (WEIGHT, np.full((6, 4), np.nan), r"layers\.0\.weight of module_ is not finite"),
    ("another", np.zeros(2), r"\['another'\] belong to nothing"),
    ("fitted/module_", {"dict": {}}, "belong to nothing"),
    ("fitted/module_/dict/extra", {"array": WEIGHT}, "or it is there for two values"),
    (SIZES, {"tuple": [10**9, 10**9]}, "Got 51"),
    (SIZES, {"tuple": [2.5]}, "hidden_layer_sizes must be"),
    ("fitted/_built_from/dict/activation", "exec", "'activation' parameter"),
    ("fitted/_built_from/dict/os", 1, "are not what a net is built from"),
    ("fitted/n_features_in_", 3, "do not have 3 features"),
    (
        "fitted/classes_inferred_",
        {"text": [3, [3], ["bee", "ant", "cat"]]},
        "not sorted and unique",
    ),
    ("fitted/classes_inferred_", {"text": [3, [2], ["ant", "bee"]]}, "Got 51"),
    ("fitted/dtype_", "float8", "dtype 'float8'"),
    ("fitted/feature_names_in_", ["a"], r"do not fit the names \['a'\]"),
    ("fitted/predict", 1, "are not the attributes of AdvBPClassifier"),
    ("fitted/_reach", {"tuple": [-1.0, "linf", None]}, "epsilon must be"),
    ("optimizer_.state.layers.0.bias.exp_avg", np.zeros(2), "exp_avg of layers.0.bias has shape"),
    ("generator_", np.zeros(3, np.uint8), "RNG state"),
    ("parameters/new_one", 1, r"\['new_one'\] are no parameters, .* this is"),
    ("parameters/lr", -1, "'lr' parameter"),
    ("parameters/lr", {"known": "torch.optim.Adam"}, "'lr' parameter"),
    ("parameters/_private__x", 1, "unexpected parameter '_private__x'"),
    ("versions", {}, "sk_advbp"),
]


@pytest.mark.parametrize("place, value, message", MISFITS)
def test_misfits_are_refused(tmp_path, parts, place, value, message):
    path = tmp_path / "misfit"
    write_file(path, *altered(parts, place, value))
    with pytest.raises(ValueError, match=f"misfit has no model that can be loaded: .*{message}"):
        load_model(path)


def test_a_module_that_does_not_fit_the_file(tmp_path, parts):
    path = saved(AdvBPClassifier(module=Net, **QUICK).fit(X, Y), tmp_path)
    with pytest.raises(ValueError, match="it needs module=Net, the class"):
        load_model(path)
    with pytest.raises(ValueError, match="module has tensors of the shapes"):
        load_model(path, module=DeepNet)
    content, arrays = read_file(path)
    content["fitted"]["_built_from"]["dict"]["module__width"] = 10**7
    write_file(path, content, arrays)
    with pytest.raises(ValueError, match="module has tensors of the shapes"):
        load_model(path, module=Net)
    write_file(path, *parts)
    with pytest.raises(ValueError, match="it needs no module"):
        load_model(path, module=Net)


class DeepNet(Net):
    def __init__(self, width=5):
        super().__init__(width)
        self.more = nn.Linear(3, 3)


def test_no_file_and_no_model(tmp_path):
    with pytest.raises(OSError):
        load_model(tmp_path / "nothing")
    with pytest.raises(OSError):
        load_model(tmp_path)
    (tmp_path / "text").write_text("hello, this is no model")
    with pytest.raises(ValueError, match="text has no model that can be loaded"):
        load_model(tmp_path / "text")


def test_thousands_of_damaged_files_are_refused(tmp_path):
    """Bytes flipped, cut off or moved: never another model, never another error."""
    path = saved(copy.deepcopy(NET).fit(X, Y), tmp_path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(4000):
        file = bytearray(whole)
        kind, at = rng.integers(3), rng.integers(len(file))
        if kind == 0:
            for i in rng.integers(len(file), size=rng.integers(1, 4)):
                file[i] ^= 1 << rng.integers(8)
        elif kind == 1:
            del file[at : at + rng.integers(1, 2000)]
        else:
            file[at:at] = file[: rng.integers(1, 2000)]
        if file == whole:
            continue
        with pytest.raises(ValueError, match="no model that can be loaded"):
            load_model(io.BytesIO(file))


def test_a_thousand_forged_files_are_refused_or_predict(tmp_path):
    """With the digest of what they are, so that every check behind it is reached."""
    path = saved(copy.deepcopy(NET).fit(X, Y), tmp_path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    header = int.from_bytes(whole[:8], "little")
    at = 8 + len(safetensors.BEGIN)
    loaded = 0
    for _ in range(1000):
        file = bytearray(whole)
        first, after = (at + 64, 8 + header) if rng.integers(3) else (8 + header, len(file))
        for i in rng.integers(first, after, size=rng.integers(1, 3)):
            file[i] = rng.integers(32, 127)
        file[at : at + 64] = safetensors.ZEROS
        file[at : at + 64] = safetensors.digest([file])
        try:
            net = load_model(io.BytesIO(file))
        except ValueError:
            continue
        loaded += 1
        assert net.predict_proba(X).shape == (60, 3)
    assert 0 < loaded < 1000


# ---- files of other versions -----------------------------------------------------------------


def test_parameters_that_a_later_version_adds_are_what_they_were(tmp_path, parts, monkeypatch):
    """By the table: as parameters, and among those that the net is built from."""
    content, arrays = copy.deepcopy(parts)
    path = tmp_path / "earlier"
    del content["parameters"]["norm"]
    del content["fitted"]["_built_from"]["dict"]["dropout"]
    del content["parameters"]["dropout"]
    write_file(path, content, arrays)
    with pytest.raises(ValueError, match=r"\['dropout', 'norm'\] are missing"):
        load_model(path)
    monkeypatch.setattr(
        loading, "ADDED_PARAMETERS", {"n_nets": 1, "norm": "l2", "dropout": 0.0, "epsilons": 6}
    )
    net = load_model(path)
    assert net.norm == "l2" and net.dropout == 0.0 and "epsilons" not in vars(net)
    net.partial_fit(X, Y)


@pytest.mark.parametrize("path", sorted(SAVED.glob("*.safetensors")), ids=lambda path: path.stem)
def test_saved_models_predict_what_they_did(path):
    """Files of earlier versions, and of this one, on every machine."""
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    net = load_model(path, module=Net if "module" in path.stem else None)
    rows = frame()[:5] if "names" in path.stem else np.array(expected["X"])
    if "predict_proba" in expected:
        np.testing.assert_allclose(net.predict_proba(rows), expected["predict_proba"], atol=1e-5)
        assert net.predict(rows).tolist() == expected["predict"]
    else:
        np.testing.assert_allclose(net.predict(rows), expected["predict"], rtol=1e-5)


def test_there_is_a_saved_model_of_each_class():
    read = [read_file(path)[0]["class"] for path in SAVED.glob("0.1.0-*.safetensors")]
    assert set(read) == {
        "AdvBPClassifier",
        "AdvBPClassifierCV",
        "AdvBPRegressor",
        "AdvBPRegressorCV",
    }


NAMES = ("options", "names", "several", "search", "numbers", "outputs", "module")


def save_models(names=NAMES, folder=SAVED):
    """Write what the test above reads; each version adds its own files and keeps the others."""
    for name in names:
        estimator, X, y = FITTED[name]
        net = copy.deepcopy(estimator).fit(X, y)
        path = folder / f"{sk_advbp.__version__}-{name}.safetensors"
        net.save_model(path)
        expected = {"X": np.asarray(X)[:5].tolist(), "predict": net.predict(X[:5]).tolist()}
        if hasattr(net, "predict_proba"):
            expected["predict_proba"] = net.predict_proba(X[:5]).tolist()
        path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    save_models()
