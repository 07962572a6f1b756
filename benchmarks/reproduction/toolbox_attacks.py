"""Our PGD beside the Adversarial Robustness Toolbox's APGD and Square, on nets for MNIST.

    python -m benchmarks.reproduction.toolbox_attacks

Needs the extra ``attacks``. About 13 minutes on one core. A plain and an adversarial net for
each seed; their errors on the first test images under each attack, within [0, 1]. APGD climbs the
cross-entropy or the difference of logits ratio, with a step size of its own; Square needs no
gradients: were it stronger than the others, they would be blind. The last row counts an image
as soon as one of the attacks fools the net.
"""

import time

import numpy as np
from art.attacks.evasion import AutoProjectedGradientDescent, SquareAttack

from benchmarks.harness import command_line, errors_by_method, markdown, say, using_threads
from benchmarks.passport import write_json
from sk_advbp import AdvBPClassifier
from sk_advbp.command import load_data
from sk_advbp.robustness import to_art

METHODS = {"plain": 0.0, "adversarial": 0.08}
EPSILON = 0.1
CLIP = (0.0, 1.0)
N_STEPS = 40
N_QUERIES = 1000


def apgd(net, X, y, loss):
    """Return where the Toolbox's APGD leads, one random start."""
    attack = AutoProjectedGradientDescent(
        to_art(net, clip_values=CLIP),
        eps=EPSILON,
        eps_step=2 * EPSILON,
        max_iter=N_STEPS,
        nb_random_init=1,
        batch_size=500,
        loss_type=loss,
        verbose=False,
    )
    return attack.generate(X, y)


def square(net, X, y, n_queries):
    """Return where the Toolbox's Square leads, which asks for nothing but predictions."""
    classifier = to_art(net, clip_values=CLIP, image_shape=(1, 28, 28))
    attack = SquareAttack(
        classifier, eps=EPSILON, max_iter=n_queries, batch_size=500, verbose=False
    )
    return attack.generate(X.reshape(-1, 1, 28, 28), y).reshape(X.shape)


def errors(net, X, y, n_queries):
    """Return {attack: error in percent}, and that under the strongest for each image."""

    def ours(**more):
        options = {"epsilon": EPSILON, "clip": CLIP, "random_state": 0}
        return net.adversarial_examples(X, y, **options, **more)

    examples = {
        "clean": X,
        "FGSM": ours(),
        f"PGD-{N_STEPS}": ours(attack="pgd", n_steps=N_STEPS),
        f"PGD-{N_STEPS}, 5 restarts": ours(attack="pgd", n_steps=N_STEPS, n_restarts=5),
        f"ART's APGD-{N_STEPS}, cross-entropy": apgd(net, X, y, "cross_entropy"),
        f"ART's APGD-{N_STEPS}, logits ratio": apgd(net, X, y, "difference_logits_ratio"),
        f"ART's Square, {n_queries} queries": square(net, X, y, n_queries),
    }
    for moved in examples.values():
        assert np.abs(moved - X).max() <= EPSILON + 1e-6
        assert moved.min() >= CLIP[0] and moved.max() <= CLIP[1]
    fooled = {attack: net.predict(moved) != y for attack, moved in examples.items()}
    fooled["any of them"] = np.any(list(fooled.values()), axis=0)
    return {attack: 100 * float(errs.mean()) for attack, errs in fooled.items()}


def main():
    """Measure, print, write."""
    parser = command_line(__doc__.splitlines()[0], __file__)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    started = time.perf_counter()
    data = load_data(given.data)
    n_train, n_test = (500, 50) if given.quick else (given.rows or len(data.X_train), 1000)
    settings = {
        "hidden_layer_sizes": [400, 400],
        "lr": 0.001,
        "batch_size": 128,
        "max_epochs": 2 if given.quick else 20,
    }
    X, y = data.X_test[:n_test], data.y_test[:n_test]
    runs = []
    with using_threads(given.threads or 1):
        for seed in range(given.seeds):
            for method, epsilon in METHODS.items():
                net = AdvBPClassifier(epsilon=epsilon, device="cpu", random_state=seed, **settings)
                net.fit(data.X_train[:n_train], data.y_train[:n_train])
                np.random.seed(seed)  # noqa: NPY002 - the Toolbox draws from the global state
                found = errors(net, X, y, 20 if given.quick else N_QUERIES)
                runs.append({"method": method, "seed": seed, "error": found})
                say(f"seed {seed}, {method}: {found}")
    print(markdown(errors_by_method(runs)))
    figures = {
        "quick": given.quick,
        "tested_on": f"the first {n_test:,} test images, ε = {EPSILON} within {list(CLIP)}",
        "settings": settings | {"training rows": n_train, "epsilon in training": METHODS},
        "runs": runs,
        "seconds": time.perf_counter() - started,
    }
    write_json(given.json, figures)


if __name__ == "__main__":
    main()
