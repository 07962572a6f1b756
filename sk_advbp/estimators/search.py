"""`AdvBPClassifierCV`: ε chosen by cross-validation, ε = 0 among the candidates."""

import numbers

import numpy as np
import torch
from sklearn.base import clone
from sklearn.callback import with_callbacks
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions

from sk_advbp.estimators.classifier import AdvBPClassifier
from sk_advbp.estimators.cross_validation import (
    Folds,
    TaskProgress,
    cross_validated,
    results,
    selected,
)
from sk_advbp.estimators.docstrings import shares_parameters
from sk_advbp.parameters import check_deviation, check_seed, standard_deviation
from sk_advbp.training.batches import ArrayDataset, Batches
from sk_advbp.training.stacked import KNOWN

__all__ = ["AdvBPClassifierCV"]

# The automatic path: shares of the typical standard deviation of a feature.
SMALLEST_STEP, LARGEST_STEP = 0.025, 0.4

# The parameters of the search, which the nets of the folds do not have.
OF_THE_SEARCH = ("epsilons", "cv", "scoring", "selection", "n_jobs")


def automatic_path(n_points, unit, deviation):
    """Return 0 and n_points - 1 values of ε up to 0.4 of a typical standard deviation.

    Parameters
    ----------
    n_points : int
    unit : float or ndarray of shape (n_features,)
        What one of ε is in the units of X.
    deviation : ndarray of shape (n_features,)
        Standard deviation of each feature.

    Returns
    -------
    epsilons : ndarray of shape (n_points,)
        Ascending, by equal factors from the second. A typical deviation is the root of the
        mean square over the features that move.
    """
    moving = np.broadcast_to(np.greater(unit, 0), deviation.shape) & (deviation > 0)
    ratio = deviation[moving] / np.broadcast_to(unit, deviation.shape)[moving]
    typical = float(np.sqrt(np.mean(np.square(ratio)))) if ratio.size else 1.0
    largest_first = np.geomspace(LARGEST_STEP, SMALLEST_STEP, n_points - 1) * typical
    # Six digits are enough, and a standardised X has a round path.
    return np.array([0.0, *(float(f"{epsilon:.6g}") for epsilon in largest_first[::-1])])


@shares_parameters(AdvBPClassifier)
class AdvBPClassifierCV(AdvBPClassifier):
    """`AdvBPClassifier` that chooses ε by cross-validation.

    How much to perturb depends on the data, and on some any perturbation hurts. Each candidate
    is fitted on each fold, the chosen one then on all data.

    Parameters
    ----------
    {hidden_layer_sizes, activation}
    epsilons : int or array-like of shape (n_epsilons,), default=6
        The candidates, or their number: 0 and equal factors from 0.025 to 0.4 of a typical
        standard deviation of the features (the root mean square over those that move), both
        in units of `epsilon_unit`.
    {epsilon_unit}
    cv : int, cross-validation generator, iterable of (train, test) or None, default=None
        As in `sklearn.model_selection.GridSearchCV`; None is 5 stratified folds. Where the folds
        go by groups, give ``list(GroupKFold().split(X, y, groups))``.
    scoring : str, callable or None, default=None
        What chooses ε, as in ``GridSearchCV``; None is accuracy. It is weighted by
        `sample_weight` where it takes weights. ``score`` stays the accuracy.
    selection : {"best", "one_se"}, default="best"
        ``"best"``: the ε of the largest mean score, of several the smallest. ``"one_se"``: the
        largest ε whose mean score is within one standard error of that: the most robust net
        that costs nothing measurable. The standard error is the standard deviation (ddof 1) of
        the best ε's scores over the root of the number of folds.
    n_jobs : int or None, default=None
        How many stacks of nets, or single nets, are trained at the same time.
    {norm, clip, clean_weight, random_start, perturbation, dropout, input_dropout, output}
    {module, criterion, optimizer, lr, lr_schedule, max_epochs, batch_size, early_stopping}
    {validation_fraction, n_iter_no_change, tol, class_weight, classes, train_split}
    {callbacks, predict_nonlinearity, verbose, device, dtype, perturbation_dtype, amp, compile}
    {use_caching, torch_load_kwargs, iterator_train, iterator_valid, dataset, random_state}
    {**kwargs}

    Attributes
    ----------
    epsilon_ : float
        The chosen ε.
    epsilons_ : ndarray of shape (n_epsilons,)
        The candidates.
    best_index_ : int
        Where `epsilon_` is among them.
    best_score_ : float
        Mean score of `epsilon_` over the folds.
    cv_results_ : dict of ndarray
        As of ``GridSearchCV``.
    {classes_, n_features_in_, feature_names_in_, epsilon_unit_, sample_shape_, module_}
    {optimizer_, history, n_iter_, t_, loss_curve_, loss_, best_loss_, validation_scores_}
    {best_validation_score_, validation_loss_curve_, n_outputs_, n_layers_, coefs_}
    {out_activation_, device_, dtype_}

    See Also
    --------
    AdvBPClassifier : The same for one ε.
    sklearn.model_selection.GridSearchCV : Searches over other parameters, too.

    Notes
    -----
    All nets of a search have the same seed, as in a ``GridSearchCV`` over estimators with an
    integer `random_state`, and the same classes, dtype and device as the final one. With an
    integer `random_state` the final net is the one of `AdvBPClassifier` with `epsilon_`.

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

    _parameter_constraints = {
        **AdvBPClassifier._parameter_constraints,
        "epsilons": [Interval(numbers.Integral, 1, None, closed="left"), "array-like"],
        "cv": ["cv_object"],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None],
        "selection": [StrOptions({"best", "one_se"})],
        "n_jobs": [numbers.Integral, None],
    }

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        epsilons=6,
        epsilon_unit="absolute",
        cv=None,
        scoring=None,
        selection="best",
        n_jobs=None,
        norm="linf",
        clip=None,
        clean_weight=0.0,
        random_start=0.0,
        perturbation="adversarial",
        dropout=0.0,
        input_dropout=0.0,
        output="softmax",
        module=None,
        criterion=None,
        optimizer=torch.optim.Adam,
        lr=0.005,
        lr_schedule="linear",
        max_epochs=100,
        batch_size=64,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        class_weight=None,
        classes=None,
        train_split=None,
        callbacks=None,
        predict_nonlinearity="auto",
        verbose=0,
        device="auto",
        dtype="auto",
        perturbation_dtype="auto",
        amp=False,
        compile=False,
        use_caching="auto",
        torch_load_kwargs=None,
        iterator_train=Batches,
        iterator_valid=Batches,
        dataset=ArrayDataset,
        random_state=None,
        **kwargs,
    ):
        self._store(locals())

    @with_callbacks
    def fit(self, X, y=None, sample_weight=None):
        """Choose ε by cross-validation, then train on all of X and y.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features), or torch Dataset
            With `module`, arrays may have more axes. A Dataset must hold arrays.
        y : array-like of shape (n_samples,)
            Labels, numbers or strings. None only with a Dataset, which has its own.
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
        with self._unchanged_on_error():
            rows = self._checked(X, y, sample_weight, fresh=True)
            root = self._root_of_tasks(X, y)
            self._choose_epsilon(rows, None if root is None else TaskProgress(root, self))
            self._train_on(rows)
            if root is not None:
                root.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)
        return self

    def _root_of_tasks(self, X, y):
        """Open the task of the whole fit, for scikit-learn's callbacks; None without any."""
        if not hasattr(self, "_skl_callbacks"):
            return None
        root = self._init_callback_context(max_subtasks=2)
        root.call_on_fit_task_begin(estimator=self, X=X, y=y)
        return root

    def _task_of_training(self, n_epochs):
        """Return the training on all data as the second of two tasks, after the search."""
        options = {"max_subtasks": n_epochs}
        return self._callback_fit_ctx.subcontext(task_name="chosen epsilon", **options)

    @property
    def partial_fit(self):
        """Not there: ε is chosen on all data at once."""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute 'partial_fit'")

    @property
    def epsilon(self):
        """The chosen ε, under the name that it has in `AdvBPClassifier`."""
        return self.epsilon_

    def _candidates(self, X, sample_weight):
        """Return the ε to try, ascending where they are automatic."""
        if isinstance(self.epsilons, numbers.Integral):
            deviation = check_deviation(standard_deviation(X, sample_weight))
            return automatic_path(int(self.epsilons), self.epsilon_unit_, deviation)
        try:
            epsilons = np.array(self.epsilons, dtype=np.float64)
        except (TypeError, ValueError):
            epsilons = np.empty(0)
        usable = epsilons.ndim == 1 and epsilons.size and np.isfinite(epsilons).all()
        if not usable or epsilons.min() < 0:
            raise InvalidParameterError(
                "epsilons must be a number of points or one or more finite numbers >= 0. "
                f"Got {self.epsilons!r}."
            )
        return epsilons

    def _net_of_folds(self):
        """Return the `AdvBPClassifier` whose ε is to be chosen."""
        shared = {k: v for k, v in self.get_params(deep=False).items() if k not in OF_THE_SEARCH}
        shared |= {"classes": self.classes_, "dtype": self.dtype_, "device": self.device_}
        # An int stays as it is; of the operating system's there are larger ones than a
        # parameter may be.
        shared |= {"random_state": check_seed(self.random_state) % 2**32, "verbose": 0}
        net = clone(AdvBPClassifier(**shared))
        vars(net).update({name: vars(self)[name] for name in KNOWN})
        return net

    def _choose_epsilon(self, rows, progress=None):
        """Find `epsilon_` by cross-validation on the `rows`."""
        X, target, sample_weight = rows
        epsilons = self._candidates(X, sample_weight)
        y = self._targets.decode(target)
        numbers = np.arange(len(y))
        # Of masks, too, and of lists.
        try:
            splits = [
                (numbers[np.asarray(train)], numbers[np.asarray(test)])
                for train, test in check_cv(self.cv, y, classifier=True).split(X, y)
            ]
        except IndexError as error:
            raise ValueError(f"cv has rows that X has not, which has {len(y)}: {error}.") from error
        if not splits or not all(len(rows) for of_fold in splits for rows in of_fold):
            raise ValueError(f"cv must have folds with training and test rows. Got {self.cv!r}.")
        if sample_weight is not None and not all(sample_weight[test].any() for _, test in splits):
            raise ValueError("Every row of the test part of a fold has weight zero.")
        folds = Folds(X, y, target, sample_weight, splits)
        net = self._net_of_folds()
        table = cross_validated(net, folds, epsilons, self.scoring, self.n_jobs, progress)
        chosen = selected(epsilons, table[0], self.selection)
        self.cv_results_ = results(epsilons, *table)
        self.epsilons_, self.epsilon_ = epsilons, float(epsilons[chosen])
        self.best_index_, self.best_score_ = chosen, float(table[0][chosen].mean())

    def _let_in_samples(self, dataset, sample_weight, *, fresh):
        raise ValueError(
            f"{type(self).__name__} needs X and y as arrays, which it can divide into folds. "
            "Got a torch Dataset as X."
        )
