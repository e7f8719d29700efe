"""Norms and ART's attacks as settings of the analyzer: closed forms of linear models, radii enforced, refusals."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from auditkit.analyzers.robustness.adversarial import ANALYZER, AdversarialParams
from auditkit.analyzers.robustness.reach import Reach
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.methods.robustness.art_engine import adversarial_starts, boundary_attack, zoo_attack
from auditkit.methods.robustness.feasible import Feasible
from auditkit.subjects.build import make_subject
from auditkit.subjects.torch import TorchModel

DUAL = {"linf": 1, "l2": 2, "l1": np.inf}
EPS = {"linf": 0.02, "l2": 0.06, "l1": 0.08}
WEIGHT = np.array([3.0, -1.0, 2.0, 0.5])


def audit(subject, **settings):
    settings = {"check_rows": 40, "hopskipjump_rows": 10, "hopskipjump_steps": 2, "max_rows": 80, **settings}
    step = Step(name=ANALYZER.name, params=AdversarialParams(**settings), analyzer=ANALYZER)
    return run_step(subject, step)


def accuracy(outcome):
    return {m.params["eps"]: m for m in outcome.measurements if m.name == "robustness.accuracy" and not m.slice}


def parts(outcome):
    table = next(a for a in outcome.artifacts if a.name == "robustness.adversarial.parts")
    return {row[0]: row for row in table.rows}


def linear_images(dtype=np.float32):
    """Grey images of four pixels and a linear network on them; every image is decided rightly."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.3, 0.7, size=(80, 1, 2, 2))
    x[0, 0] = [[0.0, 1.0], [0.0, 1.0]]  # fixes the range of the pixels
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor(np.stack([-WEIGHT, WEIGHT]) / 2))
        net[1].bias.copy_(torch.tensor([0.25 * WEIGHT.sum(), -0.25 * WEIGHT.sum()]))
    margin = (x.reshape(80, 4) - 0.5) @ WEIGHT
    y = (margin > 0).astype(int)
    return make_subject(TorchModel(net, classes=(0, 1)), x.astype(dtype), y), np.abs(margin)


@pytest.mark.parametrize("norm", DUAL)
def test_accuracy_under_attack_of_a_linear_network_is_that_of_its_margins(norm):
    subject, margin = linear_images()
    eps = EPS[norm]
    outcome = audit(subject, norm=norm, eps=[0.0, eps, 2 * eps])
    reach = margin / np.linalg.norm(WEIGHT, ord=DUAL[norm])
    for radius in (0.0, eps, 2 * eps):
        sure = float((reach > radius * 1.001).mean())
        assert accuracy(outcome)[radius].value == pytest.approx(sure, abs=1.01 / 80)
        assert accuracy(outcome)[radius].params["norm"] == norm
        assert accuracy(outcome)[radius].unreliable is None
    assert 0.2 < accuracy(outcome)[2 * eps].value < accuracy(outcome)[eps].value < 1.0
    if norm != "linf":
        assert any(f"as the {norm} norm" in note for note in outcome.notes)


class Deaf(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(torch.round(x * 16) / 16)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_masked_gradients_are_unreliable_in_every_norm(norm):
    subject, _ = linear_images()
    masked = make_subject(TorchModel(Deaf(subject.model.module), classes=(0, 1)), subject.test.inputs, subject.test.y)
    outcome = audit(masked, norm=norm, eps=[2 * EPS[norm]])
    assert accuracy(outcome)[2 * EPS[norm]].unreliable


def test_whole_pixels_stay_whole_and_inside_the_ball():
    subject, margin = linear_images()
    images = np.rint(subject.test.inputs * 255).astype(np.uint8)
    model = TorchModel(
        subject.model.module, classes=(0, 1), prepare=lambda rows: np.asarray(rows, dtype=np.float32) / 255.0
    )
    whole = make_subject(model, images, subject.test.y)
    outcome = audit(whole, norm="l2", eps=[0.12])
    reach = margin / np.linalg.norm(WEIGHT)
    # Rounding four pixels moves a point by 0.004 at most.
    assert float((reach > 0.124).mean()) <= accuracy(outcome)[0.12].value <= float((reach > 0.116).mean())
    checks = next(a for a in outcome.artifacts if a.name == "robustness.adversarial.checks")
    assert all(row[1] for row in checks.rows if "within" in row[0] or "inside" in row[0])


@pytest.mark.parametrize("attack", ["deepfool", "carlini-l2", "boundary", "zoo"])
def test_attacks_of_art_follow_pgd_and_are_judged_by_eps(attack):
    subject, margin = linear_images()
    eps = 0.06
    outcome = audit(subject, norm="l2", eps=[eps], attack=attack, steps=1, max_rows=12, check_rows=0)
    found = accuracy(outcome)[eps]
    assert found.params["attack"] == f"pgd+{attack}"
    pgd, toolbox = parts(outcome)["pgd"], parts(outcome)[f"pgd+{attack}"]
    assert toolbox[3] >= pgd[3]
    # No attack may fool a row that lies beyond the radius by the closed form.
    assert found.value >= float((margin / np.linalg.norm(WEIGHT) > eps * 1.001).mean()) - 0.2
    before = {name: value.clone() for name, value in subject.model.module.state_dict().items()}
    assert all(torch.equal(value, before[name]) for name, value in subject.model.module.state_dict().items())


def table():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(240, 4))
    return x, (x @ WEIGHT > 0).astype(int)


@pytest.mark.parametrize("attack", ["boundary", "zoo"])
def test_attacks_of_art_join_the_questions_of_other_models(attack):
    x, y = table()
    model = LogisticRegression().fit(x, y)
    outcome = audit(make_subject(model, x, y), attack=attack, eps=[0.1, 0.5], hopskipjump_rows=6)
    found = accuracy(outcome)[0.5]
    assert found.params["attack"] == f"search+hopskipjump+{attack}"
    assert parts(outcome)[attack][2] == 6
    assert any(f"{attack} (ART) was run on 6 rows" in note for note in outcome.notes)
    margin = np.abs(x @ model.coef_[0] + model.intercept_[0]) / (np.abs(model.coef_[0]) @ x.std(axis=0))
    assert found.value == pytest.approx(float((margin > 0.5).mean()), abs=0.15)


def space(f=4):
    return Feasible(low=np.full(f, -5.0), high=np.full(f, 5.0), scale=np.ones(f), whole=np.zeros(f, dtype=bool))


def test_walks_never_end_nearer_than_the_hyperplane_and_zoo_moves():
    x, y = table()
    model = LogisticRegression().fit(x, y)
    x, y = x[:6], y[:6]
    exact = np.abs(model.decision_function(x)) / np.abs(model.coef_[0]).sum()
    starts, _ = adversarial_starts(model.predict, x, y, space(), table()[0], draws=60, rng=np.random.default_rng(0))
    walked = boundary_attack(model.predict, x, y, space(), starts)
    scored = zoo_attack(model.predict_proba, model.predict, x, y, space())
    for found in (walked, scored):
        assert found.rescored.fooled.all()
        assert (model.predict(found.rescored.points) != y).all()
        assert (found.rescored.distance >= exact - 1e-6).all()
        assert float(np.median(found.rescored.distance / exact)) < 2.5
    again = zoo_attack(model.predict_proba, model.predict, x, y, space())
    assert np.array_equal(again.rescored.points, scored.rescored.points)


def test_zoo_walks_tables_with_more_columns_than_it_takes_at_a_time_inside_the_bounds_of_each():
    rng = np.random.default_rng(1)
    x, weight = rng.uniform(0.2, 0.8, size=(4, 40)) * np.arange(1, 41), rng.normal(size=40)
    low, high, scale = np.zeros(40), np.arange(1.0, 41.0), np.arange(1.0, 41.0) / 4
    wide = Feasible(low=low, high=high, scale=scale, whole=np.zeros(40, dtype=bool))
    model = LogisticRegression()
    model.classes_, model.coef_ = np.array([0, 1]), (weight / scale)[None]
    model.intercept_ = np.array([-float(np.median(x @ model.coef_[0]))])
    found = zoo_attack(model.predict_proba, model.predict, x, model.predict(x), wide)
    assert found.rescored.fooled.any()
    assert ((found.rescored.points >= low) & (found.rescored.points <= high)).all()
    exact = np.abs(model.decision_function(x)) / np.abs(weight).sum()
    assert (found.rescored.distance[found.rescored.fooled] >= exact[found.rescored.fooled] - 1e-6).all()


def test_zoo_on_a_flat_model_is_invalid_and_no_proof():
    x = table()[0]
    flat = zoo_attack(
        lambda rows: np.tile([0.9, 0.1], (len(rows), 1)), lambda rows: np.zeros(len(rows), dtype=np.int64),
        x[:3], np.zeros(3, dtype=np.int64), space(), max_queries=300,
    )  # fmt: skip
    assert not flat.rescored.fooled.any()
    assert "moved no row" in flat.rescored.invalid


def test_the_leaves_of_a_tree_are_walked():
    x, y = table()
    model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(x, y)
    outcome = audit(make_subject(model, x, y), attack="decision-tree", eps=[1.0], hopskipjump_rows=12)
    assert accuracy(outcome)[1.0].params["attack"].endswith("+decision-tree")
    assert parts(outcome)["decision-tree"][3] > 0


def test_what_the_model_does_not_allow_is_told():
    x, y = table()
    forest = make_subject(RandomForestClassifier(5, random_state=0).fit(x, y), x, y)
    for settings, code in (
        ({"norm": "l2", "eps": [0.1]}, "AK598"),
        ({"attack": "deepfool"}, "AK598"),
        ({"attack": "decision-tree"}, "AK515"),
    ):
        assert code in audit(forest, **settings).reason
    labels = make_subject(LinearSVC().fit(x, y), x, y)
    labels.model.capabilities = labels.model.capabilities - {"scores"}
    assert "zoo follows scores" in audit(labels, attack="zoo").reason
    assert "AK515" in audit(linear_images()[0], attack="decision-tree").reason
    for settings in ({"norm": "l2"}, {"norm": "l1", "eps": [0.1], "attack": "autoattack"}, {"attack": "simba"}):
        with pytest.raises(ValidationError):
            AdversarialParams(**settings)


@pytest.mark.parametrize("norm", DUAL)
def test_points_are_drawn_into_the_ball_and_frozen_cells_stay(norm):
    rng = np.random.default_rng(2)
    frozen = Feasible(
        low=np.full(4, -5.0), high=np.full(4, 5.0), scale=np.array([1.0, 2.0, 0.0, 0.5]), whole=np.zeros(4, dtype=bool)
    )
    around = Reach(space=frozen, norm=norm)
    x, points = rng.normal(size=(30, 4)), rng.normal(size=(30, 4)) * 3
    struck = around.strike(
        lambda rows: np.ones(len(rows), dtype=np.int64), x, np.zeros(30, dtype=np.int64), points, 0.7
    )
    moved = (struck.points - x)[:, [0, 1, 3]] / np.array([1.0, 2.0, 0.5])
    order = {"linf": np.inf, "l2": 2, "l1": 1}[norm]
    assert (np.linalg.norm(moved, ord=order, axis=1) <= 0.7 + 1e-9).all()
    assert np.array_equal(struck.points[:, 2], x[:, 2])
    assert struck.fooled.all()
    assert around.violations(x, struck.points, 0.7) == 0
    assert around.violations(x, x + np.array([1.0, 0, 0, 0]), 0.7) == 30
