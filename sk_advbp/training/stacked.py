"""Many nets trained at once: the closed form with a leading axis of models.

A small net leaves a processor waiting for the next operation most of the time. K nets of the
same layers, which take the same number of steps, share each operation, and each of them gets
what a separate fit with its seed would give it: its own initial weights, its own order of
rows, its own ε.
"""

from functools import partial
from itertools import pairwise

import numpy as np
import torch
from sklearn.base import clone
from torch import nn
from torch.optim.lr_scheduler import LinearLR

from sk_advbp.core import backprop
from sk_advbp.core.optimizers import FusedStep
from sk_advbp.core.perturbation import displace
from sk_advbp.parameters import check_clip
from sk_advbp.training.batches import Batches
from sk_advbp.training.reach import Reach
from sk_advbp.training.streams import WeightedMeans

__all__ = ["KNOWN", "Stack", "clone_with_knowledge", "stackable", "stacks"]

# Their updates treat each number alike, so that a stack of weights is like any weights.
ELEMENTWISE = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop)

# Beyond 16 nets the time for each falls no more, nor rises until memory runs short.
MOST_MODELS = 20
STACK_BYTES = 2**26

# What a net knows of its data before it is trained.
KNOWN = ("n_features_in_", "sample_shape_", "dtype_", "device_", "classes_inferred_")


def stackable(net):
    """Return whether a separate fit of `net` does what a member of a stack can do.

    Parameters
    ----------
    net : AdvBPClassifier
        With parameters that passed the checks of ``fit``.
    """
    moves_by_chance = net.random_start or net.perturbation == "random"
    drops = net.dropout or net.input_dropout
    watched = (net.callbacks and net.callbacks != "disable") or net.verbose
    holds_out = net.early_stopping or net.train_split is not None
    own = net.module is None and net.criterion is None and net.iterator_train is Batches
    extra = [name for name in net.get_params(deep=False) if "__" in name]
    return (
        own
        and net.optimizer in ELEMENTWISE
        and all(name.startswith("optimizer__") for name in extra)
        and not (moves_by_chance or drops or watched or holds_out)
    )


class Stack:
    """Nets that are trained together.

    Parameters
    ----------
    net : AdvBPClassifier
        The parameters that all of them share; `stackable` and ready for ``initialize``.
    members : sequence of Member
        Of the same number of batches an epoch.

    Attributes
    ----------
    weights : list of torch.Tensor of shape (K, out, in)
    biases : list of torch.Tensor of shape (K, out)
    loss_curves : list of torch.Tensor of shape (K,)
        Mean of the minimised loss in each epoch.
    """

    def __init__(self, net, members):
        self.members = members
        self.net = net
        self.loss_curves = []
        self._streams = list(dict.fromkeys(member.stream for member in members))
        places = [self._streams.index(member.stream) for member in members]
        self._places = torch.tensor(places, device=net.device_)
        self._generators = [torch.Generator().manual_seed(s.seed) for s in self._streams]
        self._draw_weights(places)

    def _draw_weights(self, places):
        """Initialise each net as its own generator says."""
        drawn = []
        for generator in self._generators:
            self.net.generator_ = generator
            self.net.initialize()
            drawn.append(list(self.net.get_all_learnable_params()))
        self.parameters = [
            (of_nets[0][0], nn.Parameter(torch.stack([of_nets[i][1] for i in places]).detach()))
            for of_nets in zip(*drawn, strict=True)
        ]
        stacked = [parameter for _, parameter in self.parameters]
        self.weights, self.biases = stacked[::2], stacked[1::2]

    def _gradients(self):
        """Return the closed form of all members as a function of (x, y, weight)."""
        net = self.net
        perturb = None
        if any(member.moves for member in self.members) and net.clean_weight != 1:
            epsilon = np.stack([np.atleast_1d(m.epsilon * m.unit) for m in self.members])
            clip = check_clip(net.clip, net.sample_shape_)
            reach = Reach(epsilon[:, None, :], net.norm, clip)
            perturb = partial(displace, **reach.on(net.device_, net.dtype_))
        net._batch_rows = max(stream.batch_size for stream in self._streams)
        closed_form = net._closed_form_of(net.module_)
        return partial(closed_form, weights=self.weights, biases=self.biases, perturb=perturb)

    def train(self, X, target, epoch_ended=None):
        """Train all nets for `max_epochs`.

        Parameters
        ----------
        X : torch.Tensor of shape (n, n_features)
        target : torch.Tensor of shape (n,)
        epoch_ended : callable or None, default=None
            Called without arguments after each epoch.

        Returns
        -------
        self : Stack

        Raises
        ------
        ValueError
            When the loss or a weight of a net becomes non-finite.
        """
        gradients = self._gradients()
        args, kwargs = self.net.get_params_for_optimizer("optimizer", self.parameters)
        optimizer = self.net.optimizer(*args, **kwargs)
        n_steps = self.net.max_epochs * self._streams[0].n_batches
        linear = self.net.lr_schedule == "linear"
        schedule = LinearLR(optimizer, 1.0, 0.0, total_iters=n_steps) if linear else None
        step = optimizer.step
        for _ in range(self.net.max_epochs):
            means = WeightedMeans()
            for rows, weight, total in self._batches(X):
                x = X.index_select(0, rows.flatten()).view(*rows.shape, -1)
                loss, _, *of_kinds = gradients(x, target[rows], sample_weight=weight)
                self._take(of_kinds)
                with torch.no_grad():
                    step()
                if schedule is not None:
                    schedule.step()
                means.add(loss, total)
                if not isinstance(step, FusedStep) and FusedStep.supports(optimizer):
                    step = FusedStep(optimizer)
            self.loss_curves.append(means.value())
            self._check_finite("training loss", self.loss_curves[-1])
            if epoch_ended is not None:
                epoch_ended()
        sums = sum(p.detach().flatten(1).sum(1) for _, p in self.parameters)
        self._check_finite("sum of some weights", sums)
        return self

    def _take(self, of_kinds):
        """Give the gradients to the parameters."""
        for parameters, gradients in zip((self.weights, self.biases), of_kinds, strict=True):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient

    def _batches(self, X):
        """Yield (rows, weights or None, sum of the weights) of each step of an epoch."""
        streams = self._streams
        size = max(stream.batch_size for stream in streams)
        length = size * streams[0].n_batches
        orders, weights = zip(
            *(s.epoch(g, length) for s, g in zip(streams, self._generators, strict=True)),
            strict=True,
        )
        orders = torch.stack(orders).to(X.device)[self._places]
        weights = torch.stack(weights).to(X.dtype).to(X.device)[self._places]
        weighted = any(stream.weight is not None for stream in streams)
        shortest, longest = (f(len(stream.rows) for stream in streams) for f in (min, max))
        for start in range(0, length, size):
            end = min(start + size, longest)
            rows = orders[:, start:end]
            if weighted or end > shortest:
                weight = weights[:, start:end]
                yield rows, weight, weight.sum(1)
            else:
                yield rows, None, end - start

    def _check_finite(self, what, values):
        finite = torch.isfinite(values).tolist()
        if not all(finite):
            net = self.net
            epsilons = [m.epsilon for m, f in zip(self.members, finite, strict=True) if not f]
            raise ValueError(
                f"The {what} became non-finite in epoch {len(self.loss_curves)} for epsilon "
                f"{epsilons!r}. Try a smaller lr (now {net.lr!r}) or epsilon, or scale X to a "
                "small range, with StandardScaler for instance."
            )

    @torch.no_grad()
    def logits(self, X, which):
        """Return the logits of X, (len(which), n, m), of the nets of the numbers `which`."""
        which = torch.as_tensor(which, device=X.device)
        weights = [weight[which] for weight in self.weights]
        biases = [bias[which].unsqueeze(-1) for bias in self.biases]
        widest = max(weight.shape[1] for weight in weights)
        at_once = max(1, STACK_BYTES // (len(which) * widest * X.element_size()))
        return torch.cat(
            [
                backprop.forward(
                    x.mT.expand(len(which), -1, -1), weights, biases, self.net.activation
                )[2].mT
                for x in X.split(at_once)
            ],
            dim=1,
        )

    def estimator(self, number):
        """Return one net as the estimator that a separate fit would have given."""
        member = self.members[number]
        net = clone_with_knowledge(self.net).set_params(epsilon=float(member.epsilon))
        net.epsilon_unit_ = member.unit
        net.generator_ = torch.Generator().manual_seed(member.stream.seed)
        net.initialize()
        net._reach = net._reach_of_training()
        own = net.get_all_learnable_params()
        with torch.no_grad():
            for (_, parameter), (_, stacked) in zip(own, self.parameters, strict=True):
                parameter.copy_(stacked[number])
        for means in self.loss_curves:
            net.history.new_epoch()
            net.history.record("train_loss", float(means[number]))
        net.module_.eval()
        return net


def clone_with_knowledge(net):
    """Return an unfitted copy of `net` that knows of the data what `net` does."""
    copied = clone(net)
    vars(copied).update({name: vars(net)[name] for name in KNOWN})
    return copied


def stacks(net, members, n_jobs=1):
    """Divide `members` into stacks that are trained together, the longest work first.

    Parameters
    ----------
    net : AdvBPClassifier
    members : sequence of Member
    n_jobs : int, default=1
        How many stacks are trained at the same time, so that each job gets as many.

    Returns
    -------
    divided : list of list of int
        Numbers of the members of each stack.
    """
    alike = {}
    for number, member in enumerate(members):
        alike.setdefault((member.stream.n_batches, member.moves), []).append(number)
    most = most_models(net, members)
    divided = []
    for numbers in alike.values():
        n_stacks = -(-len(numbers) // most)
        n_stacks = min(-(-n_stacks // n_jobs) * n_jobs, len(numbers))
        divided += [part.tolist() for part in np.array_split(numbers, n_stacks)]
    # A net of ε = 0 takes about half the time.
    passes = [1 + member.moves for member in members]
    return sorted(divided, key=lambda numbers: -sum(passes[number] for number in numbers))


def most_models(net, members):
    """Return how many nets a stack may have, by `STACK_BYTES` and `MOST_MODELS`."""
    perceptron = net._perceptron_parameters()
    sizes = [net.n_features_in_, *perceptron["hidden_layer_sizes"], perceptron["out_features"]]
    weights = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    batch = max(min(m.stream.batch_size, len(m.stream.rows)) for m in members)
    # Weights, gradients and two moments; of each layer what it takes in, puts out and hands back.
    numbers = 4 * weights + 3 * batch * sum(sizes)
    size = numbers * np.dtype(net.dtype_).itemsize
    return int(np.clip(STACK_BYTES // size, 1, MOST_MODELS))
