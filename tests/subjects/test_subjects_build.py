"""Data of every kind in, coded refusals out; core dependencies only."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from auditkit.core.capability import capabilities
from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.evidence import MISSING_GROUP
from auditkit.core.subject import DecidesFromScores, Feature, Model, Schema
from auditkit.subjects.build import make_predictions_subject, make_subject
from auditkit.subjects.callable import CallableModel
from auditkit.subjects.facts import subject_facts
from auditkit.subjects.labels import encode_labels, positive_code

pytestmark = pytest.mark.core_only

N = 40
RNG = np.random.default_rng(0)
X = pd.DataFrame({"a": RNG.normal(size=N), "b": RNG.integers(0, 9, N), "c": RNG.choice(["u", "v"], N)})
Y = (X["a"] > 0).astype(int).to_numpy()


def score(inputs) -> np.ndarray:
    a = (
        inputs["a"].to_numpy()
        if hasattr(inputs, "columns")
        else np.asarray(inputs, dtype=float).reshape(len(inputs), -1)[:, 0]
    )
    return 1 / (1 + np.exp(-a))


def subject(**changes):
    return make_subject(**({"model": score, "X": X, "y": Y} | changes))


# ---- callables -------------------------------------------------------------------------------------------------------


def test_a_function_of_probabilities_is_a_model() -> None:
    made = subject()
    assert isinstance(made.model, Model)
    assert made.model.score_space == "probability"
    assert np.array_equal(made.model.predict_scores(X)[:, 1], score(X))
    assert np.array_equal(made.model.predict(X), Y)
    assert made.positive == 1
    assert made.model.fingerprint is None
    score.fingerprint = "v1"
    try:
        assert subject().model.fingerprint == "v1"
    finally:
        del score.fingerprint


def test_functions_of_labels_logits_and_values() -> None:
    labels = subject(model=lambda rows: np.where(rows["a"] > 0, "yes", "no"), y=np.where(Y == 1, "yes", "no"))
    assert labels.model.score_space is None
    assert "scores" not in capabilities(labels)
    assert np.array_equal(labels.model.predict(X), Y)
    with pytest.raises(UsageError, match="AK216 .*gives labels only"):
        labels.model.predict_scores(X)
    with pytest.raises(UsageError, match=r"AK215 what the callable returns cannot be told(.|\n)*CallableModel"):
        subject(model=lambda rows: rows["a"].to_numpy())
    logits = subject(model=CallableModel(lambda rows: rows["a"].to_numpy(), classes=(0, 1), output="logit"))
    assert np.array_equal(logits.model.predict_scores(X)[:, 0], np.zeros(N))
    assert np.array_equal(logits.model.predict(X), Y)
    margin = CallableModel(lambda rows: rows["a"].to_numpy(), classes=(0, 1), output="margin").predict_scores(X)
    assert np.array_equal(margin[:, 0], -margin[:, 1])
    values = subject(model=lambda rows: rows["a"].to_numpy(), y=X["a"])
    assert values.task == "regression"
    assert values.classes == ()
    three = subject(model=lambda rows: np.full((len(rows), 3), 1 / 3))
    assert three.classes == ("0", "1", "2")
    assert three.task == "multiclass"


def test_a_threshold_decides_and_one_pass_gives_both() -> None:
    model = CallableModel(score, classes=(0, 1), threshold=0.8)
    assert isinstance(model, DecidesFromScores)
    assert np.array_equal(model.predict(X), (score(X) >= 0.8).astype(int))
    assert np.array_equal(model.decide(model.predict_scores(X)), model.predict(X))
    value = CallableModel(lambda rows: rows["a"].to_numpy(), task="regression")
    assert np.array_equal(value.decide(value.predict_scores(X)), X["a"])
    with pytest.raises(UsageError, match="AK215 threshold=0.5 does not apply"):
        CallableModel(score, classes=(0, 1), output="margin", threshold=0.5)


@pytest.mark.parametrize(
    ("outputs", "why"),
    [
        (lambda n: np.full((n - 1, 2), 0.5), r"40 rows went in: outputs of shape \(40,\) or \(40, classes\)"),
        (lambda n: np.zeros((n, 2, 2)), "40 rows went in"),
        (lambda n: None, "40 rows went in"),
        (lambda n: np.full((n, 2), np.nan), "NaN or infinite values"),
        (lambda n: np.full((n, 2), 7.0), "neither probabilities nor labels"),
    ],
)
def test_outputs_that_cannot_be_told_say_why(outputs, why) -> None:
    with pytest.raises(UsageError, match=rf"AK215 what the callable returns(.|\n)*{why}"):
        subject(model=lambda rows: outputs(len(rows)))


def test_a_sparse_matrix_is_named_with_the_way_out() -> None:
    with pytest.raises(UsageError, match=r"AK208 X is a sparse matrix(.|\n)*toarray"):
        subject(X=scipy.sparse.csr_matrix(np.ones((N, 2))))


def test_a_function_that_misbehaves_is_a_coded_error() -> None:
    with pytest.raises(AuditkitError, match=r"AK210(.|\n)*KeyError"):
        subject(model=lambda rows: rows["zz"])
    with pytest.raises(UsageError, match="AK215 there is no output 'probs'"):
        CallableModel(score, classes=(0, 1), output="probs")
    with pytest.raises(UsageError, match="AK217 the classes of a callable"):
        CallableModel(score)
    with pytest.raises(UsageError, match="AK215 builtins.int is not a model that auditkit knows"):
        subject(model=3)
    with pytest.raises(AuditkitError, match="AK214"):
        subject(model=CallableModel(lambda rows: np.full((len(rows), 2), 0.9), classes=(0, 1)))


# ---- labels, task, positive class ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y",
    [
        Y.tolist(),
        Y.astype(float),
        Y.astype(bool),
        Y.astype(str),
        pd.Series(Y).astype("category"),
        pd.Series(Y).astype("Int64"),
        pd.DataFrame({"y": Y}),
        Y[:, None],
        Y.astype(object),
    ],
    ids=range(9),
)
def test_labels_of_any_dtype_become_codes(y) -> None:
    made = subject(model=CallableModel(score, classes=(0, 1)), y=y)
    assert made.test.y.dtype == np.int64
    assert np.array_equal(made.test.y, Y)


def test_the_positive_class_is_never_guessed_among_words() -> None:
    assert positive_code(("0", "1"), None) == 1
    assert positive_code(("1", "0"), None) == 0
    assert positive_code(("1", "2"), None) == 1
    assert positive_code(("-1", "1"), None) == 1
    assert positive_code(("False", "True"), None) == 1
    assert positive_code(("True", "False"), None) == 0
    assert positive_code(("Yes", "No"), None) == 0
    assert positive_code(("0", "1"), True) == 1
    assert positive_code(("bad", "good"), "bad") == 0
    with pytest.raises(
        UsageError, match=r"AK209 which of 'bad' and 'good' is the positive class(.|\n)*positive='good'"
    ):
        positive_code(("bad", "good"), None)
    with pytest.raises(UsageError, match=r"AK209 the positive class 'god' is not among(.|\n)*did you mean 'good'"):
        positive_code(("bad", "good"), "god")
    with pytest.raises(UsageError, match="AK209 positive= is for binary tasks; this one is multiclass"):
        subject(model=lambda rows: np.full((len(rows), 3), 1 / 3), positive=1)


def test_labels_that_cannot_be_are_refused() -> None:
    model = CallableModel(score, classes=(0, 1))
    holes = pd.Series(Y).astype("Int64")
    holes[3] = pd.NA
    with pytest.raises(UsageError, match="AK203 1 of 40 labels are missing"):
        subject(model=model, y=holes)
    with pytest.raises(UsageError, match=r"AK204 labels that the model does not know: '2'(.|\n)*'0', '1'"):
        subject(model=model, y=np.where(Y == 1, 2, 0))
    with pytest.raises(UsageError, match="AK208 y has 2 columns"):
        subject(y=pd.DataFrame({"a": Y, "b": Y}))
    with pytest.raises(UsageError, match=r"AK208 y has shape \(40, 2\)"):
        subject(y=np.eye(2)[Y])
    with pytest.raises(UsageError, match="AK203 1 of 40 target values are missing"):
        subject(model=lambda rows: rows["a"].to_numpy(), y=X["a"].where(X.index != 3), task="regression")
    with pytest.raises(UsageError, match="AK204 the target of a regression is not numbers"):
        subject(model=lambda rows: rows["a"].to_numpy(), y=X["c"], task="regression")
    with pytest.raises(UsageError, match=r"AK216 task='regression' does not fit"):
        subject(model=model, task="regression")
    with pytest.raises(UsageError, match="AK216 there is no task 'binry'(.|\n)*did you mean 'binary'"):
        subject(task="binry")
    with pytest.raises(UsageError, match="AK217 two classes have the same name: 1"):
        CallableModel(score, classes=(1, "1"))


def test_one_class_in_y_and_one_row_are_allowed() -> None:
    model = CallableModel(score, classes=(0, 1))
    assert subject(model=model, y=np.zeros(N, dtype=int)).test.y.sum() == 0
    one = subject(model=model, X=X.iloc[:1], y=Y[:1], sensitive={"sex": ["F"]})
    assert one.test.n == 1
    assert encode_labels([], ("0", "1"), where="y").tolist() == []


# ---- inputs ----------------------------------------------------------------------------------------------------------


def test_inputs_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="AK200 X has no rows"):
        subject(X=X.iloc[:0], y=Y[:0])
    with pytest.raises(UsageError, match="AK201 y has 39 rows where X has 40"):
        subject(y=Y[:-1])
    with pytest.raises(UsageError, match="AK207 two columns have the same name: 'a'"):
        subject(
            X=X.rename(columns={"b": "a"}), model=CallableModel(lambda rows: np.full(len(rows), 0.5), classes=(0, 1))
        )
    with pytest.raises(UsageError, match="AK208 X has no columns"):
        subject(X=X[[]])
    with pytest.raises(UsageError, match=r"AK208 X has shape \(40,\)"):
        subject(X=np.zeros(N))
    with pytest.raises(UsageError, match="AK208 X is an array of object"):
        subject(X=X.to_numpy())
    with pytest.raises(UsageError, match="AK208 X is one string"):
        subject(X="text")
    with pytest.raises(UsageError, match="AK208 column 'd' cannot be a feature"):
        subject(X=X.assign(d=[[1]] * N))
    with pytest.raises(UsageError, match="AK208 column 'd' cannot be a feature"):
        subject(X=X.assign(d=np.full(N, 1j)))
    with pytest.raises(UsageError, match="AK208 there is no modality 'images'(.|\n)*did you mean 'image'"):
        subject(modality="images")
    with pytest.raises(UsageError, match=r"AK208 inputs of shape \(40, 3\) are not of modality 'image'"):
        subject(modality="image")


def test_modalities_by_shape_and_type() -> None:
    flat = CallableModel(score, classes=(0, 1))
    assert subject(model=flat, X=np.zeros((N, 3))).test.modality == "tabular"
    assert subject(model=flat, X=np.zeros((N, 5, 5))).test.modality == "image"
    assert subject(model=flat, X=np.ones((N, 3, 5, 5), dtype=np.uint8)).test.schema["pixel"].high == 255.0
    assert subject(model=flat, X=np.ones((N, 5), dtype=int)).test.modality == "tabular"
    tokens = subject(model=flat, X=np.arange(N * 2).reshape(N, 2), modality="sequence").test
    assert (tokens.schema["token"].low, tokens.schema["token"].high) == (0.0, 79.0)
    texts = CallableModel(lambda rows: np.full(len(rows), 0.5), classes=(0, 1))
    assert subject(model=texts, X=["a b"] * N).test.inputs == ["a b"] * N
    assert subject(model=texts, X=pd.Series(["a b"] * N)).test.modality == "text"
    with pytest.raises(UsageError, match="AK208 X is an array of object"):
        subject(model=texts, X=["a", None] * 20)


def test_feature_kinds_bounds_and_groups() -> None:
    frame = X.assign(
        flag=X["a"] > 0,
        when=pd.date_range("2020-01-01", periods=N),
        note=[f"text {i}" for i in range(N)],
        many=[f"id {i % 60}" for i in range(N)],
        cat=pd.Categorical(["x"] * N, categories=["y", "x"]),
        nullable=pd.array([1, None] * 20, dtype="Int64"),
        span=pd.to_timedelta(np.arange(N), unit="h"),
        empty=np.nan,
    )
    rich = subject(X=frame).test.schema
    assert {name: rich[name].kind for name in rich.names} == {
        "a": "numeric",
        "b": "integer",
        "c": "categorical",
        "flag": "boolean",
        "when": "datetime",
        "note": "categorical",  # 40 distinct values are not yet text
        "many": "categorical",
        "cat": "categorical",
        "nullable": "integer",
        "span": "numeric",
        "empty": "numeric",
    }
    assert (rich["b"].low, rich["b"].high) == (float(X["b"].min()), float(X["b"].max()))
    assert rich["c"].categories == ("u", "v")
    assert rich["cat"].categories == ("y", "x")
    assert rich["when"].low == pd.Timestamp("2020-01-01").timestamp()
    assert rich["empty"].low is None
    big = pd.concat([frame] * 3, ignore_index=True).assign(note=[f"text {i}" for i in range(3 * N)])
    assert subject(X=big, y=np.tile(Y, 3)).test.schema["note"].kind == "text"


def test_bounds_cover_the_training_rows() -> None:
    wide = X.assign(a=X["a"] * 10, c="w")
    made = subject(train=(wide, Y))
    assert made.train.schema == made.test.schema
    assert made.test.schema["a"].high == max(float(wide["a"].max()), float(X["a"].max()))
    assert set(made.test.schema["c"].categories) == {"u", "v", "w"}


def test_one_hot_groups_are_found_and_look_alikes_are_not() -> None:
    codes = RNG.integers(0, 3, N)
    hot = pd.DataFrame(
        {f"job_{name}": (codes == k).astype(int) for k, name in enumerate(["blue_collar", "admin", "x"])}
    )
    other = pd.DataFrame({"has_car": (codes > 0).astype(int), "has_home": (codes > 1).astype(int)})
    schema = subject(X=pd.concat([X, hot, other], axis=1)).test.schema
    assert {schema[name].group for name in hot} == {"job"}
    assert {schema[name].kind for name in hot} == {"onehot"}
    assert {schema[name].kind for name in other} == {"integer"}
    train = pd.concat([X, hot.assign(job_x=1), other], axis=1)
    broken = subject(X=pd.concat([X, hot, other], axis=1), train=(train, Y)).test.schema
    assert {broken[name].kind for name in hot} == {"integer"}


def test_the_schema_can_be_overridden() -> None:
    made = subject(
        schema={
            "b": "categorical",
            "a": {"low": -9, "high": 9, "immutable": True},
            "c": Feature("c", "text") if 0 else "text",
        }
    )
    assert made.test.schema["b"].kind == "categorical"
    assert made.test.schema["a"] == Feature(name="a", kind="numeric", low=-9, high=9, immutable=True)
    assert made.test.schema["c"].kind == "text"
    whole = Schema(
        (Feature(name="a", kind="numeric", low=-1.0), Feature(name="b", kind="integer"), Feature(name="c", kind="text"))
    )
    assert subject(schema=whole).test.schema["a"].low == -1.0
    assert subject(schema={"b": Feature(name="b", kind="integer", immutable=True)}).test.schema["b"].immutable
    for wrong, text in (
        ({"bb": "numeric"}, "AK225 the schema names a column that is not there: 'bb'(.|\n)*did you mean 'b'"),
        ({"b": "numerical"}, "AK225 schema of 'b': there is no kind 'numerical'(.|\n)*did you mean 'numeric'"),
        ({"b": {"lo": 1}}, "AK225 schema of 'b' has no field 'lo'(.|\n)*did you mean 'low'"),
        ({"b": {"low": 2, "high": 1}}, "AK225 schema of 'b': low is above high"),
        ({"b": 3}, "AK225 schema of 'b': give a kind"),
        ([1], "AK225 schema= must be a mapping"),
        (Schema(whole.features[:2]), "AK225 the schema and the data differ in columns: c"),
    ):
        with pytest.raises(UsageError, match=text):
            subject(schema=wrong)
    with pytest.raises(UsageError, match="AK225 schema= is for tables"):
        subject(model=CallableModel(score, classes=(0, 1)), X=np.zeros((N, 4, 4)), schema={"pixel": "pixel"})


def test_train_must_fit_test() -> None:
    made = subject(train=(X, Y, {"sex": ["F", "M"] * 20}))
    assert made.train.sensitive["sex"].tolist() == ["F", "M"] * 20
    with pytest.raises(UsageError, match="AK244 train= is not a pair"):
        subject(train=X)
    with pytest.raises(UsageError, match="AK244 the training inputs do not have the columns"):
        subject(train=(X[["a", "b"]], Y))
    with pytest.raises(UsageError, match="AK203 1 of 40 labels"):
        subject(train=(X, [None, *Y[1:]]))


# ---- alignment -------------------------------------------------------------------------------------------------------


def test_pandas_objects_follow_the_index() -> None:
    order = RNG.permutation(N)
    named = X.set_index(pd.Index([f"row {i}" for i in range(N)]))
    y = pd.Series(Y, index=named.index)
    sex = pd.Series(["F", "M"] * 20, index=named.index, name="sex")
    weights = pd.Series(np.arange(1.0, N + 1), index=named.index)
    straight = subject(X=named, y=y, sensitive=sex, weights=weights, clusters=sex)
    moved = subject(
        X=named,
        y=y.iloc[order],
        sensitive=sex.iloc[order[::-1]].to_frame(),
        weights=weights.iloc[order],
        clusters=sex.iloc[order],
    )
    assert np.array_equal(moved.test.y, Y)
    assert moved.test.sensitive["sex"].tolist() == ["F", "M"] * 20
    assert np.array_equal(moved.test.weights, np.arange(1.0, N + 1))
    assert moved.test.fingerprint == straight.test.fingerprint


def test_arrays_go_by_position_and_strange_indexes_are_refused() -> None:
    made = subject(X=X.set_index(pd.Index(range(100, 100 + N))), y=Y, sensitive={"sex": np.array(["F", "M"] * 20)})
    assert np.array_equal(made.test.y, Y)
    with pytest.raises(UsageError, match=r"AK202 the index of y does not match the index of X(.|\n)*y.to_numpy\(\)"):
        subject(y=pd.Series(Y, index=range(1, N + 1)))
    with pytest.raises(UsageError, match="AK202 the index of sensitive does not match"):
        subject(sensitive=pd.Series(["F"] * N, index=range(5, N + 5), name="sex"))
    twice = pd.Index([0] * N)
    assert subject(X=X.set_index(twice), y=pd.Series(Y, index=twice)).test.n == N
    with pytest.raises(UsageError, match="AK202(.|\n)*an index with repeats"):
        subject(X=X.set_index(twice), y=pd.Series(Y))
    array = X[["a", "b"]].to_numpy(dtype=float)
    late = pd.Series(Y, index=range(7, N + 7))
    assert subject(X=array, y=late, sensitive=pd.Series(["F"] * N, index=late.index[::-1], name="s")).test.n == N


def test_sensitive_columns_of_every_form() -> None:
    values = [1, None, 2.0, "", "x"] * 8
    made = subject(sensitive=pd.DataFrame({"g": values, "flag": [True, False] * 20})).test.sensitive
    assert made["g"].tolist() == ["1", MISSING_GROUP, "2", MISSING_GROUP, "x"] * 8
    assert made["flag"].tolist() == ["True", "False"] * 20
    assert made["g"].dtype.kind == "U"
    assert subject(sensitive=["c"]).test.sensitive["c"].tolist() == X["c"].tolist()
    assert list(subject(sensitive="c").test.sensitive) == ["c"]
    assert list(subject(sensitive=["F", "M"] * 20).test.sensitive) == ["sensitive"]
    ages = pd.cut(X["a"], [-9, 0, 9]).rename("age")
    assert set(subject(sensitive=ages).test.sensitive["age"]) == {"(-9, 0]", "(0, 9]"}
    numbers = pd.Series([0.0, np.nan] * 20, name="n")
    assert set(subject(sensitive=numbers).test.sensitive["n"]) == {"0", MISSING_GROUP}


def test_sensitive_columns_that_are_no_groups_are_refused() -> None:
    long = pd.concat([X] * 3, ignore_index=True)
    with pytest.raises(UsageError, match=r"AK218 sensitive column 'age' has 120 distinct values(.|\n)*pandas.cut"):
        subject(X=long, y=np.tile(Y, 3), sensitive={"age": np.arange(120)})
    assert (
        len(set(subject(X=long, y=np.tile(Y, 3), sensitive={"age": np.arange(120) % 50}).test.sensitive["age"])) == 50
    )
    with pytest.raises(UsageError, match="AK218 sensitive columns need names"):
        subject(sensitive=np.zeros((N, 2)))
    with pytest.raises(UsageError, match="AK205 X has no column 'cc'(.|\n)*did you mean 'c'"):
        subject(sensitive=["cc"])
    with pytest.raises(UsageError, match="AK201 sensitive has 3 rows where X has 40"):
        subject(sensitive={"sex": ["F", "M", "F"]})
    with pytest.raises(UsageError, match="AK207 two sensitive columns"):
        subject(sensitive=pd.DataFrame([["F", "x"]] * N, columns=["s", "s"]))


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_weights_are_positive_and_finite(bad) -> None:
    weights = np.ones(N)
    weights[5] = bad
    with pytest.raises(UsageError, match="AK219 1 of 40 weights are missing, zero, negative or infinite"):
        subject(weights=weights)


def test_weights_and_clusters() -> None:
    made = subject(weights=[2] * N, clusters=["b", "a"] * 20).test
    assert made.weights.dtype == np.float64
    assert made.clusters.tolist() == [0, 1] * 20
    with pytest.raises(UsageError, match="AK219 the weights are not numbers"):
        subject(weights=["x"] * N)
    with pytest.raises(UsageError, match="AK220 20 of 40 rows have no cluster"):
        subject(clusters=["b", None] * 20)
    with pytest.raises(UsageError, match="AK201 weights has 2 rows"):
        subject(weights=[1, 2])


def test_the_users_objects_are_never_changed() -> None:
    frame, y, sex = X.copy(deep=True), pd.Series(Y), pd.DataFrame({"sex": ["F", "M"] * 20})
    subject(X=frame, y=y, sensitive=sex, train=(frame, y))
    pd.testing.assert_frame_equal(frame, X)
    assert y.tolist() == Y.tolist()
    assert sex["sex"].tolist() == ["F", "M"] * 20


# ---- saved predictions -----------------------------------------------------------------------------------------------


def test_saved_predictions_answer_for_their_own_rows_only() -> None:
    p = score(X)
    made = make_predictions_subject(Y, (p > 0.7).astype(int), p, sensitive=X[["c"]])
    assert capabilities(made) >= {"labels", "scores", "binary", "sensitive", "probabilities"}
    assert not capabilities(made) & {"model", "inputs", "train", "retrain", "gradients"}
    assert np.array_equal(made.model.predict(made.test.inputs), (p > 0.7).astype(int))
    assert np.array_equal(made.model.predict_scores(np.array([3, 1]))[:, 1], p[[3, 1]])
    for rows in (np.array([N]), np.array([-1]), X, np.array([0.5])):
        with pytest.raises(UsageError, match="AK226 there is no model here"):
            made.model.predict(rows)
    only = make_predictions_subject(Y, Y)
    assert "scores" not in capabilities(only)
    with pytest.raises(UsageError, match="AK216 no scores were saved"):
        only.model.predict_scores(only.test.inputs)


def test_saved_scores_alone_decide() -> None:
    p = score(X)
    made = make_predictions_subject(np.where(Y == 1, "good", "bad"), scores=p, positive="good")
    assert np.array_equal(made.model.predict(made.test.inputs), (p >= 0.5).astype(int))
    swapped = make_predictions_subject(np.where(Y == 1, "good", "bad"), scores=p, positive="bad")
    assert np.array_equal(swapped.model.predict_scores(swapped.test.inputs)[:, 0], p)
    table = np.full((N, 3), 0.25)
    table[np.arange(N), np.arange(N) % 3] = 0.5
    three = make_predictions_subject(np.arange(N) % 3, scores=table)
    assert np.array_equal(three.model.predict(three.test.inputs), np.arange(N) % 3)
    half = make_predictions_subject([0, 1], scores=[0.5, 0.5])
    assert half.model.predict(half.test.inputs).tolist() == [1, 1]


def test_saved_scores_may_be_points_or_log_odds() -> None:
    points = np.round(300 + 550 * np.linspace(0, 1, N)).astype(int)
    bought = np.where(Y == 1, "no", "yes")
    made = make_predictions_subject(bought, bought, points, positive="no", score_space="margin")
    rows = made.test.inputs
    assert made.model.score_space == "margin"
    assert made.model.predict_scores(rows)[:, made.positive].tolist() == points.tolist()
    assert "probabilities" not in capabilities(made)
    z = np.linspace(-3, 3, N)
    made = make_predictions_subject(bought, scores=z, positive="no", score_space="logit")
    odds = made.model.predict_scores(rows)
    share = np.exp(odds[:, made.positive]) / np.exp(odds).sum(axis=1)
    np.testing.assert_allclose(share, 1 / (1 + np.exp(-z)))
    assert ((made.model.predict(rows) == made.positive) == (z >= 0)).all()
    three = make_predictions_subject(np.arange(N) % 3, scores=np.eye(3)[np.arange(N) % 3] * 9, score_space="logit")
    assert three.model.predict(rows).tolist() == (np.arange(N) % 3).tolist()
    with pytest.raises(UsageError, match="AK259 scores on a scale of their own do not say"):
        make_predictions_subject(Y, scores=points, score_space="margin")
    with pytest.raises(UsageError, match="AK259 there is no score space 'points'(.|\n)*'margin': points on any scale"):
        make_predictions_subject(Y, Y, points, score_space="points")
    with pytest.raises(UsageError, match="AK248 .*missing or infinite"):
        make_predictions_subject(Y, Y, np.where(Y == 1, np.nan, points), score_space="margin")
    with pytest.raises(UsageError, match="AK248 scores are not numbers"):
        make_predictions_subject(Y, Y, np.where(Y == 1, "high", "low"))
    with pytest.raises(UsageError, match="AK259 .*there are none"):
        make_predictions_subject(Y, Y, score_space="logit")
    values = np.linspace(0.0, 9.0, 40)
    for space in ("logit", "margin"):
        with pytest.raises(UsageError, match=f"AK259 score_space='{space}' says what scores of classes are(.|\n)*task"):
            make_predictions_subject(values, None, values, score_space=space)
    assert make_predictions_subject(values, None, values).task == "regression"
    with pytest.raises(UsageError, match='AK248 .*not probabilities(.|\n)*score_space = "margin"'):
        make_predictions_subject(Y, Y, points)


def test_a_threshold_on_saved_scores_decides() -> None:
    bought, points = np.where(Y == 1, "yes", "no"), np.linspace(300, 850, N)
    for positive in ("yes", "no"):
        keys = {"scores": points, "positive": positive, "score_space": "margin"}
        made = make_predictions_subject(bought, threshold=points[9], **keys)
        assert ((made.model.predict(made.test.inputs) == made.positive) == (np.arange(N) >= 9)).all()
    p, z = np.linspace(0.05, 0.95, N), np.linspace(-3, 3, N)
    for scores, space, cut in ((p, "probability", p[30]), (z, "logit", z[30])):
        made = make_predictions_subject(Y, scores=scores, score_space=space, threshold=cut)
        assert made.model.predict(made.test.inputs).tolist() == (np.arange(N) >= 30).astype(int).tolist()
    refused = [
        ({"y_pred": Y, "scores": p, "threshold": 0.3}, "the decisions are given"),
        ({"scores": np.stack([1 - p, p], axis=1), "threshold": 0.3}, "one column"),
        ({"scores": p, "threshold": 1.5}, "a probability is cut between 0 and 1"),
        ({"scores": p, "threshold": "0.5"}, "no number"),
        ({"scores": z, "score_space": "logit", "threshold": np.nan}, "no finite number"),
        ({"scores": p, "threshold": 0.3, "task": "regression"}, "one column"),
    ]
    for keys, why in refused:
        with pytest.raises(UsageError, match=f"AK259 threshold=.* does not apply(.|\n)*{why}"):
            make_predictions_subject(Y, **keys)


def test_saved_predictions_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="AK216 there are neither decisions nor scores"):
        make_predictions_subject(Y)
    with pytest.raises(UsageError, match="AK201 y_pred has 3 rows"):
        make_predictions_subject(Y, [0, 1, 1])
    with pytest.raises(AuditkitError, match="AK248 .*not probabilities"):
        make_predictions_subject(Y, scores=np.linspace(-3, 3, N))
    with pytest.raises(AuditkitError, match="AK248 40 of 40 scores are missing"):
        make_predictions_subject(Y, scores=np.full(N, np.nan))
    with pytest.raises(AuditkitError, match=r"AK250 scores of shape \(40, 3\)"):
        make_predictions_subject(Y, scores=np.full((N, 3), 1 / 3))
    with pytest.raises(UsageError, match="AK204 labels that the model does not know: '2'"):
        make_predictions_subject(Y, Y * 2, classes=(0, 1))
    with pytest.raises(UsageError, match="AK200 y_true has no rows"):
        make_predictions_subject([], [])
    with pytest.raises(UsageError, match="AK249 of labels and decisions together only '1' occurs"):
        make_predictions_subject(np.ones(N), np.ones(N))
    assert make_predictions_subject(np.ones(N), np.ones(N), classes=(0, 1)).task == "binary"
    values = make_predictions_subject(X["a"], X["a"] + 1)
    assert values.task == "regression"
    assert np.allclose(values.model.predict(values.test.inputs), X["a"] + 1)


def test_predictions_follow_the_index_of_the_labels() -> None:
    truth = pd.Series(Y, index=[f"r{i}" for i in range(N)])
    order = RNG.permutation(N)
    made = make_predictions_subject(truth, truth.iloc[order], pd.Series(score(X), index=truth.index).iloc[order])
    assert np.array_equal(made.model.predict(made.test.inputs), Y)
    assert np.array_equal(made.model.predict_scores(made.test.inputs)[:, 1], score(X))


# ---- facts -----------------------------------------------------------------------------------------------------------


def test_facts_hold_counts_and_hashes_and_no_rows() -> None:
    made = subject(sensitive=["c"], weights=np.ones(N), clusters=np.arange(N) // 2, train=(X, Y), name="n")
    facts = subject_facts(made)
    assert facts.test.sensitive == {"c": X["c"].value_counts().to_dict()}
    assert facts.test.label_counts == {"0": int((Y == 0).sum()), "1": int(Y.sum())}
    assert (facts.test.n_rows, facts.test.n_clusters, facts.test.weighted) == (N, 20, True)
    assert (facts.positive, facts.task, facts.name) == ("1", "binary", "n")
    assert facts.test.fingerprint.startswith("sha256:")
    assert facts.train is not None
    assert {"python", "numpy"} <= set(facts.versions)
    assert [feature.kind for feature in facts.test.features] == ["numeric", "integer", "categorical"]


def test_nothing_heavy_is_imported_for_saved_predictions() -> None:
    script = (
        "import sys, auditkit.subjects.build, auditkit.subjects.facts, auditkit.subjects.device;"
        "assert 'pandas' not in sys.modules;"
        "from auditkit.subjects.build import make_predictions_subject as m;"
        "s = m([0, 1, 1], [0, 1, 0], [0.1, 0.9, 0.2], sensitive={'sex': ['F', 'M', 'F']});"
        "print(sorted({'sklearn', 'torch', 'duckdb', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
