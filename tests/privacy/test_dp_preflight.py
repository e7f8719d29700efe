"""What private training refuses before and while it trains, because an epsilon would not be true of it."""

import copy

import pytest

pytest.importorskip("opacus")

import torch
from torch import nn

from auditkit.core.errors import AuditkitError
from auditkit.methods.privacy import dp_layers, dp_training
from auditkit.methods.privacy.dp_ghost import NotFollowed
from auditkit.methods.privacy.dp_gradient import check_gradients
from auditkit.methods.privacy.dp_model import dp_ready
from auditkit.methods.privacy.dp_training import Settings, dp_train


def table(n=200, d=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator)
    return x, (x[:, 0] > 0).long()


def settings():
    return Settings(epochs=1, batch_size=20, learning_rate=0.5, noise_multiplier=1.0)


class Gated(nn.Module):
    """A branch that starts at 0: mixing rows (of the batch), or not."""

    def __init__(self, mixing):
        super().__init__()
        self.body, self.gate, self.mixing = nn.Linear(6, 2), nn.Parameter(torch.zeros(2)), mixing

    def forward(self, x):
        out = self.body(x)
        return out + self.gate * torch.tanh(out.mean(dim=0, keepdim=True) if self.mixing else out)


class Remembering(nn.Module):
    """A running mean of the rows, used by the trained model only; where it is kept is the fault's disguise."""

    def __init__(self, where):
        super().__init__()
        self.body, self.where = nn.Linear(6, 2), where
        if where == "buffer":
            self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        self.state = torch.zeros(6)

    def forward(self, x):
        if self.training:
            self.passes += 1
            seen = x.detach().mean(dim=0)
            if self.where == "buffer":
                self.mean.mul_(0.9).add_(seen, alpha=0.1)
            elif self.where == "attribute":
                self.state = 0.9 * self.state + 0.1 * seen
            return self.body(x)
        return self.body(x - (self.mean if self.where == "buffer" else self.state))


def test_a_branch_that_starts_at_zero_cannot_hide_that_it_mixes_rows():
    x, y = table()
    with pytest.raises(AuditkitError, match="AK569 the clipped gradient of a batch is not the sum"):
        dp_train(lambda: Gated(mixing=True), x, y, settings(), seed=0, n_classes=2)
    assert dp_train(lambda: Gated(mixing=False), x, y, settings(), seed=0, n_classes=2).failed is None


@pytest.mark.parametrize(("where", "told"), [("buffer", "changes mean"), ("attribute", "changes its later outputs")])
def test_what_a_model_remembers_of_rows_is_refused_and_a_counter_is_not(where, told):
    x, y = table()
    with pytest.raises(AuditkitError, match="AK566 the model keeps something of the rows") as caught:
        dp_train(lambda: Remembering(where), x, y, settings(), seed=0, n_classes=2)
    assert told in str(caught.value)
    module, _ = dp_ready(Remembering(None), x[:16])
    assert int(module.passes) == 0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: nn.Linear(6, 2).requires_grad_(False), "AK566 the model has no trainable parameter"),
        (lambda: nn.Linear(6, 2).double(), "AK566 the model does not take the prepared rows"),
        (lambda: nn.Linear(6, 2).half(), "AK566 the model does not take the prepared rows"),
    ],
)
def test_what_cannot_be_trained_is_a_sentence(build, message):
    x, y = table()
    with pytest.raises(AuditkitError, match=message):
        dp_train(build, x, y, settings(), seed=0, n_classes=2)


def test_a_module_that_needs_many_rows_is_a_sentence():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(6, 2)

        def forward(self, x):
            return self.body(nn.functional.batch_norm(x, None, None, training=self.training) if self.training else x)

    x, y = table()
    with pytest.raises(AuditkitError, match="AK569 per-row gradients cannot be checked: the model does not take a sin"):
        dp_train(Whole, x, y, settings(), seed=0, n_classes=2)


def test_a_path_that_opens_during_training_ends_it_with_a_sentence():
    class Forking(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 2)

        def forward(self, x):
            return self.b(self.a(x) if float(x[:, 0].max()) < 50 else x)

    x, y = table()
    x[100:, 0] = 99.0
    with pytest.raises(NotFollowed, match="AK569 per-row gradients cannot be followed"):
        dp_train(Forking, x, y, settings(), seed=0, n_classes=2)


def test_batches_noise_and_initial_weights_come_from_streams_apart():
    rate, n = 0.1, 500
    own = Settings(epochs=1, batch_size=rate * n, learning_rate=0.1)
    batch = dp_training._poisson_batches(n, own, 7)[0]
    plain = torch.nonzero(torch.rand(n, generator=torch.Generator().manual_seed(7), dtype=torch.float64) < rate)
    assert batch.tolist() != plain.flatten().tolist()
    first, second = (torch.randn(4, generator=dp_training._stream(7, which)) for which in (1, 2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_a_row_whose_positions_cancel_out_is_not_taken_for_shorter_than_it_is(kind):
    """In single precision the sum over pairs of positions loses a gradient that is small beside its parts."""
    torch.manual_seed(0)
    rows, positions, width = 64, 6, 64
    signs = torch.tensor([1.0, -1.0]).repeat(positions // 2)[None, :, None]
    g = torch.randn(rows, 1, width) * signs + 1e-6 * torch.randn(rows, positions, width)
    if kind == "linear":
        a = 1000.0 * (1.0 + 1e-4 * torch.randn(rows, positions, width))
        piece = next(iter(dp_layers.linear(nn.Linear(width, width, bias=False), a, g)))
        true = (g.double().transpose(1, 2) @ a.double()).flatten(1).norm(dim=1)
    else:
        piece = next(iter(dp_layers.embedding(nn.Embedding(3, width), torch.ones(rows, positions).long(), g)))
        true = g.double().sum(dim=1).norm(dim=1)
    assert float((true / piece.lengths.double()).max()) < 1.01


def test_the_check_sees_the_same_engine_on_moved_weights():
    x, y = table()
    module, _ = dp_ready(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)), x[:16])
    before = copy.deepcopy(module.state_dict())
    checked = check_gradients(module, x, y, 2)
    assert checked.engine == "ghost"
    assert checked.gap < 1e-5
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


def test_large_inputs_and_weights_of_zero_are_no_fault():
    """Whichever way the weights are moved: for some labels every row is then certain, and its gradient rounding."""
    x, module = 1000.0 * torch.eye(40), nn.Linear(40, 2, bias=False)
    nn.init.zeros_(module.weight)
    for seed in range(20):
        y = torch.randint(0, 2, (40,), generator=torch.Generator().manual_seed(seed))
        assert check_gradients(module, x, y, 2).gap < 1e-5
