"""Rows at once and the layout of convolutions change how long a pass takes, never what is found or left behind."""

import pytest
import torch

from auditkit.methods.robustness import apgd, pgd
from auditkit.methods.robustness.oracle import cross_entropy, oracle_of, pull_of_cross_entropy
from auditkit.methods.robustness.pace import CACHE_BYTES, FEWEST_ROWS, Pace
from auditkit.methods.robustness.threat import make_threat


def images(n=80):
    """Rows, and as labels what the network of :func:`convolutions` decides."""
    x = torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return x, convolutions()(x).argmax(dim=1)


def convolutions(flatten=None):
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        flatten or torch.nn.Flatten(),
        torch.nn.Linear(8 * 36, 3),
    )


def learnt(model, x):
    """The pace after one pass, and the weights' strides during the search."""
    with oracle_of(model, x) as oracle:
        batch = make_threat(x, 0.1, "linf", (0.0, 1.0)).batch(x, torch.zeros(len(x)).long(), torch.arange(len(x)))
        oracle.slope(batch, torch.zeros_like(x), batch.y, cross_entropy)
        return oracle.pace.rows, [p.stride() for p in model.parameters() if p.ndim == 4]


def test_convolutions_are_lent_channels_last_and_given_back_in_their_own_memory():
    model, (x, y) = convolutions(), images()
    before = [(p, p.data_ptr(), p.stride(), p.detach().clone()) for p in model.parameters()]
    assert learnt(model, x)[1] == [(27, 1, 9, 3)]
    pgd(model, x, y, eps=0.05, steps=3)
    for parameter, place, stride, values in before:
        assert (parameter.data_ptr(), parameter.stride()) == (place, stride)
        assert torch.equal(parameter, values)


def test_weights_are_given_back_when_the_search_breaks_off():
    model, (x, y) = convolutions(), images()
    place, calls = model[0].weight.data_ptr(), []

    def broken(module, args, output):
        calls.append(len(output))
        if len(calls) > 4:
            assert module.weight.data_ptr() != place
            raise KeyError("broken off")

    model[0].register_forward_hook(broken)
    with pytest.raises(KeyError, match="broken off"):
        pgd(model, x, y, eps=0.05)
    assert model[0].weight.data_ptr() == place


class View(torch.nn.Module):
    """Allowed in the usual layout alone."""

    def forward(self, x):
        return x.view(len(x), -1)


class Memory(torch.nn.Module):
    """Reads its input in the order of memory, which another layout turns about."""

    def forward(self, x):
        return torch.as_strided(x, (len(x), x[0].numel()), (x[0].numel(), 1))


class Noisy(torch.nn.Module):
    """Never answers twice alike."""

    def forward(self, x):
        return x.flatten(1) + torch.randn(len(x), 1)


@pytest.mark.parametrize("flatten", [View(), Memory(), Noisy()], ids=lambda part: type(part).__name__)
def test_a_model_that_minds_the_layout_keeps_its_own(flatten):
    model, (x, _) = convolutions(flatten), images()
    assert learnt(model, x)[1] == [(27, 9, 3, 1)]


def test_a_view_is_attacked_as_a_flattening_is():
    x, y = images()
    found, beside = (pgd(convolutions(part), x, y, eps=0.02, steps=10, early_stop=False) for part in (View(), None))
    # Rounding may turn the sign of a gradient that is all but zero.
    apart = (found.adversarial - beside.adversarial).abs() > 1e-4
    assert float(apart.double().mean()) < 1e-3
    assert torch.equal(found.success, beside.success)


@pytest.mark.parametrize(("attack", "norm"), [(pgd, "linf"), (pgd, "l2"), (apgd, "linf")])
def test_what_is_found_does_not_depend_on_the_pace(attack, norm, monkeypatch):
    model, (x, y) = convolutions().eval(), images()
    eps = 0.02 if norm == "linf" else 0.3
    paced = attack(model, x, y, eps=eps, norm=norm, steps=10)
    monkeypatch.setattr(Pace, "learn", lambda self, see, points: None)
    plain = attack(model, x, y, eps=eps, norm=norm, steps=10)
    assert torch.equal(paced.success, plain.success)
    assert 0.1 < float(plain.success.double().mean()) < 1.0
    # Four rows in the usual layout and four in the other are all that is asked more.
    assert paced.n_evaluations - plain.n_evaluations == 8


def test_a_model_that_takes_derivatives_itself_is_attacked_as_it_is():
    """Its own transforms refuse to be watched, whichever module they are in."""
    layer = torch.nn.Linear(6, 3)

    def steepest(rows):
        slope = torch.func.vmap(torch.func.grad(lambda row: layer(row).square().sum()))(rows)
        return layer(rows) + 0.1 * layer(slope)

    x = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
    y = steepest(x).argmax(dim=1)
    found = pgd(steepest, x, y, eps=0.3, steps=5)
    with torch.no_grad():
        assert torch.equal(steepest(found.adversarial).argmax(dim=1) != y, found.success)
    assert found.success.any()


def test_rows_at_once_follow_from_what_a_pass_keeps():
    wide = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(432, 4096), torch.nn.ReLU(), torch.nn.Linear(4096, 3)
    )
    x, _ = images()
    # The rows themselves, and the units after the ReLU, which two layers share.
    assert learnt(wide, x)[0] == CACHE_BYTES // (4 * (432 + 4096))
    heavy = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 100_000), torch.nn.ReLU())
    assert learnt(heavy, x)[0] == FEWEST_ROWS


def test_few_rows_and_other_precisions_learn_nothing():
    x, _ = images()
    assert learnt(convolutions(), x[:FEWEST_ROWS])[0] is None
    assert learnt(convolutions().double(), x.double())[1] == [(27, 9, 3, 1)]


def test_pieces_cover_every_row_once_in_about_equal_parts():
    for rows in (None, 1, 7, 32, 500):
        pace = Pace(None)
        pace.rows = rows
        for n in (0, 1, 31, 32, 33, 130, 512):
            pieces = pace.pieces(n)
            assert [row for piece in pieces for row in range(piece.start, piece.stop)] == list(range(n))
            sizes = [piece.stop - piece.start for piece in pieces]
            assert max(sizes, default=0) <= (rows or max(n, 1))


def test_pull_of_cross_entropy_is_its_derivative_and_outlives_confidence():
    generator = torch.Generator().manual_seed(0)
    logits = (10.0 * torch.randn(50, 4, generator=generator, dtype=torch.float64)).requires_grad_(True)
    y = torch.randint(4, (50,), generator=generator)
    (expected,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, y, reduction="sum"), logits)
    torch.testing.assert_close(pull_of_cross_entropy(logits.detach(), y), expected)
    sure = pull_of_cross_entropy(torch.tensor([[40.0, 0.0, 0.0]]), torch.tensor([0]))
    assert float(sure[0, 0]) == pytest.approx(-2 * float(torch.exp(torch.tensor(-40.0, dtype=torch.float64))))
