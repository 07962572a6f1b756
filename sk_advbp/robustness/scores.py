"""How hard a fitted net is to fool: scores, a scorer, a curve.

Every function takes an `AdvBPClassifier`, a pipeline whose last step is one, or a fitted
search (``GridSearchCV``) over either. The attack acts in the space that the *last step*
sees: ε and clip are in the units of the transformed features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import is_classifier
from sklearn.metrics import accuracy_score
from sklearn.utils import _safe_indexing
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import check_consistent_length

from sk_advbp.estimators.pipelines import transformed
from sk_advbp.robustness.pipelines import attacked_net, original_units, views
from sk_advbp.training.batches import dense

if TYPE_CHECKING:
    from typing import Literal, Self

    from numpy.typing import ArrayLike, NDArray
    from typing_extensions import Unpack

    from sk_advbp._types import (
        AttackOptions,
        Clip,
        Floats,
        MatrixLike,
        NamedAttackOptions,
        Predictor,
        RandomState,
        Samples,
        ScoreOptions,
    )
    from sk_advbp.core.attacks import Attack
    from sk_advbp.core.perturbation import Norm
    from sk_advbp.estimators.base import AdversarialEstimator

__all__ = [
    "AdversarialScorer",
    "adversarial_accuracy_score",
    "adversarial_examples",
    "make_adversarial_scorer",
    "robustness_curve",
    "transfer_accuracy_score",
]


def adversarial_examples(
    estimator: Predictor,
    X: MatrixLike,
    y: MatrixLike | None = None,
    *,
    epsilon: ArrayLike | None = None,
    attack: Attack = "fgsm",
    **options: Unpack[AttackOptions],
) -> Floats:
    """Return adversarial examples in the original units of X, through a pipeline too.

    Parameters
    ----------
    estimator : fitted AdvBPClassifier, pipeline or search
    X : array-like of shape (n_samples, n_features)
        As the estimator takes it.
    y : array-like of shape (n_samples,), indicator matrix or None, default=None
        Labels; None: those that the estimator predicts.
    epsilon : float, array of the shape of one sample, or None, default=None
        Largest perturbation, in the units that the last step sees; None: that of the
        training.
    attack : {"fgsm", "pgd"}, default="fgsm"
    **options
        `norm`, `clip`, `n_steps`, `step_size`, `n_restarts`, `random_state`, as of
        `AdvBPClassifier.adversarial_examples`.

    Returns
    -------
    X_adversarial : ndarray or frame of shape (n_samples, n_features)
        A frame of the kind of X where X is one, of float64. Back through a pipeline it goes step by
        step, x + T⁻¹(moved) − T⁻¹(T(x)) with T the transformer: for scalers what the inverse
        returns, and x itself where nothing moved. What an imputer has filled stays filled;
        samplers of imbalanced-learn, which act in ``fit`` alone, are passed over.

    Raises
    ------
    TypeError
        There is no net of this package at the end of `estimator`.
    ValueError
        A step cannot be inverted, and the message names it: it has no ``inverse_transform``, is
        given no numbers, or T of the result is not what the attack found (a
        ``MinMaxScaler(clip=True)``, for example, unless the attack's `clip` keeps it within the
        bounds).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_advbp import AdvBPClassifier
    >>> from sk_advbp.robustness import adversarial_examples
    >>> X, y = load_iris(return_X_y=True)
    >>> net = make_pipeline(StandardScaler(), AdvBPClassifier(random_state=0)).fit(X, y)
    >>> change = adversarial_examples(net, X, y, epsilon=0.1) - X
    >>> (abs(change) <= 0.1 * X.std(axis=0) + 1e-9).all()
    np.True_
    """
    steps, net = attacked_net(estimator)
    if not steps:
        return net.adversarial_examples(X, y, epsilon=epsilon, attack=attack, **options)
    seen = views(steps, X)
    moved = net.adversarial_examples(seen[-1], y, epsilon=epsilon, attack=attack, **options)
    return original_units(steps, seen, moved)


def adversarial_accuracy_score(
    estimator: Predictor,
    X: Samples,
    y: MatrixLike | None,
    epsilon: ArrayLike | None,
    *,
    attack: Attack = "pgd",
    norm: Norm | None = None,
    clip: Clip | Literal["same"] | None = "same",
    n_steps: int = 20,
    step_size: float | None = None,
    n_restarts: int = 1,
    random_state: RandomState = 0,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return the accuracy on samples that are moved against the estimator itself.

    Parameters
    ----------
    estimator : fitted AdvBPClassifier, pipeline or search
        The attack acts in the space that the last step sees.
    X : array-like of shape (n_samples, n_features)
        Clean samples, as the estimator takes them.
    y : array-like of shape (n_samples,), or indicator matrix (n_samples, n_labels)
        True labels.
    epsilon : float or array of the shape of one sample
        Largest perturbation, in the units that the last step sees. None: that of the
        training.
    attack : {"pgd", "fgsm"}, default="pgd"
        FGSM is about `n_steps` times as fast, but blind to catastrophic overfitting.
    norm, clip, n_steps, step_size, n_restarts
        As of `AdvBPClassifier.adversarial_examples`.
    random_state : int, RandomState instance or None, default=0
        Of PGD's random starts; the default makes scores comparable.
    sample_weight : array-like of shape (n_samples,) or None, default=None

    Returns
    -------
    accuracy : float
        In [0, 1]. An upper bound of the accuracy under the strongest attack. It is that of
        ``predict`` on the adversarial examples, but PGD leaves alone what is fooled already. A
        label that the net has not learnt counts as an error, as in `accuracy_score`. Of several
        labels a row it is the share of rows of which all are right.

    Raises
    ------
    TypeError
        There is no classifier of this package at the end of `estimator`.
    ValueError
        As of `AdvBPClassifier.adversarial_examples`; of labels only for those of another kind.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_advbp import AdvBPClassifier
    >>> from sk_advbp.robustness import adversarial_accuracy_score
    >>> X, y = load_iris(return_X_y=True)
    >>> net = AdvBPClassifier(epsilon=0.1, random_state=0).fit(X, y)
    >>> bool(adversarial_accuracy_score(net, X, y, 0.1) < net.score(X, y))
    True
    """
    transformers, net = attacked_net(estimator)
    check_classifier(net)
    return net._attacked_accuracy(
        transformed(transformers, X),
        y,
        sample_weight,
        epsilon=epsilon,
        attack=attack,
        norm=norm,
        clip=clip,
        n_steps=n_steps,
        step_size=step_size,
        n_restarts=n_restarts,
        random_state=random_state,
    )


class AdversarialScorer:
    """The scorer that `make_adversarial_scorer` returns."""

    def __init__(self, epsilon: ArrayLike, options: NamedAttackOptions) -> None:
        self.epsilon = epsilon
        self.options = options
        # The column in skorch's history.
        self.__name__ = f"{options.get('attack', 'pgd')}_accuracy"
        self._request = MetadataRequest(owner=self.__name__)
        self.set_score_request(sample_weight=None)

    def set_score_request(self, *, sample_weight: bool | str | None) -> Self:
        """Say whether it takes ``sample_weight``, where scikit-learn routes metadata.

        Parameters
        ----------
        sample_weight : bool, None or str
            As of ``set_score_request`` of scikit-learn's scorers.

        Returns
        -------
        self : AdversarialScorer
        """
        self._request.score.add_request(param="sample_weight", alias=sample_weight)
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the metadata that it asks for.

        Returns
        -------
        routing : MetadataRequest
        """
        return self._request

    def __call__(
        self,
        estimator: Predictor,
        X: Samples,
        y: MatrixLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Return `adversarial_accuracy_score` of the estimator."""
        return adversarial_accuracy_score(
            estimator, X, y, self.epsilon, sample_weight=sample_weight, **self.options
        )

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"make_adversarial_scorer({self.epsilon!r}{options})"


def make_adversarial_scorer(
    epsilon: ArrayLike, **options: Unpack[NamedAttackOptions]
) -> AdversarialScorer:
    """Make a scorer of the accuracy under attack, for ``scoring=``.

    Parameters
    ----------
    epsilon : float or array of the shape of one sample
        Largest perturbation, in the units that the last step sees, whatever ε the estimator
        is trained with.
    **options
        `attack` and others, as of `adversarial_accuracy_score`.

    Returns
    -------
    scorer : callable
        ``scorer(estimator, X, y) -> float``; greater is better. For scikit-learn's
        ``cross_validate``, ``GridSearchCV`` and others, and for skorch's ``EpochScoring``
        (with ``lower_is_better=False``), where the column of the history is called
        ``pgd_accuracy`` or ``fgsm_accuracy``. It can be pickled. Where scikit-learn routes
        metadata, ``set_score_request(sample_weight=True)`` asks for the weights.

    Raises
    ------
    TypeError
        For an option that `adversarial_accuracy_score` does not have.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from sk_advbp import AdvBPClassifier
    >>> from sk_advbp.robustness import make_adversarial_scorer
    >>> X, y = load_iris(return_X_y=True)
    >>> net = AdvBPClassifier(max_epochs=10, random_state=0)
    >>> cross_val_score(net, X, y, scoring=make_adversarial_scorer(0.1), cv=3).shape
    (3,)
    """
    known = (adversarial_accuracy_score.__kwdefaults__ or {}).keys() - {"sample_weight"}
    unknown = options.keys() - known
    if unknown:
        raise TypeError(f"unknown options {sorted(unknown)}; accepted are {sorted(known)}")
    return AdversarialScorer(epsilon, options)


def robustness_curve(
    estimator: Predictor,
    X: MatrixLike,
    y: MatrixLike,
    epsilons: Sequence[ArrayLike] | NDArray[np.number],
    **options: Unpack[ScoreOptions],
) -> NDArray[np.float64]:
    """Return the accuracy under attack for each size of the perturbation.

    Parameters
    ----------
    estimator : fitted AdvBPClassifier, pipeline or search
        The attack acts in the space that the last step sees.
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,), or indicator matrix (n_samples, n_labels)
        True labels.
    epsilons : sequence of n_epsilons floats, or arrays of the shape of one sample
        In the units that the last step sees. 0 gives the clean accuracy.
    **options
        `attack` and others, as of `adversarial_accuracy_score`.

    Returns
    -------
    accuracies : ndarray of shape (n_epsilons,), of dtype float64
        In [0, 1]. Chance, or nearly zero, at a large ε is what an attack that works shows:
        where the curve stays high, the attack is too weak.

    Raises
    ------
    TypeError, ValueError
        As of `adversarial_accuracy_score`.
    """
    transformers, net = attacked_net(estimator)
    X = transformed(transformers, X)
    return np.array([adversarial_accuracy_score(net, X, y, e, **options) for e in epsilons])


def transfer_accuracy_score(
    source: Predictor,
    target: Predictor,
    X: MatrixLike,
    y: MatrixLike,
    epsilon: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    **options: Unpack[NamedAttackOptions],
) -> float:
    """Return the accuracy of one classifier on samples that were moved against another.

    Parameters
    ----------
    source : fitted AdvBPClassifier, pipeline or search
        Whose gradients make the examples, in the space that its last step sees.
    target : fitted classifier
        Any of scikit-learn's, trees included; it takes X in the original units.
    X : array-like of shape (n_samples, n_features)
        Clean samples, as both take them.
    y : array-like of shape (n_samples,), or indicator matrix (n_samples, n_labels)
        True labels.
    epsilon : float or array of the shape of one sample
        Largest perturbation, in the units that the source's last step sees.
    sample_weight : array-like of shape (n_samples,) or None, default=None
    **options
        `attack` (default ``"fgsm"``) and others, as of `adversarial_examples`.

    Returns
    -------
    accuracy : float
        In [0, 1].

    Raises
    ------
    TypeError, ValueError
        As of `adversarial_examples`.
    """
    _, net = attacked_net(source)
    check_classifier(net)
    check_consistent_length(X, y)
    rows, _ = net._known_rows(y)
    predicted = np.array(dense(target.predict(X)))
    if len(rows):  # samples of labels that the source does not know fool it as they are
        of_known = (_safe_indexing(part, rows) for part in (X, y))
        moved = adversarial_examples(source, *of_known, epsilon=epsilon, **options)
        predicted[rows] = dense(target.predict(moved))
    return accuracy_score(y, predicted, sample_weight=sample_weight)


def check_classifier(net: AdversarialEstimator) -> None:
    """Raise TypeError for a regressor."""
    if not is_classifier(net):
        raise TypeError(f"accuracy is of classifiers. Got {net!r}.")
