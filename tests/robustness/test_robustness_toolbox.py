"""ART's attacks, certificates and CLEVER on torch models: closed forms on linear models, state, bad input."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from auditkit.core.errors import UsageError
from auditkit.methods.robustness.art_torch import ATTACKS, UNUSABLE, clever_scores, smoothed_radius, toolbox_attack

WEIGHT = torch.tensor([[3.0, -1.0, 2.0, 0.5], [-3.0, 1.0, -2.0, -0.5]])


def linear(x):
    return (x - 0.5) @ WEIGHT.T.to(x.dtype)


def rows(n=6):
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(n, 4, generator=generator)
    return x, linear(x).argmax(dim=1)


def distances(x, order=2):
    gap = WEIGHT[0] - WEIGHT[1]
    return ((x - 0.5) @ gap).abs() / torch.linalg.vector_norm(gap, ord=order)


# How far past the nearest point of the hyperplane each attack may end.
SLACK = {"deepfool": 1.02, "carlini-l2": 1.3, "boundary": 1.5, "zoo": 4.0}


@pytest.mark.parametrize("attack", SLACK)
def test_distances_are_those_to_the_hyperplane_or_a_little_more(attack):
    x, y = rows(4)
    found = toolbox_attack(linear, x, y, attack=attack, eps=1.0)
    assert found.fooled.all()
    ratio = found.distance / distances(x)
    assert float(ratio.min()) >= 1.0 - 1e-4
    assert float(ratio.median()) <= SLACK[attack]
    assert found.invalid is None
    assert torch.equal(linear(found.adversarial).argmax(dim=1) != y, found.fooled)
    assert float(found.adversarial.min()) >= 0.0
    assert float(found.adversarial.max()) <= 1.0


@pytest.mark.slow
def test_linf_attack_reaches_the_dual_distance():
    x, y = rows(4)
    found = toolbox_attack(linear, x, y, attack="carlini-linf", eps=1.0, norm="linf")
    assert found.fooled.all()
    assert float((found.distance / distances(x, 1)).min()) >= 1.0 - 1e-4


def test_a_point_beyond_eps_is_no_success():
    x, y = rows()
    near = distances(x)
    eps = float(near.median())
    found = toolbox_attack(linear, x, y, attack="deepfool", eps=eps)
    assert found.fooled.all()
    assert torch.equal(found.success, found.distance <= eps * (1 + 1e-6))
    assert 0 < int(found.success.sum()) < len(x)
    assert not (found.success & (near > eps)).any()


def test_an_attack_that_moves_nothing_is_invalid_and_not_robust():
    x, y = rows(2)
    still = {"learning_rate": 1e-12, "max_iter": 1, "binary_search_steps": 1}
    found = toolbox_attack(linear, x, y, attack="zoo", eps=1.0, settings=still)
    assert not found.fooled.any()
    assert "moved no row" in found.invalid
    assert found.moved == 0.0


def test_rows_that_are_wrong_already_stay_and_eps_zero_is_clean_accuracy():
    x, y = rows()
    y[0] = 1 - y[0]
    found = toolbox_attack(linear, x, y, attack="deepfool", eps=0.5)
    assert found.fooled[0]
    assert float(found.distance[0]) == 0.0
    none = toolbox_attack(linear, x, y, attack="deepfool", eps=0.0)
    assert none.success.tolist() == [True] + [False] * 5
    assert none.invalid is None
    empty = toolbox_attack(linear, x[:0], y[:0], attack="deepfool", eps=0.5)
    assert len(empty.success) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("attack", ["deepfool", "boundary"])
def test_models_of_other_precisions(attack, dtype):
    net = torch.nn.Linear(4, 2)
    with torch.no_grad():
        net.weight.copy_(WEIGHT)
        net.bias.copy_(-WEIGHT @ torch.full((4,), 0.5))
    x, _ = rows(4)
    net, x = net.to(dtype), x.to(dtype)
    y = net(x).argmax(dim=1)
    found = toolbox_attack(net, x, y, attack=attack, eps=1.0)
    assert found.adversarial.dtype == dtype
    assert found.fooled.float().mean() >= 0.75


def test_nothing_of_the_model_or_the_generators_is_changed():
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    net.train()
    net[0].weight.grad = torch.ones_like(net[0].weight)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x, y = rows()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    toolbox_attack(net, x, y, attack="deepfool", eps=0.5)
    smoothed_radius(net, x[:2], sigma=0.1, draws=20)
    assert net.training
    assert all(part.training for part in net.modules())
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))
    assert net[3].weight.grad is None
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_certified_radius_never_exceeds_the_distance_of_a_linear_model():
    x, y = rows()
    classes, radii = smoothed_radius(linear, x, sigma=0.25, draws=2000)
    decided = classes >= 0
    assert int(decided.sum()) >= 4
    assert torch.equal(classes[decided], y[decided])
    true = distances(x).double()
    assert bool((radii <= true).all())
    assert float((radii[decided] / true[decided]).median()) > 0.6
    assert bool((radii[~decided] == 0).all())


def test_clever_of_a_linear_model_is_its_distance():
    x, _ = rows(3)
    found = clever_scores(linear, x, radius=5.0)
    np.testing.assert_allclose(found.numpy(), distances(x).numpy(), rtol=0.02)
    assert float(clever_scores(linear, x, radius=1e-3).max()) <= 1e-3 + 1e-9


@pytest.mark.parametrize("name", [*UNUSABLE, "nonsense"])
def test_what_is_not_offered_says_why(name):
    x, y = rows(2)
    with pytest.raises(UsageError, match="AK515") as caught:
        toolbox_attack(linear, x, y, attack=name, eps=0.1)
    assert UNUSABLE.get(name, "not known") in str(caught.value)
    assert name not in ATTACKS


@pytest.mark.parametrize(
    "call",
    [
        lambda x: smoothed_radius(linear, x, sigma=0.0),
        lambda x: smoothed_radius(linear, x, sigma=0.1, alpha=1.0),
        lambda x: clever_scores(linear, x, radius=0.0),
    ],
)
def test_settings_out_of_range_are_told(call):
    with pytest.raises(UsageError, match="AK516"):
        call(rows(2)[0])


def test_importing_the_toolbox_writes_nothing_at_home(tmp_path):
    code = "import os; from auditkit.methods.art import load; load('art.config'); print(os.environ['HOME'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(tmp_path)
    assert not (tmp_path / ".art").exists()
