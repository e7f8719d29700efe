"""Classes named for saved predictions: the order of the columns of scores, and classes that do not occur."""

import numpy as np
import pytest

import auditkit


def test_classes_give_the_order_of_the_columns_of_scores():
    labels = np.array(["low", "mid", "top"] * 40)
    order = ["top", "low", "mid"]
    scores = np.array([[0.6 if name == label else 0.2 for name in order] for label in labels])
    report = auditkit.audit_predictions(labels, scores=scores, classes=order, analyzers=["performance"], progress=False)
    assert report.select("performance.accuracy")[0].value == 1.0
    sorted_labels = auditkit.audit_predictions(labels, scores=scores, analyzers=["performance"], progress=False)
    assert sorted_labels.select("performance.accuracy")[0].value == 0.0


def test_one_class_alone_is_refused_until_both_are_named():
    with pytest.raises(auditkit.AuditkitError, match="classes"):
        auditkit.audit_predictions([1, 1], [1, 1], progress=False)
    report = auditkit.audit_predictions([1, 1], [1, 1], classes=[0, 1], analyzers=["performance"], progress=False)
    assert report.select("performance.accuracy")[0].value == 1.0
    assert report.select("performance.roc_auc") == () or report.select("performance.roc_auc")[0].value is None
