"""Gradient explanations against closed forms; the module given back bitwise as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from auditkit.core.errors import NotApplicable, UsageError
from auditkit.methods.explain import captum_engine, hooked
from auditkit.methods.explain.captum_engine import gradient_attribution, integrated_gradients
from auditkit.methods.explain.differentiable import Differentiated, find_embedding
from auditkit.methods.explain.randomisation import randomise_parameters


def differentiated(module, n, forward=None, target=0, embedding=None):
    return Differentiated(
        module=module, forward=forward or module, targets=np.full(n, target, dtype=np.int64), embedding=embedding
    )


@pytest.fixture
def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.5), nn.Tanh(), nn.BatchNorm1d(16), nn.Linear(16, 3)).double()


@pytest.fixture
def rows():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(9, 5)))


def test_linear_model_has_the_closed_form(rows):
    torch.manual_seed(0)
    module = nn.Linear(5, 3).double()
    weight = module.weight.detach().numpy()
    baseline = rows.mean(dim=0, keepdim=True)
    result = integrated_gradients(differentiated(module, 9, target=1), rows, baseline)
    np.testing.assert_allclose(result.values[..., 0], (rows - baseline).numpy() * weight[1], atol=1e-12)
    assert result.status == "exact"
    saliency = gradient_attribution(differentiated(module, 9, target=1), rows, "saliency")
    np.testing.assert_allclose(saliency.values[..., 0], np.tile(weight[1], (9, 1)), atol=1e-12)
    assert saliency.status == "unverified"
    product = gradient_attribution(differentiated(module, 9, target=1), rows, "input_x_gradient")
    np.testing.assert_allclose(product.values[..., 0], rows.numpy() * weight[1], atol=1e-12)


def test_polynomial_matches_the_path_integral():
    class Cube(nn.Module):
        def forward(self, x):
            return (x[:, :1] ** 3) * x[:, 1:]

    x = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    result = integrated_gradients(differentiated(Cube(), 1), x, torch.zeros(1, 2, dtype=torch.float64))
    # Along t*(2, 3) the gradients are 3*(2t)^2*(3t) and (2t)^3: integrals 3/4 and 1/4 of the output 24.
    np.testing.assert_allclose(result.values[0, :, 0], [18.0, 6.0], atol=1e-10)


def test_completeness_and_targets(mlp, rows):
    targets = np.arange(9) % 3
    subject = Differentiated(module=mlp, forward=mlp, targets=targets)
    result = integrated_gradients(subject, rows, torch.zeros(1, 5, dtype=torch.float64))
    with torch.no_grad():
        mlp.eval()
        change = (mlp(rows) - mlp(torch.zeros(9, 5, dtype=torch.float64))).numpy()[np.arange(9), targets]
    np.testing.assert_allclose(result.values.sum(axis=(1, 2)), change, atol=0.01 * np.abs(change).mean())
    assert result.status in ("exact", "estimated")


def test_steps_are_raised_until_the_sum_is_complete():
    class Step(nn.Module):
        def forward(self, x):
            return torch.sigmoid(60.0 * (x.sum(dim=1, keepdim=True) - 0.731))

    x = torch.ones(2, 3, dtype=torch.float64)
    subject = differentiated(Step(), 2)
    base = torch.zeros(1, 3, dtype=torch.float64)
    result = integrated_gradients(subject, x, base, tolerance=1e-3)
    assert result.diagnostics["steps"] > 16
    assert result.status != "failed"
    few = integrated_gradients(subject, x, base, tolerance=1e-3, max_steps=3)
    assert few.status != "failed"  # halved around the slope
    np.testing.assert_allclose(few.values, result.values, atol=2e-3)


def test_paths_are_halved_around_kinks():
    """A rectified sum: each input has its part of the change, whatever the place of the kink."""

    class Kinked(nn.Module):
        def forward(self, x):
            return torch.relu(x @ torch.tensor([[1.0], [2.0], [-0.5]], dtype=torch.float64) - 0.7137)

    x = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 3)))
    base = torch.zeros(1, 3, dtype=torch.float64)
    parts = x.numpy() * np.array([1.0, 2.0, -0.5])
    total = parts.sum(axis=1, keepdims=True)
    expected = parts / total * np.maximum(total - 0.7137, 0.0)
    result = integrated_gradients(differentiated(Kinked(), 40), x, base, tolerance=1e-4, max_steps=16)
    assert result.status in ("exact", "estimated")
    np.testing.assert_allclose(result.values[..., 0], expected, atol=2e-3)
    assert 16 < result.diagnostics["steps"] < 400
    other = integrated_gradients(differentiated(Kinked(), 40), x, base, tolerance=1e-4, max_steps=16, batch_size=7)
    np.testing.assert_allclose(other.values, result.values, atol=1e-12)


def test_jumps_stay_failed_however_often_paths_are_halved():
    class Stairs(nn.Module):
        def forward(self, x):
            return torch.round(x.sum(dim=1, keepdim=True))

    x = torch.from_numpy(3.0 * np.random.default_rng(0).normal(size=(5, 3)))
    result = integrated_gradients(differentiated(Stairs(), 5), x, torch.zeros(1, 3, dtype=torch.float64), max_steps=16)
    assert result.status == "failed"
    assert "miss the change of the output" in result.reason


@pytest.mark.parametrize("batch_size", [1024, 200])
def test_gradients_that_are_not_the_derivative_fail_in_bounded_work(batch_size, monkeypatch):
    """Straight-through rounding: the output goes in stairs, its gradients are those of the slope."""

    class StraightThrough(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(64, 32), nn.Linear(32, 2)

        def forward(self, x):
            hidden = torch.relu(self.first(x))
            return self.last(hidden + (torch.round(4.0 * hidden) / 4.0 - hidden).detach())

    passes = []

    def counted(x):
        passes.append(len(x))
        return module(x)

    torch.manual_seed(0)
    module, x = StraightThrough(), torch.randn(10, 64)
    base = torch.zeros(1, 64)
    subject = differentiated(module, 10, forward=counted)
    result = integrated_gradients(subject, x, base, max_steps=32, batch_size=batch_size)
    assert result.status == "failed"
    assert result.n_evals <= 10 * (16 + 32 + 4096)
    assert max(passes) <= batch_size
    assert np.isfinite(result.values).all()

    # The budget holds where halving is never slow.
    monkeypatch.setattr(captum_engine, "_NEARER", np.inf)
    patient = integrated_gradients(subject, x, base, max_steps=32, batch_size=batch_size)
    assert patient.status == "failed"
    assert result.n_evals < patient.n_evals <= 10 * (16 + 32 + 64 * 128)
    assert max(passes) <= batch_size


def test_narrow_slopes_are_found_with_few_steps():
    """Thirty ramps of two rectified units, each a thousandth of the path: halving is slow until it meets them."""

    class Ramps(nn.Module):
        def forward(self, x):
            off = 1000.0 * (x.mean(dim=1, keepdim=True) - torch.linspace(0.033, 0.973, 30, dtype=torch.float64))
            return (torch.relu(off) - torch.relu(off - 1.0)).sum(dim=1, keepdim=True)

    x = torch.ones(2, 4, dtype=torch.float64)
    base = torch.zeros(1, 4, dtype=torch.float64)
    result = integrated_gradients(differentiated(Ramps(), 2), x, base, max_steps=16)
    assert result.status != "failed"
    np.testing.assert_allclose(result.values, 7.5, atol=0.1)


def test_batches_give_the_same_values(mlp, rows):
    base = torch.zeros(1, 5, dtype=torch.float64)
    whole = integrated_gradients(differentiated(mlp, 9), rows, base)
    parts = integrated_gradients(differentiated(mlp, 9), rows, base, batch_size=20)
    np.testing.assert_allclose(whole.values, parts.values, atol=1e-12)


def state_of(module):
    return (
        [p.detach().clone() for p in module.parameters()],
        [p.requires_grad for p in module.parameters()],
        [None if p.grad is None else p.grad.clone() for p in module.parameters()],
        [b.clone() for b in module.buffers()],
        [part.training for part in module.modules()],
        torch.get_rng_state(),
        [len(part._forward_hooks) + len(part._backward_hooks) for part in module.modules()],
    )


def same(first, second):
    return all(
        (a is None and b is None) or (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b)
        for one, other in zip(first, second, strict=True)
        for a, b in (zip(one, other, strict=True) if isinstance(one, list) else [(one, other)])
    )


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "integrated_gradients"])
def test_the_module_is_bitwise_as_before(mlp, rows, method):
    mlp.train()
    mlp[4].eval()
    mlp(rows)[:, 0].sum().backward()
    mlp[0].bias.requires_grad_(False)
    before = state_of(mlp)
    subject = differentiated(mlp, 9)
    if method == "integrated_gradients":
        integrated_gradients(subject, rows, torch.zeros(1, 5, dtype=torch.float64))
    else:
        gradient_attribution(subject, rows, method)
    assert same(before, state_of(mlp))
    assert rows.requires_grad is False


def test_the_module_is_restored_after_a_failure(rows):
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(5, 2).double()

        def forward(self, x):
            return self.inner(x.detach().round()).detach()

    module = Broken().train()
    before = state_of(module)
    for call in (
        lambda: gradient_attribution(differentiated(module, 9), rows, "saliency"),
        lambda: integrated_gradients(differentiated(module, 9), rows, rows[:1]),
    ):
        with pytest.raises(NotApplicable, match="AK510 the model's output does not depend differentiably"):
            call()
    assert same(before, state_of(module))


def test_an_unknown_method_is_refused(mlp, rows):
    with pytest.raises(UsageError, match="AK511 no gradient method 'magic'"):
        gradient_attribution(differentiated(mlp, 9), rows, "magic")


class Tokens(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embedding = nn.Embedding(20, 8, padding_idx=0)
        self.places = nn.Embedding(7, 8)
        self.kind = kind
        if kind == "lstm":
            self.body = nn.LSTM(8, 8, batch_first=True)
        elif kind == "transformer":
            layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
            self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 2)

    def forward(self, ids):
        x = self.embedding(ids)
        if self.kind == "sum":
            return self.head(x.sum(dim=1))
        if self.kind == "lstm":
            return self.head(self.body(x)[0].mean(dim=1))
        x = x + self.places(torch.arange(ids.shape[1]))
        return self.head(self.body(x, src_key_padding_mask=ids == 0).mean(dim=1))


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_tokens_through_the_embedding_are_complete(kind):
    torch.manual_seed(1)
    module = Tokens(kind)
    ids = torch.randint(1, 20, (6, 7))
    ids[2, 4:] = 0
    embedding = find_embedding(module)
    assert embedding is module.embedding
    subject = differentiated(module, 6, target=1, embedding=embedding)
    before = state_of(module)
    result = integrated_gradients(subject, ids, torch.zeros(1, 7, dtype=torch.long), max_steps=512)
    assert result.values.shape == (6, 7, 1)
    assert result.status in ("exact", "estimated")
    total = result.base_values + result.values.sum(axis=1)
    np.testing.assert_allclose(total, result.prediction, atol=2 * result.diagnostics["completeness_limit"])
    assert same(before, state_of(module))
    saliency = gradient_attribution(subject, ids, "saliency")
    assert saliency.values.shape == (6, 7, 1)
    assert (saliency.values >= 0).all()


def test_bag_of_tokens_has_the_closed_form():
    torch.manual_seed(2)
    module = Tokens("sum").double()
    ids = torch.tensor([[3, 5, 0], [7, 7, 2]])
    subject = differentiated(module, 2, target=1, embedding=module.embedding)
    result = integrated_gradients(subject, ids, torch.zeros(1, 3, dtype=torch.long))
    with torch.no_grad():
        expected = module.embedding(ids) @ module.head.weight[1]
    np.testing.assert_allclose(result.values[..., 0], expected.numpy(), atol=1e-12)


def test_randomised_parameters_are_new_and_the_scope_is_kept(mlp):
    own = [p.detach().clone() for p in mlp.parameters()]
    state = torch.get_rng_state()
    last = copy.deepcopy(mlp)
    randomise_parameters(last, torch.Generator().manual_seed(0), "last_layer")
    changed = [not torch.equal(a, b) for a, b in zip(own, last.parameters(), strict=True)]
    assert changed == [False] * (len(own) - 2) + [True] * 2
    everything = copy.deepcopy(mlp)
    randomise_parameters(everything, torch.Generator().manual_seed(0), "all_layers")
    assert not torch.equal(own[0], next(everything.parameters()))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(own, mlp.parameters(), strict=True))


class Odd(nn.Module):
    """Registers its head first, a layer that it never calls last, and a parameter of its own (a ViT's class token)."""

    def __init__(self):
        super().__init__()
        self.head, self.body, self.unused = nn.Linear(6, 2), nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.token = nn.Parameter(torch.zeros(6))

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)) + self.token)


def test_the_last_layer_is_the_one_that_runs_last():
    module = Odd()
    own = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    randomise_parameters(module, generator, "last_layer", lambda: module(torch.zeros(2, 4)))
    changed = {name for name, parameter in module.named_parameters() if not torch.equal(own[name], parameter)}
    assert changed == {"head.weight", "head.bias"}
    assert not any(part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_a_method_that_is_not_complete_fails_at_any_size_of_the_outputs(size):
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.last(torch.sin(3.0 * self.first(x))) * size

    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    subject = differentiated(Sized(), 5)
    assert hooked.deep_lift(subject, x, torch.zeros(1, 4), tolerance=0.01).status == "failed"
    assert integrated_gradients(subject, x, torch.zeros(1, 4), tolerance=0.01).status in ("exact", "estimated")
