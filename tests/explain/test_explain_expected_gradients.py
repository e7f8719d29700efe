"""Expected gradients against closed forms and captum; incomplete ones shown as failed; the module untouched."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from explain.test_explain_captum_engine import Tokens, differentiated, same, state_of
from torch import nn

from auditkit.core.errors import NotApplicable, UsageError
from auditkit.methods.explain.expected_gradients import expected_gradients


@pytest.fixture
def tensors():
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.normal(size=(4, 5))), torch.from_numpy(rng.normal(size=(7, 5)))


class Product(nn.Module):
    def forward(self, x):
        return x[:, :1] * x[:, 1:2] + 3.0 * x[:, 2:3]


def test_a_product_has_the_closed_form(tensors):
    x, background = tensors
    found = expected_gradients(differentiated(Product(), 4), x, background)
    a, b = x.numpy(), background.numpy()
    first = ((a[:, None, 0] - b[:, 0]) * (a[:, None, 1] + b[:, 1]) / 2).mean(axis=1)
    second = ((a[:, None, 1] - b[:, 1]) * (a[:, None, 0] + b[:, 0]) / 2).mean(axis=1)
    line = 3.0 * (a[:, 2] - b[:, 2].mean())
    zero = np.zeros(4)
    np.testing.assert_allclose(found.values[..., 0], np.stack([first, second, line, zero, zero], axis=1), atol=1e-12)
    np.testing.assert_allclose(found.base_values[:, 0], (b[:, 0] * b[:, 1] + 3.0 * b[:, 2]).mean(), atol=1e-12)
    assert found.status == "exact"
    assert found.n_evals == 4 * 7 * 4


def test_the_mean_of_captums_integrated_gradients_over_the_background(tensors):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 3)).double().eval()
    x, background = tensors
    targets = np.array([0, 2, 1, 2])
    subject = differentiated(module, 4)
    subject = type(subject)(module=module, forward=module, targets=targets)
    found = expected_gradients(subject, x, background, tolerance=1e-6, batch_size=33)
    engine = IntegratedGradients(module)
    expected = torch.stack(
        [engine.attribute(x, row[None], target=torch.from_numpy(targets), n_steps=100) for row in background]
    ).mean(dim=0)
    np.testing.assert_allclose(found.values[..., 0], expected.numpy(), atol=1e-5)
    whole = expected_gradients(subject, x, background, tolerance=1e-6)
    np.testing.assert_allclose(found.values, whole.values, atol=1e-12)


def test_steps_are_raised_and_what_stays_incomplete_is_failed(tensors):
    class Step(nn.Module):
        def forward(self, x):
            return torch.sigmoid(80.0 * (x.sum(dim=1, keepdim=True) - 0.4))

    x, background = tensors
    found = expected_gradients(differentiated(Step(), 4), x, background, tolerance=1e-3, max_steps=1024)
    assert found.diagnostics["steps"] > 4
    assert found.status != "failed"
    few = expected_gradients(differentiated(Step(), 4), x, background, tolerance=1e-3, max_steps=3)
    assert few.status == "failed"
    assert "miss the change of the output" in few.reason


def test_the_module_is_bitwise_as_before(tensors):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)).double()
    before = state_of(module.train())
    expected_gradients(differentiated(module, 4), *tensors)
    assert same(before, state_of(module))


def test_tokens_and_backgrounds_that_do_not_fit_are_refused(tensors):
    x, background = tensors
    module = Tokens("sum")
    ids = torch.ones((2, 7), dtype=torch.long)
    with pytest.raises(NotApplicable, match="AK487 token ids have no values between them"):
        expected_gradients(differentiated(module, 2, embedding=module.embedding), ids, ids)
    for wrong in (background[:0], background[:, :4]):
        with pytest.raises(UsageError, match="AK488 a background of shape .* does not fit inputs of shape"):
            expected_gradients(differentiated(Product(), 4), x, wrong)
    with pytest.raises(NotApplicable, match="AK510 the model's output does not depend differentiably"):
        expected_gradients(differentiated(Product(), 4, forward=lambda m: m.detach()), x, background)
