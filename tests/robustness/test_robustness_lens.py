"""From rows to a module's tensor and back: scaled, encoded and missing cells are followed, mixed ones are refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from auditkit.analyzers.robustness.adversarial import ANALYZER, AdversarialParams
from auditkit.analyzers.robustness.arena import make_grid
from auditkit.analyzers.robustness.lens import find_lens
from auditkit.core.plan import Step
from auditkit.execution.runner import run_step
from auditkit.subjects.build import make_subject
from auditkit.subjects.preparation import fit_table_preparation
from auditkit.subjects.torch import TorchModel


def loans(n=300, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {"income": rng.normal(50, 15, n), "job": rng.choice(["a", "b", "c"], n), "score": rng.normal(0, 2, n)}
    )
    frame.loc[::17, "score"] = np.nan
    return frame


def grid_of(frame):
    y = np.arange(len(frame)) % 2
    model = TorchModel(torch.nn.Linear(5, 2), classes=(0, 1), prepare=fit_table_preparation(frame))
    return make_grid(make_subject(model, frame, y, positive=1).test)


def test_numbers_beside_categories_are_followed_there_and_back():
    frame = loans()
    grid, prepare = grid_of(frame), fit_table_preparation(frame)
    x = grid.encode(frame)
    lens = find_lens(grid, x, prepare)
    flat = prepare(frame).double().numpy()
    income, job, score = 0, 1, 2
    assert lens.column.tolist() == [income, -1, -1, -1, score]
    assert lens.gain[[0, 4]] == pytest.approx([1 / frame["income"].std(ddof=0), 1 / frame["score"].std(ddof=0)], 1e-5)
    moved = x.copy()
    moved[:, income] += 3.0
    moved[:, score] -= 1.0
    seen = lens.apply(moved, flat)
    assert seen == pytest.approx(prepare(grid.decode(moved)).double().numpy(), abs=1e-5)
    back = lens.back(seen, x)
    missing = np.isnan(x[:, score])
    assert back[~missing] == pytest.approx(moved[~missing], abs=1e-4)
    assert np.isnan(back[missing, score]).all()
    assert (back[:, job] == x[:, job]).all()


@pytest.mark.parametrize(
    "bend",
    [
        lambda rows: np.stack([rows["income"] + rows["score"].fillna(0), rows["income"]], axis=1),
        lambda rows: np.stack([rows["income"], rows["income"] * 2], axis=1),
        lambda rows: np.stack([np.abs(rows["income"] - 50), rows["score"].fillna(0)], axis=1),
    ],
    ids=["mixed", "twice", "bent"],
)
def test_a_preparation_that_mixes_or_bends_columns_has_no_lens(bend):
    frame = loans()
    grid = grid_of(frame)
    assert find_lens(grid, grid.encode(frame), lambda rows: torch.tensor(np.asarray(bend(rows), np.float32))) is None


def test_a_linear_model_on_encoded_rows_falls_by_the_closed_form():
    """Gradients reach the numbers of a table with categories and gaps, and move them by eps of their own units."""
    frame = loans()
    prepare = fit_table_preparation(frame)
    module = torch.nn.Linear(5, 2)
    rng = np.random.default_rng(1)
    weight = rng.normal(size=5)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(np.stack([0 * weight, weight])))
        module.bias.zero_()
    flat = prepare(frame).double().numpy()
    margin = flat @ weight
    y = (margin > 0).astype(int)
    subject = make_subject(TorchModel(module, classes=(0, 1), prepare=prepare), frame, y, positive=1)
    step = Step(name=ANALYZER.name, params=AdversarialParams(eps=(0.2,), check_rows=0, max_rows=300), analyzer=ANALYZER)
    outcome = run_step(subject, step)
    (found,) = [m for m in outcome.measurements if m.name == "robustness.accuracy" and not m.slice]
    # By hand: each number goes against the decision by eps of its deviations, as far as the data reaches.
    standing = np.abs(margin).copy()
    for name, at in (("income", 0), ("score", 4)):
        column = frame[name].to_numpy()
        against = -np.sign(weight[at]) * np.sign(margin)
        room = np.where(against > 0, np.nanmax(column) - column, column - np.nanmin(column))
        reach = np.minimum(0.2 * np.nanstd(column), room) / np.nanstd(column)
        standing -= np.where(np.isnan(column), 0.0, np.abs(weight[at]) * reach)
    assert found.params["attack"] == "pgd"
    assert found.value == pytest.approx((standing > 0).mean(), abs=0.004)
    assert 0.5 < found.value < 0.95
    assert found.unreliable is None
