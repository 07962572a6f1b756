"""What differs from skorch's training: the adversarial step and a lean epoch, as overrides."""

import math
import warnings
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint, PassthroughScoring, TrainEndCheckpoint
from skorch.dataset import get_len, unpack_data
from torch.optim.lr_scheduler import LinearLR

from sk_advbp.core.backprop import adversarial_gradients
from sk_advbp.core.compiled import CompiledGradients
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
)
from sk_advbp.training.plain import is_plain

__all__ = ["AdversarialNet"]

# The attributes that only a running training has: they are in no copy or pickle of the net.
PIECES_OF_TRAINING = (
    "_training",
    "_incremental",
    "_schedule",
    "_batch_rows",
    "_displace",
    "_closed_form",
    "_fused_step",
    "_outputs_checked",
    # scikit-learn's callbacks
    "_callback_fit_ctx",
    "_skl_callbacks_to_teardown",
)

# In the order in which the passes of a step draw their dropout masks.
MASKS = ("perturbation_masks", "masks", "clean_masks")


# Callbacks that are told of no batch, and yet read what the history has of batches.
READERS_OF_BATCHES = (Checkpoint, PassthroughScoring, TrainEndCheckpoint)


@contextmanager
def preserved_buffers(module):
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


class AdversarialNet(Components):
    """A skorch net that learns from adversarially moved mini-batches.

    A subclass says by `_displacement` how batches are moved, by `_targets` what is learnt, and in
    `valid_score` under which name the score on held-out data goes to the history.

    Notes
    -----
    For a custom module with BatchNorm only the pass over the moved batch, the one that
    updates the weights, updates the running statistics.

    Differs from the paper: a share `clean_weight` of the clean loss may enter the update.
    """

    valid_score = None
    _displace = None
    _closed_form = None
    _fused_step = None
    _schedule = None
    _batch_rows = None
    _incremental = False
    _training = False
    _outputs_checked = False

    # ---- the step --------------------------------------------------------------------

    def _input(self, x):
        """Return the X side of a batch as a tensor of the module's device and dtype."""
        if isinstance(x, WeightedInput):
            x = x.x
        # Cast first: a device may not have the dtype in which x comes.
        x = x if torch.is_tensor(x) else torch.as_tensor(x, device="cpu")
        dtype = getattr(torch, self.dtype_)
        return (x if x.dtype is dtype else x.to(dtype)).to(self.device_)

    def _target(self, y):
        """Return the y side of a batch as the loss takes it, on the module's device."""
        y = y if torch.is_tensor(y) else torch.as_tensor(y, device=self.device_)
        return y.to(self.device_)

    def infer(self, x, **fit_params):
        """Return the module's output for the X side of a batch, without its weights."""
        return self._outputs(self._input(x))

    def _outputs(self, x):
        """Return what the module makes of the tensor `x`, which stays as it is.

        A module that works in place gets a copy: `x` may be memory of the user's, even a file.
        What has been computed, as has the point of a gradient, is nobody's.
        """
        ours = x.grad_fn is not None or is_plain(self.module_)
        return self.module_(x if ours else x.clone())

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return Σwℓ/Σw over the batch; w = 1 where the batch has no weights."""
        losses, y_pred = self._losses(y_pred, self._target(y_true)), first_output(y_pred)
        if losses.shape[:1] != y_pred.shape[:1]:
            raise ValueError(
                f"criterion must return one loss a sample, {len(y_pred)} here. Got a tensor of "
                f"shape {tuple(losses.shape)} from {self.criterion!r}."
            )
        if losses.ndim > 1:
            losses = losses.flatten(1).sum(1)
        if not isinstance(X, WeightedInput):
            return losses.mean()
        return (losses * X.weight).sum() / X.weight.sum()

    def _losses(self, y_pred, target):
        """Return what the criterion makes of a batch, which stays as it is.

        A criterion of the user's may work in place, and gets copies.
        """
        y_pred = first_output(y_pred)
        if self._of_net("criterion") is None:
            return self.criterion_(y_pred, target)
        if isinstance(self.criterion_, torch.nn.NLLLoss):
            y_pred = self._log_of_probabilities(y_pred)
        return self.criterion_(y_pred.clone(), target.clone())

    def _log_of_probabilities(self, y_pred):
        """Return what NLLLoss takes: the package's perceptron has logits."""
        own = isinstance(self.module_, MultilayerPerceptron)
        return y_pred.log_softmax(1) if own else log_of_probabilities(y_pred)

    def train_step_single(self, batch, **fit_params):
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

        def loss_at(x):
            with self._autocast(self.amp):
                y_pred = self.infer(x)
            if not (self._outputs_checked or isinstance(self.module_, MultilayerPerceptron)):
                check_outputs(y_pred, len(x), self._targets.n_outputs, self._of_net("criterion"))
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
        loss.backward()
        return {"loss": loss.detach(), "y_pred": each_output(torch.Tensor.detach, y_pred)}

    def _first_pass_dtype(self):
        """Return the dtype of the first pass where it is not that of the weights, else None."""
        if self.perturbation_dtype == "auto":
            rows = self._batch_rows or self.batch_size
            low = self.dtype_ == "float32" and pays_in_bfloat16(
                self.device_, rows * sum(p.numel() for p in self.module_.parameters())
            )
        else:
            low = self.perturbation_dtype == "bfloat16"
        return torch.bfloat16 if low else None

    def _autocast(self, enabled):
        """Let torch choose which operations of a custom module run in bfloat16."""
        device = torch.device(self.device_).type
        return torch.autocast(device, torch.bfloat16) if enabled else nullcontext()

    def _has_closed_form(self):
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

    def _closed_form_of(self, module):
        """Return the step's gradients as a function of (x, y, …), None where not known."""
        if not self._has_closed_form():
            return None
        return partial(
            self._closed_form.func if self._closed_form else self._gradients(),
            weights=[layer.weight for layer in module.layers],
            biases=[layer.bias for layer in module.layers],
            activation=module.activation,
            output=self._of_net("output"),
            clean_weight=float(self.clean_weight),
            perturbation_dtype=self._first_pass_dtype(),
            compute_dtype=torch.bfloat16 if self.amp else None,
        )

    def _gradients(self):
        """Return `adversarial_gradients`, compiled where that is asked for and no noise drawn."""
        if not self.compile or self._draws_noise():
            return adversarial_gradients
        options = self.get_params_for("compile")
        return CompiledGradients(torch.device(self.device_), **options)

    def _closed_form_step(self, x, y, weight):
        """Fill ``.grad`` as back-propagation would, without a graph."""
        drawn, perturb = {}, self._displace
        module = self.module_
        if module.dropout or module.input_dropout:
            module.train()
            kinds = ("masks",) if perturb is None else MASKS[: 3 if self.clean_weight else 2]
            drawn = {kind: module.dropout_masks(x) for kind in kinds}
        parameters = self._closed_form.keywords["weights"], self._closed_form.keywords["biases"]
        for of_kind in parameters:
            for parameter in of_kind:
                parameter.grad = None  # so that the new gradients find its memory free
        loss, logits, *gradients = self._closed_form(
            x, y, perturb=perturb, sample_weight=weight, **drawn
        )
        for of_kind, gradients_of_kind in zip(parameters, gradients, strict=True):
            for parameter, gradient in zip(of_kind, gradients_of_kind, strict=True):
                parameter.grad = gradient if parameter.requires_grad else None
        return {"loss": loss, "y_pred": logits}

    def train_step(self, batch, **fit_params):
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

    def _fused_step_of(self, optimizer):
        """Return the bare step of `optimizer`, False where somebody would miss the rest of it."""
        if self._closed_form is None or not FusedStep.supports(optimizer):
            return False
        overridden = type(self).on_grad_computed is not NeuralNet.on_grad_computed
        watched = overridden or self._listeners("on_grad_computed")
        return not watched and FusedStep(optimizer)

    def validation_step(self, batch, **fit_params):
        """Return loss, prediction and score on a clean batch."""
        step = super().validation_step(batch, **fit_params)
        Xi, yi = unpack_data(batch)
        return step | {"score": self.batch_score(first_output(step["y_pred"]), yi, Xi)}

    # ---- the epoch -------------------------------------------------------------------

    def _listeners(self, method_name):
        """Return the callbacks that do something at `method_name`."""
        idle = getattr(Callback, method_name)
        return [
            callback
            for _, callback in self.callbacks_
            if getattr(getattr(callback, method_name), "__func__", None) is not idle
        ]

    def notify(self, method_name, **cb_kwargs):
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

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
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

    def _run_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        if training:
            self._begin_epoch(iterator)
        heard = self._batches_are_heard()
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
            state = vars(self)
            state["t_"] = state.get("t_", 0) + means.n_rows
        self.history.record(f"{prefix}_batch_count", len(means.weights))
        self._record(f"{prefix}_loss", means.mean_loss(), better=min)
        if training:
            if not means.weights:
                raise ValueError("There is no mini-batch: see iterator_train__drop_last.")
            self._check_finite("training loss", self.history[-1, "train_loss"])
        else:
            self._record(self.valid_score, means.mean_score(), better=max)

    def _batches_are_heard(self):
        """Return whether a callback is called for batches, or reads what is recorded of them."""
        return (
            self._listeners("on_batch_begin")
            or self._listeners("on_batch_end")
            or any(isinstance(cb, READERS_OF_BATCHES) for _, cb in self.callbacks_)
        )

    def _begin_epoch(self, iterator):
        """Seed the noise of this epoch and, in the first, set up the rate's schedule."""
        if isinstance(self.module_, MultilayerPerceptron):
            self.module_.generator = self._noise_generator()
        self._with_noise(self._displace)
        self._batch_rows = getattr(iterator, "batch_size", None)
        # Callbacks may have hooked or frozen a part of the net, or replaced the optimizer.
        self._closed_form = self._closed_form_of(self.module_)
        self._fused_step = self._fused_step_of(self.optimizer_) or None
        if self.lr_schedule == "linear" and self._schedule is None and not self._incremental:
            steps = self.max_epochs * len(iterator)
            self._schedule = LinearLR(self.optimizer_, 1.0, 0.0, total_iters=steps)
            self._fused_step = None  # the schedule wants to see one whole step

    def _mind_the_module(self):
        """Leave the closed form where a callback has changed the module within an epoch."""
        if self._closed_form is not None and not is_plain(self.module_):
            self._closed_form, self._fused_step = None, False

    def _with_noise(self, displace):
        """Return `displace`, its random numbers from a generator of ours."""
        if displace is not None and self._draws_noise():
            displace.keywords["generator"] = self._noise_generator()
        return displace

    def _draws_noise(self):
        """Return whether the perturbation needs random numbers."""
        return bool(self.random_start) or self.perturbation == "random"

    def _noise_generator(self):
        """Return a generator on the device; on CUDA one that is seeded from ours."""
        if torch.device(self.device_).type == "cpu":
            return self.generator_
        seed = int(torch.randint(2**62, (), generator=self.generator_, device="cpu"))
        return torch.Generator(self.device_).manual_seed(seed)

    def _record(self, name, value, better):
        """Record `value`, and whether it is the best so far, as skorch's callbacks do."""
        best = next((row[name] for row in reversed(self.history) if row.get(f"{name}_best")), value)
        self.history.record(name, value)
        self.history.record(f"{name}_best", better([value, best]) == value)

    def _check_finite(self, what, value):
        if not math.isfinite(value):
            raise ValueError(
                f"The {what} became {value} in epoch {len(self.history)}. Try a smaller lr (now "
                f"{self.lr!r}) or epsilon, or scale X to a small range, with StandardScaler for "
                "instance."
            )

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
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

    def train(self, dataset, y=None, incremental=False):
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
            self.fit_loop(dataset, y, epochs=1 if incremental else None)
            self.notify("on_train_end", **user_data)
            for parameter in self.module_.parameters():
                self._check_finite("sum of some weights", float(parameter.detach().sum()))
        self.module_.eval()
        return self

    @contextmanager
    def _running(self, incremental=False):
        """Have the pieces of a training, as long as it runs; they are not of the fitted state."""
        if self._training:
            yield
            return
        if "_reach" not in vars(self):
            self.check_is_fitted()
        vars(self).update(_displace=self._displacement(), _training=True, _incremental=incremental)
        try:
            yield
        finally:
            # scikit-learn tears its own pieces down.
            for name in PIECES_OF_TRAINING[:-2]:
                vars(self).pop(name, None)

    def __getstate__(self):
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name not in PIECES_OF_TRAINING}

    def trim_for_prediction(self):
        """Remove what only training needs, as in skorch; the loss, which attacks climb, stays."""
        self.check_is_fitted()
        criterion_ = self.criterion_
        if isinstance(self.callbacks, list):
            vars(self)["callbacks"] = list(self.callbacks)  # skorch empties it: not the user's
        super().trim_for_prediction()
        self.criterion_ = criterion_


class RunningMeans:
    """Weighted means over batches, which stay on the device until they are asked for.

    The losses lie in one tensor: a small one kept from each step would pin holes between the
    large ones that come and go.
    """

    def __init__(self):
        self.losses, self.scores, self.weights, self.n_rows = None, [], [], 0

    def add(self, step, batch):
        """Take note of the step's loss and score, and of the weight of its batch."""
        x, loss, number = batch[0], step["loss"], len(self.weights)
        if self.losses is None:
            self.losses = loss.new_empty(512)
        elif number == len(self.losses):
            self.losses = torch.cat([self.losses, torch.empty_like(self.losses)])
        self.losses[number] = loss
        if isinstance(x, WeightedInput):
            n_rows = len(x.weight)
            self.weights.append(x.weight.sum())
        else:
            n_rows = len(x) if torch.is_tensor(x) else get_len(x)
            self.weights.append(n_rows)
        self.n_rows += n_rows
        if "score" in step:
            self.scores.append(step["score"])

    def mean_loss(self):
        """Return the mean loss; NaN where there was no batch."""
        return math.nan if self.losses is None else self._mean(self.losses[: len(self.weights)])

    def mean_score(self):
        """Return the mean score; NaN where no batch had one."""
        return self._mean(torch.stack(self.scores)) if self.scores else math.nan

    def _mean(self, values):
        """Return the weighted mean, in float64, which not every device has."""
        weights = self.weights
        if torch.is_tensor(weights[0]):
            weights = torch.stack(weights).numpy(force=True)
        values = values.numpy(force=True).astype(np.float64)
        weights = np.asarray(weights, dtype=np.float64)
        return float(values @ weights / weights.sum())
