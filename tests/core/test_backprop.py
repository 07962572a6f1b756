"""Closed-form back-propagation against automatic differentiation, float64 throughout."""

from functools import partial
from itertools import chain, pairwise, product

import pytest
import torch
from torch.distributions import Normal
from torch.nn import functional as F

from sk_advbp.core import backprop, perturbation

ACTIVATIONS = {
    "identity": lambda z: z,
    "logistic": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
}
OUTPUTS = ["softmax", "logistic", "multilabel", "identity", "gaussian"]
SIZES = (5, 7, 6, 4)
N = 11
P = 0.4


def oracle_logits(x, weights, biases, activation, masks):
    """The network as anyone would write it with torch.nn.functional."""
    last = len(weights) - 1
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if masks is not None and masks[i] is not None:
            x = x * masks[i]
        x = F.linear(x, weight, bias)
        if i < last:
            x = ACTIVATIONS[activation](x)
    return x


def oracle_loss(logits, y, output, sample_weight):
    if output == "softmax":
        losses = F.cross_entropy(logits, y, reduction="none")
    elif output in ("logistic", "multilabel"):
        target = (F.one_hot(y, logits.shape[1]) if output == "logistic" else y).to(logits)
        losses = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum(1)
    elif output == "gaussian":
        mean, s = logits.chunk(2, dim=1)
        losses = -Normal(mean, (F.softplus(s) + 1e-6).sqrt()).log_prob(y).mean(1)
    else:
        losses = ((logits - y) ** 2).mean(1)
    if sample_weight is None:
        return losses.mean()
    return (losses * sample_weight).sum() / sample_weight.sum()


def oracle(x, y, weights, biases, *, activation, output, step, sample_weight, clean_weight, masks):
    """Loss, logits and gradients by autograd; `masks` are of the first, update, clean pass."""
    weights = [w.clone().requires_grad_() for w in weights]
    biases = [b.clone().requires_grad_() for b in biases]

    def loss(x, masks):
        logits = oracle_logits(x, weights, biases, activation, masks)
        return oracle_loss(logits, y, output, sample_weight), logits

    first, update, clean = masks
    moved = x if step is None else perturbation.perturb(lambda x: loss(x, first)[0], x, **step())
    total, logits = loss(moved, update)
    if step is not None and clean_weight == 1:
        total, logits = loss(x, clean)
    elif step is not None and clean_weight:
        total = (1 - clean_weight) * total + clean_weight * loss(x, clean)[0]
    gradients = torch.autograd.grad(total, weights + biases)
    return total, logits, gradients[: len(weights)], gradients[len(weights) :]


def network(generator, sizes=SIZES, lead=(), dtype=torch.float64):
    normal = partial(torch.randn, generator=generator, dtype=dtype)
    pairs = list(pairwise(sizes))
    weights = [normal(*lead, o, i) / i**0.5 for i, o in pairs]
    return weights, [0.3 * normal(*lead, o) for _, o in pairs]


def batch(generator, output, sizes=SIZES, lead=(), n=N, dtype=torch.float64):
    normal = partial(torch.randn, generator=generator, dtype=dtype)
    x = normal(*lead, n, sizes[0])
    if output == "identity":
        return x, normal(*lead, n, sizes[-1])
    if output == "gaussian":
        return x, normal(*lead, n, sizes[-1] // 2)
    if output == "multilabel":
        return x, torch.randint(2, (*lead, n, sizes[-1]), generator=generator)
    return x, torch.randint(sizes[-1], (*lead, n), generator=generator)


def dropout_masks(generator, sizes=SIZES, lead=(), n=N, only=None):
    """One mask for what each layer takes in; None but for layer `only` where that is given."""
    keep = [torch.full((*lead, n, d), 1 - P, dtype=torch.float64) for d in sizes[:-1]]
    drawn = [k.bernoulli(generator=generator).div_(1 - P) for k in keep]
    return [m if only in (None, i) else None for i, m in enumerate(drawn)]


def flat(result):
    loss, logits, weight_gradients, bias_gradients = result
    return [loss, logits, *weight_gradients, *bias_gradients]


def largest_difference(result, expected):
    pairs = zip(flat(result), flat(expected), strict=True)
    return max((ours - theirs).abs().max().item() for ours, theirs in pairs)


EPSILONS = torch.tensor([0.1, 0.0, 0.3, 0.2, 0.05], dtype=torch.float64)
# name: step of perturbation.displace or None, clean_weight, masks
SETTINGS = {
    "plain": (None, 0.0, None),
    "plain, dropout": (None, 0.0, "all"),
    "scalar": ({"epsilon": 0.1}, 0.0, None),
    "array": ({"epsilon": EPSILONS}, 0.0, None),
    "l2": ({"epsilon": 0.2, "norm": "l2"}, 0.0, None),
    "l2, array": ({"epsilon": EPSILONS, "norm": "l2"}, 0.0, None),
    "clip": ({"epsilon": 0.2, "clip": (-0.5, 0.5)}, 0.0, None),
    "random start": ({"epsilon": 0.2, "random_start": 0.5}, 0.0, None),
    "random": ({"epsilon": 0.2, "perturbation": "random"}, 0.0, None),
    "mixed": ({"epsilon": 0.1}, 0.5, None),
    "random start, mixed": ({"epsilon": 0.2, "random_start": 0.5}, 0.5, None),
    "clean": ({"epsilon": 0.1}, 1.0, None),
    "dropout": ({"epsilon": 0.1}, 0.0, "all"),
    "input dropout": ({"epsilon": 0.1}, 0.0, 0),
    "hidden dropout, mixed": ({"epsilon": 0.1}, 0.3, 1),
    "dropout, clean": ({"epsilon": 0.1}, 1.0, "all"),
}


def check_against_oracle(setting, activation, output, weighted, sizes):
    keywords, clean_weight, dropout = SETTINGS[setting]
    generator = torch.Generator().manual_seed(0)
    weights, biases = network(generator, sizes)
    x, y = batch(generator, output, sizes)
    sample_weight = torch.rand(N, generator=generator).double() if weighted else None
    masks = [None] * 3
    if dropout is not None:
        only = None if dropout == "all" else dropout
        masks = [dropout_masks(generator, sizes, only=only) for _ in range(3)]

    def step():
        # Both sides draw the same random start.
        return {**keywords, "generator": torch.Generator().manual_seed(1)}

    common = {
        "activation": activation,
        "output": output,
        "sample_weight": sample_weight,
        "clean_weight": clean_weight,
    }
    expected = oracle(
        x, y, weights, biases, step=None if keywords is None else step, masks=masks, **common
    )
    result = backprop.adversarial_gradients(
        x,
        y,
        weights,
        biases,
        perturb=None if keywords is None else partial(perturbation.displace, **step()),
        perturbation_masks=masks[0],
        masks=masks[1],
        clean_masks=masks[2],
        **common,
    )
    assert largest_difference(result, expected) < 1e-10


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_agrees_with_automatic_differentiation(setting, activation, output, weighted):
    check_against_oracle(setting, activation, output, weighted, SIZES)


@pytest.mark.parametrize("sizes", [(5, 3), (5, 1), (5, 4, 2), (5, 6, 5, 4, 3)])
@pytest.mark.parametrize("output", OUTPUTS)
def test_agrees_at_any_depth(sizes, output):
    if output == "gaussian":
        sizes = (*sizes[:-1], 2 * sizes[-1])
    check_against_oracle("mixed", "tanh", output, True, sizes)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("setting", ["plain", "scalar", "per model", "l2", "mixed", "dropout"])
def test_stack_of_models_is_as_many_single_ones(setting, output, activation):
    """Each model has its own number of rows; the rest is padding of weight zero."""
    K, rows = 3, [N, N - 4, 1]
    epsilon = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)
    keywords, clean_weight, dropout = SETTINGS.get(setting, ({"epsilon": epsilon}, 0.0, None))
    generator = torch.Generator().manual_seed(0)
    weights, biases = network(generator, lead=(K,))
    x, y = batch(generator, output, lead=(K,))
    sample_weight = 0.5 + torch.rand(K, N, generator=generator).double()
    for k, n in enumerate(rows):
        sample_weight[k, n:] = 0
    masks = [None] * 3
    if dropout:
        masks = [dropout_masks(generator, lead=(K,)) for _ in range(3)]

    def gradients(x, y, weights, biases, sample_weight, epsilon, masks):
        step = keywords and {**keywords, "epsilon": epsilon}
        return backprop.adversarial_gradients(
            x,
            y,
            weights,
            biases,
            activation=activation,
            output=output,
            perturb=step and partial(perturbation.displace, **step),
            sample_weight=sample_weight,
            clean_weight=clean_weight,
            masks=masks[0],
            perturbation_masks=masks[1],
            clean_masks=masks[2],
        )

    loss, logits, *stacks = gradients(
        x, y, weights, biases, sample_weight, epsilon.view(K, 1, 1), masks
    )
    for k, n in enumerate(rows):
        single = gradients(
            x[k, :n],
            y[k, :n],
            [w[k] for w in weights],
            [b[k] for b in biases],
            sample_weight[k, :n],
            epsilon[k].item(),
            [m and [a[k, :n] for a in m] for m in masks],
        )
        own = loss[k], logits[k, :n], *([g[k] for g in stack] for stack in stacks)
        # Of a Gaussian whose variance is small by chance, losses are in the hundreds.
        assert largest_difference(own, single) < (1e-12 if output == "gaussian" else 1e-13)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("output", OUTPUTS)
def test_one_batch_serves_all_models(output, weighted):
    K = 3
    generator = torch.Generator().manual_seed(0)
    weights, biases = network(generator, lead=(K,))
    x, y = batch(generator, output)
    w = torch.rand(N, generator=generator).double() if weighted else None
    gradients = partial(
        backprop.adversarial_gradients,
        activation="tanh",
        output=output,
        perturb=partial(perturbation.displace, epsilon=0.1),
    )
    shared = gradients(x, y, weights, biases, sample_weight=w)
    repeated = gradients(
        x.repeat(K, 1, 1),
        y.repeat(K, *(1,) * y.ndim),
        weights,
        biases,
        sample_weight=w if w is None else w.repeat(K, 1),
    )
    assert largest_difference(shared, repeated) < 1e-13


@pytest.mark.parametrize("output", OUTPUTS)
def test_model_without_weight_has_zero_loss_and_gradient(output):
    generator = torch.Generator().manual_seed(0)
    weights, biases = network(generator, lead=(2,))
    x, y = batch(generator, output, lead=(2,))
    sample_weight = torch.stack([torch.zeros(N), torch.ones(N)]).double()
    loss, _, *gradients = backprop.adversarial_gradients(
        x,
        y,
        weights,
        biases,
        activation="relu",
        output=output,
        perturb=partial(perturbation.displace, epsilon=0.1),
        sample_weight=sample_weight,
    )
    assert loss[0] == 0 < loss[1]
    assert all((g[0] == 0).all() and g[1].any() for g in chain(*gradients))


BFLOAT16 = torch.bfloat16


def large_net(seed=0):
    """Of a size and scale at which bfloat16 is meant to be used, in float32."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (200, 256, 256, 10)
    weights, biases = network(generator, sizes, dtype=torch.float32)
    x, y = batch(generator, "softmax", sizes, n=128, dtype=torch.float32)
    return x, y, weights, biases


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
@pytest.mark.parametrize("output", ["softmax", "logistic"])
def test_bfloat16_first_pass_gives_the_signs_and_leaves_the_update_alone(activation, output):
    arguments = large_net()
    gradients = partial(
        backprop.adversarial_gradients, *arguments, activation=activation, output=output
    )
    seen = {}

    def step(gradient, x, name):
        seen[name] = gradient(x)
        return x + 0.1 * seen["float32"].sign()

    plain = gradients(perturb=partial(step, name="float32"))
    low = gradients(perturb=partial(step, name="bfloat16"), perturbation_dtype=BFLOAT16)
    assert seen["bfloat16"].dtype == torch.float32
    assert not torch.equal(seen["bfloat16"], seen["float32"])
    agreement = (seen["bfloat16"].sign() == seen["float32"].sign()).double().mean()
    assert agreement > 0.97
    assert all(torch.equal(a, b) for a, b in zip(flat(plain), flat(low), strict=True))


@pytest.mark.parametrize("clean_weight", [0.0, 0.5])
def test_whole_step_in_bfloat16_is_near_and_returns_float32(clean_weight):
    x, y, weights, biases = large_net()
    gradients = partial(
        backprop.adversarial_gradients,
        x,
        y,
        weights,
        biases,
        activation="relu",
        output="softmax",
        clean_weight=clean_weight,
        perturb=lambda gradient, x: x + 0.01 * gradient(x),
    )
    for low, exact in zip(flat(gradients(compute_dtype=BFLOAT16)), flat(gradients()), strict=True):
        assert low.dtype == exact.dtype == torch.float32
        assert 0 < torch.dist(low, exact) < 0.1 * exact.norm()


@pytest.mark.parametrize("low", [{}, {"perturbation_dtype": BFLOAT16}, {"compute_dtype": BFLOAT16}])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_nothing_given_is_changed_and_no_graph_is_recorded(activation, output, low):
    generator = torch.Generator().manual_seed(0)
    weights, biases = network(generator)
    x, y = batch(generator, output)
    sample_weight = torch.rand(N, generator=generator).double()
    masks = [dropout_masks(generator) for _ in range(3)]
    given = [x, y, sample_weight, *weights, *biases, *chain(*masks)]
    before = [tensor.clone() for tensor in given]
    for parameter in weights + biases:
        parameter.requires_grad_()
    for dropout, w in product([False, True], [None, sample_weight]):
        result = backprop.adversarial_gradients(
            x,
            y,
            weights,
            biases,
            activation=activation,
            output=output,
            perturb=partial(perturbation.displace, epsilon=0.1),
            sample_weight=w,
            clean_weight=0.5,
            **low,
            **(
                dict(zip(["masks", "perturbation_masks", "clean_masks"], masks, strict=True))
                if dropout
                else {}
            ),
        )
        assert not any(tensor.requires_grad for tensor in flat(result))
        assert {id(t) for t in flat(result)}.isdisjoint(map(id, given))
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert all(parameter.grad is None for parameter in weights + biases)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("clean_weight, calls", [(0.0, 1), (0.5, 1), (1.0, 0)])
def test_perturbs_only_where_it_counts(clean_weight, calls):
    generator = torch.Generator().manual_seed(0)
    weights, biases = network(generator)
    x, y = batch(generator, "softmax")
    counted = []

    def step(gradient, x):
        counted.append(gradient(x))
        return x

    backprop.adversarial_gradients(
        x,
        y,
        weights,
        biases,
        activation="relu",
        output="softmax",
        perturb=step,
        clean_weight=clean_weight,
    )
    assert len(counted) == calls


@pytest.mark.parametrize("output", ["softmax", "logistic"])
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_have_a_finite_loss_and_gradient(output, scale):
    x, y = torch.tensor([[1.0], [-1.0]]), torch.tensor([0, 0])
    result = backprop.adversarial_gradients(
        x,
        y,
        [torch.tensor([[scale], [-scale]])],
        [torch.zeros(2)],
        activation="relu",
        output=output,
    )
    assert all(tensor.isfinite().all() for tensor in flat(result))
    assert result[0] == 1e4


@pytest.mark.parametrize("models", [(), (2,)], ids=["one", "stack"])
def test_targets_of_many_classes(models, monkeypatch):
    """Beyond what is cached they are made anew, and are the same."""
    y = torch.randint(5, (*models, N), generator=torch.Generator().manual_seed(0))
    expected = F.one_hot(y, 5).mT * -0.5
    for most in (5, 4):
        monkeypatch.setattr(backprop, "MOST_CACHED", most)
        backprop.scaled_identity.cache_clear()
        target = backprop.one_hot(y, 5, -0.5, torch.float64)
        assert torch.equal(target, expected.double())
        assert backprop.scaled_identity.cache_info().currsize == (most == 5)
