"""Scores of many ε over the folds of a cross-validation, and the choice among them."""

import inspect
import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from joblib import Parallel, delayed
from scipy import sparse
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.metrics import check_scoring
from skorch.history import History

from sk_advbp.batches import as_tensor
from sk_advbp.parameters import check_epsilon_unit
from sk_advbp.stacked import Member, Stack, Stream, stackable, stacks

__all__ = ["Folds", "cross_validated", "results", "selected"]

# A sparse X that takes more memory than this as a dense one is not trained on in stacks.
DENSE_BYTES = 2**28

# What a net knows of its data before it is trained.
KNOWN = ("n_features_in_", "sample_shape_", "dtype_", "device_", "classes_inferred_")


def selected(epsilons, scores, selection="best"):
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


def _extreme(argument_of, epsilons, among):
    candidates = np.flatnonzero(among)
    return int(candidates[argument_of(epsilons[candidates])])


def results(epsilons, scores, fit_times, score_times):
    """Return ``cv_results_``, as `sklearn.model_selection.GridSearchCV` has it.

    Parameters
    ----------
    epsilons : ndarray of shape (n_epsilons,)
    scores, fit_times, score_times : ndarray of shape (n_epsilons, n_folds)
    """
    table = {}
    for name, values in (("fit_time", fit_times), ("score_time", score_times)):
        table[f"mean_{name}"], table[f"std_{name}"] = values.mean(axis=1), values.std(axis=1)
    table["param_epsilon"] = np.ma.MaskedArray(epsilons, mask=False)
    table["params"] = [{"epsilon": float(epsilon)} for epsilon in epsilons]
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
    y : ndarray of shape (n,)
        The user's labels.
    target : ndarray of shape (n,)
        The same, encoded.
    weight : ndarray of shape (n,) or None
        The user's sample weights.
    splits : list of (train, test)
        Indices of rows.
    """

    X: object
    y: np.ndarray
    target: np.ndarray
    weight: np.ndarray | None
    splits: list

    def part(self, rows):
        """Return X, y and weights of `rows`."""
        return self.X[rows], self.y[rows], None if self.weight is None else self.weight[rows]

    def test(self, fold):
        """Return X, y and weights of the test part of a fold."""
        return self.part(self.splits[fold][1])


def cross_validated(net, folds, epsilons, scoring=None, n_jobs=None):
    """Fit every ε on every fold and return what the nets score on the rest.

    Parameters
    ----------
    net : AdvBPClassifier
        Not fitted, but with the attributes `KNOWN`. Nets that `sk_advbp.stacked` can train
        together are, all others are fitted one by one.
    folds : Folds
    epsilons : ndarray of shape (n_epsilons,)
    scoring : str, callable or None, default=None
    n_jobs : int or None, default=None

    Returns
    -------
    scores, fit_times, score_times : ndarray of shape (n_epsilons, n_folds)
        Nets that were trained together share their time evenly.
    """
    # Accuracy of a stack needs no estimators.
    scorer = None if scoring in (None, "accuracy") else check_scoring(net, scoring)
    cells = [(e, f) for f in range(len(folds.splits)) for e in range(len(epsilons))]
    together = stackable(net) and folds.X.ndim == 2 and _fits_dense(folds.X)
    parallel = Parallel(n_jobs=n_jobs, prefer="threads" if together else None)
    if together:
        members = _members(net, folds, [(epsilons[e], f) for e, f in cells])
        parts = stacks(net, members, parallel._effective_n_jobs())
        task = score_together
    else:
        members, parts, task = None, [[i] for i in range(len(cells))], score_alone
    outcomes = parallel(
        delayed(task)(
            net,
            folds,
            [(epsilons[cells[i][0]], cells[i][1]) for i in part],
            scorer,
            members and [members[i] for i in part],
        )
        for part in parts
    )
    table = np.empty((3, len(epsilons), len(folds.splits)))
    for part, outcome in zip(parts, outcomes, strict=True):
        for i, values in zip(part, zip(*outcome, strict=True), strict=True):
            table[:, *cells[i]] = values
    return table


def _fits_dense(X):
    return not sparse.issparse(X) or math.prod(X.shape) * X.dtype.itemsize <= DENSE_BYTES


def score_alone(net, folds, cells, scorer, members=None):
    """Fit and score one net for each of the `cells`, (ε, fold)."""
    scores, fit_times, score_times = [], [], []
    for epsilon, fold in cells:
        start = time.perf_counter()
        X, y, weight = folds.part(folds.splits[fold][0])
        fitted = clone(net).set_params(epsilon=float(epsilon)).fit(X, y, sample_weight=weight)
        trained = time.perf_counter()
        scores.append(score_of(fitted, scorer, *folds.test(fold)))
        fit_times.append(trained - start)
        score_times.append(time.perf_counter() - trained)
    return scores, fit_times, score_times


def score_of(net, scorer, X, y, weight):
    """Return the score of a fitted net; weighted where the scorer takes weights."""
    if scorer is None:
        return net.score(X, y, sample_weight=weight)
    if weight is None:
        return scorer(net, X, y)
    # scikit-learn's scorers hand on what their metric takes.
    takes = inspect.signature(getattr(scorer, "_score_func", scorer)).parameters
    return scorer(net, X, y, **({"sample_weight": weight} if "sample_weight" in takes else {}))


# ---- nets that are trained together --------------------------------------------------


def _members(net, folds, cells):
    """Return the `Member` of each of the `cells`, (ε, fold)."""
    streams, units = [], []
    for train, _ in folds.splits:
        weight = None if folds.weight is None else folds.weight[train]
        units.append(check_epsilon_unit(net.epsilon_unit, folds.X[train], weight))
        rows, _, weight = net._weighted(np.asarray(train), folds.target[train], weight)
        streams.append(Stream(rows, weight, net.random_state, net.batch_size))
    return [Member(epsilon * units[fold], streams[fold]) for epsilon, fold in cells]


def score_together(net, folds, cells, scorer, members):
    """Train the `members`, one for each of the `cells`, (ε, fold), as a stack; score them."""
    net = clone_with_knowledge(net)
    start = time.perf_counter()
    dense = folds.X.toarray() if sparse.issparse(folds.X) else folds.X
    X, target = (as_tensor(array, net.device_) for array in (dense, folds.target))
    stack = Stack(net, members).train(X, target)
    trained = time.perf_counter()
    scores = [None] * len(cells)
    for fold in {fold for _, fold in cells}:
        which = [i for i, (_, of_cell) in enumerate(cells) if of_cell == fold]
        for i, score in zip(
            which, _scores_on(stack, fold, which, folds, (X, target), cells, scorer), strict=True
        ):
            scores[i] = score
    n = len(cells)
    times = [(trained - start) / n] * n, [(time.perf_counter() - trained) / n] * n
    return scores, *times


def _scores_on(stack, fold, which, folds, tensors, cells, scorer):
    """Return the scores of the nets `which` on the test part of a fold."""
    if scorer is not None:
        return [
            score_of(estimator_of(stack, i, cells[i][0]), scorer, *folds.test(fold)) for i in which
        ]
    rows = torch.as_tensor(np.asarray(folds.splits[fold][1]))
    X, target = (t.index_select(0, rows.to(t.device)) for t in tensors)
    correct = (stack.logits(X, which).argmax(2) == target).cpu().numpy()
    weight = None if folds.weight is None else folds.weight[rows.numpy()]
    return [np.average(of_net, weights=weight) for of_net in correct]


def clone_with_knowledge(net):
    """Return an unfitted copy of `net` that knows of the data what `net` does."""
    copied = clone(net)
    vars(copied).update({name: vars(net)[name] for name in KNOWN})
    return copied


def estimator_of(stack, number, epsilon):
    """Return the net of a stack as the estimator that a separate fit would have given."""
    net = clone_with_knowledge(stack.net).set_params(epsilon=float(epsilon))
    member = stack.members[number]
    net.epsilon_unit_ = member.epsilon / epsilon if epsilon else 1.0
    net.generator_ = torch.Generator().manual_seed(member.stream.seed)
    net.initialize()
    with torch.no_grad():
        for (_, own), (_, stacked) in zip(
            net.get_all_learnable_params(), stack.parameters, strict=True
        ):
            own.copy_(stacked[number])
    net.history_ = History()
    for means in stack.loss_curves:
        net.history_.new_epoch()
        net.history_.record("train_loss", float(means[number]))
    net.module_.eval()
    return net
