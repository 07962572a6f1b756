"""`OverfittingWatch`: a callback for the failure of training by one-step examples."""

from __future__ import annotations

import math
import warnings
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback
from torch.utils.data import Subset

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from skorch import NeuralNet
    from torch import Tensor
    from torch.utils.data import Dataset

    from sk_advbp._types import MatrixLike, Samples, Sliceable

__all__ = ["OverfittingWatch"]


class OverfittingWatch(Callback):
    """Watch for catastrophic overfitting, the failure of training by one-step examples.

    The net learns to look right at the FGSM points alone: accuracy under FGSM rises, often
    beyond that on clean data, while accuracy under an iterated attack collapses. After each
    epoch the watch attacks held-out data with FGSM and a few steps of PGD, and writes
    ``watch_clean``, ``watch_fgsm`` and ``watch_pgd`` (accuracies in [0, 1]) to the history.
    Where PGD accuracy has fallen by more than `drop` below its best so far while FGSM
    accuracy has risen since that epoch, it warns, once a training.

    Parameters
    ----------
    data : tuple (X, y) or None, default=None
        Held-out samples, in the units of ``fit``, and their labels; None: what the net itself
        holds out, by `early_stopping` or `train_split`.
    epsilon : float, array of the shape of one sample, or None, default=None
        Size of the perturbation, in the units of X; None: that of the training. Give one
        where several trainings follow each other (`warm_start`, ``partial_fit``) with
        different ε: the watch compares their epochs.
    n_steps : int, default=10
        Steps of PGD.
    max_rows : int, default=500
        At most so many rows, the first ones, are attacked. An epoch takes about
        3 `n_steps` passes over them longer.
    drop : float in (0, 1), default=0.2
        The fall of PGD accuracy that counts as a collapse.
    stop : bool, default=False
        Whether a collapse ends the training.
    restore : bool, default=False
        Whether a training in which a collapse was seen ends with the weights of the epoch of
        the largest PGD accuracy, of which a copy is kept.
    random_state : int, default=0
        Of PGD's random starts, the same in each epoch.

    Attributes
    ----------
    best_epoch_ : int
        Number, from 1 on, of the epoch of the largest PGD accuracy.
    collapsed_epoch_ : int or None
        Number of the epoch in which the last training was first seen to have collapsed.

    Notes
    -----
    It reads weights only, and draws no random number that the training would have drawn: a
    watched training gives the same weights as an unwatched one, unless it is stopped or
    restored.

    References
    ----------
    Eric Wong, Leslie Rice and J. Zico Kolter, "Fast is better than free: Revisiting
    adversarial training", ICLR 2020, arXiv:2001.03994.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_advbp import AdvBPClassifier
    >>> from sk_advbp.callbacks import OverfittingWatch
    >>> X, y = load_iris(return_X_y=True)
    >>> watch = OverfittingWatch((X[::2], y[::2]))
    >>> net = AdvBPClassifier(max_epochs=3, callbacks=[watch], random_state=0)
    >>> len(net.fit(X[1::2], y[1::2]).history[:, "watch_pgd"])
    3
    """

    def __init__(
        self,
        data: tuple[Sliceable, Sliceable] | None = None,
        epsilon: ArrayLike | None = None,
        n_steps: int = 10,
        max_rows: int = 500,
        drop: float = 0.2,
        stop: bool = False,
        restore: bool = False,
        random_state: int = 0,
    ) -> None:
        self.data = data
        self.epsilon = epsilon
        self.n_steps = n_steps
        self.max_rows = max_rows
        self.drop = drop
        self.stop = stop
        self.restore = restore
        self.random_state = random_state

    _good_weights: dict[str, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # The weights of another epoch are for the end of the running training alone.
        return {name: v for name, v in vars(self).items() if name != "_good_weights"}

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Begin anew, unless the training goes on from where another one ended."""
        if not is_classifier(net):
            raise TypeError(f"OverfittingWatch compares accuracies, of classifiers. Got {net!r}.")
        self.collapsed_epoch_: int | None = None
        if not (net.history and hasattr(self, "best_epoch_")):
            self.best_epoch_ = 0
            self._good_weights = None
            self._best_pgd, self._fgsm_then = -math.inf, math.inf

    def on_epoch_end(
        self, net: NeuralNet, dataset_valid: Dataset[object] | None = None, **kwargs: Any
    ) -> None:
        """Attack, record, and judge."""
        clean, fgsm, pgd = self._accuracies(net, *self._held_out(dataset_valid))
        for name, accuracy in {"clean": clean, "fgsm": fgsm, "pgd": pgd}.items():
            net.history.record(f"watch_{name}", accuracy)
        epoch = len(net.history)
        if pgd > self._best_pgd:
            self.best_epoch_, self._best_pgd, self._fgsm_then = epoch, pgd, fgsm
            if self.restore:
                self._good_weights = deepcopy(net.module_.state_dict())
        elif pgd < self._best_pgd - self.drop and fgsm > self._fgsm_then:
            self._collapse(epoch, fgsm, pgd)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Load the last good weights, where a collapse was seen."""
        if self._good_weights is not None and self.collapsed_epoch_ is not None:
            net.module_.load_state_dict(self._good_weights)

    def _held_out(self, dataset_valid: Dataset[object] | None) -> tuple[Samples, MatrixLike | None]:
        """Return the rows that are attacked, and their labels; None where they bring their own."""
        if self.data is not None:
            X, y = self.data
            return X[: self.max_rows], y[: self.max_rows]
        if dataset_valid is None:
            raise ValueError(
                "OverfittingWatch needs held-out data: give it data=(X, y), or let the net hold "
                "some out by early_stopping=True or train_split."
            )
        n = len(dataset_valid)  # type: ignore[arg-type]  # not every Dataset has a length
        return Subset(dataset_valid, range(min(self.max_rows, n))), None

    def _accuracies(self, net: NeuralNet, X: Samples, y: MatrixLike | None) -> list[float]:
        """Return the clean, the FGSM and the PGD accuracy on the rows."""
        size = {"norm": None, "clip": "same", "step_size": None, "n_restarts": 1}
        size |= {"n_steps": self.n_steps, "random_state": self.random_state}
        return [
            net._attacked_accuracy(X, y, epsilon=epsilon, attack=attack, **size)
            for epsilon, attack in ((0.0, "fgsm"), (self.epsilon, "fgsm"), (self.epsilon, "pgd"))
        ]

    def _collapse(self, epoch: int, fgsm: float, pgd: float) -> None:
        """Warn of the first collapse; stop the training where that is wanted."""
        if self.collapsed_epoch_ is None:
            self.collapsed_epoch_ = epoch
            warnings.warn(
                f"Catastrophic overfitting in epoch {epoch}: since epoch {self.best_epoch_}, "
                f"accuracy under FGSM has risen from {self._fgsm_then:.2f} to {fgsm:.2f}, but "
                f"under PGD fallen from {self._best_pgd:.2f} to {pgd:.2f}. Try a smaller epsilon, "
                "random_start > 0 or clean_weight > 0.",
                ConvergenceWarning,
                stacklevel=2,
            )
        if self.stop:
            raise KeyboardInterrupt
