"""Several nets on MNIST: error, log loss, Brier score, and what they say of what is no digit.

    python -m benchmarks.uncertainty.classification --data PATH/mnist.npz

Ten nets of 3×200 rectified linear units are trained together by each method, from each of three
seeds; the answers of 1, 2, 5 and 10 nets are those of the first ones. Figure 2 of Deep Ensembles
(arXiv:1612.01474) has such nets with batch normalisation, which ours do not have. What is no digit
is Fashion-MNIST's test part, as Debian's package dataset-fashion-mnist installs it: the AUROC says
how well the entropy of five nets' answer tells it from MNIST's. Every finished run writes a JSON
file, and is left out the next time.
"""

import argparse
import gzip
import json
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import entropy
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.harness import markdown, mean_in_words, say
from benchmarks.passport import RESULTS, ROOT, write_json
from sk_advbp import AdvBPClassifier
from sk_advbp.command import load_data

FOLDER = RESULTS / "uncertainty"
FASHION = Path("/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz")
NUMBERS = (1, 2, 5, 10)
WITH_ENTROPY = 5
SEEDS = (0, 1, 2)
SETTINGS = {
    "hidden_layer_sizes": (200, 200, 200),
    "n_nets": max(NUMBERS),
    "lr": 0.001,
    "batch_size": 128,
    "max_epochs": 20,
    "amp": True,
}
# Deep Ensembles' step is half of the clean loss, and an ε of 1 % of the features' range.
SHARED = {"epsilon": 0.01, "clean_weight": 0.5}
METHODS = {
    "plain": {"epsilon": 0.0},
    "random signs": SHARED | {"perturbation": "random"},
    "adversarial": SHARED,
    "adversarial, ε 0.08": {"epsilon": 0.08},
}


def fashion_images(path=FASHION):
    """Return the images of the test part as rows of pixels in [0, 1]; None without the file."""
    if not path.is_file():
        return None
    pixels = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16)
    return pixels.reshape(-1, 784).astype(np.float32) / 255


def brier_score(y, proba):
    """Return the mean square of (p - one-hot) over rows and classes, as the paper has it."""
    return float(np.mean(np.square(proba - np.eye(proba.shape[1])[y])))


def answers(members, X):
    """Return {number: mean of the probabilities of so many members}, in float64."""
    proba = [member.predict_proba(X).astype(np.float64) for member in members]
    proba = [p / p.sum(axis=1, keepdims=True) for p in proba]  # float32 sums to 1 within 1e-7
    return {number: np.mean(proba[:number], axis=0) for number in NUMBERS}


def figures_of(members, X, y, other):
    """Return the figures of the first 1, 2, … of the `members`."""
    proba = answers(members, X)
    found = {}
    for number in NUMBERS:
        p = proba[number]
        found[str(number)] = {
            "error": 100 * float(np.mean(p.argmax(1) != y)),
            "log loss": float(log_loss(y, p)),
            "Brier": brier_score(y, p),
        }
    if other is not None:
        unsure, strange = proba[WITH_ENTROPY], answers(members, other)[WITH_ENTROPY]
        is_other = np.repeat([0, 1], [len(unsure), len(strange)])
        score = np.concatenate([entropy(unsure, axis=1), entropy(strange, axis=1)])
        found[str(WITH_ENTROPY)]["AUROC"] = float(roc_auc_score(is_other, score))
    return found


def do(path, method, seed, data, rows):
    """Train the nets, measure their answers, and write the file."""
    settings = SETTINGS | METHODS[method]
    start = time.perf_counter()
    net = AdvBPClassifier(**settings, random_state=seed, device="cpu")
    net.fit(data.X_train[:rows], data.y_train[:rows])
    seconds = time.perf_counter() - start
    nets = figures_of(net.estimators_, data.X_test, data.y_test, fashion_images())
    run = {"method": method, "seed": seed, "settings": settings, "seconds": round(seconds, 1)}
    write_json(path, run | {"rows": len(data.X_train[:rows]), "nets": nets})
    say(f"{method}, seed {seed}: {nets} in {seconds:.0f} s")


def runs_of(folder=FOLDER):
    """Return the finished runs, method by method and seed by seed."""
    runs = [json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")]
    order = {method: i for i, method in enumerate(METHODS)}
    return sorted(runs, key=lambda run: (order[run["method"]], run["seed"]))


def rows_of(runs):
    """Return the table of the `runs`, the first row of which has the titles."""
    kinds = {"error": "error (%)", "log loss": "log loss", "Brier": "Brier score", "AUROC": "AUROC"}
    rows = [["nets", "method", *kinds.values(), "seeds"]]
    for number in NUMBERS:
        for method in dict.fromkeys(run["method"] for run in runs):
            of_seeds = [run["nets"][str(number)] for run in runs if run["method"] == method]
            cells = [
                mean_in_words([f[kind] for f in of_seeds if kind in f], 2 if kind == "error" else 4)
                for kind in kinds
            ]
            rows.append([str(number), method, *cells, str(len(of_seeds))])
    return rows


def main(argv=None):
    """Do what is not yet done, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data/mnist.npz"))
    parser.add_argument("--rows", type=int, help="of the training images (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the JSON files")
    given = parser.parse_args(argv)
    torch.set_num_threads(given.threads)
    data = load_data(given.data)
    for seed in SEEDS:
        for method in METHODS:
            name = method.replace(" ", "-").replace(",", "").replace("ε-", "")
            path = given.results / f"{name}.s{seed}.json"
            if not path.is_file():
                do(path, method, seed, data, given.rows)
    # Together in one file, for the pages.
    write_json(given.results.with_suffix(".json"), {"answers": runs_of(given.results)})
    print(markdown(rows_of(runs_of(given.results))))


if __name__ == "__main__":
    main()
