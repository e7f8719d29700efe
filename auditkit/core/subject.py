"""What is audited: model, data and how to train afresh. Protocols for other people's objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from auditkit.core.counted import CountedRows
from auditkit.core.features import Constraint as Constraint
from auditkit.core.features import Feature as Feature
from auditkit.core.features import FeatureKind as FeatureKind
from auditkit.core.features import Schema as Schema

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
StrArray = npt.NDArray[np.str_]

Task = Literal["binary", "multiclass", "regression"]
Modality = Literal["tabular", "image", "text", "sequence"]
ScoreSpace = Literal["probability", "logit", "margin", "value"]


@runtime_checkable
class Model(Protocol):
    """A trained model behind one face.

    Attributes:
        classes: Names of the classes in the order of the score columns; empty for regression.
        score_space: What ``predict_scores`` returns: ``probability`` (rows sum to 1), ``logit``
            (softmax of a row gives probabilities), ``margin`` (larger means more likely, no scale;
            binary: columns ``-m, +m``) or ``value`` (regression, one column); ``None`` when the model
            gives labels only.
        capabilities: Words from :data:`auditkit.core.capability.WORDS`.
        kind: A short name for the card, e.g. ``sklearn.pipeline.Pipeline``.
        fingerprint: Content hash of the model, or ``None`` when it has none (then it is never resumed).
    """

    classes: tuple[str, ...]
    score_space: ScoreSpace | None
    capabilities: frozenset[str]
    kind: str
    fingerprint: str | None

    def predict(self, inputs: Any) -> npt.NDArray[Any]:
        """The model's own decision ``(n,)``: int64 codes (positions in ``classes``); float64 for regression."""
        ...

    def predict_scores(self, inputs: Any) -> FloatArray:
        """Scores of shape ``(n, k)`` float64; ``k = len(classes)``, or 1 for regression."""
        ...


@runtime_checkable
class DecidesFromScores(Protocol):
    """A model whose decision is a function of its scores, so that one pass gives both."""

    def decide(self, scores: FloatArray) -> IntArray:
        """Class codes ``(n,)`` from scores ``(n, k)``."""
        ...


@runtime_checkable
class Differentiable(Protocol):
    """A torch-backed model (capability ``gradients``). ``module`` is the user's own module.

    ``tensor`` turns inputs of the model's type into the tensor that ``module`` takes, on ``device``.
    ``logits`` runs the module on such a tensor and returns ``(n, k)`` class logits (``(n, 1)`` values for
    regression) with the graph attached; a single-logit binary module gives the two columns ``0, z``.
    """

    module: Any
    device: str

    def tensor(self, inputs: Any) -> Any:
        """The input tensor, on the model's device and in its dtype."""
        ...

    def logits(self, tensor: Any) -> Any:
        """Differentiable class logits ``(n, k)``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Rows to audit on.

    Attributes:
        inputs: What the model takes: DataFrame, ndarray, or list of str; never changed in place.
        y: ``(n,)`` int64 class codes, or float64 for regression.
        modality: tabular, image, text or sequence (integer token ids).
        sensitive: Column name -> ``(n,)`` strings; a missing value is the group ``(missing)``.
        weights: ``(n,)`` positive row weights, or ``None``.
        clusters: ``(n,)`` int64 codes of the person or site a row belongs to, or ``None``.
        schema: The features (tabular data).
        fingerprint: Content hash of everything above.
        counted: Set when the rows were counted as they were read: ``y`` and ``sensitive`` then have one entry for each
            distinct combination, and there are no inputs.
    """

    inputs: Any
    y: npt.NDArray[Any]
    modality: Modality = "tabular"
    sensitive: Mapping[str, StrArray] = field(default_factory=dict)
    weights: FloatArray | None = None
    clusters: IntArray | None = None
    schema: Schema = field(default_factory=Schema)
    fingerprint: str = ""
    counted: CountedRows | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y) if self.counted is None else self.counted.total

    def take(self, rows: IntArray) -> Dataset:
        """The same data set with only ``rows`` (integer positions), in that order."""
        return Dataset(
            inputs=take_rows(self.inputs, rows),
            y=self.y[rows],
            modality=self.modality,
            sensitive={name: values[rows] for name, values in self.sensitive.items()},
            weights=None if self.weights is None else self.weights[rows],
            clusters=None if self.clusters is None else self.clusters[rows],
            schema=self.schema,
            fingerprint="",
        )


def take_rows(inputs: Any, rows: IntArray) -> Any:
    """Rows of a DataFrame, list or array-like by integer position."""
    if hasattr(inputs, "iloc"):
        return inputs.iloc[rows]
    if isinstance(inputs, list):
        return [inputs[int(row)] for row in rows]
    return inputs[rows]


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether images ``(n, ...)`` have their channels (grey, RGB or RGBA) behind height and width.

    >>> [channels_last(shape) for shape in ((9, 28, 28), (9, 3, 28, 28), (9, 28, 28, 4))]
    [False, False, True]
    """
    known = (1, 3, 4)
    return len(shape) == 4 and shape[-1] in known and shape[1] not in known


@runtime_checkable
class TrainingRecipe(Protocol):
    """How to train the model afresh (shadow models, adversarial training, comparisons)."""

    @property
    def name(self) -> str:
        """What tables and the card call it."""
        ...

    def fit(self, inputs: Any, y: npt.NDArray[Any], seed: int) -> Model:
        """Train on ``inputs`` and class codes (or values) ``y`` with ``seed``; return a new model."""
        ...


@runtime_checkable
class WeightedTrainingRecipe(TrainingRecipe, Protocol):
    """A recipe that can be told how much each row counts (capability of reductions)."""

    def weight_name(self) -> str:
        """Under which name its training takes row weights; raises where it takes none."""
        ...

    def fit(self, inputs: Any, y: npt.NDArray[Any], seed: int, weights: FloatArray | None = None) -> Model:
        """As ``TrainingRecipe.fit``, with positive or zero row weights ``(n,)``."""
        ...


@runtime_checkable
class TorchTrainingRecipe(TrainingRecipe, Protocol):
    """A recipe that differentially private training can follow: a torch module and plain SGD settings.

    ``prepare`` turns inputs into the tensor that ``build``'s module takes (fitting any preprocessing on
    the training inputs only, once, by ``fit_preparation``).
    """

    @property
    def epochs(self) -> int:
        """Passes over the training rows."""
        ...

    @property
    def batch_size(self) -> int:
        """Rows a step."""
        ...

    @property
    def learning_rate(self) -> float:
        """Step size of SGD."""
        ...

    def fit_preparation(self, inputs: Any) -> Any:
        """A callable ``inputs -> tensor`` fitted on these training inputs."""
        ...

    def build(self, n_outputs: int) -> Any:
        """A freshly initialised ``torch.nn.Module`` (initialised under the caller's torch seed)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model with the data it is audited on.

    Attributes:
        positive: Code of the positive class for binary tasks, else ``None``.
    """

    name: str
    model: Model
    test: Dataset
    task: Task
    train: Dataset | None = None
    positive: int | None = None
    recipe: TrainingRecipe | None = None
    tokenizer: Any = None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in score-column order; empty for regression."""
        return tuple(self.model.classes)

    def split(self, name: str) -> Dataset:
        """The ``test`` or ``train`` data set."""
        if name == "test":
            return self.test
        if name == "train" and self.train is not None:
            return self.train
        raise KeyError(f"this subject has no {name!r} split")
