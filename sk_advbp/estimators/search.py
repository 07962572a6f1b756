"""`AdvBPClassifierCV`: ε chosen by cross-validation, ε = 0 among the candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sk_advbp.estimators.base import with_callbacks
from sk_advbp.estimators.classifier import AdvBPClassifier
from sk_advbp.estimators.docstrings import shares_parameters
from sk_advbp.estimators.epsilon_search import SEARCH_CONSTRAINTS, EpsilonSearch
from sk_advbp.training.batches import ArrayDataset, Batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Literal, Self

    from numpy.typing import ArrayLike
    from sklearn.model_selection import BaseCrossValidator
    from skorch.callbacks import Callback
    from torch import Tensor, nn
    from torch.utils.data import Dataset

    from sk_advbp._types import (
        ClassWeight,
        Clip,
        MatrixLike,
        RandomState,
        Samples,
        TrainSplit,
    )
    from sk_advbp.core.mlp import Activation
    from sk_advbp.core.perturbation import Norm, Perturbation
    from sk_advbp.estimators.cross_validation import Scorer, Selection

__all__ = ["AdvBPClassifierCV"]


@shares_parameters(AdvBPClassifier)
class AdvBPClassifierCV(EpsilonSearch, AdvBPClassifier):  # type: ignore[misc]  # no partial_fit
    """`AdvBPClassifier` that chooses ε by cross-validation.

    How much to perturb, and how long to train, depends on the data, and on some any perturbation
    hurts. Each candidate is fitted on each fold by a single net; several nets with the best one
    are then trained on all data, and answer as one.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(256,)
        Number of units of each hidden layer; ``()`` is a linear model. Ignored with `module`.
    {activation}
    n_nets : int or "auto", default="auto"
        So many nets are trained on all data with the chosen ε, and answer as one: as of
        `AdvBPClassifier`. ``"auto"`` is 5, but 1 with a `module` or an optimizer of which there
        cannot be several.
    epsilons : int or array-like of shape (n_epsilons,), default=5
        The candidates, or their number: 0 and equal factors from 0.02 to 0.32 of a typical
        standard deviation of the features (the root mean square over those that move), both
        in units of `epsilon_unit`.
    {epsilon_unit}
    cv : int, cross-validation generator, iterable of (train, test) or None, default=None
        As in `sklearn.model_selection.GridSearchCV`, but None is 5 *shuffled* folds, stratified but
        for several labels a row: in a table that is sorted, the rows of a fold have no like among
        the others. Where the folds go by groups, give ``list(GroupKFold().split(X, y, groups))``;
        where by time, a ``TimeSeriesSplit()``.
    scoring : str, callable or None, default=None
        What chooses, as in ``GridSearchCV``; None is the log loss, which sees what a probability
        is worth, but for several labels a row the share of rows of which all are right. It is
        weighted by `sample_weight` where it takes weights. ``score`` stays the accuracy.
    selection : {"best", "one_se"}, default="best"
        ``"best"``: the ε of the largest mean score, of several the smallest. ``"one_se"``: the
        largest ε whose mean score is within one standard error of that: the most robust net
        that costs nothing measurable. The standard error is the standard deviation (ddof 1) of
        the best ε's scores over the root of the number of folds.
    n_jobs : int or None, default=None
        How many stacks of nets, or single nets, are trained at the same time.
    {norm, clip, clean_weight, random_start, perturbation, dropout, input_dropout, output}
    {module, criterion, optimizer, lr, lr_schedule}
    max_epochs : int or sequence of int, default=(30, 100)
        Passes over the training data. Of several numbers one is chosen together with ε: small,
        noisy tables want few.
    {batch_size, early_stopping}
    {validation_fraction, n_iter_no_change, tol, class_weight, classes, train_split}
    {callbacks, predict_nonlinearity, verbose, device}
    dtype : {"auto", "float32", "float64"}, default="auto"
        As of `AdvBPClassifier`, but ``"auto"`` keeps float64 only while X has at most 5,000
        values: many nets take far longer in it.
    {perturbation_dtype, amp, compile}
    {use_caching, torch_load_kwargs, iterator_train, iterator_valid, dataset, random_state}
    {**kwargs}

    Attributes
    ----------
    epsilon_ : float
        The chosen ε.
    max_epochs_ : int
        The chosen number of epochs.
    epsilons_ : ndarray of shape (n_epsilons,)
        The candidates.
    best_index_ : int
        Where the chosen candidate is in `cv_results_`.
    best_score_ : float
        Its mean score over the folds.
    cv_results_ : dict of ndarray
        As of ``GridSearchCV``: all ε with the first number of epochs, then with the next.
    {classes_, n_features_in_, feature_names_in_, epsilon_unit_, sample_shape_, module_}
    {optimizer_, history, n_iter_, t_, loss_curve_, loss_, best_loss_, validation_scores_}
    {best_validation_score_, validation_loss_curve_, n_outputs_, n_layers_, coefs_}
    {out_activation_, estimators_, device_, dtype_}

    See Also
    --------
    AdvBPClassifier : The same for one ε.
    sklearn.model_selection.GridSearchCV : Searches over other parameters, too.

    Notes
    -----
    All nets of a search have the same seed, as in a ``GridSearchCV`` over estimators with an
    integer `random_state`, and the same classes, dtype and device as the final ones. With an
    integer `random_state` these are the nets of `AdvBPClassifier` with `epsilon_`, `max_epochs_`,
    `n_nets` and `dtype_`.

    Nets of the package's own perceptron are trained together, in stacks (see
    `sk_advbp.training.stacked`), where SGD, Adam, AdamW or RMSprop trains them, and neither an
    option draws random numbers for each row (`dropout`, `input_dropout`, `random_start`,
    ``perturbation="random"``) nor `early_stopping`, `train_split`, `callbacks` or a parameter
    of another component than the optimizer is given. Else they are fitted one by one.

    References
    ----------
    Arild Nøkland, "Improving Back-Propagation by Adding an Adversarial Gradient",
    arXiv:1510.04189.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_advbp import AdvBPClassifierCV
    >>> X, y = load_iris(return_X_y=True)
    >>> net = AdvBPClassifierCV((16,), epsilons=[0, 0.1], max_epochs=20, random_state=0)
    >>> model = make_pipeline(StandardScaler(), net).fit(X, y)
    >>> model[-1].epsilon_ in (0, 0.1)
    True
    """

    _parameter_constraints = {**AdvBPClassifier._parameter_constraints, **SEARCH_CONSTRAINTS}
    _single_class = AdvBPClassifier

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (256,),
        activation: Activation = "relu",
        *,
        n_nets: int | Literal["auto"] = "auto",
        epsilons: int | ArrayLike = 5,
        epsilon_unit: Literal["absolute", "std"] | ArrayLike = "absolute",
        cv: int | BaseCrossValidator | Iterable[tuple[ArrayLike, ArrayLike]] | None = None,
        scoring: str | Scorer | None = None,
        selection: Selection = "best",
        n_jobs: int | None = None,
        norm: Norm = "linf",
        clip: Clip | None = None,
        clean_weight: float = 0.0,
        random_start: float = 0.0,
        perturbation: Perturbation = "adversarial",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        output: Literal["softmax", "logistic"] = "softmax",
        module: Callable[..., nn.Module] | nn.Module | None = None,
        criterion: Callable[..., nn.Module] | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        lr: float = 0.005,
        lr_schedule: Literal["linear", "constant"] = "linear",
        max_epochs: int | Sequence[int] = (30, 100),
        batch_size: int = 64,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        class_weight: ClassWeight | None = None,
        classes: ArrayLike | None = None,
        train_split: TrainSplit | None = None,
        callbacks: list[Callback] | Literal["disable"] | None = None,
        predict_nonlinearity: Callable[[Tensor], Tensor] | Literal["auto"] | None = "auto",
        verbose: int = 0,
        device: str | torch.device = "auto",
        dtype: Literal["auto", "float32", "float64"] = "auto",
        perturbation_dtype: Literal["auto", "float32", "bfloat16"] = "auto",
        amp: bool = False,
        compile: bool = False,
        use_caching: bool | Literal["auto"] = "auto",
        torch_load_kwargs: dict[str, object] | None = None,
        iterator_train: Callable[..., Iterable[object]] = Batches,
        iterator_valid: Callable[..., Iterable[object]] = Batches,
        dataset: Callable[..., Dataset[object]] = ArrayDataset,
        random_state: RandomState = None,
        **kwargs: Any,
    ) -> None:
        self._store(locals())

    @with_callbacks
    def fit(
        self, X: Samples, y: MatrixLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Choose ε by cross-validation, then train on all of X and y.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), or torch Dataset
            With `module`, arrays may have more axes. A Dataset must hold arrays.
        y : array-like of shape (n_samples,), or array-like or CSR matrix (n_samples, n_labels)
            As of `AdvBPClassifier`.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights >= 0 in fits and scores. A row of weight 0 is left out.

        Returns
        -------
        self : AdvBPClassifierCV

        Raises
        ------
        ValueError
            For a parameter or an array that cannot be used, before any training; when a loss
            becomes non-finite; and where no ε has a finite score. A fitted estimator stays as
            it was.
        TypeError
            For the name of a parameter that does not exist.
        """
        return self._fit_search(X, y, sample_weight)
