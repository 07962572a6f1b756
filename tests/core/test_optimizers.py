"""The bare fused step against `Optimizer.step`, which it stands for."""

import copy
import pickle

import numpy as np
import pytest
import torch

from sk_advbp import AdvBPClassifier
from sk_advbp.core.optimizers import FusedStep

OPTIONS = [{}, {"weight_decay": 0.1}, {"maximize": True}, {"betas": (0.5, 0.7), "eps": 1e-3}]


def trained(optimizer_class, options, step_of):
    """Return parameters and optimizer after five steps, all but the first by `step_of`."""
    random = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(n, generator=random)) for n in (3, 4)]
    groups = [{"params": parameters[:1]}, {"params": parameters[1:], "lr": 0.3}]
    optimizer = optimizer_class(groups, lr=0.1, fused=True, **options)
    step = optimizer.step
    for _ in range(5):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=random)
        with torch.no_grad():
            step()
        if step == optimizer.step:
            step = step_of(optimizer)
    return parameters, optimizer


@pytest.mark.parametrize("optimizer_class", [torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_parameters_and_state_are_those_of_the_optimizer(optimizer_class, options):
    ours, optimizer = trained(optimizer_class, options, FusedStep)
    theirs, reference = trained(optimizer_class, options, lambda optimizer: optimizer.step)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert optimizer.state[a].keys() == reference.state[b].keys()
        for name, value in optimizer.state[a].items():
            torch.testing.assert_close(value, reference.state[b][name], rtol=0, atol=0)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda state: pickle.loads(pickle.dumps(state))])
def test_state_can_be_copied_and_goes_on(copied):
    parameters, optimizer = trained(torch.optim.Adam, {}, FusedStep)
    restored = torch.optim.Adam(optimizer.param_groups, fused=True)
    restored.load_state_dict(copied(optimizer.state_dict()))
    assert FusedStep.supports(restored)
    with torch.no_grad():
        FusedStep(restored)()
    assert [float(restored.state[p]["step"]) for p in parameters] == [6.0, 6.0]
    assert [float(optimizer.state[p]["step"]) for p in parameters] == [5.0, 5.0]


def test_is_asked_for_once_an_epoch_where_it_does_not_apply(monkeypatch):
    asked = []

    def supports(optimizer):
        asked.append(optimizer)
        return False

    monkeypatch.setattr(FusedStep, "supports", staticmethod(supports))
    X, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
    AdvBPClassifier((3,), batch_size=2, max_epochs=3, optimizer__amsgrad=True).fit(X, y)
    assert len(asked) == 2 * 3  # at the beginning, and after the first of the four steps
