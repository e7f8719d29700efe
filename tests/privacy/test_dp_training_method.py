"""Private training against loops written out by hand, and models on which it must refuse or replace."""

import copy
import random

import numpy as np
import pytest

pytest.importorskip("opacus")

import torch
from torch import nn

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.methods.privacy import dp_model, dp_training
from auditkit.methods.privacy.dp_attention import batch_first_attention
from auditkit.methods.privacy.dp_gradient import check_gradients
from auditkit.methods.privacy.dp_model import dp_ready
from auditkit.methods.privacy.dp_step import descent, noisy_mean
from auditkit.methods.privacy.dp_training import Settings, dp_train, predict_codes
from auditkit.methods.sgd import class_logits


def table(n=200, d=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator)
    y = (x[:, 0] + 0.5 * x[:, 1] + 0.5 * torch.randn(n, generator=generator) > 0).long()
    return x, y


def mlp():
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def flat(module):
    return torch.cat([parameter.detach().reshape(-1) for parameter in module.parameters()])


def fresh(build, seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def settings(**changes):
    return Settings(**{"epochs": 1, "batch_size": 20, "learning_rate": 0.5, **changes})


class Encoder(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.batch_first = batch_first
        self.embed = nn.Embedding(20, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.out = nn.Linear(16, 2)

    def forward(self, tokens):
        return self.out(self.encoder(self.embed(tokens)).mean(dim=1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.out = nn.Linear(8, 1)

    def forward(self, tokens):
        return self.out(self.lstm(self.embed(tokens))[0][:, -1])


def tokens(n=60):
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 20, (n, 7), generator=generator)
    return x, (x[:, 0] > 9).long()


def test_without_clipping_and_noise_it_is_plain_sgd_written_by_hand():
    x, y = table()
    module = fresh(mlp, 5)
    chosen = settings(max_grad_norm=None, momentum=0.9, epochs=2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5, momentum=0.9)
    for rows in dp_training._poisson_batches(len(x), chosen, 5):
        optimizer.zero_grad()
        sum(nn.functional.cross_entropy(module(x[i : i + 1]), y[i : i + 1]) for i in rows).div(20).backward()
        optimizer.step()
    plain = dp_train(mlp, x, y, chosen, seed=5, n_classes=2)
    unclipped = dp_train(mlp, x, y, settings(max_grad_norm=1e9, momentum=0.9, epochs=2), seed=5, n_classes=2)
    assert torch.allclose(flat(plain.module), flat(module), atol=1e-5)
    assert torch.allclose(flat(unclipped.module), flat(module), atol=1e-5)
    assert not torch.allclose(flat(plain.module), flat(fresh(mlp, 5)), atol=1e-2)


@pytest.mark.parametrize("batch_size", [200, 100, 7])
def test_one_step_is_the_clipped_sum_over_the_expected_batch_size(batch_size):
    """A realised Poisson batch has another size than expected: dividing by it would show here."""
    x, y = table()
    clip, rate = 0.3, 0.5
    chosen = settings(batch_size=batch_size, epochs=batch_size / len(x), max_grad_norm=clip)
    (rows,) = dp_training._poisson_batches(len(x), chosen, 3)
    assert batch_size == 200 or len(rows) != batch_size
    module = fresh(mlp, 3)
    before, total = flat(module), torch.zeros(len(flat(module)))
    for row in rows:
        loss = nn.functional.cross_entropy(module(x[row : row + 1]), y[row : row + 1])
        gradient = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, list(module.parameters()))])
        total += gradient * min(1.0, clip / float(gradient.norm()))
    trained = dp_train(mlp, x, y, chosen, seed=3, n_classes=2)
    assert torch.allclose(flat(trained.module) - before, -rate * total / batch_size, atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("types", [(torch.float32,), (torch.float32, torch.float64)])
def test_steps_along_one_vector_are_those_of_the_library(types, momentum):
    ours, theirs = (fresh(mlp, 1) for _ in range(2))
    for module in (ours, theirs):
        for place, layer in enumerate(module):
            layer.to(types[place % len(types)])
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.3, momentum=momentum)
    sizes = [parameter.numel() for parameter in ours.parameters()]
    with descent(list(ours.parameters()), 0.3, momentum) as step:
        for turn in range(4):
            gradient = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(turn))
            for parameter, part in zip(theirs.parameters(), gradient.split(sizes), strict=True):
                parameter.grad = part.view(parameter.shape).to(parameter.dtype)
            optimizer.step()
            step(gradient.clone())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.dtype == other.dtype
        assert torch.allclose(mine, other, rtol=0.0, atol=1e-6)
        assert mine.untyped_storage().nbytes() == mine.numel() * mine.element_size()


def test_noise_is_drawn_anew_for_every_parameter_and_step():
    stream = torch.Generator().manual_seed(0)
    sums = [torch.zeros(40, 50), torch.zeros(2000)]
    first, second = (noisy_mean(sums, 3.0, 2.0, stream) for _ in range(2))
    assert float(first.std()) == pytest.approx(1.5, rel=0.05)
    draws = torch.stack([first[:2000], first[2000:], second[:2000], second[2000:]])
    assert float((torch.corrcoef(draws) - torch.eye(4)).abs().max()) < 0.08
    assert torch.equal(noisy_mean(sums, 0.0, 2.0, stream), torch.zeros(4000))


def test_noise_has_the_promised_size():
    """With inputs of 0 the weights have no gradient: what moves them is noise of sd lr * sigma * C / batch."""
    x, y = torch.zeros(50, 4000), table(50)[1]
    build = lambda: nn.Linear(4000, 2)  # noqa: E731
    chosen = settings(batch_size=10, epochs=0.2, learning_rate=2.0, max_grad_norm=0.5, noise_multiplier=3.0)
    trained = dp_train(build, x, y, chosen, seed=0, n_classes=2)
    assert trained.steps == 1
    moved = (trained.module.weight - fresh(build, 0).weight).detach().reshape(-1)
    assert float(moved.std()) == pytest.approx(2.0 * 3.0 * 0.5 / 10, rel=0.03)
    assert abs(float(moved.mean())) < 0.3 * 4 / np.sqrt(8000)
    again = dp_train(build, x, y, chosen, seed=1, n_classes=2)
    other = (again.module.weight - fresh(build, 1).weight).detach().reshape(-1)
    assert abs(float(torch.corrcoef(torch.stack([moved, other]))[0, 1])) < 0.05


@pytest.mark.parametrize(("build", "data"), [(mlp, table), (Encoder, tokens), (Recurrent, tokens)])
def test_empty_poisson_batches_survive_and_still_get_noise(build, data):
    x, y = data(60)
    trained = dp_train(build, x, y, settings(batch_size=1, noise_multiplier=1.0), seed=2, n_classes=2)
    assert trained.empty_batches > 5
    assert trained.failed is None
    assert torch.isfinite(flat(trained.module)).all()
    assert trained.gradient_gap < 1e-4


def test_an_empty_batch_alone_moves_the_weights_by_noise():
    x, y = table(60)
    chosen = settings(batch_size=0.001, epochs=0.001 / 60, noise_multiplier=1.0)
    trained = dp_train(mlp, x, y, chosen, seed=2, n_classes=2)
    assert (trained.steps, trained.empty_batches) == (1, 1)
    assert not torch.equal(flat(trained.module), flat(fresh(mlp, 2)))


def test_large_batches_are_accumulated_to_the_same_step(monkeypatch):
    x, y = table()
    whole = dp_train(mlp, x, y, settings(batch_size=100, noise_multiplier=1.0), seed=4, n_classes=2)
    monkeypatch.setattr(dp_training, "_HELD_NUMBERS", 700)
    parts = dp_train(mlp, x, y, settings(batch_size=100, noise_multiplier=1.0), seed=4, n_classes=2)
    assert torch.allclose(flat(whole.module), flat(parts.module), atol=1e-6)


def test_same_seed_same_model_and_nothing_global_moves():
    x, y = table()
    torch.manual_seed(11)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate(), torch.get_num_threads()  # noqa: NPY002
    chosen = settings(noise_multiplier=1.0)
    build = lambda: nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 2))  # noqa: E731
    first, second = (dp_train(build, x, y, chosen, seed=9, n_classes=2) for _ in range(2))
    assert torch.equal(flat(first.module), flat(second.module))
    assert not torch.equal(flat(first.module), flat(dp_train(build, x, y, chosen, seed=10, n_classes=2).module))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002
    assert random.getstate() == before[2]
    assert torch.get_num_threads() == before[3]


def test_batch_first_transformer_keeps_its_output():
    x, _ = tokens()
    module = fresh(Encoder, 0)
    ready, notes = dp_ready(module, x)
    assert notes == ()
    with torch.no_grad():
        assert torch.allclose(ready.eval()(x), module.eval()(x), atol=1e-5)
    assert not any(isinstance(layer, nn.MultiheadAttention) for layer in ready.modules())


def test_batch_first_replacement_that_changes_the_output_is_refused(monkeypatch):
    """The library's own replacement of batch-first attention computes another function."""
    monkeypatch.setattr(dp_model, "batch_first_attention", lambda layer: None)
    with pytest.raises(AuditkitError, match="AK568 making the model private would turn it into another model"):
        dp_ready(fresh(Encoder, 0), tokens()[0])


@pytest.mark.parametrize("mask", ["none", "causal", "causal-bool", "padding", "per-head"])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_first_attention_is_torchs(mask, bias):
    torch_layer = fresh(lambda: nn.MultiheadAttention(12, 3, bias=bias, batch_first=True), 0).eval()
    ours = batch_first_attention(torch_layer)
    query, memory = torch.randn(4, 5, 12), torch.randn(4, 6, 12)
    options = {}
    if mask == "causal":
        options["attn_mask"] = torch.full((5, 6), -torch.inf).triu(1)
    elif mask == "causal-bool":
        options["attn_mask"] = torch.ones(5, 6, dtype=torch.bool).triu(1)
    elif mask == "per-head":
        options["attn_mask"] = torch.randn(12, 5, 6)
    elif mask == "padding":
        options["key_padding_mask"] = torch.arange(6)[None, :] >= torch.tensor([6, 3, 4, 5])[:, None]
    for average in (True, False):
        expected = torch_layer(query, memory, memory, average_attn_weights=average, **options)
        got = ours(query, memory, memory, average_attn_weights=average, **options)
        assert torch.allclose(got[0], expected[0], atol=1e-6)
        assert torch.allclose(got[1], expected[1], atol=1e-6)


def test_batch_first_attention_with_extra_biases_is_left_to_the_output_check():
    assert batch_first_attention(nn.MultiheadAttention(8, 2, add_bias_kv=True, batch_first=True)) is None
    assert batch_first_attention(nn.MultiheadAttention(8, 2, batch_first=False)) is None


def test_recurrent_layers_keep_their_output():
    x, _ = tokens()
    module = fresh(Recurrent, 0)
    ready, notes = dp_ready(module, x)
    with torch.no_grad():
        assert torch.allclose(ready.eval()(x), module.eval()(x), atol=1e-5)
    assert notes == ()


def test_batch_norm_is_replaced_and_said_and_still_lets_rows_through():
    x, y = table()
    module = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))
    ready, notes = dp_ready(module, x)
    assert "1 batch norm layer(s) were replaced by group norm" in notes[0]
    with torch.no_grad():
        assert float(ready[1](ready[0](x)).std(dim=0).min()) > 0.1
    assert isinstance(module[1], nn.BatchNorm1d)
    trained = dp_train(
        lambda: copy.deepcopy(module), x, y, settings(noise_multiplier=0.5, epochs=5), seed=0, n_classes=2
    )
    assert float((predict_codes(trained.module, x, 2) == y.numpy()).mean()) > 0.7


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (7, 1), (32, 16), (1, 1)])
def test_group_norm_never_has_a_channel_alone(channels, groups):
    assert dp_model._group_norm(nn.BatchNorm2d(channels)).num_groups == groups


class Mixing(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = mlp()

    def forward(self, x):
        return self.body(x - 0.5 * x.mean(dim=0))


class Random(Mixing):
    def forward(self, x):
        return self.body(x + torch.randn_like(x))


class Unused(Mixing):
    def __init__(self):
        super().__init__()
        self.idle = nn.Linear(3, 3)

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Mixing, "AK569 the clipped gradient of a batch is not the sum"),
        (Random, "AK569 per-row gradients cannot be checked"),
        (Unused, "AK566 a trainable parameter takes no part"),
    ],
)
def test_models_without_per_row_gradients_are_refused(build, message):
    x, y = table()
    with pytest.raises(AuditkitError, match=message):
        dp_train(build, x, y, settings(noise_multiplier=1.0), seed=0, n_classes=2)


def test_gradient_check_is_tight_on_convolutions():
    x, y = torch.randn(8, 1, 6, 6), torch.arange(8) % 3
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    assert check_gradients(module, x, y, 3).gap < 1e-5


def test_diverged_training_has_no_model():
    x, y = table()
    for clip in (None, 1.0):
        chosen = settings(learning_rate=1e38, max_grad_norm=clip, epochs=5)
        trained = dp_train(mlp, x, y, chosen, seed=0, n_classes=2)
        assert trained.module is None
        assert trained.failed.startswith("training diverged")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 201}, "AK565 the batch size 201 is larger than the 200 training rows"),
        ({"noise_multiplier": -1.0}, "AK574 the noise multiplier must be 0 or more"),
        ({"noise_multiplier": 1.0, "max_grad_norm": None}, "AK574 noise without clipping protects nobody"),
        ({"max_grad_norm": 0.0}, "AK574 max_grad_norm must be above 0"),
        ({"max_grad_norm": float("inf")}, "AK574 max_grad_norm must be above 0 and finite"),
        ({"epochs": 0}, "AK574 epochs, batch size and learning rate"),
    ],
)
def test_settings_that_contradict_themselves(changes, message):
    x, y = table()
    with pytest.raises(UsageError, match=message):
        dp_train(mlp, x, y, settings(**changes), seed=0, n_classes=2)


def test_single_logit_models_and_wrong_shapes():
    z = torch.tensor([[1.0], [-2.0]])
    assert class_logits(z, 2).tolist() == [[0.0, 1.0], [0.0, -2.0]]
    with pytest.raises(AuditkitError, match="AK573 .* shape \\(2, 1\\) for 3 classes"):
        class_logits(z, 3)


def test_watch_can_stop_a_training():
    class Stop(Exception):
        pass

    def watch():
        raise Stop

    x, y = table()
    with pytest.raises(Stop):
        dp_train(mlp, x, y, settings(), seed=0, n_classes=2, watch=watch)


def test_tied_weights_are_said_and_trained():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
            self.second.weight = self.first.weight
            self.out = nn.Linear(6, 2)

        def forward(self, x):
            return self.out(torch.relu(self.second(torch.relu(self.first(x)))))

    x, y = table()
    trained = dp_train(Tied, x, y, settings(noise_multiplier=1.0), seed=0, n_classes=2)
    assert trained.notes[0].startswith("Weights are shared (first.weight and second.weight)")
    assert trained.module.first.weight is trained.module.second.weight
    assert (trained.engine, trained.failed) == ("ghost", None)
    assert dp_train(mlp, x, y, settings(), seed=0, n_classes=2).notes == ()


def test_models_that_the_fast_engine_does_not_know_are_trained_by_opacus():
    build = lambda: nn.Sequential(nn.Linear(6, 6), nn.RMSNorm(6), nn.Linear(6, 2))  # noqa: E731
    x, y = table()
    trained = dp_train(build, x, y, settings(noise_multiplier=1.0), seed=0, n_classes=2)
    assert (trained.engine, trained.failed) == ("opacus", None)
