"""Those that are compared: ours, loops written by hand, skorch, scikit-learn, ART.

A function of a `Work` builds its net and trains it. The loops by hand return the seconds of
each epoch, the others the fitted net.
"""

import time
import warnings
from contextlib import redirect_stderr
from importlib.util import find_spec
from io import StringIO
from itertools import pairwise

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetClassifier
from skorch.dataset import unpack_data
from torch import nn
from torch.nn.functional import cross_entropy

from sk_advbp import AdvBPClassifier

OURS = {
    "ours, float32": {"perturbation_dtype": "float32"},
    "ours, bfloat16 first pass": {"perturbation_dtype": "bfloat16"},
    "ours, amp": {"amp": True},
}
PLAIN = "plain loop by hand"
ADVERSARIAL = "adversarial loop by hand"
SKORCH = "minimal skorch subclass"
SKLEARN = "MLPClassifier (plain)"
ART = "ART AdversarialTrainer"


def perceptron(sizes):
    """Return the net as torch's users write it."""
    layers = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def loop_by_hand(work, move=None):
    """Train on tensors that lie in memory, with a fused Adam.

    Parameters
    ----------
    work : Work
    move : callable or None
        Maps (module, x, target) to the rows to learn from; None is plain back-propagation.
    """
    X, y = work.tensors
    module = perceptron(work.sizes)
    optimizer = torch.optim.Adam(module.parameters(), lr=work.lr, fused=True)
    seconds = []
    for _ in range(work.epochs):
        start = time.perf_counter()
        for rows in torch.randperm(len(X)).split(work.batch_size):
            x, target = X[rows], y[rows]
            if move is not None:
                x = move(module, x, target)
            optimizer.zero_grad()
            cross_entropy(module(x), target).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def plain_loop(work):
    """Train by plain back-propagation."""
    return loop_by_hand(work)


def adversarial_loop(work):
    """Train adversarially; the first pass has no gradient of the parameters."""

    def move(module, x, target):
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(module(x), target), x)
        return x.detach() + work.epsilon * gradient.sign()

    return loop_by_hand(work, move)


def adversarial_loop_in_full(work):
    """Train adversarially as it is mostly written: both passes are the whole of it."""

    def move(module, x, target):
        x.requires_grad_()
        cross_entropy(module(x), target).backward()
        return x.detach() + work.epsilon * x.grad.sign()

    return loop_by_hand(work, move)


def settings(work):
    """Return our parameters for the work, ε apart, with a constant rate as the others have."""
    return {
        "hidden_layer_sizes": work.hidden,
        "lr": work.lr,
        "lr_schedule": "constant",
        "batch_size": work.batch_size,
        "max_epochs": work.epochs,
        "dtype": "float32",
        "device": "cpu",
        "random_state": 0,
    }


def ours(work, **options):
    """Return `AdvBPClassifier` for the work."""
    return AdvBPClassifier(**settings(work) | {"epsilon": work.epsilon} | options)


class AdversarialSkorch(NeuralNetClassifier):
    """The least that makes skorch adversarial; its callbacks and iterators as they come."""

    def __init__(self, *args, epsilon=0.08, **kwargs):
        super().__init__(*args, **kwargs)
        self.epsilon = epsilon

    def train_step_single(self, batch, **fit_params):
        """Move the batch, then do skorch's own step."""
        x, target = unpack_data(batch)
        x = x.requires_grad_()
        loss = self.get_loss(self.infer(x), target, training=True)
        (gradient,) = torch.autograd.grad(loss, x)
        moved = x.detach() + self.epsilon * gradient.sign()
        return super().train_step_single((moved, target), **fit_params)


def minimal_skorch(work):
    """Return `AdversarialSkorch`; nothing is held out, as with the others."""
    return AdversarialSkorch(
        perceptron,
        module__sizes=work.sizes,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=work.lr,
        max_epochs=work.epochs,
        batch_size=work.batch_size,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
        epsilon=work.epsilon,
    )


def fit_sklearn(work):
    """Fit scikit-learn's perceptron, by plain back-propagation, without its early stop."""
    net = MLPClassifier(
        work.hidden,
        alpha=0.0,
        batch_size=work.batch_size,
        learning_rate_init=work.lr,
        max_iter=work.epochs,
        n_iter_no_change=work.epochs + 1,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return net.fit(work.X, work.y)


def fit_art(work):
    """Train by the Adversarial Robustness Toolbox: every row moved by its FGSM."""
    from art.attacks.evasion import FastGradientMethod
    from art.defences.trainer import AdversarialTrainer
    from art.estimators.classification import PyTorchClassifier

    module = perceptron(work.sizes)
    classifier = PyTorchClassifier(
        module,
        loss=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(module.parameters(), lr=work.lr, fused=True),
        input_shape=(work.sizes[0],),
        nb_classes=work.sizes[-1],
        device_type="cpu",
    )
    attack = FastGradientMethod(classifier, eps=work.epsilon, batch_size=work.batch_size)
    trainer = AdversarialTrainer(classifier, attack, ratio=1.0)
    one_hot = np.eye(work.sizes[-1], dtype=np.float32)[work.y]
    with redirect_stderr(StringIO()):  # Its progress bars cannot be turned off.
        trainer.fit(work.X, one_hot, batch_size=work.batch_size, nb_epochs=work.epochs)
    return classifier


def fits():
    """Return {name: function that builds and trains}, in the order of the tables.

    ART is left out where it is not installed; nothing else of the project needs it.
    """
    of_all = {
        name: lambda work, options=options: ours(work, **options).fit(work.X, work.y)
        for name, options in OURS.items()
    }
    of_all[PLAIN] = plain_loop
    of_all[ADVERSARIAL] = adversarial_loop
    of_all[SKORCH] = lambda work: minimal_skorch(work).fit(work.X, work.y)
    of_all[SKLEARN] = fit_sklearn
    if find_spec("art") is not None:
        of_all[ART] = fit_art
    return of_all
