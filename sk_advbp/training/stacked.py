"""Nets of many folds and ε trained at once, as one perceptron with an axis of nets.

A small net leaves a processor waiting for the next operation most of the time. K nets of the
same layers, which take the same number of steps, share each operation, and each of them gets
what a separate fit with its seed would give it: its own initial weights, its own order of
rows, its own ε.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.base import clone
from skorch.callbacks import Callback

from sk_advbp.core import backprop
from sk_advbp.core.optimizers import ELEMENTWISE_OPTIMIZERS
from sk_advbp.core.perturbation import displace
from sk_advbp.parameters import check_clip
from sk_advbp.training.batches import Batches
from sk_advbp.training.net import NonFinite
from sk_advbp.training.reach import Reach
from sk_advbp.training.streams import StackedBatches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from torch import Tensor

    from sk_advbp.training.net import AdversarialNet
    from sk_advbp.training.streams import Member

__all__ = ["Stack", "stackable", "stacks"]

# Beyond 16 nets the time for each falls no more, nor rises until memory runs short.
MOST_MODELS = 20
STACK_BYTES = 2**26


def stackable(net: AdversarialNet) -> bool:
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
        and net.optimizer in ELEMENTWISE_OPTIMIZERS
        and all(name.startswith("optimizer__") for name in extra)
        and not (moves_by_chance or drops or watched or holds_out)
    )


class EpochEnded(Callback):
    """Call a function after each epoch."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def on_epoch_end(self, net: AdversarialNet, **kwargs: object) -> None:
        """Tell it."""
        self._function()


class Stack:
    """Nets that are trained together, as one perceptron with an axis of nets.

    Parameters
    ----------
    net : AdvBPClassifier
        The parameters that all of them share; `stackable`, not fitted, but it knows the data.
    members : sequence of Member
        Of the same number of batches an epoch.
    """

    def __init__(self, net: AdversarialNet, members: Sequence[Member]) -> None:
        self.net, self.members = net, members
        together = clone(net).set_params(module__n_nets=len(members), callbacks="disable")
        self._together: AdversarialNet = net._knowing_the_data(together)

    def train(
        self, X: Tensor, target: Tensor, epoch_ended: Callable[[], object] | None = None
    ) -> Self:
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
        together = self._together
        together.generator_ = torch.Generator()  # what it draws is drawn again
        together.initialize()
        generators = [torch.Generator().manual_seed(m.stream.seed) for m in self.members]
        together.module_.reset_parameters(generators)
        # As after a separate fit's own draw of its weights.
        of_streams = {m.stream: g for m, g in zip(self.members, generators, strict=True)}
        together._displace = self._displacement()
        if epoch_ended is not None:
            together.callbacks_ = [("epoch_ended", EpochEnded(epoch_ended))]
        try:
            together.train(StackedBatches(X, target, self.members, of_streams))
        except NonFinite as error:
            epsilons = [self.members[number].epsilon for number in error.nets]
            raise ValueError(
                f"The training became non-finite in epoch {len(together.history)} for epsilon "
                f"{epsilons!r}. Try a smaller lr (now {together.lr!r}) or epsilon, or scale X to "
                "a small range, with StandardScaler for instance."
            ) from error
        return self

    def _displacement(self) -> partial[Tensor] | None:
        """Return the map (gradient closure, x) → x', each net with an ε of its own."""
        net = self.net
        if not any(member.moves for member in self.members) or net.clean_weight == 1:
            return None
        epsilon = np.stack([np.atleast_1d(m.epsilon * m.unit) for m in self.members])
        clip = check_clip(net.clip, net.sample_shape_)
        reach = Reach(epsilon[:, None, :], net.norm, clip)
        return partial(displace, **reach.on(net.device_, net.dtype_))

    @torch.no_grad()
    def logits(self, X: Tensor, which: Sequence[int] | Tensor) -> Tensor:
        """Return the logits of X, (len(which), n, m), of the nets of the numbers `which`."""
        which = torch.as_tensor(which, device=X.device)
        layers = self._together.module_.layers
        weights = [layer.weight[which] for layer in layers]
        biases = [layer.bias[which].unsqueeze(-1) for layer in layers]
        widest = max(weight.shape[1] for weight in weights)
        at_once = max(1, STACK_BYTES // (len(which) * widest * X.element_size()))
        activation = self.net.activation
        outputs = (backprop.forward(x.mT, weights, biases, activation)[2] for x in X.split(at_once))
        return torch.cat([logits.mT for logits in outputs], dim=1)

    def estimator(self, number: int) -> AdversarialNet:
        """Return one net as the estimator that a separate fit would have given."""
        member = self.members[number]
        single = clone(self.net).set_params(epsilon=float(member.epsilon))
        net = self._together._alone(number, single)
        net.epsilon_unit_ = member.unit
        net._reach = net._reach_of_training()
        return net


def stacks(net: AdversarialNet, members: Sequence[Member], n_jobs: int = 1) -> list[list[int]]:
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
    alike: dict[tuple[int, bool], list[int]] = {}
    for number, member in enumerate(members):
        alike.setdefault((member.stream.n_batches, member.moves), []).append(number)
    most = most_models(net, members)
    divided: list[list[int]] = []
    for numbers in alike.values():
        n_stacks = -(-len(numbers) // most)
        n_stacks = min(-(-n_stacks // n_jobs) * n_jobs, len(numbers))
        divided += [part.tolist() for part in np.array_split(numbers, n_stacks)]
    # A net of ε = 0 takes about half the time.
    passes = [1 + member.moves for member in members]
    return sorted(divided, key=lambda numbers: -sum(passes[number] for number in numbers))


def most_models(net: AdversarialNet, members: Sequence[Member]) -> int:
    """Return how many nets a stack may have, by `STACK_BYTES` and `MOST_MODELS`."""
    perceptron = net._perceptron_parameters()
    sizes = [net.n_features_in_, *perceptron["hidden_layer_sizes"], perceptron["out_features"]]
    weights = sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(sizes))
    batch = max(min(m.stream.batch_size, len(m.stream.rows)) for m in members)
    # Weights, gradients and two moments; of each layer what it takes in, puts out and hands back.
    numbers = 4 * weights + 3 * batch * sum(sizes)
    size = numbers * np.dtype(net.dtype_).itemsize
    return int(np.clip(STACK_BYTES // size, 1, MOST_MODELS))
