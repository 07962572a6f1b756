"""`AdvBPRegressorCV`: ε of a regression chosen by cross-validation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sk_advbp.estimators.base import with_callbacks
from sk_advbp.estimators.docstrings import shares_parameters
from sk_advbp.estimators.epsilon_search import SEARCH_CONSTRAINTS, EpsilonSearch
from sk_advbp.estimators.regressor import AdvBPRegressor
from sk_advbp.estimators.search import AdvBPClassifierCV
from sk_advbp.training.batches import ArrayDataset, Batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, Literal, Self

    from numpy.typing import ArrayLike
    from sklearn.model_selection import BaseCrossValidator
    from skorch.callbacks import Callback
    from torch import nn
    from torch.utils.data import Dataset

    from sk_advbp._types import Clip, RandomState, Samples, TrainSplit
    from sk_advbp.core.mlp import Activation
    from sk_advbp.core.perturbation import Norm, Perturbation
    from sk_advbp.estimators.cross_validation import Scorer, Selection

__all__ = ["AdvBPRegressorCV"]


@shares_parameters(AdvBPRegressor, AdvBPClassifierCV)
class AdvBPRegressorCV(EpsilonSearch, AdvBPRegressor):  # type: ignore[misc]  # no partial_fit
    """`AdvBPRegressor` that chooses ε by cross-validation.

    How much to perturb, and how long to train, depends on the data, and on some any perturbation
    hurts. Each candidate is fitted on each fold by a single net; several nets with the best one
    are then trained on all data, and answer as one.

    Parameters
    ----------
    {hidden_layer_sizes, activation}
    n_nets : int or "auto", default="auto"
        So many nets are trained on all data with the chosen ε, and answer by their mean.
        ``"auto"`` is 5, but 1 with a `module` or an optimizer of which there cannot be several.
    {epsilons, epsilon_unit}
    cv : int, cross-validation generator, iterable of (train, test) or None, default=None
        As in `sklearn.model_selection.GridSearchCV`, but None is 5 *shuffled* folds: in a table
        that is sorted, the rows of a fold have no like among the others. Where the folds go by
        groups, give ``list(GroupKFold().split(X, y, groups))``; where by time, a
        ``TimeSeriesSplit()``.
    scoring : str, callable or None, default=None
        What chooses, as in ``GridSearchCV``; None is R², with ``output="gaussian"``
        `log_likelihood_score`. It is weighted by `sample_weight` where it takes weights. ``score``
        stays R².
    {selection, n_jobs, norm, clip, clean_weight, random_start, perturbation, dropout}
    {input_dropout, output, module, criterion, optimizer}
    lr : float > 0, default=0.01
        Learning rate.
    {lr_schedule}
    max_epochs : int or sequence of int, default=(50, 200)
        Passes over the training data. Of several numbers one is chosen together with ε: small
        tables with little noise want many.
    {batch_size, early_stopping, validation_fraction, n_iter_no_change, tol, train_split, callbacks}
    {verbose, device}
    dtype : {"auto", "float32", "float64"}, default="auto"
        As of `AdvBPRegressor`, but ``"auto"`` keeps float64 only while X has at most 5,000
        values: many nets take far longer in it.
    {perturbation_dtype, amp, compile, use_caching, torch_load_kwargs}
    {iterator_train, iterator_valid, dataset, random_state, **kwargs}

    Attributes
    ----------
    {epsilon_, max_epochs_, epsilons_, best_index_, best_score_, cv_results_, y_mean_, n_outputs_}
    {n_features_in_, feature_names_in_, epsilon_unit_, sample_shape_, module_}
    {optimizer_, history, n_iter_, t_, loss_curve_, loss_, best_loss_, validation_scores_}
    {best_validation_score_, validation_loss_curve_, n_layers_, coefs_}
    {out_activation_, estimators_, device_, dtype_}

    See Also
    --------
    AdvBPRegressor : The same for one ε.
    AdvBPClassifierCV : The same for labels; its notes hold here too.

    References
    ----------
    Arild Nøkland, "Improving Back-Propagation by Adding an Adversarial Gradient",
    arXiv:1510.04189.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_advbp import AdvBPRegressorCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> net = AdvBPRegressorCV((16,), epsilons=[0, 0.2], max_epochs=20, random_state=0)
    >>> model = make_pipeline(StandardScaler(), net).fit(X, y)
    >>> model[-1].epsilon_ in (0, 0.2)
    True
    """

    _parameter_constraints = {**AdvBPRegressor._parameter_constraints, **SEARCH_CONSTRAINTS}
    _single_class = AdvBPRegressor

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
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
        output: Literal["identity", "gaussian"] = "identity",
        module: Callable[..., nn.Module] | nn.Module | None = None,
        criterion: Callable[..., nn.Module] | None = None,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        lr: float = 0.01,
        lr_schedule: Literal["linear", "constant"] = "linear",
        max_epochs: int | Sequence[int] = (50, 200),
        batch_size: int = 64,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        train_split: TrainSplit | None = None,
        callbacks: list[Callback] | Literal["disable"] | None = None,
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
        self, X: Samples, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Choose ε by cross-validation, then train on all of X and y.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), or torch Dataset
            With `module`, arrays may have more axes. A Dataset must hold arrays.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Finite numbers. None only with a Dataset, which has its own.
        sample_weight : array-like of shape (n_samples,) or None, default=None
            Weights >= 0 in fits and scores. A row of weight 0 is left out.

        Returns
        -------
        self : AdvBPRegressorCV

        Raises
        ------
        ValueError
            As of `AdvBPClassifierCV.fit`.
        TypeError
            For the name of a parameter that does not exist.
        """
        return self._fit_search(X, y, sample_weight)
