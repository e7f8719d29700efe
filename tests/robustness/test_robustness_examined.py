"""The analyzer's cross-examination, its AutoAttack setting, and accuracy under attack by group."""

import numpy as np
import pytest
import torch
from test_robustness_adversarial import audit, blobs, failed_checks, trained, values

from auditkit.subjects.build import make_subject
from auditkit.subjects.torch import TorchModel


@pytest.fixture(scope="module")
def images():
    x, y = blobs()
    return x[600:], y[600:]


def subject(images, net=None, **settings):
    return make_subject(TorchModel(net or trained(), classes=range(3)), *images, **settings)


def checks(outcome):
    table = next(a for a in outcome.artifacts if a.name == "robustness.adversarial.checks")
    return {row[0]: row for row in table.rows}


class Turned(torch.nn.Module):
    """A network whose gradient points the other way, which is neither zero nor noisy."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(2.0 * x.detach() - x)


def test_a_gradient_that_points_the_wrong_way_is_named(images):
    outcome = audit(subject(images, Turned(trained())), max_rows=80, eps=(0.05,))
    assert "gradients agree with finite differences" in failed_checks(outcome)
    assert checks(outcome)["gradients agree with finite differences"][2] == pytest.approx(2.0, abs=0.05)
    assert all("finite differences" in m.unreliable for m in values(outcome).values())


def test_the_listed_checks_stand_beside_the_number(images):
    shown = checks(audit(subject(images), max_rows=60, eps=(0.05,)))
    assert {
        "clean decisions agree",
        "clean decisions are the user's",
        "deterministic model",
        "answers do not depend on the batch",
        "gradients are not zero",
        "gradients agree with finite differences",
        "more steps are not weaker",
        "a larger eps is not weaker",
        "the whole range fools every row",
        "losses agree",
        "restarts agree",
        "random noise is weaker",
        "square is weaker",
        "transfer is weaker",
        "within eps and bounds",
        "attack moved",
    } <= set(shown)


def test_the_checks_can_be_left_out(images):
    assert "transfer is weaker" not in checks(audit(subject(images), max_rows=40, eps=(0.05,), check_rows=0))


def test_autoattack_follows_pgd_and_finds_no_less(images):
    settings = {"max_rows": 60, "eps": (0.03, 0.06), "check_rows": 0, "noise_draws": 2}
    # As many images as are looked at, so that both see the same ones whatever their settings draw.
    same = tuple(part[:60] for part in images)
    plain, both = (audit(subject(same), attack=attack, **settings) for attack in ("pgd", "autoattack-fast"))
    for eps, m in values(both).items():
        assert m.params["attack"] == "autoattack-fast"
        assert m.value <= values(plain)[eps].value
    assert failed_checks(both) == set()


def test_accuracy_under_attack_and_its_gap_by_group(images):
    x, y = images
    site = np.where(y == 0, "a", np.where(np.arange(len(y)) % 2, "b", "c"))
    outcome = audit(subject((x, y), sensitive={"site": site}), max_rows=150, eps=(0.05,), check_rows=0)
    shares = {g: values(outcome, site=g)[0.05].value for g in ("a", "b", "c")}
    (gap,) = [m for m in outcome.measurements if m.name == "robustness.accuracy.difference"]
    assert gap.value == pytest.approx(max(shares.values()) - min(shares.values()))
    assert gap.over == ("site",)
    assert gap.params["eps"] == 0.05
    assert gap.interval.low <= gap.value <= gap.interval.high
    assert gap.n == sum(values(outcome, site=g)[0.05].n for g in shares)


def test_a_small_group_takes_no_part_in_the_gap(images):
    x, y = images
    site = np.where(np.arange(len(y)) < 2, "tiny", "large")
    outcome = audit(subject((x, y), sensitive={"site": site}), max_rows=150, eps=(0.05,), check_rows=0)
    assert not [m for m in outcome.measurements if m.name == "robustness.accuracy.difference"]
