"""ε chosen by cross-validation, ε = 0 among the candidates: what both searches share."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions

from sk_advbp.core.optimizers import ELEMENTWISE_OPTIMIZERS
from sk_advbp.estimators.cross_validation import (
    Folds,
    TaskProgress,
    cross_validated,
    results,
    selected,
)
from sk_advbp.parameters import check_deviation, check_seed, standard_deviation

if TYPE_CHECKING:
    from typing import Any, NoReturn, Self

    from numpy.typing import ArrayLike, NDArray
    from sklearn.model_selection import BaseCrossValidator
    from torch.utils.data import Dataset

    from sk_advbp._types import Floats, Matrix, MatrixLike, Samples
    from sk_advbp.estimators.base import AdversarialEstimator as Base
    from sk_advbp.estimators.cross_validation import Net
    from sk_advbp.estimators.training_data import Rows
else:
    Base = object

__all__ = ["SEARCH_CONSTRAINTS", "EpsilonSearch", "automatic_path"]

# The automatic path: shares of the typical standard deviation of a feature.
SMALLEST_STEP, LARGEST_STEP = 0.02, 0.32

# The nets that answer, where nobody says how many.
SEVERAL = 5

# Stacks of nets in float64 take far longer than in float32, so that dtype="auto" keeps to it where
# X has no more values than this: where hardly anything takes time.
FLOAT64_VALUES = 5_000

# The parameters of the search, which the single nets of the folds do not have.
OF_THE_SEARCH = ("epsilons", "cv", "scoring", "selection", "n_jobs", "n_nets")


def automatic_path(n_points: int, unit: float | Floats, deviation: Floats) -> NDArray[np.float64]:
    """Return 0 and n_points - 1 values of ε up to 0.32 of a typical standard deviation.

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


SEARCH_CONSTRAINTS: dict[str, list[object]] = {
    "epsilons": [Interval(numbers.Integral, 1, None, closed="left"), "array-like"],
    "cv": ["cv_object"],
    "scoring": [StrOptions(set(get_scorer_names())), callable, None],
    "selection": [StrOptions({"best", "one_se"})],
    "n_jobs": [numbers.Integral, None],
    "n_nets": [Interval(numbers.Integral, 1, None, closed="left"), StrOptions({"auto"})],
    "max_epochs": [Interval(numbers.Integral, 1, None, closed="left"), "array-like"],
}


class EpsilonSearch(Base):
    """The part of `AdvBPClassifierCV` and `AdvBPRegressorCV` that finds ε, as a mixin.

    A subclass says in `_single_class` of what class the nets of the folds are.
    """

    _single_class: type[Net]
    # The path of ε follows the data, and another one was the user's choice.
    _warns_of_epsilon = False
    _float64_values = FLOAT64_VALUES

    def _fit_search(
        self, X: Samples, y: MatrixLike | None, sample_weight: ArrayLike | None
    ) -> Self:
        """Choose ε by cross-validation, then train on all data."""
        with self._unchanged_on_error():
            rows = self._checked(X, y, sample_weight, fresh=True)
            root = self._root_of_tasks(X, y)
            self._choose_epsilon(rows, root)  # type: ignore[arg-type]  # Samples are refused
            self._train_on(rows)
            if root is not None:
                root.call_on_fit_task_end(estimator=self, X=X, y=y, reconstruction_attributes=dict)
        return self

    def _root_of_tasks(self, X: object, y: object) -> Any:
        """Open the task of the whole fit, for scikit-learn's callbacks; None without any."""
        if not hasattr(self, "_skl_callbacks"):
            return None
        root = self._init_callback_context(max_subtasks=len(self._candidate_epochs()) + 1)
        root.call_on_fit_task_begin(estimator=self, X=X, y=y)
        return root

    def _task_of_training(self, n_epochs: int) -> Any:
        """Return the training on all data as the last of the tasks, after the search."""
        options = {"max_subtasks": n_epochs}
        return self._callback_fit_ctx.subcontext(task_name="chosen epsilon", **options)

    @property
    def partial_fit(self) -> object:
        """Not there: ε is chosen on all data at once."""
        raise AttributeError(f"{type(self).__name__!r} object has no attribute 'partial_fit'")

    @property
    def epsilon(self) -> float:
        """The chosen ε, under the name that it has in `AdvBPClassifier`."""
        return self.epsilon_

    def _candidates(self, X: Matrix, sample_weight: Floats | None) -> NDArray[np.float64]:
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

    def _net_of_folds(self) -> Net:
        """Return the single net whose ε is to be chosen."""
        shared = {k: v for k, v in self.get_params(deep=False).items() if k not in OF_THE_SEARCH}
        shared |= {"dtype": self.dtype_, "device": self.device_}
        if is_classifier(self):
            shared["classes"] = self.classes_
        # An int stays as it is; of the operating system's there are larger ones than a
        # parameter may be.
        shared |= {"random_state": check_seed(self.random_state) % 2**32, "verbose": 0}
        return self._knowing_the_data(clone(self._single_class(**shared)))

    def _single(self) -> Net:
        chosen = {"epsilon": self.epsilon_, "max_epochs": self.max_epochs_}
        return self._net_of_folds().set_params(**chosen)

    @np.errstate(over="ignore", invalid="ignore")  # of scores that only a sum makes infinite
    def _choose_epsilon(self, rows: Rows, root: Any = None) -> None:
        """Find `epsilon_` by cross-validation on the `rows`."""
        X, target, sample_weight = rows
        epsilons = self._candidates(X, sample_weight)
        y = self._targets.decode(target)
        places = np.arange(len(target))
        # Of masks, too, and of lists.
        try:
            splits = [
                (places[np.asarray(train)], places[np.asarray(test)])
                for train, test in self._divisions(y).split(X, y)
            ]
        except IndexError as error:
            raise ValueError(
                f"cv has rows that X has not, which has {len(places)}: {error}."
            ) from error
        if not splits or not all(len(rows) for of_fold in splits for rows in of_fold):
            raise ValueError(f"cv must have folds with training and test rows. Got {self.cv!r}.")
        if sample_weight is not None and not all(sample_weight[test].any() for _, test in splits):
            raise ValueError("Every row of the test part of a fold has weight zero.")
        folds = Folds(X, y, target, sample_weight, splits)
        epochs = self._candidate_epochs()
        net = self._net_of_folds()
        tables = [
            cross_validated(
                net.set_params(max_epochs=n),
                folds,
                epsilons,
                self.scoring,
                self.n_jobs,
                None if root is None else TaskProgress(root, self),
            )
            for n in epochs
        ]
        table = np.concatenate(tables, axis=1)
        candidates = {
            "epsilon": np.tile(epsilons, len(epochs)),
            "max_epochs": np.repeat(epochs, len(epsilons)),
        }
        chosen = selected(candidates["epsilon"], table[0], self.selection)
        if np.ndim(self.max_epochs) == 0:
            del candidates["max_epochs"]
        self.cv_results_ = results(candidates, *table)
        self.epsilons_, self.epsilon_ = epsilons, float(epsilons[chosen % len(epsilons)])
        self.max_epochs_ = int(epochs[chosen // len(epsilons)])
        self.best_index_, self.best_score_ = chosen, float(table[0][chosen].mean())

    def _divisions(self, y: NDArray[np.generic]) -> BaseCrossValidator:
        """Return what divides the rows into folds; by default it shuffles, as training does."""
        divisions = check_cv(self.cv, y, classifier=is_classifier(self))
        if self.cv is not None:
            return divisions
        return type(divisions)(shuffle=True, random_state=check_seed(self.random_state) % 2**32)

    def _candidate_epochs(self) -> list[int]:
        """Return the numbers of epochs to try, in the order in which they are given."""
        epochs = np.atleast_1d(np.asarray(self.max_epochs, dtype=object))
        whole = [int(n) for n in epochs if isinstance(n, numbers.Integral)]
        if epochs.ndim != 1 or not whole or len(whole) < len(epochs) or min(whole) < 1:
            raise InvalidParameterError(
                "max_epochs must be a positive integer or a sequence of positive integers, of "
                f"which one is chosen. Got {self.max_epochs!r}."
            )
        return whole

    @property
    def _n_epochs(self) -> int:
        return self.max_epochs_

    @property
    def _n_asked(self) -> int:
        if self.n_nets != "auto":
            return int(self.n_nets)
        several = self.module is None and self.optimizer in ELEMENTWISE_OPTIMIZERS
        return SEVERAL if several else 1

    def _let_in_samples(
        self,
        dataset: Dataset[object],
        sample_weight: ArrayLike | None,
        *,
        fresh: bool,
        **announced: Any,
    ) -> NoReturn:
        raise ValueError(
            f"{type(self).__name__} needs X and y as arrays, which it can divide into folds. "
            "Got a torch Dataset as X."
        )
