"""What cannot be done privately, or cannot be attacked: a status and a sentence, and never an untrue epsilon."""

import numpy as np
import pytest

pytest.importorskip("opacus")
pytest.importorskip("dp_accounting")

import torch

from auditkit.core.plan import make_plan
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject
from auditkit.subjects.recipes import TorchRecipe


def table(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(int)


def linear(outputs):
    return torch.nn.Linear(4, outputs)


def deep(outputs):
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, outputs))


class Idle(torch.nn.Module):
    """A layer that takes no part in the output: no engine has a gradient for it."""

    def __init__(self, outputs):
        super().__init__()
        self.used, self.idle = linear(outputs), torch.nn.Linear(3, 3)

    def forward(self, x):
        return self.used(x)


def recipe(**changes):
    settings = {"name": "r", "build": linear, "epochs": 2, "batch_size": 50, "learning_rate": 0.1}
    return TorchRecipe(**{**settings, **changes})


def outcome(name, settings=None, *, train=None, chosen=None, keep_train=True):
    rows = table(400, 0) if train is None else train
    subject = make_subject(
        torch.nn.Sequential(linear(2)), *table(200, 1), train=rows if keep_train else None, recipe=chosen
    )
    (step,) = make_plan([name], {name: settings or {}}).steps
    return run_step(subject, step, seed=0)


DP = {"epsilons": [8.0], "seeds": 1, "noise_multipliers": {"8": 1.5}}
CASES = {
    "no train data": ("privacy.dp_training", DP, {"chosen": recipe(), "keep_train": False}, "needs train"),
    "no train data, attack": ("privacy.membership", {}, {"keep_train": False}, "needs train"),
    "no recipe": ("privacy.dp_training", DP, {}, "needs private_recipe: there is no recipe that private training"),
    "no recipe, audit": ("privacy.audit", {}, {}, "needs retrain: there is no recipe to train the model afresh"),
    "all rows in both splits": (
        "privacy.membership",
        {},
        {"train": table(200, 1)},
        "AK572 0 members and 0 non-members",
    ),
    "epsilon below the accountant's": (
        "privacy.dp_training",
        {"epsilons": [0.001], "seeds": 1},
        {"chosen": recipe()},
        "AK563 epsilon 0.001 is below what the accountant can resolve",
    ),
    "delta of 1/n": ("privacy.dp_training", {**DP, "delta": 1 / 400}, {"chosen": recipe()}, "AK560 delta = 0.0025"),
    "delta above 1/n, audit": ("privacy.audit", {"delta": 0.1}, {"chosen": recipe()}, "AK560 delta = 0.1"),
    "batch larger than the data": (
        "privacy.dp_training",
        DP,
        {"chosen": recipe(batch_size=500)},
        "AK565 the batch size 500 is larger than the 400 training rows",
    ),
    "a layer without gradients": (
        "privacy.dp_training",
        DP,
        {"chosen": recipe(build=Idle)},
        "AK566 a trainable parameter takes no part in the output",
    ),
    "noise that spends too much": (
        "privacy.dp_training",
        {**DP, "noise_multipliers": {"8": 0.2}},
        {"chosen": recipe()},
        "AK571 noise multiplier 0.2 spends epsilon",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_sentence_and_a_status(case):
    name, settings, given, words = CASES[case]
    found = outcome(name, settings, **given)
    assert found.status in ("failed", "not_applicable")
    assert words in found.reason
    spent = [m for m in found.measurements if m.name == "privacy.epsilon" and m.value is not None]
    # What the accountant says of settings stands even if the model then cannot be followed.
    assert not spent or case == "a layer without gradients"
    rates = [m for m in found.measurements if m.name == "privacy.dp_accuracy" and m.value is not None]
    assert not [m for m in rates if m.params["arm"] != "non-private"]


def test_diverged_training_has_no_accuracy_and_says_why():
    found = outcome("privacy.dp_training", DP, chosen=recipe(build=deep, learning_rate=1e38, epochs=5))
    rates = [m for m in found.measurements if m.name == "privacy.dp_accuracy"]
    assert rates
    plain = next(m for m in rates if m.params["arm"] == "non-private")
    assert plain.value is None
    assert "training diverged" in plain.reason


def test_shadow_data_that_is_too_small_is_a_reason_beside_the_thresholds():
    found = outcome("privacy.membership", {"shadows": 4, "max_rows": 12}, chosen=recipe())
    by_attack = {m.params["attack"]: m for m in found.measurements if m.name == "privacy.membership_auc"}
    assert by_attack["loss"].value is not None
    assert by_attack["rmia"].value is None
    assert "AK620 the data is too small for shadow models" in by_attack["rmia"].reason
