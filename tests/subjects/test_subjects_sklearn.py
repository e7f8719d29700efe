from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeRegressor

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.subject import DecidesFromScores, Differentiable, Model
from auditkit.subjects.build import make_subject
from auditkit.subjects.sklearn import SklearnModel

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = (X[:, 0] + 0.3 * RNG.normal(size=120) > 0).astype(int)
Y3 = np.digitize(X[:, 0], [-0.5, 0.5])


def frame(n: int = 200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "income": rng.normal(50, 10, n),
            "home": pd.Categorical(rng.choice(["rent", "own"], n)),
            "old": rng.random(n) < 0.5,
        }
    )


def pipeline():
    data = frame()
    encode = ColumnTransformer([("home", OneHotEncoder(), ["home"])], remainder="passthrough")
    y = np.where(data["income"] > 50, "yes", "no")
    return make_pipeline(encode, LogisticRegression(max_iter=2000)).fit(data, y), data, y


class Odd(ClassifierMixin, BaseEstimator):
    """A classifier whose outputs are given."""

    def __init__(self, scores=None, labels=None, error=None) -> None:
        self.scores, self.labels, self.error = scores, labels, error

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        if self.error is not None:
            raise self.error
        return np.zeros(len(X), dtype=int) if self.labels is None else self.labels(len(X))

    def predict_proba(self, X):
        return self.scores(len(X))


def test_the_model_protocol_is_met_and_no_more_is_claimed() -> None:
    model = SklearnModel(LogisticRegression().fit(X, Y))
    assert isinstance(model, Model)
    assert not isinstance(model, Differentiable)
    assert not isinstance(model, DecidesFromScores)
    assert model.capabilities == {"labels", "scores", "model", "inputs"}
    assert model.kind == "sklearn.linear_model.LogisticRegression"


@pytest.mark.parametrize("labels", [("no", "yes"), (False, True), (3, 7), (0.0, 1.0), ("b", "a")])
def test_codes_follow_the_estimators_own_classes(labels) -> None:
    y = np.array(labels)[Y]
    estimator = LogisticRegression().fit(X, y)
    model = SklearnModel(estimator)
    codes = model.predict(X)
    assert codes.dtype == np.int64
    assert np.array_equal(np.asarray(estimator.classes_)[codes], estimator.predict(X))
    assert np.array_equal(model.predict_scores(X), estimator.predict_proba(X))
    assert len(model.classes) == 2


def test_a_pipeline_takes_its_dataframe_with_the_dtypes_kept() -> None:
    estimator, data, y = pipeline()
    model = SklearnModel(estimator)
    assert np.array_equal(np.array(["no", "yes"])[model.predict(data)], estimator.predict(data))
    shuffled = data[["old", "income", "home"]]
    assert np.array_equal(model.predict_scores(shuffled), estimator.predict_proba(data))
    subject = make_subject(estimator, shuffled, y, positive="yes")
    assert list(subject.test.inputs.columns) == list(data.columns)
    assert subject.test.inputs.dtypes.equals(data.dtypes)
    assert subject.positive == 1


def test_columns_that_do_not_fit_are_refused() -> None:
    estimator, data, _ = pipeline()
    model = SklearnModel(estimator)
    with pytest.raises(
        UsageError, match=r"AK205 the model needs columns that are not there: 'income'(.|\n)*did you mean 'incme'"
    ):
        model.predict(data.rename(columns={"income": "incme"}))
    with pytest.raises(UsageError, match=r"AK206 columns that the model never saw: 'sex'(.|\n)*sensitive="):
        model.predict(data.assign(sex="F"))
    with pytest.raises(UsageError, match="AK208 the model was fitted on a table of 3 named columns"):
        model.predict(np.zeros((4, 2)))


def test_sensitive_columns_named_in_the_frame_are_taken_out_of_what_the_model_never_saw() -> None:
    estimator, data, y = pipeline()
    both = data.assign(sex=["F", "M"] * 100)
    made = make_subject(estimator, both, y, positive="yes", sensitive=["sex", "home"], train=(both, y))
    assert list(made.test.inputs.columns) == list(data.columns)  # home is a feature and stays
    assert made.train.sensitive["sex"].tolist() == made.test.sensitive["sex"].tolist() == ["F", "M"] * 100
    with pytest.raises(UsageError, match="AK244 the training inputs have no column 'sex'"):
        make_subject(estimator, both, y, positive="yes", sensitive=["sex"], train=(data, y))


def test_the_decision_is_the_estimators_own_and_not_half() -> None:
    inner = LogisticRegression().fit(X, Y)
    tuned = FixedThresholdClassifier(inner, threshold=0.9, response_method="predict_proba").fit(X, Y)
    model = SklearnModel(tuned)
    decisions, half = model.predict(X), (model.predict_scores(X)[:, 1] > 0.5).astype(int)
    assert np.array_equal(decisions, tuned.predict(X))
    assert decisions.sum() < half.sum()


def test_margins_where_there_are_no_probabilities() -> None:
    for estimator in (LinearSVC(), RidgeClassifier(), SVC()):
        model = SklearnModel(estimator.fit(X, Y))
        scores = model.predict_scores(X)
        assert model.score_space == "margin"
        assert np.array_equal(scores[:, 1], estimator.decision_function(X))
        assert np.array_equal(scores[:, 0], -scores[:, 1])
        assert np.array_equal(scores.argmax(axis=1), model.predict(X))
    many = SklearnModel(LinearSVC().fit(X, Y3))
    assert many.predict_scores(X).shape == (120, 3)
    pairs = SklearnModel(SVC(decision_function_shape="ovo").fit(X, Y3))
    assert pairs.score_space is None
    assert "scores" not in pairs.capabilities
    with pytest.raises(UsageError, match="AK216 sklearn.svm.SVC gives labels only"):
        pairs.predict_scores(X)


def test_regression_gives_values() -> None:
    line = LinearRegression().fit(X, X[:, 0] * 2)
    model = SklearnModel(line)
    assert model.classes == ()
    assert model.score_space == "value"
    assert np.allclose(model.predict(X), X[:, 0] * 2)
    assert model.predict_scores(X).shape == (120, 1)
    column = SklearnModel(Ridge().fit(X, X[:, :1]))  # a target of one column gives (n, 1)
    assert column.predict(X).shape == (120,)
    wide = SklearnModel(KNeighborsRegressor().fit(X, X[:, :2]))
    with pytest.raises(AuditkitError, match=r"AK211 the model returned values of shape \(120, 2\)"):
        wide.predict(X)


def test_trees_are_known() -> None:
    for estimator in (RandomForestClassifier(2), HistGradientBoostingClassifier(max_iter=2)):
        assert "trees" in SklearnModel(make_pipeline(SimpleImputer(), estimator).fit(X, Y)).capabilities
    assert "trees" in SklearnModel(DecisionTreeRegressor().fit(X, X[:, 0])).capabilities


def test_what_is_no_fitted_predictor_is_refused() -> None:
    with pytest.raises(UsageError, match="AK215 sklearn.linear_model.LogisticRegression is not fitted"):
        SklearnModel(LogisticRegression())
    with pytest.raises(UsageError, match="AK215 sklearn.cluster.KMeans is neither a classifier"):
        SklearnModel(KMeans(2, n_init=1).fit(X))
    with pytest.raises(UsageError, match="AK215 .*predicts several outputs"):
        SklearnModel(RandomForestClassifier(2).fit(X, np.stack([Y, Y3], axis=1)))
    with pytest.raises(UsageError, match="AK217 the model knows 1 class;"):
        SklearnModel(Odd().fit(X, np.zeros(120)))


@pytest.mark.parametrize(
    ("odd", "code"),
    [
        (Odd(scores=lambda n: np.full((n, 2), np.nan)), "AK213 the model returned NaN or infinity for 64 of 64 rows"),
        (Odd(scores=lambda n: np.full((n, 2), np.inf)), "AK213"),
        (Odd(scores=lambda n: np.full((n, 3), 1 / 3)), r"AK211 the model returned scores of shape \(64, 3\)"),
        (Odd(scores=lambda n: np.full((n - 1, 2), 0.5)), "AK211"),
        (Odd(scores=lambda n: np.full((n, 2), 0.7)), "AK214 64 of 64 rows of scores are not probabilities"),
        (Odd(scores=lambda n: np.tile([-0.5, 1.5], (n, 1))), "AK214"),
        (Odd(labels=lambda n: np.full(n, 5)), "AK212 the model decided for labels that are not among its classes: '5'"),
        (Odd(labels=lambda n: np.zeros((n, 2))), "AK211 the model returned decisions"),
        (
            Odd(error=RuntimeError("boom")),
            r"AK210 the model raised an error(.|\n)*RuntimeError: boom\n  fix: call the model",
        ),
        (Odd(error=MemoryError()), "AK210"),
    ],
)
def test_a_model_that_misbehaves_is_a_coded_error(odd, code) -> None:
    with pytest.raises(AuditkitError, match=code):
        make_subject(odd.fit(X, Y), X, Y)


def test_a_model_that_raises_on_nan_names_the_columns_and_one_that_imputes_does_not() -> None:
    data = pd.DataFrame(X, columns=["a", "b", "c"])
    holes = data.copy()
    holes.loc[3, "b"] = np.nan
    with pytest.raises(AuditkitError, match=r"AK210(.|\n)*missing values in b; ValueError"):
        make_subject(LogisticRegression().fit(data, Y), holes, Y)
    imputing = make_pipeline(SimpleImputer(), LogisticRegression()).fit(holes, Y)
    assert make_subject(imputing, holes, Y).test.n == 120


def test_a_model_that_cannot_take_text_names_the_columns_that_hold_it() -> None:
    data = pd.DataFrame(X, columns=["a", "b", "c"])
    with pytest.raises(AuditkitError, match=r"AK210(.|\n)*these columns hold text: b; ValueError"):
        make_subject(LogisticRegression().fit(data, Y), data.assign(b="x"), Y)


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        (lambda data: data.assign(b=np.inf), "infinite values in b; ValueError(.|\n)*fix: clip them"),
        (lambda data: data.assign(b=pd.Timestamp("2020-01-01")), "these columns hold dates: b; (.|\n)*fix: turn dates"),
        (lambda data: data[["a", "b", "c", "a"]], "the same name: a; (.|\n)*fix: rename one"),
    ],
)
def test_a_model_that_raises_comes_with_the_likely_cause_and_the_mend(spoilt, told) -> None:
    data = pd.DataFrame(X, columns=["a", "b", "c"])
    with pytest.raises(AuditkitError, match=f"AK210(.|\n)*{told}"):
        make_subject(LogisticRegression().fit(data, Y), spoilt(data), Y)


def test_texts_go_through_a_vectoriser() -> None:
    texts = ["good film", "bad film", "good", "bad"] * 5
    y = np.array([1, 0, 1, 0] * 5)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, y)
    subject = make_subject(model, pd.Series(texts), y)
    assert subject.test.modality == "text"
    assert np.array_equal(subject.model.predict(subject.test.inputs), y)


def test_meta_estimators_are_models_too() -> None:
    for estimator in (
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
        CalibratedClassifierCV(LinearSVC(), cv=2),
    ):
        model = SklearnModel(estimator.fit(X, Y))
        assert model.score_space == "probability"
        assert np.array_equal(model.predict(X), estimator.predict(X))


def test_names_given_as_an_array_raise_no_warning() -> None:
    data = pd.DataFrame(X, columns=["a", "b", "c"])
    model = SklearnModel(LogisticRegression().fit(data, Y))
    assert np.array_equal(model.predict(X), model.predict(data))
    nameless = SklearnModel(LogisticRegression().fit(X, Y))
    assert np.array_equal(nameless.predict(data), nameless.predict(X))


SCRIPT = """
import numpy as np, pandas as pd
from sklearn.ensemble import RandomForestClassifier, HistGradientBoostingClassifier, GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, FunctionTransformer
from sklearn.compose import ColumnTransformer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from auditkit.subjects.sklearn import SklearnModel
rng = np.random.default_rng(0)
x = pd.DataFrame({"a": rng.normal(size=80), "b": rng.choice(["u", "v"], 80)})
y = (x["a"] > 0).astype(int)
code = ColumnTransformer([("b", OneHotEncoder(), ["b"])], remainder="passthrough")
for final in (LogisticRegression(), RandomForestClassifier(3, random_state=0), KNeighborsClassifier(),
              HistGradientBoostingClassifier(max_iter=3, random_state=0),
              GradientBoostingClassifier(n_estimators=3, random_state=0),
              MLPClassifier((4,), max_iter=300, random_state=0)):
    print(SklearnModel(make_pipeline(code, StandardScaler(), FunctionTransformer(np.abs), final).fit(x, y)).fingerprint)
"""


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    def run(hash_seed: str) -> list[str]:
        env = {"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1", "PATH": "", "PYTHONWARNINGS": "ignore"}
        script = textwrap.dedent(SCRIPT)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True)
        return done.stdout.split()

    first, second = run("1"), run("2")
    assert first == second
    assert len(set(first)) == 6
    assert all(len(value) == 71 for value in first)


def test_the_fingerprint_follows_the_content() -> None:
    fitted = LogisticRegression().fit(X, Y)
    base = SklearnModel(fitted).fingerprint
    assert SklearnModel(LogisticRegression().fit(X, Y)).fingerprint == base
    SklearnModel(fitted).predict(X)
    assert SklearnModel(fitted).fingerprint == base
    fitted.coef_[0, 0] += 1e-12
    assert SklearnModel(fitted).fingerprint != base
    assert SklearnModel(LogisticRegression(C=2.0).fit(X, Y)).fingerprint != base
    fitted.lock = open.__self__  # a module is named, not taken apart
    assert SklearnModel(fitted).fingerprint is not None
    fitted.lock = (number for number in ())
    assert SklearnModel(fitted).fingerprint is None
