"""Clipped sums from one backward pass against a loop over single rows, layer by layer and on whole models."""

import math
import weakref

import pytest

pytest.importorskip("opacus")

import torch
from torch import nn

from auditkit.methods.privacy.dp_ghost import NotFollowed, ghost_applies, ghost_clipper
from auditkit.methods.privacy.dp_gradient import check_gradients, clipping, trainable
from auditkit.methods.privacy.dp_model import dp_ready

ROWS = 5


class Pooled(nn.Module):
    """``layers``, then the mean over all positions."""

    def __init__(self, *layers, width):
        super().__init__()
        self.body = nn.Sequential(*layers)
        self.out = nn.Linear(width, 3)

    def forward(self, x):
        hidden = self.body(x)
        if hidden.dim() == 4:
            hidden = hidden.flatten(2).transpose(1, 2)
        return self.out(hidden.mean(dim=1) if hidden.dim() == 3 else hidden)


class Text(nn.Module):
    def __init__(self, body, padding=None):
        super().__init__()
        self.embed = nn.Embedding(9, 8, padding_idx=padding)
        self.body = body
        self.out = nn.Linear(8, 3)

    def forward(self, tokens):
        hidden = self.body(self.embed(tokens))
        return self.out((hidden[0] if isinstance(hidden, tuple) else hidden).mean(dim=1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.mix = nn.Linear(8, 8)
        self.out = nn.Linear(8, 9, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        return self.out(torch.tanh(self.mix(self.mix(self.embed(tokens)))).mean(dim=1))


class Twice(nn.Module):
    """A convolution and a norm that are used again."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(2, 2, 3, padding=1), nn.GroupNorm(1, 2), nn.Linear(72, 3)

    def forward(self, x):
        for _ in range(2):
            x = torch.relu(self.norm(self.conv(x)))
        return self.out(x.flatten(1))


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
    return Text(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))


def without_weight(layer):
    layer.weight.requires_grad_(False)
    return layer


class TiedBias(nn.Module):
    """Two layers with weights of their own and one bias between them."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 3)
        self.b.bias = self.a.bias

    def forward(self, x):
        return self.out(torch.tanh(self.a(x)) * self.b(x))


class InPlace(nn.Module):
    """Outputs of layers that are changed in place, and one that is used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        hidden = self.a(x).mul_(2.0)
        return self.out(self.b(hidden).add_(1.0).tanh_() + hidden)


def images():
    return torch.randn(ROWS, 2, 6, 6, dtype=torch.float64)


def words():
    return torch.randint(0, 9, (ROWS, 7))


MODELS = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(6, 9), nn.ReLU(inplace=True), nn.Linear(9, 3)),
        lambda: torch.randn(ROWS, 6),
    ),
    "no bias": (
        lambda: nn.Sequential(nn.Linear(6, 9, bias=False), nn.Tanh(), nn.Linear(9, 3)),
        lambda: torch.randn(ROWS, 6),
    ),
    "frozen": (
        lambda: nn.Sequential(nn.Linear(6, 9).requires_grad_(False), nn.Linear(9, 3)),
        lambda: torch.randn(ROWS, 6),
    ),
    "bias only": (
        lambda: nn.Sequential(without_weight(nn.Linear(6, 9)), nn.Tanh(), nn.Linear(9, 3)),
        lambda: torch.randn(ROWS, 6),
    ),
    "tied bias": (TiedBias, lambda: torch.randn(ROWS, 6)),
    "in place": (InPlace, lambda: torch.randn(ROWS, 6)),
    "few positions": (lambda: Pooled(nn.Linear(6, 20), nn.ReLU(), width=20), lambda: torch.randn(ROWS, 2, 6)),
    "many positions": (lambda: Pooled(nn.Linear(3, 4), nn.ReLU(), width=4), lambda: torch.randn(ROWS, 30, 3)),
    "conv": (lambda: Pooled(nn.Conv2d(2, 4, 3), nn.ReLU(), width=4), images),
    "conv ghost": (lambda: Pooled(nn.Conv2d(2, 16, 5), nn.ReLU(), width=16), images),
    "conv options": (
        lambda: Pooled(nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2)), width=4),
        images,
    ),
    "depthwise": (lambda: Pooled(nn.Conv2d(2, 4, 3, groups=2, bias=False), width=4), images),
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3, padding=1), nn.Flatten(), nn.Linear(24, 3)),
        lambda: torch.randn(ROWS, 2, 6),
    ),
    "group norm": (lambda: Pooled(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(inplace=True), width=4), images),
    "layer norm": (
        lambda: Pooled(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), width=8),
        lambda: torch.randn(ROWS, 4, 6),
    ),
    "embedding": (lambda: Text(nn.Identity(), padding=0), words),
    "lstm": (lambda: Text(nn.LSTM(8, 8, batch_first=True)), words),
    "batch_first transformer": (encoder, words),
    "tied": (Tied, words),
    "twice": (Twice, images),
}


def made(name):
    torch.manual_seed(3)
    build, draw = MODELS[name]
    x = draw()
    x = x.double() if x.is_floating_point() else x
    module, _ = dp_ready(build(), x.float() if x.is_floating_point() else x)
    return module.double(), x, torch.arange(ROWS) % 3


def by_loop(module, x, y, limit):
    parameters, total = trainable(module), 0.0
    for i in range(len(x)):
        loss = nn.functional.cross_entropy(module(x[i : i + 1]), y[i : i + 1])
        own = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss, parameters)])
        total = total + own * min(1.0, limit / float(own.norm()))
    return total


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("limit", [0.05, 0.6, 1e6])
def test_clipped_sum_is_that_of_the_loop(name, limit):
    module, x, y = made(name)
    assert ghost_applies(module)
    with clipping(module, trainable(module), "ghost", limit, 9 if name == "tied" else 3) as clipped:
        sums, loss = clipped(x, y)
        again, _ = clipped(x, y)
    got = torch.cat([part.reshape(-1) for part in sums])
    expected = by_loop(module, x, y, limit)
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-9
    assert torch.equal(got, torch.cat([part.reshape(-1) for part in again]))
    assert loss == pytest.approx(float(nn.functional.cross_entropy(module(x), y, reduction="sum").detach()))


@pytest.mark.parametrize("name", ["no bias", "conv", "lstm", "batch_first transformer"])
def test_single_precision_is_within_a_millionth_and_opacus_agrees(name):
    module, x, y = made(name)
    module, x = module.float(), x.float() if x.is_floating_point() else x
    expected = by_loop(module, x, y, 0.6)
    for engine in ("ghost", "opacus"):
        with clipping(module, trainable(module), engine, 0.6, 3) as clipped:
            got = torch.cat([part.reshape(-1) for part in clipped(x, y)[0]])
        assert float((got - expected).abs().max() / expected.abs().max()) < 2e-6
    assert check_gradients(module, x, y, 3).engine == "ghost"


def test_parameters_and_hooks_are_as_before():
    module, x, y = made("mlp")
    with ghost_clipper(module, trainable(module)) as clipper:
        assert all(layer._forward_hooks for layer in module if isinstance(layer, nn.Linear))
        clipper.clipped_sum(nn.functional.cross_entropy(module(x), y, reduction="sum"), len(x), 1.0)
        assert all(parameter.grad is None for parameter in module.parameters())
    assert len(trainable(module)) == 4
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(layer._forward_hooks for layer in module.modules())
    watched = weakref.ref(x)
    with clipping(module, trainable(module), "ghost", 1.0, 3) as clipped:
        clipped(x, y)
    del x, clipped
    assert watched() is None


class Odd(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer, self.out = layer, nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.layer(x))


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.by = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return x * self.by


@pytest.mark.parametrize(
    "layer",
    [Scale(), nn.RMSNorm(4), nn.Sequential(nn.Unflatten(1, (4, 1)), nn.ConvTranspose1d(4, 4, 1), nn.Flatten())],
)
def test_other_layers_are_left_to_opacus(layer):
    x, y = torch.randn(8, 4), torch.arange(8) % 3
    module = Odd(layer)
    assert not ghost_applies(module)
    assert check_gradients(module, x, y, 3).engine == "opacus"


@pytest.mark.parametrize("options", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}, {"sparse": True}])
def test_embeddings_with_options_of_their_own_are_not_taken(options):
    assert not ghost_applies(nn.Embedding(4, 4, **options))
    assert not ghost_applies(nn.Conv2d(1, 1, 3, padding="same"))
    assert not ghost_applies(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"))


def test_an_input_that_is_changed_after_it_was_read_is_noticed():
    class Sneaky(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            hidden = torch.sin(self.a(x))
            result = self.b(hidden)
            hidden.data_changed = hidden.detach().mul_(2.0)
            return result

    module = Sneaky()
    x, y = torch.randn(4, 4), torch.arange(4) % 3
    with (
        pytest.raises(NotFollowed, match="changed in place"),
        clipping(module, trainable(module), "ghost", 1.0, 3) as clipped,
    ):
        clipped(x, y)


def test_norms_are_the_lengths_of_the_rows_gradients():
    module, x, y = made("conv")
    parameters = trainable(module)
    with ghost_clipper(module, parameters) as clipper:
        _, norms = clipper.clipped_sum(nn.functional.cross_entropy(module(x), y, reduction="sum"), len(x), 1.0)
    for i in range(len(x)):
        own = torch.autograd.grad(nn.functional.cross_entropy(module(x[i : i + 1]), y[i : i + 1]), parameters)
        assert float(norms[i]) == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in own)), rel=1e-9)
