"""`adversarial_examples`, which a fitted estimator makes against itself."""

from __future__ import annotations

import numbers
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.base import is_classifier
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import _check_sample_weight, check_consistent_length
from skorch.dataset import unpack_data

from sk_advbp.core.attacks import ATTACKS, Objective, perceptron_gradient
from sk_advbp.estimators.frames import array_of, as_array_like, frame_like, is_frame
from sk_advbp.parameters import check_clip, check_epsilon, check_seed, python_number, scaled_weight
from sk_advbp.training.batches import ArrayDataset, dense, is_dataset
from sk_advbp.training.reach import Reach

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Literal

    from numpy.typing import ArrayLike, NDArray
    from torch import Generator, Tensor
    from torch.nn import Module
    from torch.utils.data import Dataset

    from sk_advbp._types import Clip, Floats, Matrix, MatrixLike, RandomState, Samples
    from sk_advbp.core.attacks import Attack
    from sk_advbp.core.perturbation import Norm
    from sk_advbp.training.batches import Batch
    from sk_advbp.training.net import AdversarialNet as Net
else:  # a mixin of such a net
    Net = object

__all__ = ["AdversaryMixin"]

_COUNT = Interval(numbers.Integral, 1, None, closed="left")
_CONSTRAINTS = {
    "attack": [StrOptions(set(ATTACKS))],
    "norm": [StrOptions({"linf", "l2"}), None],
    "n_steps": [_COUNT],
    "step_size": [Interval(numbers.Real, 0, None, closed="neither"), None],
    "n_restarts": [_COUNT],
    "random_state": ["random_state"],
}


def restart_generators(n_restarts: int, random_state: RandomState) -> list[Generator]:
    """Return a generator for each restart of PGD, so that batches can take turns."""
    seeds = np.random.SeedSequence(check_seed(random_state)).generate_state(n_restarts, np.uint64)
    return [torch.Generator().manual_seed(int(seed) % 2**63) for seed in seeds]


@contextmanager
def evaluation_mode(module: Module, device: torch.device) -> Iterator[None]:
    """Switch `module` to evaluation; its modes and torch's random states are as before then."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for m, training in modes:
            m.training = training


def in_form_of(X: Any, x: Matrix, moved: Floats) -> Floats:
    """Return `moved` as an array like `X`, which validation had made `x`.

    A value that did not move keeps all the digits that it had in `X`, and a frame its kind and
    names.
    """
    original = array_of(X.numpy(force=True) if torch.is_tensor(X) else X)
    if original.dtype == np.float64 and moved.dtype != np.float64:
        moved = np.where(moved == dense(x), original, moved)
    return frame_like(X, moved) if is_frame(X) else moved


class AdversaryMixin(Net):
    """The attacks of `sk_advbp.core.attacks` as a method of an estimator, on arrays."""

    def adversarial_examples(
        self,
        X: MatrixLike,
        y: MatrixLike | None = None,
        *,
        epsilon: ArrayLike | None = None,
        attack: Attack = "fgsm",
        norm: Norm | None = None,
        clip: Clip | Literal["same"] | None = "same",
        n_steps: int = 20,
        step_size: float | None = None,
        n_restarts: int = 1,
        random_state: RandomState = None,
    ) -> Floats:
        """Move each sample, within ε, to where the fitted net errs.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Clean samples, in the units of ``fit``.
        y : array-like of shape (n_samples,), indicator matrix or None, default=None
            Their labels; None: those that the net predicts. Of a regressor the true values, of
            the shape that ``fit`` had, and never None.
        epsilon : float, array of the shape of one sample, or None, default=None
            Largest perturbation, in the units of X; None: that of the training. A feature
            of ε = 0 does not move.
        attack : {"fgsm", "pgd"}, default="fgsm"
            ``"fgsm"``: one step along the sign of the gradient. ``"pgd"``: `n_steps`
            projected steps from each of `n_restarts` random starts. Of the clean sample,
            the FGSM point and the last point of each restart it keeps one that is
            misclassified, in any of its labels, else the one of the largest loss, so it is
            never weaker than FGSM.
        norm : {"linf", "l2"} or None, default=None
            None: that of the training.
        clip : (low, high), None or "same", default="same"
            Bounds as in training; ``"same"``: those of the training.
        n_steps : int, default=20
            Steps of PGD; more make it stronger.
        step_size : float or None, default=None
            Length of a step of PGD as a share of ε; None: 2.5 / `n_steps`.
        n_restarts : int, default=1
            Random starts of PGD.
        random_state : int, RandomState instance or None, default=None
            Of the random starts, which depend neither on the device nor on the batches.

        Returns
        -------
        X_adversarial : ndarray of the shape of X
            Of dtype float64 where X is, else of dtype `dtype_`; dense where X is sparse, a
            frame of the kind of X where X is one. Beyond the digits of `dtype_` only values that
            did not move are kept.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            For an unknown attack, parameters out of range, labels of no class, X and y of
            different lengths, or y of other columns than in ``fit``.

        Notes
        -----
        The net is as before afterwards: its weights, its mode, and all random states.

        Examples
        --------
        >>> import numpy as np
        >>> from sk_advbp import AdvBPClassifier
        >>> X, y = np.array([[0.0, 1.0], [1.0, 0.0]] * 10), [0, 1] * 10
        >>> net = AdvBPClassifier((8,), random_state=0).fit(X, y)
        >>> net.adversarial_examples(X[:1], epsilon=0.25)
        array([[0.25, 0.75]])
        """
        self.check_is_fitted()
        x, y = self._validated(X, reset=False), as_array_like(y)
        check_consistent_length(x, y)
        options: dict[str, Any] = {"epsilon": epsilon, "attack": attack, "norm": norm, "clip": clip}
        options |= {"n_steps": n_steps, "step_size": step_size, "n_restarts": n_restarts}
        options["random_state"] = random_state
        # Of a regressor there are no predicted labels, and `_attacked_target` says so.
        labels = y is None and is_classifier(self)
        predicted = labels and attack == "fgsm" and self._has_closed_form()
        with evaluation_mode(self.module_, torch.device(self.device_)):
            dataset = ArrayDataset(x, None if predicted else self._attacked_target(x, y))
            batches = self._attacked_batches(dataset, predicted=predicted, **options)
            moved = torch.cat([moved.cpu() for _, moved in batches]).numpy()
        if not np.isfinite(moved).all():
            raise ValueError(f"X moved by epsilon is too large for dtype({self.dtype_!r}).")
        return in_form_of(X, x, moved)

    def _attacked_accuracy(
        self,
        X: Samples,
        y: MatrixLike | None,
        sample_weight: Any = None,
        **options: Any,
    ) -> float:
        """Return the accuracy under attack, which is at rest where a sample is fooled.

        A label that the net does not know counts as an error, as in `accuracy_score`.

        Parameters
        ----------
        X, y, sample_weight : array-like
            Or X a Dataset, as skorch's callbacks hand it out, which has its own encoded
            labels and takes the place of `y`.
        **options
            As of `adversarial_examples`.
        """
        self.check_is_fitted()
        dataset: Any
        rows: Any = slice(None)
        if is_dataset(X):
            dataset = X
            n = len(dataset)
            if n == 0:
                raise ValueError("The Dataset has 0 samples, of which there is no accuracy.")
        else:
            x, y = self._validated(X, reset=False), as_array_like(y)
            check_consistent_length(x, y)
            rows, known = self._known_rows(y)
            if sample_weight is not None:
                sample_weight = scaled_weight(
                    _check_sample_weight(
                        as_array_like(sample_weight), x, dtype=np.float64, ensure_non_negative=True
                    )
                )
            dataset, n = ArrayDataset(x[rows], known), x.shape[0]
        correct = np.zeros(n, dtype=bool)
        with evaluation_mode(self.module_, torch.device(self.device_)):
            batches = self._attacked_batches(dataset, until_fooled=True, **options)
            fooled = [objective.judge(moved)[1].cpu() for objective, moved in batches]
        if fooled:
            correct[rows] = ~torch.cat(fooled).numpy()
        return float(np.average(correct, weights=sample_weight))

    def _known_rows(self, y: MatrixLike | None) -> tuple[NDArray[np.intp], NDArray[np.number]]:
        """Return the rows whose label the net knows, and their targets: it errs on any other."""
        self.check_is_fitted()
        target, known = self._targets.known(self._checked_targets(as_array_like(y)))
        rows = np.flatnonzero(known)
        return rows, target[rows]

    def _attacked_batches(
        self,
        dataset: Dataset[object],
        *,
        predicted: bool = False,
        until_fooled: bool = False,
        **options: Any,
    ) -> Iterator[tuple[Objective, Tensor]]:
        """Yield (objective, moved batch) over the `dataset`.

        Where the labels are `predicted`, the gradient in closed form finds them on its way.
        """
        attack, move = self._attack_options(**options)
        if attack == "pgd":
            move["until_fooled"] = until_fooled
        gradient = None
        if self._has_closed_form():
            gradient = perceptron_gradient(self.module_)
        for x, target in chain.from_iterable(map(self._pieces, self.get_iterator(dataset))):
            against = None if predicted else target  # the gradient in closed form takes None
            objective = Objective(self._losses_and_errors, against, gradient)  # type: ignore[arg-type]
            yield objective, ATTACKS[attack](objective, x, **move)

    def _pieces(self, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the (x, target) of a batch as tensors, on the processor a piece at a time.

        An activation of some 4 MB is memory that is used again; one of 32 MB is asked of the
        system each time, and a row count that is no multiple of 64 slows the products down.
        """
        x, target = unpack_data(batch)
        x, target = self._input(x), self._target(target)
        if not self._has_own_module or x.device.type != "cpu":
            return iter([(x, target)])
        rows = max(1, self._rows_at_once() // 512) * 64
        return zip(x.split(rows), target.split(rows), strict=True)

    def _attack_options(
        self,
        *,
        epsilon: ArrayLike | None,
        attack: Attack,
        norm: Norm | None,
        clip: Clip | str | None,
        step_size: float | None,
        **of_pgd: Any,
    ) -> tuple[Attack, dict[str, Any]]:
        """Return the attack's name and its arguments, checked and as tensors."""
        given = {"attack": attack, "norm": norm, "step_size": python_number(step_size)} | of_pgd
        constraints = {name: _CONSTRAINTS[name] for name in given}
        validate_parameter_constraints(constraints, given, "adversarial_examples")
        if isinstance(clip, str) and clip != "same":
            raise InvalidParameterError(f"clip must be (low, high), None or 'same'. Got {clip!r}.")
        trained, shape = self._reach, self.sample_shape_
        reach = Reach(
            check_epsilon(trained.epsilon if epsilon is None else epsilon, shape),
            norm or trained.norm,
            check_clip(trained.clip if isinstance(clip, str) else clip, shape),
        )
        move: dict[str, Any] = {**reach.on(self.device_, self.dtype_)}
        if attack == "pgd":
            n_steps = of_pgd["n_steps"]
            generators = restart_generators(of_pgd["n_restarts"], of_pgd["random_state"])
            move |= {"n_steps": n_steps, "step_size": float(step_size or 2.5 / n_steps)}
            move["generators"] = generators
        return attack, move

    def _losses_and_errors(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return (loss, misclassified), each of shape (n,)."""
        losses, fooled = self._row_losses(x, target)
        return (losses.flatten(1).sum(1) if losses.ndim > 1 else losses), fooled
