"""Settings that `AdvBPClassifier` does not have, for the searches: callbacks do what they say."""

from functools import partial

import numpy as np
import torch
from skorch.callbacks import Callback, Initializer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sk_advbp import AdvBPClassifier


class Averaging(Callback):
    """End with an exponential average of the weights, in which a step fades by `decay`."""

    def __init__(self, decay):
        self.decay = decay

    def on_train_begin(self, net, **kwargs):
        """Begin the average."""
        average = get_ema_multi_avg_fn(self.decay)
        self.averaged_ = AveragedModel(net.module_, multi_avg_fn=average)

    def on_batch_end(self, net, training, **kwargs):
        """Let the weights of this step enter it."""
        if training:
            self.averaged_.update_parameters(net.module_)

    def on_train_end(self, net, **kwargs):
        """Put it in the place of the last weights."""
        net.module_.load_state_dict(self.averaged_.module.state_dict())
        del self.averaged_


class EpsilonRamp(Callback):
    """Multiply ε by a factor that goes from `first` to `last`, in equal steps of an epoch."""

    def __init__(self, first, last):
        self.first, self.last = first, last

    def on_train_begin(self, net, **kwargs):
        """Take note of the full ε."""
        self.full_ = net._displace.keywords["epsilon"]

    def on_epoch_begin(self, net, **kwargs):
        """Set that of the epoch."""
        progress = (len(net.history) - 1) / max(1, net.max_epochs - 1)
        factor = self.first + (self.last - self.first) * progress
        net._displace.keywords["epsilon"] = self.full_ * factor


class EpsilonSpread(Callback):
    """Multiply ε, anew for each mini-batch, by a factor drawn between `low` and `high`."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def on_train_begin(self, net, **kwargs):
        """Take note of the full ε."""
        self.full_ = net._displace.keywords["epsilon"]
        self.draw_ = np.random.default_rng(net.random_state).uniform

    def on_batch_begin(self, net, training, **kwargs):
        """Set that of the mini-batch."""
        if training:
            net._displace.keywords["epsilon"] = self.full_ * self.draw_(self.low, self.high)


def scale(weights, factor):
    """Multiply the `weights`."""
    weights.data.mul_(factor)


OF_CALLBACKS = {"average": Averaging, "epsilon_ramp": EpsilonRamp, "epsilon_spread": EpsilonSpread}


def net_of_cell(initial_scale=None, **settings):
    """Return the classifier of a cell: what it does not offer is done by callbacks."""
    given = {name: settings.pop(name) for name in OF_CALLBACKS.keys() & settings.keys()}
    callbacks = [
        build(*(given[name] if isinstance(given[name], (tuple, list)) else [given[name]]))
        for name, build in OF_CALLBACKS.items()
        if name in given
    ]
    if initial_scale:
        hidden = [f"layers.{i}.weight" for i in range(len(settings["hidden_layer_sizes"]))]
        callbacks.append(Initializer(hidden, fn=partial(scale, factor=initial_scale)))
    if "optimizer" in settings:
        settings["optimizer"] = getattr(torch.optim, settings["optimizer"])
    return AdvBPClassifier(**settings, callbacks=callbacks)
