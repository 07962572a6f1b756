"""What bfloat16 changes: signs of the adversarial gradient, test error, time of a step.

    python -m benchmarks.speed.precision --data PATH/mnist.npz

Three tables: the share of signs that agree with float64's after one epoch of 2×1200; the test
error on MNIST over seeds, with the first pass or all of the step in bfloat16; and the time of
a step with the first pass in bfloat16 against float32 over sizes, from which comes the rule of
``perturbation_dtype="auto"``.
"""

import argparse
import itertools
import time
from functools import partial

import numpy as np
import torch

from benchmarks.harness import mean_in_words
from benchmarks.passport import RESULTS, write_json
from sk_advbp import AdvBPClassifier
from sk_advbp.command import load_data
from sk_advbp.core import adversarial_gradients
from sk_advbp.core.perturbation import displace

PRECISIONS = {
    "float32": {"perturbation_dtype": "float32"},
    "first pass in bfloat16": {"perturbation_dtype": "bfloat16"},
    "amp": {"amp": True},
}
SIZES = list(itertools.product((64, 784), (100, 256, 400, 800, 1200), (32, 64, 128, 512)))


def gradient_of(net, X, y, dtype, first_pass=None):
    """Return ∇ₓJ of the fitted `net` in `dtype`, its products in `first_pass`."""
    found = []

    def keep(gradient, x):
        found.append(gradient(x))
        return x

    adversarial_gradients(
        torch.from_numpy(X).to(dtype),
        torch.from_numpy(y).long(),
        [layer.weight.detach().to(dtype) for layer in net.module_.layers],
        [layer.bias.detach().to(dtype) for layer in net.module_.layers],
        activation="relu",
        output="softmax",
        perturb=keep,
        perturbation_dtype=first_pass,
    )
    return found[0]


def sign_agreement(data, hidden):
    """Return the share of signs that agree with float64's, after one epoch."""
    net = AdvBPClassifier((hidden, hidden), max_epochs=1, lr=1e-3, batch_size=128, random_state=0)
    net.fit(data.X_train, data.y_train)
    X, y = data.X_test[:2000], data.y_test[:2000]
    reference = gradient_of(net, X, y, torch.float64).sign()
    cases = {"float32": None, "bfloat16": torch.bfloat16}
    return {
        name: float(
            (gradient_of(net, X, y, torch.float32, low).sign() == reference).double().mean()
        )
        for name, low in cases.items()
    }


def test_errors(data, given):
    """Return the test error (%) of each precision and seed."""
    errors = {name: [] for name in PRECISIONS}
    for seed, (name, settings) in itertools.product(range(given.seeds), PRECISIONS.items()):
        net = AdvBPClassifier(
            (400, 400),
            lr=1e-3,
            batch_size=128,
            max_epochs=given.epochs,
            random_state=seed,
            **settings,
        ).fit(data.X_train, data.y_train)
        errors[name].append(100 * (1 - net.score(data.X_test, data.y_test)))
        print(f"seed {seed} {name}: {errors[name][-1]:.2f} %", flush=True)
    return errors


def step_ratio(d, hidden, n, repeats):
    """Return the time of a step with its first pass in bfloat16, as a ratio to float32."""
    sizes = (d, hidden, hidden, 10)
    generator = torch.Generator().manual_seed(0)
    weights = [
        torch.randn(b, a, generator=generator) / a**0.5 for a, b in itertools.pairwise(sizes)
    ]
    step = partial(
        adversarial_gradients,
        torch.rand(n, d, generator=generator),
        torch.randint(10, (n,), generator=generator),
        weights,
        [torch.zeros(b) for b in sizes[1:]],
        activation="relu",
        output="softmax",
        perturb=partial(displace, epsilon=torch.tensor(0.1)),
    )
    ratios = []
    for _ in range(repeats + 1):
        times = []
        for dtype in (torch.bfloat16, None):
            start = time.perf_counter()
            step(perturbation_dtype=dtype)
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    return float(np.median(ratios[1:]))


def main():
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist", help="mnist (from OpenML) or a .npz file")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--hidden", type=int, default=1200, help="for the signs")
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    rows = []
    for d, hidden, n in SIZES:
        products = n * (d * hidden + hidden**2 + 10 * hidden)
        rows.append({"d": d, "hidden": hidden, "n": n, "multiplications": products})
        rows[-1]["ratio"] = step_ratio(d, hidden, n, given.repeats)
    for row in sorted(rows, key=lambda row: row["multiplications"]):
        print("{multiplications:>11} ({d}-{hidden}-{hidden}-10, {n}): {ratio:.2f}".format(**row))
    data = load_data(given.data)
    signs = sign_agreement(data, given.hidden)
    print("signs that agree with float64's:", signs, flush=True)
    errors = test_errors(data, given)
    for name, values in errors.items():
        print(f"{name:>24}: {mean_in_words(values, digits=3)} %")
    settings = {"hidden": [400, 400], "epsilon": 0.08, "epochs": given.epochs, "lr": 1e-3}
    write_json(
        RESULTS / "precision.json",
        {"step_ratios": rows, "signs": signs, "test_errors": errors, "settings": settings},
    )


if __name__ == "__main__":
    main()
