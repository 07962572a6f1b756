"""A fitted net in a service: time of a few rows, files and how long they load, memory over time.

    python -m benchmarks.speed.serve

About 6 minutes. All nets have 64-100-10 units and have seen the digits for a few
epochs, which decide about none of these figures. Without onnxruntime, skl2onnx and skops their
rows are left out.
"""

import json
import pickle
import subprocess
import sys
import tempfile
import time
from copy import deepcopy
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from benchmarks.harness import command_line, compare, finish, timed
from benchmarks.passport import ROOT
from sk_advbp import AdvBPClassifier, load_model
from sk_advbp.export import to_onnx

OURS, SKLEARN, ONNX = "AdvBPClassifier", "MLPClassifier", "onnxruntime"
TRIMMED = "save_model, trimmed for prediction"
FILES = {"save_model": "net.safetensors", TRIMMED: "trimmed.safetensors"}
FILES |= {"pickle": "net.pkl", "skops": "net.skops", ONNX: "net.onnx"}

SEVERAL = 5

# What the issue asks of ours / scikit-learn's, by the number of rows.
AT_MOST = {1: 1.2, 100: 1.0}
# Megabytes by which memory may grow from the first to the second number of calls.
PREDICTIONS, FITS = (1000, 10_000, 1.0), (20, 200, 5.0)


def has(*packages):
    """Return whether all of these can be imported."""
    return all(find_spec(package) for package in packages)


def digits(dtype):
    """Return pixels in [0, 1] and labels."""
    X, y = load_digits(return_X_y=True)
    return (X / 16).astype(dtype), y


def nets(dtype, scaled):
    """Return {name: fitted model} of ours and scikit-learn's, behind a scaler where `scaled`."""
    X, y = digits(dtype)
    of_both = {
        OURS: AdvBPClassifier(max_epochs=5, dtype=dtype, random_state=0),
        SKLEARN: MLPClassifier(tol=1e9, n_iter_no_change=5, random_state=0),
    }
    before = [MinMaxScaler()] if scaled else []
    return {name: make_pipeline(*before, net).fit(X, y) for name, net in of_both.items()}


def microseconds(call, times):
    """Return the contestant that measures the median of many calls, each by itself.

    What else the machine does meanwhile falls on some calls, not on the median.
    """
    one = timed(call)
    return lambda: 1e6 * median(one() for _ in range(times))


def session(model, X):
    """Return onnxruntime's predictor over the exported `model`, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    exported = to_onnx(model, X[:1]).SerializeToString()
    run = onnxruntime.InferenceSession(exported, options).run
    return lambda x: run(["probabilities"], {"X": x})


def compare_predictions(given, dtype, scaled, rows):
    """Return the figures of predicting `rows` rows."""
    X, _ = digits(dtype)
    models = nets(dtype, scaled)
    # A pipeline of one step is no more than that step.
    predictors = {n: (m if scaled else m[-1]).predict_proba for n, m in models.items()}
    if has("onnxruntime", "skl2onnx"):
        predictors[ONNX] = session(models[OURS], X)
    times = 20 if given.quick else 2000
    return compare(
        f"predict_proba of {rows} × 64, {dtype}" + (", behind a MinMaxScaler" if scaled else ""),
        {n: microseconds(partial(predict, X[:rows]), times) for n, predict in predictors.items()},
        repeats=given.repeats,
        threads=given.threads or 1,
        ours=[OURS],
        targets={(OURS, SKLEARN): (AT_MOST[rows], None)},
        unit="µs",
    )


def compare_several(given, rows):
    """Return the figures of several nets that answer as one, and of as many of scikit-learn's."""
    X, y = digits("float32")
    ours = AdvBPClassifier(max_epochs=5, n_nets=SEVERAL, random_state=0).fit(X, y)
    theirs = [
        MLPClassifier(max_iter=5, tol=1e9, n_iter_no_change=5, random_state=seed).fit(X, y)
        for seed in range(SEVERAL)
    ]
    x, times = X[:rows], 20 if given.quick else 1000
    predictors = {
        OURS: partial(ours.predict_proba, x),
        SKLEARN: lambda: sum(net.predict_proba(x) for net in theirs) / SEVERAL,
    }
    return compare(
        f"predict_proba of {rows} × 64, float32, mean of {SEVERAL} nets",
        {name: microseconds(predict, times) for name, predict in predictors.items()},
        repeats=given.repeats,
        threads=given.threads or 1,
        ours=[OURS],
        targets={(OURS, SKLEARN): (AT_MOST[rows], None)},
        unit="µs",
    )


def save_all(net, X, folder):
    """Write the net to all kinds of files; return {kind: (path, how it is loaded)}."""
    paths = {kind: Path(folder) / name for kind, name in FILES.items()}
    net.save_model(paths["save_model"])
    trimmed = deepcopy(net)
    trimmed.trim_for_prediction()
    trimmed.save_model(paths[TRIMMED])
    paths["pickle"].write_bytes(pickle.dumps(net))
    loaders = {"save_model": load_model, TRIMMED: load_model}
    loaders |= {"pickle": lambda path: pickle.loads(path.read_bytes())}
    if has("skops"):
        import skops.io

        skops.io.dump(net, paths["skops"])
        trusted = skops.io.get_untrusted_types(file=paths["skops"])
        loaders["skops"] = partial(skops.io.load, trusted=trusted)
    if has("onnxruntime", "skl2onnx"):
        import onnxruntime

        paths[ONNX].write_bytes(to_onnx(net, X[:1]).SerializeToString())
        loaders[ONNX] = lambda path: onnxruntime.InferenceSession(path)
    return {kind: (paths[kind], load) for kind, load in loaders.items()}


def compare_files(given):
    """Return the figures of the files: their sizes, and the times to load them."""
    X, y = digits("float32")
    net = AdvBPClassifier(max_epochs=5, random_state=0).fit(X, y)
    with tempfile.TemporaryDirectory() as folder:
        files = save_all(net, X, folder)
        sizes = compare(
            "size of the file, 64-100-10, float32",
            {
                kind: lambda path=path: path.stat().st_size / 1000
                for kind, (path, _) in files.items()
            },
            warm_up={},
            repeats=1,
            threads=1,
            unit="kB",
        )
        times = 2 if given.quick else 50
        loads = compare(
            "time to load it, with the packages imported",
            {
                kind: lambda load=load, path=path: microseconds(partial(load, path), times)() / 1000
                for kind, (path, load) in files.items()
            },
            repeats=given.repeats,
            threads=given.threads or 1,
            unit="ms",
        )
    return [sizes, loads]


# ---- memory ----------------------------------------------------------------------------


def anonymous():
    """Return the megabytes of this process that no file stands behind; Linux knows them."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024 / 1e6


def growth(of, first, last):
    """Return by how many megabytes memory grows between two numbers of calls."""
    X, y = digits("float32")
    net = AdvBPClassifier(max_epochs=2, random_state=0).fit(X, y)
    call = {"predictions": lambda: net.predict_proba(X[:1]), "fits": lambda: net.fit(X, y)}[of]
    for _ in range(first):
        call()
    before = anonymous()
    for _ in range(last - first):
        call()
    return anonymous() - before


def growth_in_child(*task):
    """Return `growth` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed.serve", "--child", json.dumps(task)]
    child = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return float(child.stdout)


def compare_growth(given):
    """Return the figures of the growth of memory, which `RssAnon` has on Linux alone."""
    tasks, limits = {}, {}
    for of, (first, last, limit) in {"predictions": PREDICTIONS, "fits": FITS}.items():
        name = f"{first:,} to {last:,} {of}"
        if given.quick:
            first, last = 2, 4
        tasks[name], limits[name] = partial(growth_in_child, of, first, last), limit
    return compare(
        "growth of anonymous memory",
        tasks,
        warm_up={},
        repeats=given.repeats,
        threads=given.threads or 1,
        limits=limits,
        unit="MB",
    )


def main(argv=None):
    """Measure, print, write; `argv` takes the place of the command line."""
    parser = command_line(__doc__.splitlines()[0], __file__)
    parser.add_argument("--child", help="for the processes that the script starts itself")
    given = parser.parse_args(argv)
    if given.child:
        print(growth(*json.loads(given.child)))
        return
    started = time.perf_counter()
    comparisons = [
        compare_predictions(given, dtype, scaled, rows)
        for dtype in ("float32", "float64")
        for scaled in (False, True)
        for rows in AT_MOST
    ]
    comparisons += [compare_several(given, rows) for rows in AT_MOST]
    comparisons += compare_files(given)
    if Path("/proc/self/status").is_file():
        comparisons.append(compare_growth(given))
    finish(given, comparisons, started)


if __name__ == "__main__":
    main()
