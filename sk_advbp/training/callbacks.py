"""The callbacks that training itself needs: early stopping, and scikit-learn's callbacks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from skorch.callbacks import Callback, EarlyStopping

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from skorch import NeuralNet
    from torch.utils.data import Dataset

    from sk_advbp._types import Samples

__all__ = ["SklearnCallbacks", "StopEarly", "TrainingStopped"]

PIECES_OF_A_FIT = ("root_", "epoch_", "report_")


class TrainingStopped(KeyboardInterrupt):
    """A callback asked for the end of training, as skorch's do, by KeyboardInterrupt."""


class StopEarly(EarlyStopping):
    """Early stopping on the held-out score, or on the training loss where none is held out."""

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Restore the best weights, where there was an epoch."""
        if net.history:
            super().on_train_end(net, **kwargs)

    def on_epoch_begin(
        self, net: NeuralNet, dataset_valid: Dataset[object] | None = None, **kwargs: Any
    ) -> None:
        """Choose what is watched when the first epoch begins."""
        if self.best_epoch_ == 0 and self.misses_ == 0:
            self.lower_is_better = dataset_valid is None
            self.monitor = "train_loss" if self.lower_is_better else net.valid_score
            self.dynamic_threshold_ = math.inf if self.lower_is_better else -math.inf


class SklearnCallbacks(Callback):
    """Tell scikit-learn's callbacks of the epochs, each of them a task of the fit."""

    def on_train_begin(
        self, net: NeuralNet, X: Samples | None = None, y: ArrayLike | None = None, **kwargs: Any
    ) -> None:
        """Open the task of the whole fit."""
        data = {"X": X, "y": y}
        self.root_ = net._task_of_training(1 if net._incremental else net._n_epochs)
        self.report_ = {"estimator": net, "reconstruction_attributes": dict, **data}
        self.root_.call_on_fit_task_begin(estimator=net, **data)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open the task of an epoch."""
        self.epoch_ = self.root_.subcontext(task_name="epoch")
        self.epoch_.call_on_fit_task_begin(estimator=net)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Close it, and stop where a callback asks for it."""
        if self.epoch_.call_on_fit_task_end(**self.report_):
            raise KeyboardInterrupt

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Close the task of the whole fit."""
        self.root_.call_on_fit_task_end(**self.report_)
        for name in PIECES_OF_A_FIT:
            self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        # They have the training data among them.
        return {k: v for k, v in self.__dict__.items() if k not in PIECES_OF_A_FIT}
