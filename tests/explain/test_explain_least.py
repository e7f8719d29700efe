"""No rows, an empty background, values that are not finite, one row of huge values: a sentence, no wrong number."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeRegressor
from torch import nn

from auditkit.core.errors import UsageError
from auditkit.methods.explain.additivity import checked
from auditkit.methods.explain.captum_engine import gradient_attribution, integrated_gradients, smooth_grad
from auditkit.methods.explain.differentiable import Differentiated
from auditkit.methods.explain.disparity import score_bins
from auditkit.methods.explain.effects import Rows, accumulated_local_effects, partial_dependence
from auditkit.methods.explain.expected_gradients import expected_gradients
from auditkit.methods.explain.faithfulness import remove_in_order
from auditkit.methods.explain.hooked import deep_lift, grad_cam, guided_grad_cam
from auditkit.methods.explain.importance import attribution_density, importance
from auditkit.methods.explain.interactions import pair_effects
from auditkit.methods.explain.occlusion import occlusion
from auditkit.methods.explain.permuted import permutation_losses
from auditkit.methods.explain.shapley import shapley_values
from auditkit.methods.explain.tree_models import read_trees
from auditkit.methods.explain.tree_shap import tree_shapley

NONE = "AK500 there are no rows to explain, or the background is empty"
RNG = np.random.default_rng(0)
GRID = np.array([0.0, 1.0])


def net(inputs, images=False):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    if images:
        module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    module = module.eval()
    return Differentiated(module=module, forward=module, targets=np.zeros(len(inputs), dtype=np.int64))


BY_GRADIENT = {
    "saliency": lambda x: gradient_attribution(net(x), x, "saliency"),
    "input x gradient": lambda x: gradient_attribution(net(x), x, "input_x_gradient"),
    "integrated gradients": lambda x: integrated_gradients(net(x), x, torch.zeros(1, 5)),
    "SmoothGrad": lambda x: smooth_grad(net(x), x, torch.Generator().manual_seed(0)),
    "expected gradients": lambda x: expected_gradients(net(x), x, torch.randn(4, 5)),
    "DeepLift": lambda x: deep_lift(net(x), x, torch.zeros(1, 5)),
    "occlusion": lambda x: occlusion(net(x), x, torch.zeros(1, 5), window=(1,), stride=(1,)),
}
MAPS = {"GradCAM": grad_cam, "guided GradCAM": guided_grad_cam}


def total(matrix):
    return np.asarray(matrix, dtype=float).sum(axis=1)


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_no_rows_are_no_inputs_of_a_gradient(method):
    with pytest.raises(UsageError, match=NONE):
        BY_GRADIENT[method](torch.zeros(0, 5))


@pytest.mark.parametrize("method", MAPS)
def test_no_images_have_no_map(method):
    images = torch.zeros(0, 1, 5, 5)
    subject = net(images, images=True)
    with pytest.raises(UsageError, match=NONE):
        MAPS[method](subject, images, subject.module[0])


@pytest.mark.parametrize("method", BY_GRADIENT)
def test_a_row_whose_output_is_not_finite_is_failed_and_says_so(method):
    rows = torch.randn(3, 5)
    assert BY_GRADIENT[method](rows).status != "failed"
    rows[1, 2] = float("nan")
    found = BY_GRADIENT[method](rows)
    assert found.status == "failed"
    assert found.reason == "the model gave outputs that are not finite"


@pytest.mark.parametrize(("n", "b"), [(0, 3), (2, 0)])
def test_trees_without_rows_or_background_are_refused(n, b):
    x = RNG.normal(size=(40, 5))
    ensemble, _ = read_trees(DecisionTreeRegressor(random_state=0).fit(x, total(x)))
    with pytest.raises(UsageError, match=NONE):
        tree_shapley(ensemble, x[:n], x[10 : 10 + b], np.arange(5), 5)
    with pytest.raises(UsageError, match=NONE):
        shapley_values(total, x[:n], x[10 : 10 + b], budget=1000)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: importance(np.abs(x), RNG),
        lambda x: partial_dependence(total, Rows(matrix=x), 0, GRID),
        lambda x: accumulated_local_effects(total, Rows(matrix=x), 0, GRID, RNG),
        lambda x: pair_effects(total, x, [(0,), (1,)]),
        lambda x: remove_in_order(lambda rows, removed: total(x[rows]), {"own": x}, RNG),
    ],
)
def test_global_views_of_no_rows_are_refused(view):
    with pytest.raises(UsageError, match=NONE):
        view(np.zeros((0, 5)))
    view(np.ones((2, 5)))


def test_a_column_without_any_value_has_no_accumulated_effect():
    rows = np.full((4, 5), np.nan)
    with pytest.raises(UsageError, match=NONE):
        accumulated_local_effects(lambda m: np.nan_to_num(m).sum(axis=1), Rows(matrix=rows), 0, GRID, RNG)


def test_shuffles_and_bins_of_too_little():
    with pytest.raises(UsageError, match="AK500 a shuffle needs two rows"):
        permutation_losses(total, np.ones((1, 2)), [(0,)], RNG)
    assert score_bins(np.zeros(0)).tolist() == []


def test_attributions_that_are_not_finite_have_no_mean():
    values = np.array([[1.0, np.nan], [2.0, 3.0]])
    with pytest.raises(UsageError, match="AK500 the attributions hold values that are not finite"):
        importance(np.abs(values), RNG)
    with pytest.raises(UsageError, match="AK500 the attributions hold values that are not finite"):
        attribution_density("d", "t", values, np.ones((2, 2)), ("a", "b"))


def test_one_row_of_huge_values_hides_no_gap_of_the_others():
    """Gradients of rounded inputs are no derivative: rows of ordinary size miss their change by a lot of it."""

    class Rounded(nn.Module):
        def forward(self, x):
            steps = x + (x.round() - x).detach()
            return (steps * torch.tensor([1.0, 2.0, 3.0])).sum(dim=1, keepdim=True)

    module = Rounded()
    rows = torch.tensor([[0.6, 0.6, 0.6], [1.4, 1.4, 1.4], [0.6, 1.4, 0.6]])
    huge = torch.full((1, 3), 1e6)

    def path(inputs, tolerance=0.01):
        subject = Differentiated(module=module, forward=module, targets=np.zeros(len(inputs), dtype=np.int64))
        return integrated_gradients(subject, inputs, torch.zeros(1, 3), tolerance=tolerance, max_steps=16)

    assert path(huge).status != "failed"
    assert path(rows).status == "failed"
    together = path(torch.cat([rows, huge]))
    assert together.status == "failed"
    assert "miss the change of the output by" in together.reason


def test_one_row_of_huge_values_hides_no_residual_of_the_others():
    x = RNG.normal(size=(5, 4))
    x[4] = 1e9
    found = shapley_values(total, x, np.zeros((2, 4)), budget=1000)
    assert found.status == "exact"
    values = found.values.copy()
    values[0, 0] += 0.5
    wrong = checked(dataclasses.replace(found, values=values))
    assert wrong.status == "failed"
    assert "miss the model's own output by 0.5" in wrong.reason


class Tent(nn.Module):
    """Rises to 1 and falls to 0 for good: far rows have the baseline's own output, and values that cancel."""

    def forward(self, x):
        return torch.relu(1.0 - (x.sum(dim=1, keepdim=True) - 1.0).abs())


class Twins(nn.Module):
    """Large terms that cancel in single precision: most outputs are rounding."""

    def forward(self, x):
        return (x @ torch.tensor([[1000.0 / 3.0], [-1000.0 / 3.0]], dtype=x.dtype))[:, :1]


@pytest.mark.parametrize("method", [integrated_gradients, deep_lift])
def test_most_rows_without_any_change_do_not_fail_for_rounding(method):
    torch.manual_seed(0)
    rows = torch.cat([0.3 * torch.rand(3, 3), 1.0 + 0.3 * torch.rand(7, 3)])
    module = Tent().eval()
    assert (module(rows)[3:] == 0).all()
    subject = Differentiated(module=module, forward=module, targets=np.zeros(10, dtype=np.int64))
    found = method(subject, rows, torch.zeros(1, 3))
    assert found.status != "failed", found.reason
    assert found.diagnostics["completeness_limit"] < 0.01


@pytest.mark.parametrize("method", [integrated_gradients, deep_lift, expected_gradients])
def test_large_values_that_cancel_may_miss_what_single_precision_leaves(method):
    torch.manual_seed(0)
    twin = torch.rand(10, 1)
    rows = torch.cat([twin, twin * (1 + 1e-7)], dim=1)
    rows[:3, 1] = torch.rand(3)
    module = Twins().eval()
    subject = Differentiated(module=module, forward=module, targets=np.zeros(10, dtype=np.int64))
    found = method(subject, rows, torch.rand(1, 1).repeat(1, 2))
    assert found.status == "exact", found.reason
    gap = np.abs(found.values[..., 0].sum(axis=1) - (found.prediction - found.base_values)[:, 0])
    assert gap.max() > 0.0


def test_outputs_that_are_not_finite_hide_no_residual():
    found = shapley_values(total, RNG.normal(size=(3, 4)), np.zeros((2, 4)), budget=1000)
    for value in (np.nan, np.inf):
        prediction = found.prediction.copy()
        prediction[1], prediction[2] = value, 50.0
        wrong = checked(dataclasses.replace(found, prediction=prediction))
        assert wrong.status == "failed"
        assert wrong.reason == "the model gave outputs that are not finite"


def test_a_background_of_one_row_is_one_row():
    one = shapley_values(total, np.ones((2, 4)), np.zeros((1, 4)), budget=1000)
    assert one.params["background_use"] == "the one background row for every row"
    rows = torch.randn(3, 5)
    assert expected_gradients(net(rows), rows, rows[:1]).params["background_use"] == "the one background row"
