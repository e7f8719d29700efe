"""Robust training against closed forms and slow computations of its losses, and the faults that it is known for."""

import numpy as np
import pytest
import torch
from torch import nn

from auditkit.core.errors import UsageError
from auditkit.methods.robustness.robust_training import (
    WAYS,
    Lesson,
    RobustSettings,
    divergence,
    overfitted,
    train_robust,
    training_points,
)
from auditkit.subjects.recipes import TorchRecipe

WIDE = {"bounds": (-1e9, 1e9)}


def settings(way, **changes):
    return RobustSettings(**{"way": way, "epochs": 1, "batch_size": 64, "learning_rate": 0.1, "eps": 0.1} | changes)


def table(n=64, d=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = (x[:, 0] - 0.5 * x[:, 1] + 0.5 * rng.normal(size=n) > 0).astype(np.int64)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


def state(module):
    return {name: value.numpy().tobytes() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("way", ["pgd", "fast"])
def test_on_a_line_adversarial_training_is_the_loss_with_its_margin_lowered(way):
    """Madry et al.: for a linear model the worst point in linf lowers the margin by exactly eps * ||scale * w||_1."""
    x, y = table()
    scale = torch.tensor([1.0, 0.5, 2.0, 1.0, 0.0])
    how = settings(way, step_size=0.25 if way == "fast" else None)
    torch.manual_seed(7)
    first = nn.Linear(5, 1)
    before = first.weight.detach().double().numpy()[0], first.bias.item()

    def build():
        copy = nn.Linear(5, 1)
        copy.load_state_dict(first.state_dict())
        return copy

    made = train_robust(build, Lesson(x=x, y=y, n_classes=2, scale=scale, **WIDE), how, seed=3)
    # One step of SGD by hand on mean softplus(-(s (w x + b) - eps ||scale w||_1)), s = +-1.
    w, b = before
    s = 2.0 * y.numpy() - 1.0
    reach = scale.double().numpy() * np.sign(w)
    margin = s * (x.double().numpy() @ w + b) - 0.1 * np.abs(scale.double().numpy() * w).sum()
    pull = -1.0 / (1.0 + np.exp(margin))
    slope = (pull[:, None] * (s[:, None] * x.double().numpy() - 0.1 * reach)).mean(axis=0)
    assert made.module.weight.detach().numpy()[0] == pytest.approx(w - 0.1 * slope, abs=1e-6)
    assert made.module.bias.item() == pytest.approx(b - 0.1 * (pull * s).mean(), abs=1e-6)


def test_trades_is_its_formula_computed_slowly():
    """One row, one step: weights move down the numeric gradient of cross-entropy + beta * divergence in numpy."""
    x, y = table(1, 3)
    torch.manual_seed(1)
    first = nn.Linear(3, 4)

    def build():
        copy = nn.Linear(3, 4)
        copy.load_state_dict(first.state_dict())
        return copy

    how = settings("trades", beta=3.0, eps=0.5)
    made = train_robust(build, Lesson(x=x, y=y, n_classes=4, **WIDE), how, seed=5)
    moved = training_points(first.eval(), Lesson(x=x, y=y, n_classes=4, **WIDE), how, seed=5).double().numpy()[0]
    clean, bias = x.double().numpy()[0], first.bias.detach().double().numpy()
    assert np.abs(moved - clean).max() == pytest.approx(0.5, abs=1e-6)

    def chances(weight, at):
        z = weight @ at + bias
        return np.exp(z) / np.exp(z).sum()

    def loss(weight):
        p, q = chances(weight, clean), chances(weight, moved)
        return -np.log(p[int(y[0])]) + 3.0 * sum(p[k] * np.log(p[k] / q[k]) for k in range(4))

    start = first.weight.detach().double().numpy()
    slope = np.zeros_like(start)
    for place in np.ndindex(*start.shape):
        step = np.zeros_like(start)
        step[place] = 1e-5
        slope[place] = (loss(start + step) - loss(start - step)) / 2e-5
    assert made.module.weight.detach().numpy() == pytest.approx(start - 0.1 * slope, abs=1e-5)
    # The attack climbs the divergence: it reaches further than most corners of the ball do.
    rng = np.random.default_rng(0)
    corners = clean + 0.5 * rng.choice([-1.0, 1.0], size=(50, 3))

    def gap(at):
        p, q = chances(start, clean), chances(start, at)
        return float((p * np.log(p / q)).sum())

    assert gap(moved) > np.quantile([gap(corner) for corner in corners], 0.7)


def test_divergence_agrees_with_scipy():
    from scipy.special import softmax
    from scipy.stats import entropy

    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    expected = entropy(softmax(one, axis=1), softmax(two, axis=1), axis=1)
    assert divergence(torch.tensor(one), torch.tensor(two)).numpy() == pytest.approx(expected)


@pytest.fixture
def one_thread():
    """Sums of small batches are then made in one order whoever trains."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noisy_net(n_outputs=2):
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, n_outputs))


@pytest.mark.parametrize("way", WAYS)
def test_without_a_radius_every_way_is_the_recipes_own_training_byte_for_byte(way, one_thread):
    x, y = table()
    recipe = TorchRecipe(name="net", build=noisy_net, epochs=2, batch_size=16, learning_rate=0.1, momentum=0.5)
    how = settings(way, epochs=2, batch_size=16, momentum=0.5, eps=0.0, noise=0.0)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    made = train_robust(noisy_net, Lesson(x=x, y=y, n_classes=2, **WIDE), how, seed=11)
    assert torch.equal(torch.get_rng_state(), before)
    assert state(made.module) == state(recipe.fit(x.numpy(), y.numpy(), seed=11).module)


@pytest.mark.parametrize("way", WAYS[1:])
def test_with_a_radius_it_is_another_training_and_the_same_at_each_call(way):
    x, y = table()
    how = settings(way, epochs=2, batch_size=16, noise=0.1, steps=3)
    one, two = (train_robust(noisy_net, Lesson(x=x, y=y, n_classes=2, **WIDE), how, seed=11).module for _ in range(2))
    plain = train_robust(
        noisy_net, Lesson(x=x, y=y, n_classes=2, **WIDE), settings("standard", epochs=2, batch_size=16), seed=11
    )
    assert state(one) == state(two)
    assert state(one) != state(plain.module)


class Counting(nn.Module):
    """Counts passes, gradients of its weights, and rows seen in training mode; batch norm counts its own batches."""

    def __init__(self):
        super().__init__()
        self.net = noisy_net()
        self.forwards, self.slopes, self.learning = 0, 0, 0
        self.net[0].weight.register_hook(self.count)

    def count(self, gradient):
        self.slopes += 1

    def forward(self, x):
        self.forwards += 1
        self.learning += self.training
        return self.net(x)


@pytest.mark.parametrize(
    ("way", "forwards", "learning"),
    [("standard", 1, 1), ("noise", 1, 1), ("fast", 2, 1), ("pgd", 5, 1), ("trades", 7, 2)],
)
def test_attacks_move_no_statistics_and_no_weight_gradients(way, forwards, learning):
    """4 batches: the attack looks in evaluation mode and asks for the input's gradient alone."""
    x, y = table()
    how = settings(way, batch_size=16, steps=4, noise=0.1)
    module = train_robust(Counting, Lesson(x=x, y=y, n_classes=2, **WIDE), how, seed=0).module
    # One more pass checks the shape of the output before training.
    assert module.forwards == 1 + 4 * forwards
    assert module.learning == 4 * learning
    assert int(module.net[1].num_batches_tracked) == 4 * learning
    assert module.slopes == 4
    assert all(parameter.grad is None for parameter in module.parameters())
    backwards = {"standard": 1, "noise": 1, "fast": 2, "pgd": 5, "trades": 6}[way]
    assert how.passes == forwards + backwards


def test_adversarial_training_prefers_the_robust_feature():
    """Tsipras et al. (2019), section 2.1: one feature right in 9 of 10 rows, and forty weak ones that sum to more."""

    def rows(n, seed):
        rng = np.random.default_rng(seed)
        y = rng.integers(2, size=n)
        s = 2.0 * y - 1.0
        strong = np.where(rng.random(n) < 0.9, s, -s)
        weak = 0.4 * s[:, None] + rng.normal(size=(n, 40))
        x = np.concatenate([strong[:, None], weak], axis=1)
        return torch.tensor(x, dtype=torch.float32), torch.tensor(y)

    x, y = rows(600, 0)
    x_test, y_test = rows(1000, 1)
    eps, found = 0.6, {}
    for way in ("standard", "pgd"):
        how = settings(way, epochs=15, batch_size=50, learning_rate=0.05, eps=eps, steps=5)
        module = train_robust(lambda: nn.Linear(41, 1), Lesson(x=x, y=y, n_classes=2, **WIDE), how, seed=0).module
        margin = (2.0 * y_test - 1.0) * module(x_test)[:, 0].detach()
        clean = float((margin > 0).float().mean())
        found[way] = clean, float((margin > eps * module.weight.abs().sum()).float().mean())
    assert found["standard"][0] > 0.95
    assert found["pgd"][1] > 0.8 > 0.4 > found["standard"][1]
    assert found["pgd"][0] < found["standard"][0]


def test_noise_has_its_deviation_and_stays_inside_the_bounds():
    x = torch.full((4000, 2), 0.5)
    y = torch.zeros(4000, dtype=torch.int64)
    how = settings("noise", noise=0.2)
    points = training_points(
        nn.Linear(2, 2), Lesson(x=x, y=y, n_classes=2, scale=torch.tensor([1.0, 0.0])), how, seed=0
    )
    assert float(points[:, 0].std()) == pytest.approx(0.2, rel=0.05)
    assert (points[:, 1] == 0.5).all()
    near = training_points(nn.Linear(2, 2), Lesson(x=x, y=y, n_classes=2, bounds=(0.45, 0.55)), how, seed=0)
    assert near.min() >= 0.45 - 1e-6
    assert near.max() <= 0.55 + 1e-6


def test_a_training_that_diverges_says_so():
    x, y = table()
    how = settings("pgd", learning_rate=1e30, epochs=3)
    made = train_robust(noisy_net, Lesson(x=x, y=y, n_classes=2, **WIDE), how, seed=0)
    assert made.module is None
    assert "NaN or infinite" in made.failed


def test_bad_input_is_refused():
    x, y = table()
    with pytest.raises(UsageError, match=r"AK531.*floating point"):
        train_robust(noisy_net, Lesson(x=x.long(), y=y, n_classes=2, **WIDE), settings("pgd"), seed=0)
    with pytest.raises(UsageError, match=r"AK531.*outside the bounds"):
        train_robust(noisy_net, Lesson(x=x, y=y, n_classes=2), settings("pgd"), seed=0)
    with pytest.raises(UsageError, match=r"AK582.*no way to train"):
        settings("free")
    with pytest.raises(UsageError, match=r"AK582.*eps"):
        settings("pgd", eps=float("nan"))
    with pytest.raises(UsageError, match=r"AK582.*steps"):
        settings("pgd", steps=0)
    with pytest.raises(UsageError, match=r"AK582.*step_size"):
        settings("fast", step_size=0.0)


@pytest.mark.parametrize(("eps", "random_start", "epochs", "planted"), [(0.4, False, 60, True), (0.1, True, 15, False)])
def test_catastrophic_overfitting_of_one_step_training_is_told(eps, random_start, epochs, planted):
    """A large step from the clean row (no random start) teaches the network to defeat that step alone."""
    from sklearn.datasets import load_digits

    from auditkit.methods.robustness import pgd

    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16.0, dtype=torch.float32), torch.tensor(y)
    how = settings(
        "fast", eps=eps, step_size=eps, random_start=random_start, epochs=epochs, batch_size=32, momentum=0.9
    )

    def build():
        return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    module = train_robust(build, Lesson(x=x[:600], y=y[:600], n_classes=10), how, seed=0).module
    x, y = x[1200:1400], y[1200:1400]
    own = module(training_points(module, Lesson(x=x, y=y, n_classes=10), how, seed=1)).argmax(dim=1) == y
    strong = ~pgd(module, x, y, eps=eps, steps=40, loss="margin").success
    assert overfitted(own, strong) is planted
    if planted:
        assert float(own.float().mean()) > 0.4 > 0.1 > float(strong.float().mean())
    else:
        assert float(strong.float().mean()) > 0.5


def test_overfitting_needs_rows_enough_to_be_told():
    many, few = np.ones(100, dtype=bool), np.ones(3, dtype=bool)
    assert overfitted(many, ~many)
    assert not overfitted(many, many)
    assert not overfitted(few, np.array([True, True, False]))
    assert not overfitted(~many, ~many)
    lost = np.arange(100) < 80
    assert not overfitted(many, lost)
