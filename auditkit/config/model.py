"""What a configuration may say. Unknown keys are refused; policy tables are checked by the policy room."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from auditkit.core.features import FeatureKind, Moves
from auditkit.core.subject import Task
from auditkit.core.toml_lines import line_of

POLICY_KEYS = ("groups", "defaults", "rule", "waiver")
Label = str | int | float | bool
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Base of every table: frozen, unknown keys refused, ``schema`` usable as a key."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=(), defer_build=True
    )


class ModelSection(Section):
    """``[model]``: the trained model; absent for saved predictions."""

    path: Name | None = Field(
        default=None, description="model file, relative to this file: .skops, .safetensors, .pt, .pkl ..."
    )
    factory: Name | None = Field(
        default=None, description="module:function that returns the model, or its architecture"
    )
    sha256: Annotated[str, Field(pattern="^(sha256:)?[0-9a-fA-F]{64}$")] | None = Field(
        default=None, description="pins the bytes of `path`"
    )
    allow_pickle: bool = Field(
        default=False, description="load a pickle or joblib file; needs sha256; runs the file's code"
    )
    name: Name | None = Field(default=None, description="what the card calls the model")


class FeatureSection(Section):
    """``[data.schema.NAME]``: what is to be known of one feature where the inferred kind is wrong."""

    kind: FeatureKind | None = Field(
        default=None, description="numeric, integer, categorical, boolean, onehot, datetime ..."
    )
    low: float | None = Field(default=None, description="smallest value possible")
    high: float | None = Field(default=None, description="largest value possible")
    categories: tuple[str, ...] = Field(default=(), description="the values that a category may take")
    group: str | None = Field(default=None, description="one-hot group that the column belongs to")
    immutable: bool = Field(default=False, description="an attack must not change it")
    moves: Moves = Field(default="any", description="which way it may change: any, up or down")
    scale: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="size of one unit of cost; absent: a standard deviation, or one change of category",
    )
    unit: str = Field(default="", description="what its values are counted in, for people")


class DataSection(Section):
    """``[data]``: the rows to audit on, and what each column is."""

    test: Name = Field(description="CSV, Parquet or npz file, or module:function that returns a table")
    train: Name | None = Field(default=None, description="the rows that the model was trained on, same columns")
    target: Name = Field(description="column of the true label")
    task: Task | None = Field(default=None, description="binary, multiclass or regression; inferred when absent")
    prediction: Name | None = Field(default=None, description="column of saved decisions, when there is no model")
    score: Name | tuple[Name, ...] | None = Field(
        default=None, description="column of saved scores of the positive class, or one column a class"
    )
    score_space: Literal["probability", "logit", "margin"] = Field(
        default="probability",
        description="what saved scores are: probabilities, log-odds, or points on any scale (margin)",
    )
    threshold: float | None = Field(
        default=None, description="saved score from which a row is decided as positive, when there is no prediction"
    )
    positive: Label | None = Field(default=None, description="label of the positive class")
    classes: tuple[Label, ...] | None = Field(default=None, description="labels in the order of the score columns")
    sensitive: tuple[Name, ...] = Field(
        default=(), description="columns to compare groups over; not given to the model"
    )
    bins: dict[str, tuple[float, ...]] = Field(
        default_factory=dict,
        description="sensitive column of numbers -> borders of its groups, as in age = [25, 65]",
    )
    weight: Name | None = Field(default=None, description="column of row weights")
    cluster: Name | None = Field(default=None, description="column of the person or site that a row belongs to")
    rows: Literal["auto", "keep", "count"] = Field(
        default="auto",
        description="saved predictions in Parquet: keep rows, or count them while reading (auto: above 2 million)",
    )
    drop: tuple[Name, ...] = Field(default=(), description="further columns that the model does not take")
    keep: tuple[Name, ...] = Field(default=(), description="sensitive columns that the model does take")
    text: Name | None = Field(default=None, description="the one text column that the model takes")
    inputs: Name = Field(default="inputs", description="npz only: name of the array that the model takes")
    features: dict[str, FeatureSection] = Field(
        default_factory=dict, alias="schema", description="feature name -> its kind and bounds"
    )
    constraints: tuple[Name, ...] = Field(
        default=(), description='linear rules that every row keeps, as in ["years_employed <= age - 16"]'
    )


class TrainingSection(Section):
    """``[training]``: how to train the model afresh (needed by private training)."""

    factory: Name = Field(description="module:function that returns a TorchRecipe or an unfitted estimator")


class RunSection(Section):
    """``[run]``: seed, device and budgets."""

    seed: Annotated[int, Field(ge=0)] = Field(default=0, description="seed of everything random in the audit")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto, cpu or cuda")
    deadline_seconds: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="wall-clock budget; what does not fit is skipped, and said so"
    )
    executor: Literal["local"] = Field(default="local", description="where analyzers run")
    analyzers: tuple[Name, ...] | None = Field(default=None, description="names or families; all defaults when absent")
    keep_rows: bool = Field(
        default=False, description="also write rows.npz (label, decision, scores and groups of each row; private)"
    )


class CardSection(Section):
    """``[card]``: the prose that a model card needs, and how small a count may be shown."""

    title: str | None = Field(default=None, description="title of the card")
    owner: str | None = Field(default=None, description="who answers for the model")
    contact: str | None = Field(default=None, description="where to write to")
    version: str | None = Field(default=None, description="version of the model")
    license: str | None = Field(default=None, description="licence of the model")
    summary: str | None = Field(default=None, description="what the model does, in two sentences")
    intended_use: str | None = Field(default=None, description="what it is meant for, and by whom")
    out_of_scope: str | None = Field(default=None, description="what it must not be used for")
    factors: str | None = Field(default=None, description="which groups and conditions matter, and why")
    metrics: str | None = Field(default=None, description="why these metrics and limits")
    training_data: str | None = Field(default=None, description="where the training rows come from")
    evaluation_data: str | None = Field(default=None, description="where the test rows come from")
    ethical_considerations: str | None = Field(default=None, description="who may be harmed, and how")
    limitations: str | None = Field(default=None, description="known limits")
    recommendations: str | None = Field(default=None, description="what a user of the model should do")
    min_cell: Annotated[int, Field(ge=1)] = Field(default=10, description="smaller counts are hidden in shared copies")
    raw: tuple[str, ...] | None = Field(
        default=None, description="names of artifacts to share although they show rows of data"
    )
    share_columns: tuple[str, ...] | None = Field(
        default=None, description="columns whose values may be shown with one explained row (`auditkit explain`)"
    )


class Config(Section):
    """A whole configuration. ``root`` is the folder that relative paths start from."""

    version: Literal[1] = Field(description="version of this format")
    model: ModelSection | None = Field(default=None, description="the trained model; absent for saved predictions")
    data: DataSection
    training: TrainingSection | None = Field(default=None, description="how to train afresh")
    run: RunSection = Field(default_factory=RunSection)
    analyzer: dict[str, dict[str, Any]] = Field(default_factory=dict, description="analyzer name -> its settings")
    card: CardSection = Field(default_factory=CardSection)
    groups: dict[str, Any] | None = Field(default=None, description="policy: how groups are compared")
    defaults: dict[str, Any] | None = Field(default=None, description="policy: defaults of rules")
    rule: tuple[dict[str, Any], ...] | None = Field(default=None, description="policy: the rules")
    waiver: tuple[dict[str, Any], ...] | None = Field(default=None, description="policy: failures accepted for a time")

    _path: Path = PrivateAttr(default=Path("audit.toml"))
    _text: str = PrivateAttr(default="")
    _prefix: tuple[str, ...] = PrivateAttr(default=())

    @property
    def path(self) -> Path:
        """The file that this was read from."""
        return self._path

    @property
    def root(self) -> Path:
        """The folder of the file."""
        return self._path.parent

    def where(self, *key: str) -> str:
        """``file:line`` of a key, for errors."""
        line = line_of(self._text, (*self._prefix, *key))
        return f"{self._path.name}:{line}" if line else self._path.name

    def policy_document(self) -> dict[str, Any] | None:
        """The policy tables as plain data, or ``None`` when there is no rule."""
        if not self.rule:
            return None
        dumped = self.model_dump(mode="json", include=set(POLICY_KEYS), exclude_none=True)
        return {key: dumped[key] for key in POLICY_KEYS if key in dumped}

    def card_prose(self) -> dict[str, Any]:
        """What ``[card]`` says, without what it leaves out."""
        return self.card.model_dump(mode="json", exclude_none=True)


def config_schema() -> dict[str, Any]:
    """The JSON Schema of the configuration, for editors."""
    schema = Config.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "auditkit-config/1", **schema}
