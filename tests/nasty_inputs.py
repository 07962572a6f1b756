"""Fuzzing: nasty arrays, parameters and sequences of calls, and what must hold of each.

``python tests/nasty_inputs.py --inputs 100000`` tries as many and prints how many passed the door;
``test_nasty_inputs.py`` tries some thousands. Each input has a number, and comes out the same each
time: ``--first N --inputs 1`` repeats one.
"""

import argparse
import copy
import pickle
import signal
import time
import traceback
import warnings
from collections import Counter
from contextlib import contextmanager
from fractions import Fraction

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.exceptions import NotFittedError
from torch import nn

from sk_advbp import AdvBPClassifier, AdvBPClassifierCV, AdvBPRegressor
from sk_advbp.robustness import (
    adversarial_accuracy_score,
    adversarial_examples,
    robustness_curve,
    transfer_accuracy_score,
)

DOCUMENTED = (ValueError, TypeError, NotFittedError)
SECONDS = 30

# ---- arrays ----------------------------------------------------------------------------

FLOATS = ["f2", "f4", "f8", "g", ">f4", ">f8"]
DTYPES = [*FLOATS, "?", "i1", "u1", "i2", "i4", "i8", "u8", ">i4", "c8", "O", "U3", "S3"]
DTYPES += ["M8[s]", "m8[s]", [("a", "f4")]]
EXTREMES = [0.0, -0.0, 1.0, 1e-45, 5e-324, 1e-300, 65504.0, 3e38, 1e39, 1e300, 1.7e308]
NOT_FINITE = [np.nan, np.inf, -np.inf]


class Subclass(np.ndarray):
    """A subclass of ndarray that does nothing."""


class Refuses:
    """Something that says it is an array and is none."""

    shape = (12, 2)

    def __array__(self, dtype=None, copy=None):
        raise TypeError("no array after all")

    def __len__(self):
        return 12


def pick(rng, options):
    """Return one of the options."""
    return options[int(rng.integers(len(options)))]


def values(rng, shape):
    """Return float64 numbers of some kind, most of them tame."""
    x = rng.normal(size=shape)
    kind = rng.random()
    if kind < 0.6:
        return x
    if kind < 0.7:
        return x * 10.0 ** rng.integers(-320, 308)
    if kind < 0.78:
        return np.full(shape, pick(rng, EXTREMES))
    if kind < 0.86:
        return np.where(rng.random(shape) < 0.2, pick(rng, EXTREMES), x)
    if kind < 0.94:
        return np.round(x * 3)
    return np.where(rng.random(shape) < 0.1, pick(rng, NOT_FINITE), x)


def cast(x, dtype):
    """Return x in the dtype, however little sense that makes."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if isinstance(dtype, list):
            return x.astype("f4").view(dtype)
        return (
            np.nan_to_num(x, posinf=99, neginf=-99).astype(dtype)
            if dtype[0] in "Mm"
            else (x.astype(dtype))
        )


def broadcast(x):
    return np.broadcast_to(x[:1], x.shape) if len(x) else x


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def misaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    out = raw.view(x.dtype).reshape(x.shape) if x.size and x.dtype.kind != "O" else x
    if out is not x:
        out[...] = x
    return out


LAYOUTS = [
    np.ascontiguousarray,
    np.asfortranarray,
    lambda x: x[::-1],
    lambda x: np.repeat(x, 2, axis=0)[::2],
    broadcast,
    read_only,
    misaligned,
    lambda x: x.view(Subclass),
    lambda x: np.ma.masked_array(x),
]
WRAPPERS = [
    lambda x: x.tolist(),
    lambda x: tuple(map(tuple, x)) if x.ndim > 1 else tuple(x),
    pd.DataFrame,
    lambda x: pd.DataFrame(x).astype("category"),
    lambda x: pd.DataFrame(x, columns=list("abcdefg")[: x.shape[1]]),
    torch.as_tensor,
    lambda x: torch.as_tensor(x).to(torch.bfloat16),
    lambda x: torch.as_tensor(x).requires_grad_(),
    sparse.csr_array,
    sparse.csr_matrix,
    sparse.csc_array,
    sparse.coo_array,
    sparse.lil_array,
    memoryview,
    np.asmatrix,
    iter,
    lambda x: {"x": x},
    lambda x: None,
    lambda x: "a string",
    lambda x: Refuses(),
    lambda x: torch.utils.data.TensorDataset(torch.as_tensor(x)),
    lambda x: [x, x],
]


def nasty_array(rng, shape):
    """Return something that may be meant for an array of the shape, and often is one."""
    if rng.random() < 0.08:
        shape = pick(rng, [(0, 2), (12, 0), (12,), (), (12, 2, 2), (1, 2), (2, 2), (12, 3)])
    x = values(rng, shape)
    x = np.asarray(cast(x, pick(rng, FLOATS) if rng.random() < 0.8 else pick(rng, DTYPES)))
    if x.ndim and rng.random() < 0.5:
        x = pick(rng, LAYOUTS)(x)
    if rng.random() < 0.15:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return pick(rng, WRAPPERS)(x)
        except Exception:  # not every array can be wrapped
            return x
    return x


def nasty_labels(rng, n, continuous):
    """Return something that may be meant for n labels, or numbers, and often is that."""
    y = rng.integers(0, pick(rng, [1, 2, 2, 3]), n)
    if continuous and rng.random() < 0.8:
        y = values(rng, (n,) if rng.random() < 0.6 else (n, 2))
    elif rng.random() < 0.5:
        y = pick(
            rng,
            [
                np.array(["a", "bee", "c"])[y],
                np.array(["a", "bee", "c"], dtype=object)[y],
                y.astype(bool),
                y * 10.0 - 3,
                y.astype("u1"),
                y.astype(">i2"),
                y[:, None],
                y + 2**60,
                -y,
                pd.Series(y, index=y),
                pd.Series(np.array(["a", "b", "c"])[y], dtype="category"),
                y.tolist(),
                torch.as_tensor(y),
            ],
        )
    if rng.random() < 0.1:
        y = nasty_array(rng, (n,))
    return y


# ---- parameters ------------------------------------------------------------------------

JUNK = [None, np.nan, np.inf, -1, 0, -0.5, 2.5, "", "adam", [], {}, (), object(), True, 1j]
JUNK += [np.array([]), np.array([1, 2]), np.float32(0.5), Fraction(1, 3), torch.tensor(0.5), b"x"]
JUNK += [float, len, np.array("relu"), [[0.1, 0.1]], 10**30, 1e308, -(10**30), 5e-324]
# Of what would only take long or much memory there are small values.
SMALL = [None, np.nan, -1, 0, 2.5, "", [], (), object(), True, np.int8(2), np.array([2]), [2, 3]]

VALID = {
    "hidden_layer_sizes": [(), 3, (3, 2), [2], np.array([2, 2]), np.int64(2)],
    "activation": ["relu", "tanh", "logistic", "identity"],
    "epsilon": [0, 0.1, 1e-300, 1e300, np.array([0.1, 0.0]), [0.1, 0.2], np.float16(0.5)],
    "epsilon_unit": ["absolute", "std", 0.5, np.array([1.0, 0.0])],
    "norm": ["linf", "l2"],
    "clip": [None, (-1, 1), (0.0, np.array([1.0, 2.0])), (-1e308, 1e308), (-np.inf, np.inf)],
    "clean_weight": [0, 0.5, 1],
    "random_start": [0, 0.5, 1],
    "perturbation": ["adversarial", "random"],
    "dropout": [0, 0.5, 0.99],
    "input_dropout": [0, 0.5],
    "lr": [1e-3, 0.1, 1e-300, 10.0, 1e30],
    "lr_schedule": ["linear", "constant"],
    "max_epochs": [1, 2],
    "batch_size": [1, 5, 64, -1, np.int32(3), 10**12],
    "early_stopping": [True, False],
    "validation_fraction": [0.1, 0.5, 0.99],
    "n_iter_no_change": [1, 3],
    "tol": [0, 1e-4, 1e300],
    "warm_start": [True, False],
    "verbose": [0, False],
    "device": ["auto", "cpu", torch.device("cpu"), "meta", "cuda:7", "mps", "cpu:1", "xla"],
    "dtype": ["auto", "float32", "float64"],
    "perturbation_dtype": ["auto", "float32", "bfloat16"],
    "amp": [False, True],
    "use_caching": [True, False, "auto"],
    "optimizer": [torch.optim.SGD, torch.optim.Adam, torch.optim.RMSprop, torch.optim.Adagrad],
    "optimizer__weight_decay": [0, 0.1, 1e300],
    "random_state": [0, 1, None, np.random.RandomState(0), 2**32 - 1],
    "callbacks": [None, "disable", []],
    "train_split": [None],
    "module": [None, nn.Linear(2, 2), nn.Linear(2, 3), nn.Flatten(), nn.Identity],
    "criterion": [None],
    "iterator_train__shuffle": [True, False],
    "iterator_train__drop_last": [True, False],
}
OF_CLASSIFIERS = {
    "output": ["softmax", "logistic"],
    "class_weight": [None, "balanced", {0: 1.0, 1: 2.0}, {"a": 1}, {0: 1e-300, 1: 1e300}],
    "classes": [None, [0, 1, 2], ["a", "bee", "c"], np.arange(3)],
    "predict_nonlinearity": ["auto", None, torch.sigmoid],
}
OF_REGRESSORS = {"output": ["identity", "gaussian"], "n_nets": [1, 3]}
OF_SEARCHES = {
    "epsilons": [2, [0, 0.1], np.array([0.1]), [1e-300, 1e300]],
    "cv": [2, None, 3, [([0, 1, 2, 3, 4, 5], [6, 7, 8, 9])]],
    "scoring": [None, "accuracy", "neg_log_loss", "f1_macro"],
    "selection": ["best", "one_se"],
}
TAKES_LONG = {"hidden_layer_sizes", "max_epochs", "cv", "epsilons", "random_state", "batch_size"}


def nasty_parameters(rng, estimator):
    """Return parameters of which up to three are unusual."""
    known = VALID | (OF_REGRESSORS if estimator is AdvBPRegressor else OF_CLASSIFIERS)
    params = {"hidden_layer_sizes": (3,), "max_epochs": 1, "batch_size": 8, "random_state": 0}
    if estimator is AdvBPClassifierCV:
        known = {k: v for k, v in known.items() if k not in ("epsilon", "warm_start")}
        known |= OF_SEARCHES
        params |= {"epsilons": [0, 0.1], "cv": 2}
    names = list(known)
    for _ in range(int(rng.integers(0, 4))):
        name = pick(rng, names)
        junk = SMALL if name in TAKES_LONG else JUNK
        params[name] = pick(rng, junk) if rng.random() < 0.12 else pick(rng, known[name])
    if rng.random() < 0.02:
        params[pick(rng, ["epsilom", "optimizer__nothing", "module__x", "callbacks__a__b"])] = 1
    return params


def attack_options(rng):
    """Return options of an attack, one of them maybe junk."""
    options = {
        "epsilon": pick(rng, [None, 0, 0.1, 1e300, 1e-300, np.array([0.1, 0.0])]),
        "attack": pick(rng, ["fgsm", "pgd"]),
        "norm": pick(rng, [None, "linf", "l2"]),
        "clip": pick(rng, ["same", None, (-1, 1), (-np.inf, np.inf)]),
        "n_steps": 2,
        "step_size": pick(rng, [None, 0.5, 1e300]),
        "n_restarts": int(rng.integers(1, 3)),
        "random_state": pick(rng, [0, None]),
    }
    if rng.random() < 0.15:
        name = pick(rng, list(options))
        options[name] = pick(rng, SMALL if name in ("n_steps", "n_restarts") else JUNK)
    return options


USES = ["predict", "predict", "attack", "attack", "refit", "set", "copy", "score"]

# ---- what must hold --------------------------------------------------------------------


@contextmanager
def time_limit(seconds):
    """Raise TimeoutError where the body takes longer."""

    def stop(*_):
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def from_inside(warning):
    """Return whether torch or NumPy warned of what our code did."""
    path = str(warning.filename)
    of_library = "/torch/" in path or "/numpy/" in path or "/skorch/" in path
    kinds = (RuntimeWarning, DeprecationWarning, FutureWarning)
    return of_library or issubclass(warning.category, kinds)


class Broken(AssertionError):
    """What must hold does not."""


def state_of(net):
    """Return what an error must leave as it was."""
    attributes = {k: v for k, v in vars(net).items() if not k.startswith(("_callback", "_skl"))}
    fitted = {
        name: numbers_of(getattr(net, name).state_dict())
        for name in ("module_", "optimizer_")
        if name in attributes
    }
    if "generator_" in attributes:
        fitted["generator_"] = attributes["generator_"].get_state().numpy().tobytes()
    return set(attributes), fitted, len(attributes.get("history_") or ())


def numbers_of(state):
    """Return the tensors of a state_dict as bytes, and all else as it is."""
    if isinstance(state, dict):
        return {key: numbers_of(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [numbers_of(value) for value in state]
    return state.numpy(force=True).tobytes() if torch.is_tensor(state) else state


class Trial:
    """One input: calls of entry points, with a count of what passed the door."""

    def __init__(self, number):
        self.rng = np.random.default_rng([number, 17])
        self.counts = Counter()
        self.calls = []

    def attempt(self, name, call, net=None):
        """Call; return (whether it went through, what it returned)."""
        self.calls.append(name)
        before = state_of(net) if net is not None else None
        # `score` is scikit-learn's, which knows one odd y that ends in UnboundLocalError.
        allowed = (*DOCUMENTED, UnboundLocalError) if name == "score" else DOCUMENTED
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result, passed = call(), True
            except allowed as error:
                if isinstance(error, TimeoutError) or not str(error).strip():
                    raise
                result, passed = error, False
        caught = [] if name == "score" else caught  # which is scikit-learn's
        inside = [f"{w.message} ({w.filename}:{w.lineno})" for w in caught if from_inside(w)]
        if inside:
            raise Broken(f"a warning from inside: {inside[0]}")
        if not passed and net is not None and state_of(net) != before:
            raise Broken(f"changed by an error: {result}")
        return passed, result

    def run(self):
        """Fit, then use and abuse; return the counts."""
        rng = self.rng
        kinds = [AdvBPClassifier] * 6 + [AdvBPRegressor] * 3 + [AdvBPClassifierCV]
        self.kind = pick(rng, kinds)
        self.continuous = self.kind is AdvBPRegressor
        params = nasty_parameters(rng, self.kind)
        made, net = self.attempt("init", lambda: self.kind(**params))
        if not made:
            return self.counts
        if rng.random() < 0.1:  # one that is fitted already, and must survive
            good = self.kind((3,), max_epochs=1, random_state=0)
            X = rng.normal(size=(12, 2))
            fitted = good.fit(X, np.arange(12) % 2)
            set_, _ = self.attempt("set_params", lambda: fitted.set_params(**params))
            net = fitted if set_ else net
        passed = self.fit(net)
        self.counts["passed"] += passed
        self.counts["refused"] += not passed
        for _ in range(int(rng.integers(1, 4))):
            net = self.use(net) or net
        return self.counts

    def fit(self, net):
        X, y, weight = self.data()
        name = "fit"
        if self.rng.random() < 0.2 and hasattr(net, "partial_fit"):
            name = "partial_fit"
        method, keywords = getattr(net, name), {}
        if weight is not None:
            keywords["sample_weight"] = weight
        if name == "partial_fit" and not self.continuous and self.rng.random() < 0.9:
            keywords["classes"] = pick(self.rng, [[0, 1, 2], ["a", "bee", "c"], [0], None, 3])
        passed, result = self.attempt(name, lambda: method(X, y, **keywords), net)
        if passed and not np.isfinite(net.loss_curve_[-1]):
            raise Broken("a loss that is not finite")
        if passed and result is not net:
            raise Broken("fit returned another object")
        return passed

    def data(self):
        n = 12 if self.rng.random() < 0.9 else int(self.rng.integers(0, 30))
        m = n if self.rng.random() < 0.97 else n + 1
        X = nasty_array(self.rng, (n, 2))
        weight = None
        if self.rng.random() < 0.15:
            weight = (
                np.abs(values(self.rng, (n,)))
                if self.rng.random() < 0.8
                else (nasty_array(self.rng, (n,)))
            )
        return X, nasty_labels(self.rng, m, self.continuous), weight

    def use(self, net):
        """Do one more thing to a net; return the net that goes on where that is another."""
        rng = self.rng
        X, y, weight = self.data()
        what = pick(
            rng, ["predict", "predict", "attack", "attack", "refit", "set", "copy", "score"]
        )
        if what == "predict":
            name = pick(rng, ["predict", "predict_proba", "predict_log_proba", "forward"])
            options = {"return_std": True} if self.continuous and rng.random() < 0.5 else {}
            if hasattr(net, name) and (name == "predict" or not options):
                self.check_prediction(net, name, X, options)
        elif what == "attack":
            options = attack_options(rng)
            y = None if rng.random() < 0.3 else y
            passed, moved = self.attempt(
                "attack", lambda: adversarial_examples(net, X, y, **options), net
            )
            if passed and not np.isfinite(np.asarray(moved, dtype=float)).all():
                raise Broken("adversarial examples that are not finite")
        elif what == "refit":
            self.fit(net)
        elif what == "set":
            self.attempt("set_params", lambda: net.set_params(**nasty_parameters(rng, self.kind)))
        elif what == "copy":
            twin = pick(rng, [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))])
            try:
                return twin(net)
            except (TypeError, AttributeError, pickle.PicklingError):
                return None  # of a parameter that nothing can copy
        else:
            self.scores(net, X, y, weight)
        return None

    def check_prediction(self, net, name, X, options):
        passed, found = self.attempt(name, lambda: getattr(net, name)(X, **options), net)
        if not passed:
            return
        _, again = self.attempt(name, lambda: getattr(net, name)(X, **options), net)
        if repr(np.asarray(found).tolist()) != repr(np.asarray(again).tolist()):
            raise Broken(f"{name} is another the second time")
        plain = repr(net.get_params(deep=False).get("predict_nonlinearity", "auto")) == "'auto'"
        if name == "predict_proba" and plain and not np.allclose(found.sum(1), 1, atol=1e-2):
            raise Broken("probabilities that do not sum to 1")

    def scores(self, net, X, y, weight):
        options = attack_options(self.rng)
        epsilon = options.pop("epsilon")
        calls = {
            "score": lambda: net.score(X, y),
            "accuracy": lambda: adversarial_accuracy_score(
                net, X, y, epsilon, sample_weight=weight, **options
            ),
            "curve": lambda: robustness_curve(net, X, y, [0, epsilon], **options)[0],
            "transfer": lambda: transfer_accuracy_score(net, net, X, y, epsilon, **options),
        }
        name = pick(self.rng, list(calls))
        passed, score = self.attempt(name, calls[name], net)
        if passed and name != "score" and not -1e-9 <= score <= 1 + 1e-9:
            raise Broken(f"{name} of {score}")


def tried(numbers, report=None):
    """Try the inputs of these numbers; return (counts, {number: what is broken})."""
    counts, broken = Counter(), {}
    for done, number in enumerate(numbers, 1):
        trial = Trial(number)
        try:
            with time_limit(SECONDS):
                counts += trial.run()
        except Exception as error:
            where = "".join(traceback.format_exception(error, limit=-3))
            broken[number] = f"{trial.kind.__name__} {trial.calls}: {where}"
            if report:
                print(f"--- {number}: {broken[number]}", flush=True)
        counts["inputs"] += 1
        if report:
            report(done, counts, broken)
    return counts, broken


def main():
    """Try as many inputs as asked for, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()

    def report(done, counts, broken):
        if done % 2000 == 0:
            share = counts["passed"] / done
            seconds = time.perf_counter() - start
            print(
                f"{done} inputs, {share:.1%} passed, {len(broken)} broken, {seconds:.0f} s",
                flush=True,
            )

    counts, broken = tried(range(given.first, given.first + given.inputs), report)
    print(
        f"{counts['inputs']} inputs: {counts['passed']} passed the door and trained "
        f"({counts['passed'] / counts['inputs']:.1%}), {counts['refused']} were refused, "
        f"{len(broken)} broke something"
    )
    raise SystemExit(bool(broken))


if __name__ == "__main__":
    main()
