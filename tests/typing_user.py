"""What a user may write, for mypy alone: a type that is lost makes a line of it an error."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import sparse
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils.data import Dataset

from sk_advbp import (
    AdvBPClassifier,
    AdvBPClassifierCV,
    AdvBPRegressor,
    load_model,
    log_likelihood_score,
)
from sk_advbp.callbacks import OverfittingWatch
from sk_advbp.command import TrainTest, load_data
from sk_advbp.core import MultilayerPerceptron, adversarial_gradients, perturb
from sk_advbp.core.mlp import StackedLinear
from sk_advbp.export import to_onnx
from sk_advbp.robustness import (
    AdversarialExamplesDisplay,
    AdversarialScorer,
    RobustnessCurveDisplay,
    adversarial_accuracy_score,
    adversarial_examples,
    make_adversarial_scorer,
    robustness_curve,
    transfer_accuracy_score,
)
from sk_advbp.tables import epsilon_of_columns
from sk_advbp.training import ArrayDataset, Batches

Floats = NDArray[np.floating]


def core(x: Tensor, y: Tensor, module: MultilayerPerceptron) -> None:
    assert_type(perturb(lambda x: x.sum(), x, 0.1, norm="l2", clip=(0.0, 1.0)), Tensor)
    assert_type(module.forward(x), Tensor)
    assert_type(module.layers[0], torch.nn.Linear | StackedLinear)
    weights, biases = [layer.weight for layer in module.layers], [torch.zeros(2)]
    step = adversarial_gradients(x, y, weights, biases, activation="relu", output="softmax")
    assert_type(step, tuple[Tensor, Tensor, Sequence[Tensor], Sequence[Tensor]])
    perturb(lambda x: x.sum(), x, 0.1, norm="l1")  # type: ignore[arg-type]


def classifier(
    X: Floats, y: list[str], Y: sparse.csr_matrix, data: Dataset[tuple[Tensor, int]]
) -> None:
    net = AdvBPClassifier((8,), "tanh", norm="l2", clip=(0, 1), class_weight={"a": 2, "b": 1})
    assert_type(AdvBPClassifier().fit(X, y), AdvBPClassifier)
    assert_type(net.fit(data).partial_fit(X, y, ["a", "b"]), AdvBPClassifier)
    assert_type(net.set_params(lr=0.1).predict(X), NDArray[np.generic])
    assert_type(net.predict_proba(X), Floats)
    assert_type(net.predict_log_proba(X), Floats)
    assert_type(net.score(X, y), float)
    assert_type(net.adversarial_examples(X, y, epsilon=0.1, attack="pgd"), Floats)
    assert_type(net.estimators_, list[AdvBPClassifier])
    assert_type(net.classes_, NDArray[np.generic])
    assert_type(net.loss_curve_, list[float])
    assert_type(net.fit(X, Y).score(X, Y), float)
    net.partial_fit(X, Y).adversarial_examples(X, Y)
    AdvBPClassifier(norm="l1")  # type: ignore[arg-type]
    AdvBPClassifier(activation=torch.nn.ReLU)  # type: ignore[arg-type]
    AdvBPClassifier((8,), "relu", 5)  # type: ignore[call-arg]
    net.fit(X, y, weights=X[:, 0])  # type: ignore[call-arg]
    net.adversarial_examples(X, y, 0.1)  # type: ignore[call-arg]
    net.predict_proba(X).argmax(axis="classes")  # type: ignore[call-overload]


def search(X: Floats, y: list[str]) -> None:
    net = AdvBPClassifierCV((8,), epsilons=[0, 0.1], cv=StratifiedKFold(3), selection="one_se")
    assert_type(AdvBPClassifierCV().fit(X, y), AdvBPClassifierCV)
    assert_type(net.predict(X), NDArray[np.generic])
    assert_type(net.predict_proba(X), Floats)
    assert_type(net.predict_log_proba(X), Floats)
    assert_type(net.score(X, y), float)
    assert_type(net.adversarial_examples(X, y, clip=None), Floats)
    assert_type(net.estimators_, list[AdvBPClassifier])
    assert_type(net.epsilon_, float)
    AdvBPClassifierCV(selection="worst")  # type: ignore[arg-type]
    net.partial_fit(X, y)  # type: ignore[operator]


def regressor(X: Floats, y: Floats) -> None:
    net = AdvBPRegressor(module=torch.nn.Linear(4, 1), optimizer=torch.optim.SGD, device="cpu")
    assert_type(AdvBPRegressor().fit(X, y), AdvBPRegressor)
    assert_type(net.partial_fit(X, y, sample_weight=y), AdvBPRegressor)
    assert_type(net.predict(X), Floats)
    assert_type(net.predict(X, return_std=True), tuple[Floats, Floats])
    assert_type(net.score(X, y), float)
    assert_type(log_likelihood_score(make_pipeline(StandardScaler(), net), X, y), float)
    assert_type(net.adversarial_examples(X, y), Floats)
    assert_type(net.estimators_, list[AdvBPRegressor])
    AdvBPRegressor(output="softmax")  # type: ignore[arg-type]
    AdvBPRegressor(lr_schedule="cosine")  # type: ignore[arg-type]
    net.partial_fit(X, y, classes=[0, 1])  # type: ignore[call-arg]
    net.predict_proba(X)  # type: ignore[operator]


def training(X: Floats, y: NDArray[np.int64]) -> None:
    dataset = ArrayDataset(X, y, device="cpu")
    assert_type(len(Batches(dataset, batch_size=32, shuffle=True)), int)
    OverfittingWatch((X, y), epsilon=0.1)
    assert_type(epsilon_of_columns(StandardScaler(), {"numbers": 0.1}), Floats)


def robustness(
    net: AdvBPClassifier, X: Floats, y: list[str], Y: sparse.csr_array, ax: Axes
) -> None:
    pipeline = make_pipeline(StandardScaler(), net)
    assert_type(adversarial_accuracy_score(net, X, y, 0.1), float)
    assert_type(adversarial_accuracy_score(net, X, Y, 0.1), float)
    assert_type(transfer_accuracy_score(net, net, X, Y, 0.1), float)
    assert_type(adversarial_accuracy_score(pipeline, X, y, 0.1, norm="l2", clip=None), float)
    assert_type(adversarial_examples(pipeline, X, y, epsilon=[0.1, 0.2], n_steps=5), Floats)
    assert_type(robustness_curve(net, X, y, [0, 0.1], attack="fgsm"), NDArray[np.float64])
    assert_type(transfer_accuracy_score(net, pipeline, X, y, 0.1, attack="pgd"), float)
    scorer = make_adversarial_scorer(0.1, attack="pgd", n_restarts=2)
    assert_type(scorer, AdversarialScorer)
    assert_type(scorer(net, X, y), float)
    curves = RobustnessCurveDisplay.from_estimators(
        {"net": net}, X, y, epsilons=np.linspace(0, 0.1), ax=ax, linestyle="--"
    )
    assert_type(curves, RobustnessCurveDisplay)
    pictures = AdversarialExamplesDisplay.from_estimator(net, X, y, image_shape=(8, 8))
    assert_type(pictures, AdversarialExamplesDisplay)
    adversarial_accuracy_score(X, y, net, 0.1)  # type: ignore[arg-type]
    make_adversarial_scorer(0.1, steps=5)  # type: ignore[call-arg]


def files(net: AdvBPClassifier, path: Path, X: Floats) -> None:
    net.save_model(path)
    assert_type(load_model(path, module=torch.nn.Linear), AdvBPClassifier | AdvBPRegressor)
    to_onnx(make_pipeline(StandardScaler(), net), X)
    load_model(path, torch.nn.Linear)  # type: ignore[call-arg]
    net.save_model(1)  # type: ignore[arg-type]


def command() -> None:
    data = load_data("digits")
    assert_type(data, TrainTest)
    assert_type(data.X_train, Floats)
