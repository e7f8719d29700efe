"""Every planted fault is flagged; honest networks of other kinds, seeds, trainings and precisions hardly ever are."""

import pytest
import torch
from masking_faults import FAULTS, LATER_FAULTS, Fault
from masking_zoo import EPS, HONEST, ROWS, TRAIN, data, trained

from auditkit.core.errors import UsageError
from auditkit.methods.robustness import checks, cross_examine

ALL_FAULTS = FAULTS | LATER_FAULTS
# A few in the default set, of kinds that different checks catch.
QUICK = ("logits times 500", "logits over a million", "detached input", "input of 16 levels", "noise on the input")


def examined(model, name="digits", norm="linf", eps=None):
    x, y = (part[TRAIN[name] :] for part in data(name))
    dtype = next((p.dtype for p in getattr(model, "parameters", list)()), torch.float32)
    x = x.to(dtype)
    return cross_examine(model, x[:ROWS], y[:ROWS], eps=eps or EPS[name], norm=norm, reference=(x[ROWS:], y[ROWS:]))


def failed(model, **settings):
    return [check.name for check in examined(model, **settings).checks if not check.passed]


def test_there_are_enough_faults_and_honest_networks():
    assert len(FAULTS) >= 20
    assert len(LATER_FAULTS) >= 10
    assert len(HONEST) >= 40


@pytest.mark.parametrize("fault", [pytest.param(f, marks=() if f in QUICK else pytest.mark.slow) for f in ALL_FAULTS])
def test_planted_faults_are_flagged(fault):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = examined(Fault(trained("relu"), ALL_FAULTS[fault]))
    assert checks.verdict(found.checks) is not None


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_honest_networks_are_hardly_ever_flagged():
    flagged = {spec: found for spec in HONEST if (found := failed(trained(*spec), name=(*spec, "digits")[3]))}
    assert len(flagged) <= len(HONEST) / 20, flagged


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.5), ("l1", 2.0)])
def test_honest_networks_are_hardly_ever_flagged_under_other_norms(norm, eps):
    specs = [spec for spec in HONEST if len(spec) == 3]
    flagged = {spec: found for spec in specs if (found := failed(trained(*spec), norm=norm, eps=eps))}
    assert len(flagged) <= len(specs) / 20, flagged


@pytest.mark.parametrize("training", ["plain", "adversarial"])
def test_the_clean_twin_is_quiet(training):
    assert failed(trained("relu", 0, training)) == []


def test_a_model_that_is_not_the_users_is_flagged():
    net = trained("relu")
    x, y = (part[900:940] for part in data("digits"))
    own = net(x).argmax(dim=1)
    assert "clean decisions are the user's" not in [
        c.name for c in cross_examine(net, x, y, eps=0.05, decisions=own).checks if not c.passed
    ]
    own[0] = (own[0] + 1) % 10
    failing = [c for c in cross_examine(net, x, y, eps=0.05, decisions=own).checks if not c.passed]
    assert [c.name for c in failing] == ["clean decisions are the user's"]
    assert failing[0].observed == pytest.approx(1 / 40)


def test_what_any_check_fools_is_kept_and_lies_within_eps():
    net = trained("relu")
    x, y = (part[900:980] for part in data("digits"))
    found = examined(net)
    fooled = net(found.adversarial).argmax(dim=1) != y
    assert torch.equal(fooled, found.fooled)
    assert float((found.adversarial - x).abs().max()) <= EPS["digits"] + 1e-6
    union = torch.stack([success for _, success in found.parts]).any(dim=0)
    assert torch.equal(union, found.fooled)
    assert [name for name, _ in found.parts][-3:] == ["random noise", "square", "transfer"]


def test_nothing_of_the_model_is_changed():
    net = trained("relu").train()
    net[1].weight.grad = torch.ones_like(net[1].weight)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    try:
        examined(net)
        assert net.training
        assert torch.equal(net[1].weight.grad, torch.ones_like(net[1].weight))
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
        assert torch.equal(torch.get_rng_state(), generator)
    finally:
        net.eval()
        net[1].weight.grad = None


def test_no_rows_pass_every_check_and_say_nothing():
    found = cross_examine(trained("relu"), torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), eps=0.1)
    assert len(found.fooled) == 0
    assert checks.verdict(found.checks) is None


def test_eps_zero_is_clean_accuracy_and_an_eps_beyond_the_range_is_the_range():
    net = trained("relu")
    x, y = (part[900:940] for part in data("digits"))
    wrong = net(x).argmax(dim=1) != y
    nothing = cross_examine(net, x, y, eps=0.0)
    assert torch.equal(nothing.fooled, wrong)
    assert checks.verdict(nothing.checks) is None
    beyond = cross_examine(net, x, y, eps=50.0)
    assert beyond.fooled.all()
    assert 0.0 <= float(beyond.adversarial.min()) <= float(beyond.adversarial.max()) <= 1.0


def test_bad_input_is_told():
    net = trained("relu")
    x, y = (part[900:910] for part in data("digits"))
    with pytest.raises(UsageError, match="AK531.*outside the bounds"):
        cross_examine(net, (x - 0.3) / 0.2, y, eps=0.1)
    with pytest.raises(UsageError, match="AK533"):
        cross_examine(lambda z: net(z) * float("nan"), x, y, eps=0.1)
    with pytest.raises(UsageError, match="AK534"):
        cross_examine(lambda z: net(z).argmax(dim=1), x, y, eps=0.1)
    with pytest.raises(UsageError, match="AK534"):
        cross_examine(lambda z: net(z)[:, :1], x, y, eps=0.1)
    with pytest.raises(UsageError, match="AK514"):
        cross_examine(net, x, y + 5, eps=0.1)
    with pytest.raises(UsageError, match="AK530"):
        cross_examine(net, x, y, eps=-0.1)


def test_rows_of_one_class_and_batch_norm_left_in_train_mode_are_no_fault():
    net = trained("batch norm").train()
    x, y = (part[900:] for part in data("digits"))
    one = y == 3
    try:
        found = cross_examine(net, x[one][:40], y[one][:40], eps=0.08)
        assert net.training
    finally:
        net.eval()
    assert checks.verdict(found.checks) is None
