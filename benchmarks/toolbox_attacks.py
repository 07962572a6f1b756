"""Our PGD beside the Adversarial Robustness Toolbox's APGD and Square, on nets for MNIST.

    python benchmarks/toolbox_attacks.py

Needs the extra ``attacks``. About 10 minutes on 2 cores. One plain and one adversarially
trained net for each seed; the accuracy on the first test images under each attack, on
[0, 1]. APGD climbs the cross-entropy or the difference of logits ratio, with a step size of
its own; Square needs no gradients: were it stronger than the others, they would be blind.
"""

import time
from statistics import mean, stdev

import numpy as np
import torch
from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack
from harness import command_line, say, using_threads
from passport import write_json

from sk_advbp import AdvBPClassifier
from sk_advbp.art import to_art
from sk_advbp.datasets import load_data
from sk_advbp.robustness import adversarial_accuracy_score

EPSILON = 0.1
CLIP = (0.0, 1.0)


def apgd(classifier, X, y, loss):
    attack = AutoProjectedGradientDescent(
        classifier,
        eps=EPSILON,
        eps_step=2 * EPSILON,
        max_iter=40,
        nb_random_init=1,
        batch_size=500,
        loss_type=loss,
        verbose=False,
    )
    return attack.generate(X, y)


def square(net, X, y, n_queries):
    classifier = to_art(net, clip_values=CLIP, image_shape=(1, 28, 28))
    attack = SquareAttack(
        classifier, eps=EPSILON, max_iter=n_queries, batch_size=500, verbose=False
    )
    return attack.generate(X.reshape(-1, 1, 28, 28), y).reshape(X.shape)


def accuracies(net, X, y, n_queries):
    """Return {attack: accuracy} in [0, 1]."""
    options = {"clip": CLIP, "random_state": 0}
    ours = lambda **more: adversarial_accuracy_score(net, X, y, EPSILON, **options, **more)  # noqa: E731
    classifier = to_art(net, clip_values=CLIP)
    return {
        "clean": net.score(X, y),
        "FGSM": ours(attack="fgsm"),
        "PGD-40": ours(n_steps=40),
        "PGD-40, 5 restarts": ours(n_steps=40, n_restarts=5),
        "APGD-40, cross-entropy (ART)": net.score(apgd(classifier, X, y, "cross_entropy"), y),
        "APGD-40, logits ratio (ART)": net.score(
            apgd(classifier, X, y, "difference_logits_ratio"), y
        ),
        f"Square, {n_queries} queries (ART)": net.score(square(net, X, y, n_queries), y),
    }


def main():
    """Measure, print, write."""
    parser = command_line(__doc__.splitlines()[0], __file__)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    started = time.perf_counter()
    data = load_data(given.data)
    n_train, n_test = (500, 50) if given.quick else (given.rows or 20_000, 500)
    X, y = data.X_test[:n_test], data.y_test[:n_test]
    found = {}
    with using_threads(given.threads or 1):
        for name, epsilon in {"plain": 0.0, "adversarial": EPSILON}.items():
            runs = []
            for seed in range(given.seeds):
                torch.manual_seed(seed)
                np.random.seed(seed)  # noqa: NPY002 - the Toolbox draws from the global state
                net = AdvBPClassifier(
                    (400, 400), epsilon=epsilon, max_epochs=10, device="cpu", random_state=seed
                )
                net.fit(data.X_train[:n_train], data.y_train[:n_train])
                runs.append(accuracies(net, X, y, 20 if given.quick else 500))
                say(f"{name}, seed {seed}: {runs[-1]}")
            found[name] = runs
    print(f"| accuracy, {n_test} test images, ε = {EPSILON} | " + " | ".join(found) + " |")
    print("|---" * (1 + len(found)) + "|")
    for attack in found["plain"][0]:
        cells = []
        for runs in found.values():
            shares = [100 * run[attack] for run in runs]
            deviation = f" ± {stdev(shares):.1f}" if len(shares) > 1 else ""
            cells.append(f"{mean(shares):.1f}{deviation} %")
        print(f"| {attack} | " + " | ".join(cells) + " |")
    figures = {"epsilon": EPSILON, "clip": CLIP, "training rows": n_train, "test rows": n_test}
    figures |= {"accuracies": found, "seconds": time.perf_counter() - started}
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
