"""The perturbation as a pure function: exact on linear losses, and it leaves nothing behind."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from sk_advbp.core.perturbation import (
    bounded,
    displace,
    input_gradient,
    perturb,
    project,
    steepest_ascent,
    uniform_in_ball,
)

NORMS = ["linf", "l2"]
quick = settings(max_examples=40, deadline=None)
values = st.floats(-10, 10, width=32)
radii = st.floats(0, 5, width=32)


@st.composite
def batches(draw):
    """Draw x and slopes of a linear loss, both (n, d) in float64, and one ε a feature."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=5))
    array = hnp.arrays(np.float64, shape, elements=values)
    epsilon = draw(hnp.arrays(np.float64, shape[1], elements=radii))
    return torch.from_numpy(draw(array)), torch.from_numpy(draw(array)), torch.from_numpy(epsilon)


def linear(slope):
    return lambda x: (x * slope).sum()


def curved(slope):
    return lambda x: torch.tanh(x * slope + 0.3).sum()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def radius(delta, epsilon, norm):
    """Size of each row of `delta` in units of ε; where ε = 0 nothing may have moved."""
    epsilon = np.broadcast_to(epsilon, delta.shape)
    assert (delta[epsilon == 0] == 0).all()
    unit = np.divide(delta, epsilon, out=np.zeros_like(delta), where=epsilon > 0)
    return np.abs(unit).max(1) if norm == "linf" else np.sqrt((unit**2).sum(1))


MODES = {
    "adversarial": {},
    "random start": {"random_start": 0.7},
    "full start": {"random_start": 1.0},
    "random": {"perturbation": "random"},
}
modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
norms = pytest.mark.parametrize("norm", NORMS)


@norms
@quick
@given(batches())
def test_linear_loss_is_ascended_exactly(norm, batch):
    x, slope, epsilon = batch
    result = perturb(linear(slope), x, epsilon, norm=norm).numpy()
    x, g, epsilon = x.numpy(), slope.numpy(), epsilon.numpy()
    if norm == "linf":
        step = epsilon * np.sign(g)
    else:
        length = np.linalg.norm(epsilon * g, axis=1, keepdims=True)
        # The squares of subnormal products vanish here, not in the package.
        step = np.divide(epsilon**2 * g, length, out=np.zeros_like(g), where=length > 1e-150)
    np.testing.assert_allclose(result, x + step, rtol=1e-12, atol=1e-12)


@modes
@norms
@quick
@given(batches(), radii)
def test_array_of_equal_entries_is_the_scalar(norm, mode, batch, epsilon):
    x, slope, _ = batch
    array = torch.full_like(x[0], epsilon)
    one, many = (
        perturb(curved(slope), x, e, norm=norm, generator=seeded(), **mode)
        for e in (epsilon, array)
    )
    torch.testing.assert_close(one, many, rtol=0, atol=1e-14 if norm == "l2" else 0)


@pytest.mark.parametrize("clip", [None, (-1.0, 2.0)], ids=["", "clip"])
@modes
@norms
@quick
@given(batches())
def test_stays_in_the_ball_and_zeros_do_not_move(norm, mode, clip, batch):
    x, slope, epsilon = batch
    result = perturb(
        curved(slope), x, epsilon, norm=norm, clip=clip, generator=seeded(), **mode
    ).numpy()
    x, epsilon = x.numpy(), epsilon.numpy()
    np.testing.assert_array_equal(result[:, epsilon == 0], x[:, epsilon == 0])
    # x' - x is off by the rounding of x', at most 2e-15 here.
    resolved = np.where(epsilon > 1e-3, epsilon, 0)
    delta = np.where(epsilon > 1e-3, result - x, 0)
    assert radius(delta, resolved, norm).max() <= 1 + 1e-11
    assert (np.abs(result - x) <= epsilon + 1e-14).all()


@modes
@norms
@quick
@given(batches(), st.lists(values, min_size=2, max_size=2, unique=True), st.booleans())
def test_clip_bounds_the_perturbation_and_pulls_nothing_in(norm, mode, batch, clip, arrays):
    x, slope, epsilon = batch
    low, high = sorted(clip)
    if arrays:
        low, high = torch.full_like(epsilon, low), torch.full_like(epsilon, high)
    result = perturb(
        linear(slope), x, epsilon, norm=norm, clip=(low, high), generator=seeded(), **mode
    )
    low, high = torch.as_tensor(low).to(x), torch.as_tensor(high).to(x)
    assert (result >= torch.minimum(low, x)).all()
    assert (result <= torch.maximum(high, x)).all()
    free = perturb(linear(slope), x, epsilon, norm=norm, generator=seeded(), **mode)
    inside = (free > low) & (free < high)
    if not mode.get("random_start"):  # there the gradient is taken at a bounded start
        torch.testing.assert_close(result[inside], free[inside], rtol=0, atol=0)


@norms
@quick
@given(batches())
def test_zero_gradient_moves_nothing(norm, batch):
    x, _, epsilon = batch
    for loss in (lambda x: (0 * x).sum(), lambda x: torch.ones((), requires_grad=True)):
        torch.testing.assert_close(perturb(loss, x, epsilon, norm=norm), x, rtol=0, atol=0)


@pytest.mark.parametrize("dtype, tiny", [(torch.float32, 1e-25), (torch.float64, 1e-200)])
@pytest.mark.parametrize("epsilon", [0.5, torch.tensor([0.5, 0.5])])
def test_tiny_gradients_give_a_full_step(dtype, tiny, epsilon):
    """The square of such a gradient is zero."""
    epsilon = epsilon.to(dtype) if torch.is_tensor(epsilon) else epsilon
    slope = torch.tensor([[3.0, -4.0], [0.0, 0.0], [-tiny, 0.0]], dtype=dtype)
    slope[0] *= tiny
    moved = perturb(linear(slope), torch.zeros_like(slope), epsilon, norm="l2")
    expected = torch.tensor([[0.3, -0.4], [0.0, 0.0], [-0.5, 0.0]], dtype=dtype)
    torch.testing.assert_close(moved, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [1e30, 1e38])
def test_huge_gradients_give_a_full_step(scale):
    step = steepest_ascent(torch.full((1, 4), scale), 0.5, "l2")
    torch.testing.assert_close(step, torch.full((1, 4), 0.25))


@pytest.mark.parametrize("norm, expected", [("linf", 0.5), ("l2", 0.25)])
def test_l2_is_taken_over_all_axes_of_a_sample(norm, expected):
    x = torch.zeros(3, 2, 2, 1)
    slope = torch.tensor([1.0, 2.0, 1e-3]).view(3, 1, 1, 1).expand_as(x)
    torch.testing.assert_close(
        perturb(linear(slope), x, 0.5, norm=norm), torch.full_like(x, expected)
    )
    array = torch.full((2, 2, 1), 0.5)
    torch.testing.assert_close(
        perturb(linear(slope), x, array, norm=norm), torch.full_like(x, expected)
    )


@modes
@norms
def test_stack_of_models_is_one_model_after_the_other(norm, mode):
    """(K, n, d) with ε (K, 1, 1); without random numbers, or with the same ones."""
    x, slope = torch.randn(2, 3, 4, 5, generator=seeded(), dtype=torch.float64)
    epsilon = torch.tensor([0.0, 0.3, 2.0], dtype=torch.float64)
    result = displace(
        lambda x: slope, x, epsilon.view(3, 1, 1), norm=norm, generator=seeded(), **mode
    )
    rows = displace(
        lambda x: slope.flatten(0, 1),
        x.flatten(0, 1),
        epsilon.repeat_interleave(4).view(-1, 1),
        norm=norm,
        generator=seeded(),
        **mode,
    )
    torch.testing.assert_close(result, rows.view_as(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("start", [0.25, 1.0])
@norms
def test_random_start_is_uniform_in_its_ball_and_where_the_gradient_is_taken(norm, start):
    epsilon, d, seen = 0.4, 3, []
    x = torch.zeros(4000, d, dtype=torch.float64)

    def loss(x):
        seen.append(x.detach().clone())
        return (0 * x).sum()

    result = perturb(loss, x, epsilon, norm=norm, random_start=start, generator=seeded())
    (point,) = seen
    torch.testing.assert_close(result, point)
    r = radius(point.numpy(), start * epsilon, norm)
    assert r.max() <= 1 + 1e-12
    # The volume within radius r grows as r^d: rᵈ is uniform, with mean 1/2 and variance 1/12.
    assert np.mean(r**d) == pytest.approx(0.5, abs=0.02)
    assert np.var(r**d) == pytest.approx(1 / 12, abs=0.01)
    assert np.abs(point.numpy().mean(0)).max() < 0.02 * start


def test_l2_start_in_fewer_dimensions_where_epsilon_is_zero():
    epsilon = torch.tensor([2.0, 0.0, 2.0])
    delta = uniform_in_ball(torch.zeros(4000, 3), epsilon, "l2", seeded())
    r = radius(delta.numpy(), epsilon.numpy(), "l2")
    assert np.mean(r**2) == pytest.approx(0.5, abs=0.02)


@norms
def test_random_perturbation_is_noise_of_the_same_size(norm):
    def never(x):
        raise AssertionError("the control asked for the loss")

    epsilon = torch.tensor([0.3, 0.0, 0.3])
    x = torch.zeros(2000, 3)
    options = {"norm": norm, "perturbation": "random"}
    moved = perturb(never, x, epsilon, generator=seeded(1), **options)
    again = perturb(never, x, epsilon, generator=seeded(1), **options)
    other = perturb(never, x, epsilon, generator=seeded(2), **options)
    assert torch.equal(moved, again) and not torch.equal(moved, other)
    np.testing.assert_allclose(radius(moved.numpy(), epsilon.numpy(), norm), 1, rtol=1e-5)
    if norm == "linf":
        assert set(moved[:, 0].tolist()) == {epsilon[0].item(), -epsilon[0].item()}
    assert moved.mean(0).abs().max() < 0.02


@norms
@quick
@given(batches())
def test_projection_is_inside_idempotent_and_leaves_the_inside_alone(norm, batch):
    _, delta, epsilon = batch
    epsilon = epsilon + 0.01
    once = project(delta, epsilon, norm)
    r = radius(delta.numpy(), epsilon.numpy(), norm)
    inside = torch.from_numpy(r < 1 - 1e-12)
    assert radius(once.numpy(), epsilon.numpy(), norm).max() <= 1 + 1e-12
    torch.testing.assert_close(once[inside], delta[inside], rtol=0, atol=0)
    torch.testing.assert_close(project(once, epsilon, norm), once, rtol=1e-14, atol=0)


def test_without_clip_the_tensor_itself_is_returned():
    moved = torch.ones(1, 2)
    assert bounded(moved, torch.zeros(1, 2), None) is moved


def test_input_gradient_is_the_gradient_inside_no_grad():
    x = torch.tensor([[0.5, -2.0]])
    with torch.no_grad():
        gradient = input_gradient(lambda x: (x**3).sum(), x)
    torch.testing.assert_close(gradient, 3 * x**2)
    assert not gradient.requires_grad and not x.requires_grad


@pytest.mark.parametrize("requires_grad", [True, False])
@pytest.mark.parametrize("given_gradients", [True, False])
@modes
@norms
def test_leaves_nothing_behind(norm, mode, given_gradients, requires_grad):
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5).eval(), nn.Linear(5, 3))
    x = torch.randn(6, 4, generator=seeded()).requires_grad_(requires_grad)
    epsilon = torch.tensor([0.3, 0.0, 0.1, 0.2])
    if given_gradients:
        for parameter in module.parameters():
            parameter.grad = torch.ones_like(parameter)

    def state():
        return {
            "gradients": [None if p.grad is None else p.grad.tolist() for p in module.parameters()],
            "tensors": {k: v.tolist() for k, v in module.state_dict().items()},
            "modes": [m.training for m in module.modules()],
            "x": (x.tolist(), x.grad, x.requires_grad, x.grad_fn),
            "epsilon": epsilon.tolist(),
            "grad mode": torch.is_grad_enabled(),
            "torch": torch.get_rng_state().tolist(),
            "NumPy": str(np.random.get_state()),  # noqa: NPY002
        }

    def loss(x):
        return module(x).square().sum()

    before = state()
    moved = perturb(loss, x, epsilon, norm=norm, clip=(-1, 1), generator=seeded(), **mode)
    assert state() == before
    assert not moved.requires_grad and moved.grad_fn is None
    assert moved.dtype == x.dtype and moved.shape == x.shape
    assert moved.data_ptr() != x.data_ptr() and not torch.equal(moved, x)


@pytest.mark.parametrize("norm, size", [("linf", 0.3), ("l2", 0.3 / math.sqrt(4))])
def test_non_contiguous_input(norm, size):
    x = torch.zeros(4, 3).T
    torch.testing.assert_close(
        perturb(lambda x: x.sum(), x, 0.3, norm=norm), torch.full((3, 4), size)
    )
