"""The learned membership attack of the Adversarial Robustness Toolbox, on scores that are there already."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from auditkit.methods.art import load, quiet

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
ArtModel = Literal["rf", "gb", "lr", "dt", "knn", "svm", "nn"]


def art_black_box(
    scores: FloatArray, y: IntArray, member: BoolArray, *, model: ArtModel, seed: int
) -> tuple[FloatArray, BoolArray]:
    """Train ``MembershipInferenceBlackBox`` on half of the rows and attack the others.

    Args:
        scores: ``(n, k)`` scores of the model under attack.
        y: ``(n,)`` true class codes.
        member: ``(n,)`` which rows the model was trained on; the attack learns from half of them.
        model: What the attack learns with: random forest, gradient boosting, logistic regression, decision tree,
            nearest neighbours, support vectors, neural network.
        seed: Of the split and the attack.

    Returns:
        Chance of membership ``(attacked,)``, and the rows ``(n,)`` that were attacked.

    Source: Nicolae et al. (2018), Adversarial Robustness Toolbox; Shokri et al. (2017) for the attack.
    """
    boxes = load("art.attacks.inference.membership_inference.black_box")
    wrapper = load("art.estimators.classification.blackbox")
    order = np.lexsort((np.random.default_rng(seed).random(len(member)), member))
    known = np.zeros(len(member), dtype=np.bool_)
    known[order[0::2]] = True

    def nothing(_: Any) -> Any:
        raise AssertionError("the attack is given its predictions")

    with quiet(seed):
        estimator = wrapper.BlackBoxClassifier(nothing, input_shape=(1,), nb_classes=scores.shape[1])
        attack = boxes.MembershipInferenceBlackBox(estimator, attack_model_type=model)
        inside, outside = known & member, known & ~member
        attack.fit(y=y[inside], pred=scores[inside], test_y=y[outside], test_pred=scores[outside])
        chance = attack.infer(None, y[~known], pred=scores[~known], probabilities=True)
    found = np.asarray(chance, dtype=np.float64).reshape(int((~known).sum()), -1)
    return found[:, -1], ~known
