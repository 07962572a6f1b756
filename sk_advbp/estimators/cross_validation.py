"""Scores of many ε over the folds of a cross-validation, and the choice among them."""

from __future__ import annotations

import inspect
import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from joblib import effective_n_jobs
from scipy import sparse
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.metrics import check_scoring
from sklearn.utils.parallel import Parallel, delayed

from sk_advbp.estimators.output_scores import ScoreOfOutputs
from sk_advbp.estimators.training_data import Rows
from sk_advbp.parameters import check_epsilon_unit
from sk_advbp.training.batches import as_tensor, dense
from sk_advbp.training.stacked import Stack, stackable, stacks
from sk_advbp.training.streams import Member, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, Literal, TypeAlias

    from numpy.typing import NDArray
    from sklearn.callback import CallbackContext

    from sk_advbp._types import Floats, Matrix
    from sk_advbp.estimators.classifier import AdvBPClassifier
    from sk_advbp.estimators.regressor import AdvBPRegressor

    Net: TypeAlias = "AdvBPClassifier | AdvBPRegressor"
    Indices = NDArray[np.integer]
    Scorer = Callable[..., float]
    Selection = Literal["best", "one_se"]
    Outcome = Sequence[list[float]]
    EpochEnded = Callable[[], object]

__all__ = ["Folds", "TaskProgress", "cross_validated", "results", "selected"]

# A sparse X that takes more memory than this as a dense one is not trained on in stacks.
DENSE_BYTES = 2**28


@np.errstate(over="ignore", invalid="ignore")
def selected(epsilons: Floats, scores: Floats, selection: Selection = "best") -> int:
    """Return the index of the ε that is chosen by its scores.

    Parameters
    ----------
    epsilons : ndarray of shape (n_epsilons,)
    scores : ndarray of shape (n_epsilons, n_folds)
        Larger is better; the mean of a row with a NaN counts as the worst.
    selection : {"best", "one_se"}, default="best"
        ``"best"``: the largest mean. ``"one_se"``: the largest ε whose mean is at least
        b - s/√n_folds, where b is the best mean and s the standard deviation (ddof 1) of its
        scores.

    Returns
    -------
    index : int
        Of several best ones the smallest ε.

    Raises
    ------
    ValueError
        Where no mean is finite.
    """
    means = scores.mean(axis=1)
    if not np.isfinite(means).any():
        raise ValueError(f"No epsilon has a finite mean score. The scores are {scores.tolist()}.")
    means = np.where(np.isfinite(means), means, -np.inf)
    # Equal scores in another order may have means that differ in the last digit.
    rounding = 1e-12 * max(1.0, abs(means.max()))
    best = _extreme(np.argmin, epsilons, means >= means.max() - rounding)
    n_folds = scores.shape[1]
    if selection == "best" or n_folds == 1:
        return best
    standard_error = scores[best].std(ddof=1) / math.sqrt(n_folds)
    return _extreme(np.argmax, epsilons, means >= means[best] - standard_error - rounding)


def _extreme(
    argument_of: Callable[[Floats], np.intp], epsilons: Floats, among: NDArray[np.bool]
) -> int:
    candidates = np.flatnonzero(among)
    return int(candidates[argument_of(epsilons[candidates])])


@np.errstate(over="ignore", invalid="ignore")  # of scores that nothing but a sum makes infinite
def results(
    candidates: dict[str, NDArray[np.number]],
    scores: Floats,
    fit_times: Floats,
    score_times: Floats,
) -> dict[str, object]:
    """Return ``cv_results_``, as `sklearn.model_selection.GridSearchCV` has it.

    Parameters
    ----------
    candidates : dict of str to ndarray of shape (n_candidates,)
        The values of each parameter that is searched.
    scores, fit_times, score_times : ndarray of shape (n_candidates, n_folds)
    """
    table: dict[str, object] = {}
    for name, values in (("fit_time", fit_times), ("score_time", score_times)):
        table[f"mean_{name}"], table[f"std_{name}"] = values.mean(axis=1), values.std(axis=1)
    for name, of_candidates in candidates.items():
        table[f"param_{name}"] = np.ma.MaskedArray(of_candidates, mask=False)
    rows = zip(*(of.tolist() for of in candidates.values()), strict=True)
    table["params"] = [dict(zip(candidates, row, strict=True)) for row in rows]
    table |= {f"split{i}_test_score": of_fold for i, of_fold in enumerate(scores.T)}
    means = scores.mean(axis=1)
    table["mean_test_score"], table["std_test_score"] = means, scores.std(axis=1)
    worst = np.nanmin(means) - 1 if np.isfinite(means).any() else 0.0
    ranks = rankdata(-np.nan_to_num(means, nan=worst), method="min")
    return table | {"rank_test_score": ranks.astype(np.int32)}


@dataclass(frozen=True)
class Folds:
    """The data of a cross-validation.

    Attributes
    ----------
    X : ndarray of shape (n, ...) or CSR matrix of shape (n, n_features)
    y : ndarray of shape (n,) or (n, n_labels), or CSR matrix
        As the user has it.
    target : ndarray of shape (n,) or (n, n_outputs)
        The same, encoded.
    weight : ndarray of shape (n,) or None
        The user's sample weights.
    splits : list of (train, test)
        Arrays of row indices.
    """

    X: Matrix
    y: NDArray[np.generic]
    target: NDArray[np.generic]
    weight: Floats | None
    splits: list[tuple[Indices, Indices]]

    def part(self, rows: Indices) -> tuple[Matrix, NDArray[np.generic], Floats | None]:
        """Return X, y and weights of `rows`."""
        return self.X[rows], self.y[rows], None if self.weight is None else self.weight[rows]


def cross_validated(
    net: Net,
    folds: Folds,
    epsilons: Floats,
    scoring: str | Scorer | None = None,
    n_jobs: int | None = None,
    progress: Progress | None = None,
) -> Floats:
    """Fit every ε on every fold and return what the nets score on the rest.

    Parameters
    ----------
    net : AdvBPClassifier or AdvBPRegressor
        Not fitted, but it knows the data. Nets that can be trained together are, all others are
        fitted one by one.
    folds : Folds
    epsilons : ndarray of shape (n_epsilons,)
    scoring : str, callable or None, default=None
    n_jobs : int or None, default=None
    progress : Progress or None, default=None

    Returns
    -------
    table : ndarray of shape (3, n_epsilons, n_folds)
        Scores, and seconds of fits and of scores, which nets of a stack share evenly.
    """
    scorer_of(net, scoring)  # which refuses what is none
    cells = [(e, f) for f in range(len(folds.splits)) for e in range(len(epsilons))]
    candidates = [(epsilons[e], f) for e, f in cells]
    together = stackable(net) and _fits_dense(folds.X)
    jobs = effective_n_jobs(n_jobs)
    if together:
        folds = replace(folds, X=_writable(folds.X))
        candidates = _members(net, folds, candidates)
        parts = stacks(net, [member for member, _ in candidates], jobs)
    else:
        parts = [[i] for i in range(len(cells))]
    progress = Progress() if progress is None else progress
    ticks = progress.begin(len(parts), net.max_epochs if together else 0)
    task = delayed(score_together) if together else delayed(score_alone)
    calls = (
        task(net, folds, scoring, [candidates[i] for i in part], *([tick] if together else []))
        for part, tick in zip(parts, ticks, strict=True)
    )
    table = np.empty((3, len(epsilons), len(folds.splits)))
    workers = {"prefer": "threads" if together else None, "return_as": "generator"}
    with _threads_shared_by(jobs if together else 1):
        for number, outcome in enumerate(Parallel(n_jobs=n_jobs, **workers)(calls)):
            for i, *values in zip(parts[number], *outcome, strict=True):
                table[:, *cells[i]] = values
            progress.ended(number)
    progress.end()
    return table


# Torch's number of threads is one for the process. Of searches that overlap, the first notes it.
SHARING = threading.Lock()
NUMBERS_BEFORE: list[int] = []


class Progress:
    """Nobody who wants to know how far a cross-validation is."""

    def begin(self, n_parts: int, n_epochs: int) -> Sequence[EpochEnded | None]:
        """Return for each part what is to be called after an epoch of it, or None."""
        return [None] * n_parts

    def ended(self, part: int) -> None:
        """Take note that a part has ended."""

    def end(self) -> None:
        """Take note that all parts have."""


class TaskProgress(Progress):
    """Tasks of scikit-learn's callbacks: the search, its parts, and their epochs.

    Parameters
    ----------
    root : CallbackContext
        Of the fit.
    estimator : AdvBPClassifierCV or AdvBPRegressorCV
    """

    def __init__(self, root: CallbackContext, estimator: object) -> None:
        self._root, self._estimator = root, estimator

    def begin(self, n_parts: int, n_epochs: int) -> Sequence[EpochEnded | None]:
        """Open the task of the search and one for each part."""
        options = {"max_subtasks": n_parts, "sequential_subtasks": False}
        self._search = self._root.subcontext(task_name="cross-validation", **options)
        self._begun(self._search)
        self._parts = [
            self._begun(self._search.subcontext("nets", task_id=i, max_subtasks=int(n_epochs)))
            for i in range(n_parts)
        ]
        return [partial(self._epoch_ended, part) for part in self._parts]

    def _begun(self, task: Any) -> Any:
        task.call_on_fit_task_begin(estimator=self._estimator)
        return task

    def _close(self, task: Any) -> None:
        task.call_on_fit_task_end(estimator=self._estimator)  # which cannot predict yet

    def _epoch_ended(self, part: Any) -> None:
        self._close(self._begun(part.subcontext(task_name="epoch")))

    def ended(self, part: int) -> None:
        """Close the task of a part."""
        self._close(self._parts[part])

    def end(self) -> None:
        """Close the task of the search."""
        self._close(self._search)


@contextmanager
def _threads_shared_by(jobs: int) -> Iterator[None]:
    """Let each of `jobs` threads use its share of torch's threads."""
    if jobs == 1:
        yield
        return
    with SHARING:
        number = NUMBERS_BEFORE[0] if NUMBERS_BEFORE else torch.get_num_threads()
        NUMBERS_BEFORE.append(number)
    torch.set_num_threads(max(1, number // jobs))
    try:
        yield
    finally:
        # Each of them: torch's number is also one for the thread that sets it.
        torch.set_num_threads(number)
        with SHARING:
            NUMBERS_BEFORE.pop()


def scorer_of(net: Net, scoring: str | Scorer | None) -> ScoreOfOutputs | Scorer:
    """Return the score that needs no estimator, where there is one, or scikit-learn's scorer."""
    return net._score_of_outputs(scoring) or check_scoring(net, scoring)


def score_alone(
    net: Net,
    folds: Folds,
    scoring: str | Scorer | None,
    candidates: Sequence[tuple[float, int]],
) -> Outcome:
    """Fit one net after the other.

    Parameters
    ----------
    net : AdvBPClassifier or AdvBPRegressor
    folds : Folds
    scoring : str, callable or None
    candidates : list of (epsilon, fold)

    Returns
    -------
    scores, fit_times, score_times : list of float
    """
    outcomes = []
    for epsilon, fold in candidates:
        start = time.perf_counter()
        X, y, weight = folds.part(folds.splits[fold][0])
        fitted = clone(net).set_params(epsilon=float(epsilon))
        fitted._warns_of_epsilon = False  # it is one of many that are tried
        fitted.fit(X, y, sample_weight=weight)
        trained = time.perf_counter()
        score = score_of(fitted, scoring, *folds.part(folds.splits[fold][1]))
        outcomes.append((score, trained - start, time.perf_counter() - trained))
    return [list(of_all) for of_all in zip(*outcomes, strict=True)]


def score_of(
    net: Net,
    scoring: str | Scorer | None,
    X: Matrix,
    y: NDArray[np.generic],
    weight: Floats | None,
) -> float:
    """Return the score of a fitted net; weighted where the scorer takes weights."""
    scorer = scorer_of(net, scoring)
    if isinstance(scorer, ScoreOfOutputs):
        target = net._targets.encode(y)  # type: ignore[arg-type]  # of its own kind
        return scorer(net._logits(X), target, weight)
    if weight is None:
        return scorer(net, X, y)
    # scikit-learn's scorers hand on what their metric takes.
    takes = inspect.signature(getattr(scorer, "_score_func", scorer)).parameters
    return scorer(net, X, y, **({"sample_weight": weight} if "sample_weight" in takes else {}))


# ---- nets that are trained together --------------------------------------------------


def _fits_dense(X: Matrix) -> bool:
    return X.ndim == 2 and (
        not sparse.issparse(X) or math.prod(X.shape) * X.dtype.itemsize <= DENSE_BYTES
    )


def _writable(X: Matrix) -> Floats:
    # Writable: torch warns of others, and threads cannot each silence warnings.
    return np.require(dense(X), requirements="W")


def _members(
    net: Net, folds: Folds, candidates: Sequence[tuple[float, int]]
) -> list[tuple[Member, int]]:
    """Return (member of a stack, fold) for each (epsilon, fold)."""
    streams, units = [], []
    for train, _ in folds.splits:
        weight = None if folds.weight is None else folds.weight[train]
        units.append(check_epsilon_unit(net.epsilon_unit, folds.X[train], weight))
        rows, _, weight = net._class_weighted(Rows(train, folds.target[train], weight))
        weight = None if weight is None else weight.astype(net.dtype_)
        streams.append(Stream(rows, weight, net.random_state, net.batch_size))
    return [(Member(float(e), units[fold], streams[fold]), fold) for e, fold in candidates]


def score_together(
    net: Net,
    folds: Folds,
    scoring: str | Scorer | None,
    candidates: Sequence[tuple[Member, int]],
    epoch_ended: EpochEnded | None = None,
) -> Outcome:
    """Train nets as a stack, and score each on its fold.

    Parameters
    ----------
    net, folds, scoring
        As of `score_alone`.
    candidates : list of (Member, fold)
    epoch_ended : callable or None, default=None

    Returns
    -------
    scores, fit_times, score_times : list of float
    """
    start = time.perf_counter()
    members, of_fold = zip(*candidates, strict=True)
    X, target = (as_tensor(array, net.device_) for array in (folds.X, folds.target))
    stack = Stack(net, members).train(X, target, epoch_ended)
    trained = time.perf_counter()
    scorer, scores = scorer_of(net, scoring), [0.0] * len(members)
    for fold in set(of_fold):
        which = [i for i, f in enumerate(of_fold) if f == fold]
        test = folds.splits[fold][1]
        if isinstance(scorer, ScoreOfOutputs):
            weight = folds.part(test)[2]
            outputs = stack.logits(X[test], which).cpu()
            found = [scorer(of_net, folds.target[test], weight) for of_net in outputs]
        else:
            found = [score_of(stack.estimator(i), scoring, *folds.part(test)) for i in which]
        for i, score in zip(which, found, strict=True):
            scores[i] = score
    n = len(members)
    return scores, [(trained - start) / n] * n, [(time.perf_counter() - trained) / n] * n
