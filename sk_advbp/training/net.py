"""What differs from skorch's training: the adversarial step and a lean epoch, as overrides."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint, PassthroughScoring, TrainEndCheckpoint
from skorch.dataset import get_len, unpack_data
from torch.optim.lr_scheduler import LinearLR

from sk_advbp.core.backprop import adversarial_gradients
from sk_advbp.core.compiled import CompiledGradients
from sk_advbp.core.mixture import mixture, n_units
from sk_advbp.core.mlp import MultilayerPerceptron
from sk_advbp.core.optimizers import FusedStep
from sk_advbp.core.perturbation import input_gradient
from sk_advbp.core.precision import pays_in_bfloat16
from sk_advbp.training.batches import WeightedInput
from sk_advbp.training.callbacks import TrainingStopped
from sk_advbp.training.components import Components
from sk_advbp.training.outputs import (
    check_outputs,
    each_output,
    first_output,
    log_of_probabilities,
    noting_input,
)
from sk_advbp.training.plain import is_plain
from sk_advbp.training.state import CALLBACK_CONTEXT, PIECES_OF_TRAINING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Any, Literal, Self

    from numpy.typing import ArrayLike, NDArray
    from torch import Generator, Tensor
    from torch.nn import Module
    from torch.optim import Optimizer
    from torch.utils.data import Dataset

    from sk_advbp._types import SizedIterable
    from sk_advbp.core.backprop import Gradients
    from sk_advbp.training.batches import Batch
    from sk_advbp.training.streams import StackedBatches

    Input = Tensor | WeightedInput | ArrayLike
    Step = dict[str, Tensor]

__all__ = ["AdversarialNet"]

# In the order in which the passes of a step draw their dropout masks.
MASKS = ("perturbation_masks", "masks", "clean_masks")


# Callbacks that are told of no batch, and yet read what the history has of batches.
READERS_OF_BATCHES = (Checkpoint, PassthroughScoring, TrainEndCheckpoint)


@contextmanager
def preserved_buffers(module: Module) -> Iterator[None]:
    """Lend `module` copies of its buffers, so that a forward pass leaves no trace in them.

    BatchNorm's running statistics are such buffers.
    """
    owners = [m for m in module.modules() if m._buffers]
    originals = [dict(m._buffers) for m in owners]
    for owner, buffers in zip(owners, originals, strict=True):
        owner._buffers.update((k, b if b is None else b.clone()) for k, b in buffers.items())
    try:
        yield
    finally:
        for owner, buffers in zip(owners, originals, strict=True):
            owner._buffers.update(buffers)


class NonFinite(ValueError):
    """A loss or a weight became infinite or NaN.

    Attributes
    ----------
    nets : list of int
        The numbers of the nets, of several that are trained together.
    """

    def __init__(self, message: str, nets: list[int]) -> None:
        super().__init__(message)
        self.nets = nets


class AdversarialNet(Components):
    """A skorch net that learns from adversarially moved mini-batches.

    A subclass says by `_displacement` how batches are moved, by `_targets` what is learnt, and in
    `valid_score` under which name the score on held-out data goes to the history.

    Notes
    -----
    For a custom module with BatchNorm only the pass over the moved batch, the one that
    updates the weights, updates the running statistics.

    Several nets (`n_nets`) take the same mini-batches, and each moves and learns them as it
    would alone: what is recorded as the loss of a step is the mean of theirs, but each is
    trained by the gradient of its own.

    Differs from the paper: a share `clean_weight` of the clean loss may enter the update.
    """

    valid_score: str | None = None
    _displace: partial[Tensor] | None = None
    _closed_form: partial[Gradients] | None = None
    _fused_step: FusedStep | Literal[False] | None = None
    _schedule: LinearLR | None = None
    _batch_rows: int | None = None
    _batches_heard = False
    _losses_of_nets: tuple[list[float], ...] = ()  # of each epoch, one a net
    _incremental = False
    _training = False
    _outputs_checked = False

    # ---- the step --------------------------------------------------------------------

    def _input(self, x: Input) -> Tensor:
        """Return the X side of a batch as a tensor of the module's device and dtype."""
        if isinstance(x, WeightedInput):
            x = x.x
        # Cast first: a device may not have the dtype in which x comes.
        x = x if torch.is_tensor(x) else torch.as_tensor(x, device="cpu")
        dtype = getattr(torch, self.dtype_)
        return (x if x.dtype is dtype else x.to(dtype)).to(self.device_)

    def _target(self, y: Tensor | ArrayLike) -> Tensor:
        """Return the y side of a batch as the loss takes it, on the module's device."""
        y = y if torch.is_tensor(y) else torch.as_tensor(y, device=self.device_)
        return y.to(self.device_)

    def infer(self, x: Input, **fit_params: Any) -> Tensor:
        """Return the module's output for the X side of a batch, without its weights."""
        return self._outputs(self._input(x))

    def _outputs(self, x: Tensor) -> Tensor:
        """Return what the module makes of the tensor `x`, which stays as it is.

        A module that works in place gets a copy: `x` may be memory of the user's, even a file.
        What has been computed, as has the point of a gradient, is nobody's.
        """
        ours = x.grad_fn is not None or is_plain(self.module_)
        return self.module_(x if ours else x.clone())

    @property
    def _n_units(self) -> int:
        """Number of outputs of the module."""
        return n_units(self._targets.n_outputs, self._kind_of_output())

    @property
    def _n_nets(self) -> int | None:
        """Number of nets of the package's perceptron; None for one without the axis of nets."""
        return self.module_.n_nets if self._has_own_module else None

    def get_loss(
        self,
        y_pred: Tensor,
        y_true: Tensor | ArrayLike,
        X: Input | None = None,
        training: bool = False,
    ) -> Tensor:
        """Return Σwℓ/Σw over the batch; w = 1 where the batch has no weights.

        In training, `y_pred` of several nets is (K, n, m), and the loss the mean of theirs.
        """
        nets = self._n_nets if training else None
        target = self._target(y_true)
        if nets is None:
            losses = self._losses_of_rows(y_pred, target)
        else:
            each = target.expand(nets, *target.shape).flatten(0, 1)
            losses = self._losses_of_rows(y_pred.flatten(0, 1), each).view(nets, -1)
        if not isinstance(X, WeightedInput):
            return losses.mean()
        mean = (losses * X.weight).sum(-1) / X.weight.sum()
        return mean if nets is None else mean.mean()

    def _losses_of_rows(self, y_pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row, of shape (n,)."""
        losses, y_pred = self._losses(y_pred, target), first_output(y_pred)
        if losses.shape[:1] != y_pred.shape[:1]:
            raise ValueError(
                f"criterion must return one loss a sample, {len(y_pred)} here. Got a tensor of "
                f"shape {tuple(losses.shape)} from {self.criterion!r}."
            )
        return losses.flatten(1).sum(1) if losses.ndim > 1 else losses

    def _losses(self, y_pred: Tensor, target: Tensor) -> Tensor:
        """Return what the criterion makes of a batch, which stays as it is.

        A criterion of the user's may work in place, and gets copies.
        """
        y_pred = first_output(y_pred)
        if self._of_net("criterion") is None:
            return self.criterion_(y_pred, target)
        if isinstance(self.criterion_, torch.nn.NLLLoss):
            y_pred = self._log_of_probabilities(y_pred)
        return self.criterion_(y_pred.clone(), target.clone())

    def _log_of_probabilities(self, y_pred: Tensor) -> Tensor:
        """Return what NLLLoss takes: the package's perceptron has logits."""
        own = isinstance(self.module_, MultilayerPerceptron)
        return y_pred.log_softmax(1) if own else log_of_probabilities(y_pred)

    def train_step_single(self, batch: Batch, **fit_params: Any) -> Step:
        """Move the batch to x' = x + ε·direction(∇ₓJ), then back-propagate from there.

        Returns
        -------
        step : dict
            ``loss``, the mean loss that is minimised, and ``y_pred`` at x'.
        """
        Xi, yi = unpack_data(batch)
        x = self._input(Xi)
        if self._closed_form is not None:
            weight = Xi.weight if type(Xi) is WeightedInput else None
            return self._closed_form_step(x, self._target(yi), weight)
        self._set_training(True)
        nets = self._n_nets
        if nets is not None:
            x = x.expand(nets, *x.shape)  # each net moves its own

        def loss_at(x: Tensor) -> tuple[Tensor, Tensor]:
            checked = self._outputs_checked or isinstance(self.module_, MultilayerPerceptron)
            with self._autocast(self.amp), nullcontext() if checked else noting_input(x):
                y_pred = self.infer(x)
            if not checked:
                check_outputs(y_pred, len(x), self._n_units, self._of_net("criterion"))
                self._outputs_checked = True
            y_pred = each_output(lambda t: t.to(getattr(torch, self.dtype_)), y_pred)
            return self.get_loss(y_pred, yi, X=Xi, training=True), y_pred

        moved, unobserved = x, partial(preserved_buffers, self.module_)
        displace = self._displace if self._training else self._with_noise(self._displacement())
        if displace is not None:
            with unobserved(), self._autocast(self._first_pass_dtype() is not None):
                moved = displace(partial(input_gradient, lambda x: loss_at(x)[0]), x)
        loss, y_pred = loss_at(moved)
        if self.clean_weight and displace is not None:
            with unobserved():
                clean_loss, _ = loss_at(x)
            loss = torch.lerp(loss, clean_loss, float(self.clean_weight))
        # The sum of the nets' losses: the gradient of each is that of its own.
        loss.backward(None if nets is None else loss.new_tensor(nets))
        y_pred = each_output(torch.Tensor.detach, y_pred)
        return {"loss": loss.detach(), "y_pred": self._answer(y_pred)}

    def _answer(self, y_pred: Tensor) -> Tensor:
        """Return the outputs in training as callbacks know them: those of several nets mixed."""
        if self._n_nets is None or not self._batches_heard:
            return y_pred
        return mixture(y_pred, self.module_.output)

    def _first_pass_dtype(self) -> torch.dtype | None:
        """Return the dtype of the first pass where it is not that of the weights, else None."""
        if self.perturbation_dtype == "auto":
            rows = self._batch_rows or self.batch_size
            weights = sum(p.numel() for p in self.module_.parameters()) // (self._n_nets or 1)
            low = self.dtype_ == "float32" and pays_in_bfloat16(self.device_, rows * weights)
        else:
            low = self.perturbation_dtype == "bfloat16"
        return torch.bfloat16 if low else None

    def _autocast(self, enabled: bool) -> AbstractContextManager[object]:
        """Let torch choose which operations of a custom module run in bfloat16."""
        device = torch.device(self.device_).type
        return torch.autocast(device, torch.bfloat16) if enabled else nullcontext()

    def _has_closed_form(self) -> bool:
        """Return whether the gradients are known in closed form.

        They are for the package's perceptron with a loss of its own, unless a subclass, or
        somebody who got hold of the module, has changed what is computed.
        """
        changed = any(
            getattr(type(self), name) is not getattr(AdversarialNet, name)
            for name in ("infer", "get_loss", "initialize_criterion")
        )
        own_loss = (
            self._of_net("criterion") is None
            and not self.get_params_for("criterion")
            and type(self.criterion_) is self._default_criterion()
        )
        return self._has_own_module and own_loss and not changed and is_plain(self.module_)

    def _closed_form_of(self, module: MultilayerPerceptron) -> partial[Gradients] | None:
        """Return the step's gradients as a function of (x, y, …), None where not known."""
        if not self._has_closed_form():
            return None
        return partial(
            self._closed_form.func if self._closed_form else self._gradients(),
            weights=[layer.weight for layer in module.layers],
            biases=[layer.bias for layer in module.layers],
            activation=module.activation,
            output=module.output,
            clean_weight=float(self.clean_weight),
            perturbation_dtype=self._first_pass_dtype(),
            compute_dtype=torch.bfloat16 if self.amp else None,
        )

    def _gradients(self) -> Callable[..., Gradients]:
        """Return `adversarial_gradients`, compiled where that is asked for and no noise drawn."""
        if not self.compile or self._draws_noise():
            return adversarial_gradients
        options = self.get_params_for("compile")
        return CompiledGradients(torch.device(self.device_), **options)

    def _closed_form_step(self, x: Tensor, y: Tensor, weight: Tensor | None) -> Step:
        """Fill ``.grad`` as back-propagation would, without a graph."""
        drawn, perturb = {}, self._displace
        module, closed_form = self.module_, self._closed_form
        assert closed_form is not None  # else this is not called
        if module.dropout or module.input_dropout:
            module.train()
            kinds = ("masks",) if perturb is None else MASKS[: 3 if self.clean_weight else 2]
            drawn = {kind: module.dropout_masks(x) for kind in kinds}
        parameters = closed_form.keywords["weights"], closed_form.keywords["biases"]
        for of_kind in parameters:
            for parameter in of_kind:
                parameter.grad = None  # so that the new gradients find its memory free
        loss, logits, *gradients = closed_form(x, y, perturb=perturb, sample_weight=weight, **drawn)
        for of_kind, gradients_of_kind in zip(parameters, gradients, strict=True):
            for parameter, gradient in zip(of_kind, gradients_of_kind, strict=True):
                parameter.grad = gradient if parameter.requires_grad else None
        if self._n_nets is None:
            return {"loss": loss, "y_pred": logits}
        return {"loss": loss.mean(), "losses": loss, "y_pred": self._answer(logits)}

    def train_step(self, batch: Batch, **fit_params: Any) -> Step:
        """Do one step of the optimizer, then one of the schedule of its rate."""
        if self._fused_step:
            step = self.train_step_single(batch, **fit_params)
            with torch.no_grad():
                self._fused_step()
        else:
            step = super().train_step(batch, **fit_params)
            if self._fused_step is None:  # the first step of all has made the moments
                self._fused_step = self._fused_step_of(self.optimizer_)
        if self._schedule is not None:
            self._schedule.step()
        return step

    def _fused_step_of(self, optimizer: Optimizer) -> FusedStep | Literal[False]:
        """Return the bare step of `optimizer`, False where somebody would miss the rest of it."""
        if self._closed_form is None or not FusedStep.supports(optimizer):
            return False
        overridden = type(self).on_grad_computed is not NeuralNet.on_grad_computed
        watched = overridden or self._listeners("on_grad_computed")
        return not watched and FusedStep(optimizer)

    def validation_step(self, batch: Batch, **fit_params: Any) -> Step:
        """Return loss, prediction and score on a clean batch."""
        step: Step = super().validation_step(batch, **fit_params)
        Xi, yi = unpack_data(batch)
        return step | {"score": self.batch_score(first_output(step["y_pred"]), yi, Xi)}

    # ---- the epoch -------------------------------------------------------------------

    @property
    def _n_epochs(self) -> int:
        """Number of epochs of a training: a search finds it."""
        return self.max_epochs

    def _listeners(self, method_name: str) -> list[Callback]:
        """Return the callbacks that do something at `method_name`."""
        idle = getattr(Callback, method_name)
        return [
            callback
            for _, callback in self.callbacks_
            if getattr(getattr(callback, method_name), "__func__", None) is not idle
        ]

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Tell the net and the callbacks that listen.

        A KeyboardInterrupt that leaves a callback is its way to ask for the end of
        training, which comes when the other callbacks have been told, too.
        """
        getattr(self, method_name)(self, **cb_kwargs)
        stopped = None
        for callback in self._listeners(method_name):
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt as stop:
                stopped = stop
        if stopped is not None:
            raise TrainingStopped from stopped

    def run_single_epoch(
        self,
        iterator: SizedIterable[Batch] | None,
        training: bool,
        prefix: str,
        step_fn: Callable[..., Step],
        **fit_params: Any,
    ) -> None:
        """Run one pass over the mini-batches and record its mean loss and score.

        Batches are recorded one by one, as skorch does it, only where a callback listens
        to them: that takes a wait for the device each time.
        """
        if iterator is None:
            return
        if self._training:
            return self._run_epoch(iterator, training, prefix, step_fn, **fit_params)
        with self._running():
            return self._run_epoch(iterator, training, prefix, step_fn, **fit_params)

    def _run_epoch(
        self,
        iterator: SizedIterable[Batch],
        training: bool,
        prefix: str,
        step_fn: Callable[..., Step],
        **fit_params: Any,
    ) -> None:
        if training:
            self._begin_epoch(iterator)
        heard = self._batches_heard = bool(self._batches_are_heard())
        means = RunningMeans()
        with self._lent_generator(iterator):
            for batch in iterator:
                if heard:
                    self.notify("on_batch_begin", batch=batch, training=training)
                    self._mind_the_module()
                step = step_fn(batch, **fit_params)
                means.add(step, batch)
                if heard:
                    self.history.record_batch(f"{prefix}_loss", step["loss"].item())
                    self.history.record_batch(f"{prefix}_batch_size", get_len(batch[0]))
                    self.notify("on_batch_end", batch=batch, training=training, **step)
        if training:
            state = self.__dict__
            state["t_"] = state.get("t_", 0) + means.n_rows
        self.history.record(f"{prefix}_batch_count", len(means.weights))
        losses = means.mean_losses()
        self._record(f"{prefix}_loss", float(losses.mean()), better=min)
        if training:
            if not means.weights:
                raise ValueError("There is no mini-batch: see iterator_train__drop_last.")
            self._check_finite("training loss", losses)
            if losses.ndim:
                self._losses_of_nets = (*self._losses_of_nets, losses.tolist())
        else:
            self._record(self.valid_score, means.mean_score(), better=max)

    def _batches_are_heard(self) -> list[Callback] | bool:
        """Return whether a callback is called for batches, or reads what is recorded of them."""
        return (
            self._listeners("on_batch_begin")
            or self._listeners("on_batch_end")
            or any(isinstance(cb, READERS_OF_BATCHES) for _, cb in self.callbacks_)
        )

    def _begin_epoch(self, iterator: SizedIterable[Batch]) -> None:
        """Seed the noise of this epoch and, in the first, set up the rate's schedule."""
        if isinstance(self.module_, MultilayerPerceptron):
            self.module_.generator = self._noise_generator()
        self._with_noise(self._displace)
        self._batch_rows = getattr(iterator, "batch_size", None)
        # Callbacks may have hooked or frozen a part of the net, or replaced the optimizer.
        self._closed_form = self._closed_form_of(self.module_)
        self._fused_step = self._fused_step_of(self.optimizer_) or None
        if self.lr_schedule == "linear" and self._schedule is None and not self._incremental:
            steps = self._n_epochs * len(iterator)
            self._schedule = LinearLR(self.optimizer_, 1.0, 0.0, total_iters=steps)
            self._fused_step = None  # the schedule wants to see one whole step

    def _mind_the_module(self) -> None:
        """Leave the closed form where a callback has changed the module within an epoch."""
        if self._closed_form is not None and not is_plain(self.module_):
            self._closed_form, self._fused_step = None, False

    def _with_noise(self, displace: partial[Tensor] | None) -> partial[Tensor] | None:
        """Return `displace`, its random numbers from a generator of ours."""
        if displace is not None and self._draws_noise():
            displace.keywords["generator"] = self._noise_generator()
        return displace

    def _draws_noise(self) -> bool:
        """Return whether the perturbation needs random numbers."""
        return bool(self.random_start) or self.perturbation == "random"

    def _noise_generator(self) -> Generator:
        """Return a generator on the device; on CUDA one that is seeded from ours."""
        if torch.device(self.device_).type == "cpu":
            return self.generator_
        seed = int(torch.randint(2**62, (), generator=self.generator_, device="cpu"))
        return torch.Generator(self.device_).manual_seed(seed)

    def _record(
        self, name: str | None, value: float, better: Callable[[list[float]], float]
    ) -> None:
        """Record `value`, and whether it is the best so far, as skorch's callbacks do."""
        best = next((row[name] for row in reversed(self.history) if row.get(f"{name}_best")), value)
        self.history.record(name, value)
        self.history.record(f"{name}_best", better([value, best]) == value)

    def _check_finite(self, what: str, values: NDArray[np.floating]) -> None:
        """Raise NonFinite where one of the `values`, one or one a net, is not finite."""
        finite = np.isfinite(values)
        if finite.all():
            return
        raise NonFinite(
            f"The {what} became {values[~finite].flat[0]} in epoch {len(self.history)}. Try a "
            f"smaller lr (now {self.lr!r}) or epsilon, or scale X to a small range, with "
            "StandardScaler for instance.",
            np.flatnonzero(~finite).tolist(),
        )

    def fit_loop(
        self,
        X: Dataset[object] | StackedBatches,
        y: NDArray[np.number] | None = None,
        epochs: int | None = None,
        **fit_params: Any,
    ) -> Self:
        """Run the epochs; Ctrl-C ends them with a warning and a usable net."""
        try:
            with self._running():
                return super().fit_loop(X, y, epochs=epochs, **fit_params)
        except TrainingStopped:
            return self
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", ConvergenceWarning, stacklevel=2)
            if self.history and "train_loss" not in self.history[-1]:
                del self.history[-1]  # the epoch that was not finished
            return self

    def train(
        self,
        dataset: Dataset[object] | StackedBatches,
        y: NDArray[np.number] | None = None,
        incremental: bool = False,
    ) -> Self:
        """Train the initialized net on `dataset`, for `max_epochs` or one more epoch.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
        y : ndarray or None, default=None
            The encoded targets, for `train_split`.
        incremental : bool, default=False
            Whether it is one epoch at the constant rate, with nothing held out.
        """
        user_data = {"X": getattr(dataset, "X", dataset), "y": getattr(dataset, "y", y)}
        with self._running(incremental):
            self.notify("on_train_begin", **user_data)
            self.fit_loop(dataset, y, epochs=1 if incremental else self._n_epochs)
            self.notify("on_train_end", **user_data)
            axes_of_net = 0 if self._n_nets is None else 1
            for parameter in self.module_.parameters():
                sums = parameter.detach().flatten(axes_of_net).sum(-1)
                self._check_finite("sum of some weights", sums.numpy(force=True))
        self.module_.eval()
        return self

    @contextmanager
    def _running(self, incremental: bool = False) -> Iterator[None]:
        """Have the pieces of a training, as long as it runs; they are not of the fitted state."""
        if self._training:
            yield
            return
        own = self.__dict__
        if "_displace" not in own:
            if "_reach" not in own:
                self.check_is_fitted()
            own["_displace"] = self._displacement()
        own.update(_training=True, _incremental=incremental)
        try:
            yield
        finally:
            # scikit-learn tears its own pieces down.
            for name in PIECES_OF_TRAINING:
                if name not in CALLBACK_CONTEXT:
                    own.pop(name, None)

    def trim_for_prediction(self) -> None:
        """Remove what only training needs, as in skorch; the loss, which attacks climb, stays."""
        self.check_is_fitted()
        criterion_ = self.criterion_
        if isinstance(self.callbacks, list):
            self.__dict__["callbacks"] = list(self.callbacks)  # skorch empties it: not the user's
        super().trim_for_prediction()
        self.criterion_ = criterion_


class RunningMeans:
    """Weighted means over batches, which stay on the device until they are asked for.

    The losses lie in one tensor: a small one kept from each step would pin holes between the
    large ones that come and go.
    """

    losses: Tensor | None
    scores: list[Tensor]
    weights: list[Tensor | int]

    def __init__(self) -> None:
        self.losses, self.scores, self.weights, self.n_rows = None, [], [], 0

    def add(self, step: Step, batch: Batch) -> None:
        """Take note of the step's loss and score, and of the weight of its batch."""
        x, number = batch[0], len(self.weights)
        of_nets = step.get("losses")  # one a net, where several are trained
        loss = step["loss"] if of_nets is None else of_nets
        if self.losses is None:
            self.losses = loss.new_empty(512, *loss.shape)
        elif number == len(self.losses):
            self.losses = torch.cat([self.losses, torch.empty_like(self.losses)])
        self.losses[number] = loss
        if isinstance(x, WeightedInput):
            n_rows = x.weight.shape[-1]
            self.weights.append(x.weight.sum(-1))
        elif of_nets is not None:
            n_rows = x.shape[-2]
            self.weights.append(n_rows)
        else:
            n_rows = len(x) if torch.is_tensor(x) else get_len(x)
            self.weights.append(n_rows)
        self.n_rows += n_rows
        if "score" in step:
            self.scores.append(step["score"])

    def mean_losses(self) -> NDArray[np.float64]:
        """Return the mean loss, of several nets one each; NaN where there was no batch."""
        if self.losses is None:
            return np.asarray(math.nan)
        return self._mean(self.losses[: len(self.weights)])

    def mean_score(self) -> float:
        """Return the mean score; NaN where no batch had one."""
        return float(self._mean(torch.stack(self.scores))) if self.scores else math.nan

    def _mean(self, values: Tensor) -> NDArray[np.float64]:
        """Return the weighted mean, in float64, which not every device has."""
        array = values.numpy(force=True).astype(np.float64)
        weights = np.ones((len(array), *array.shape[1:]))
        for of_batch, weight in enumerate(self.weights):
            weights[of_batch] = weight.numpy(force=True) if torch.is_tensor(weight) else weight
        return np.asarray((array * weights).sum(0) / weights.sum(0))
