"""What the gradient explainers differentiate: tensors, targets, baselines, and summaries of what comes out."""

from __future__ import annotations

import base64
import copy
import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from auditkit.analyzers.explain.attributed import WORDS, Method, attribute_all
from auditkit.analyzers.explain.explained import background_rows, few_rows
from auditkit.analyzers.explain.vocabulary import mask_id, special_ids, tokenizer_of, unknown_id
from auditkit.core.analyzer import Context
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Curve, ImageGrid, Picture, Scalar, Series, Table
from auditkit.core.subject import FloatArray, IntArray, Subject, channels_last, take_rows

if TYPE_CHECKING:
    import torch

    from auditkit.core.attribution import Attribution
    from auditkit.methods.explain.differentiable import Differentiated

_MIN_ROWS_A_MAP = 10
_LARGEST_MAP = 64
_FEWEST_RANKED = 4
# Without their sign the ranks of unrelated maps of fewer parts are alike by chance: of 4 parts on scales of their own
# by 0.6 on average.
_FEWEST_TURNED = 8
_FOLLOW_THE_INPUT = ("integrated_gradients", "input_x_gradient", "deep_lift", "expected_gradients", "occlusion")


class SanitySettings(Protocol):
    """The settings that the randomisation check reads."""

    @property
    def draws(self) -> int:
        """Randomised copies."""

    @property
    def sanity_rows(self) -> int:
        """Rows compared."""


@dataclass(frozen=True, kw_only=True)
class GradientInputs:
    """Rows ready for differentiation.

    Attributes:
        rows: Positions in the test data.
        tensor: ``(n, ...)`` floats, or token ids.
        baseline: ``(1, ...)`` where paths start; of token ids ``(n, t)``, with the special ones as they are.
        start: Id at the other places of ``baseline``.
        background: ``(b, ...)`` the complete rows behind the mean that paths start from; ``None`` for token ids.
        targets: ``(n,)`` output column explained.
        positive: Positive class (binary): its log-odds are explained; else ``None``.
        embedding: Name of the embedding layer for token ids, else ``None``.
        special: Ids of tokens that stand for no word (padding and the like).
        replacement: Id that stands for "no information" where a token is left out.
        names: Feature names for tables, else empty.
    """

    rows: IntArray
    tensor: torch.Tensor
    baseline: torch.Tensor
    start: int
    background: torch.Tensor | None
    targets: IntArray
    positive: int | None
    embedding: str | None
    special: tuple[int, ...]
    replacement: int
    names: tuple[str, ...]
    notes: tuple[str, ...]

    def take(self, places: IntArray) -> GradientInputs:
        """Some of the rows, by their places among them."""
        import torch

        where = torch.from_numpy(places).to(self.tensor.device)
        return dataclasses.replace(
            self,
            rows=self.rows[places],
            tensor=self.tensor[where],
            baseline=self.baseline if self.embedding is None else self.baseline[where],
            targets=self.targets[places],
        )

    def magnitude(self, attribution: Attribution) -> FloatArray:
        """Absolute attributions ``(n, inputs)``; zero at special tokens."""
        flat = np.abs(attribution.values[..., 0]).reshape(len(attribution.values), -1)
        if self.embedding is not None and self.special:
            flat = np.where(self.present(), flat, 0.0)
        return np.asarray(flat, dtype=np.float64)

    def magnitude_map(self, attribution: Attribution) -> FloatArray:
        """Absolute attributions where methods of different shape can be compared: of images, summed over channels."""
        values = np.abs(attribution.values[..., 0])
        if self.embedding is None and values.ndim == 4:
            values = values.sum(axis=3 if channels_last(values.shape) else 1)
        return np.asarray(values.reshape(len(values), -1), dtype=np.float64)

    def present(self) -> npt.NDArray[np.bool_]:
        """Where a row has an input of its own ``(n, places)``: everywhere, but for special tokens."""
        if self.embedding is None:
            shape = tuple(self.tensor.shape)
            places = int(np.prod(plane_shape(shape) if len(shape) > 2 else shape[1:]))
            return np.ones((len(self.tensor), places), dtype=bool)
        return ~np.isin(self.tensor.cpu().numpy(), self.special)


def gradient_inputs(
    subject: Subject, context: Context, max_rows: int, max_background: int, reference: Subject | None = None
) -> GradientInputs:
    """Tensors of a sample of test rows, what is explained of each, and the baseline.

    Args:
        subject: The subject.
        context: Its predictions decide which class is explained.
        max_rows: Most test rows.
        max_background: Most rows behind the mean baseline.
        reference: Whose rows the baseline is the mean of; the subject's own when left out.

    Raises:
        NotApplicable: AK510 token ids without an embedding layer; AK512 no complete row; AK484 no known token.
    """
    import torch

    model: Any = subject.model
    rows = context.sample_rows(subject.test.n, max_rows)
    tensor = model.tensor(take_rows(subject.test.inputs, rows))
    notes: list[str] = []
    tokenizer = tokenizer_of(subject)
    name, padding = _embedding_of(model.module) if not tensor.is_floating_point() else (None, None)
    special, start = special_ids(tokenizer, padding), padding or 0
    replacement = start
    if tensor.is_floating_point():
        complete = torch.isfinite(tensor.reshape(len(tensor), -1)).all(dim=1).cpu().numpy()
        if not complete.any():
            raise NotApplicable("AK512", "every sampled row holds a missing value", fix="impute before the model")
        if not complete.all():
            notes.append(f"{int((~complete).sum())} of {len(rows):,} rows hold a missing value and were left out.")
        rows, tensor = rows[complete], tensor[torch.from_numpy(complete).to(tensor.device)]
        background, sentence = _background(reference or subject, context, max_background)
        baseline = background.nanmean(dim=0, keepdim=True).nan_to_num(0.0)
        background = background[torch.isfinite(background.reshape(len(background), -1)).all(dim=1)]
        notes.append(sentence)
    else:
        known = _has_words(tensor.cpu().numpy(), special, unknown_id(tokenizer))
        if not known.any():
            raise NotApplicable(
                "AK484", "no sampled text holds a token that the model knows", fix="check the tokenizer"
            )
        if not known.all():
            notes.append(f"{int((~known).sum())} of {len(rows):,} rows hold no token that the model knows: left out.")
        rows, tensor = rows[known], tensor[torch.from_numpy(known).to(tensor.device)]
        # What stands for no word stays: only words are told of, and they must add up to the whole change.
        kept = torch.isin(tensor, torch.tensor(special, dtype=tensor.dtype, device=tensor.device))
        baseline, background = torch.where(kept, tensor, start), None
        named = (mask_id(tokenizer), unknown_id(tokenizer))
        replacement = next((one for one in named if one is not None), replacement)
        notes.append(
            f"Paths start from the embedding of token id {start} wherever there is no special token; a token that is "
            f"left out becomes id {replacement}."
        )
    positive = _positive(subject)
    decided = subject.task == "multiclass"
    targets = context.decisions()[rows].astype(np.int64) if decided else np.zeros(len(rows), dtype=np.int64)
    return GradientInputs(
        rows=rows,
        tensor=tensor,
        baseline=baseline,
        start=start,
        background=background,
        targets=targets,
        positive=positive,
        embedding=name,
        special=special,
        replacement=replacement,
        names=_names(subject, tensor) if subject.test.modality == "tabular" and name is None else (),
        notes=tuple(notes),
    )


def attribute(model: Any, inputs: GradientInputs, method: str, tolerance: float, max_steps: int) -> Attribution:
    """One method's attributions of ``model`` (the subject's, or a randomised copy of it)."""
    from auditkit.methods.explain.captum_engine import gradient_attribution, integrated_gradients

    subject = differentiated(model, inputs)
    if method == "integrated_gradients":
        return integrated_gradients(subject, inputs.tensor, inputs.baseline, tolerance=tolerance, max_steps=max_steps)
    return gradient_attribution(subject, inputs.tensor, "saliency")


def differentiated(model: Any, inputs: GradientInputs) -> Differentiated:
    """The output explained, as the methods want it."""
    from auditkit.methods.explain.differentiable import Differentiated

    layer = None if inputs.embedding is None else model.module.get_submodule(inputs.embedding)
    positive = inputs.positive

    def forward(tensor: torch.Tensor) -> torch.Tensor:
        # A copy, because a module may begin with an in-place layer, which a leaf of the graph refuses.
        logits: torch.Tensor = model.logits(tensor.clone())
        return logits if positive is None else (logits[:, positive] - logits[:, 1 - positive])[:, None]

    return Differentiated(
        module=model.module,
        forward=forward,
        targets=inputs.targets,
        embedding=layer,
        space="logit" if model.classes else "value",
    )


def randomisation_similarities(
    model: Any, context: Context, inputs: GradientInputs, settings: SanitySettings, methods: tuple[Method, ...]
) -> dict[tuple[str, str], FloatArray]:
    """Mean rank correlation, one a randomised copy, for each method and scope.

    Methods that multiply slopes by the input, or by what it differs from, and occlusion, which takes the input away,
    are compared with their signs, as their size follows the input whatever the weights; the others by absolute value.
    Random weights turn the sign of an output as often as not: a map with signs that comes back turned over has
    survived, so that the sign which a copy gives all rows of an output is left out, from 8 parts on.
    """
    from auditkit.methods.explain.differentiable import all_outputs, untouched
    from auditkit.methods.explain.randomisation import randomise_parameters

    few = inputs.take(few_rows(context, len(inputs.rows), settings.sanity_rows))

    def explained(of: Any) -> dict[str, FloatArray]:
        found, _ = attribute_all(of, silent, few, methods, 1.0, 32)
        return {method: _ranked(attribution, few, method) for method, attribution in found.items()}

    def answers(of: Any) -> FloatArray:
        shown = differentiated(of, few)
        with untouched(shown.module):
            return all_outputs(shown, few.tensor, len(few.tensor))

    silent = dataclasses.replace(context, progress=lambda done, total: None)
    own = explained(model)
    found: dict[tuple[str, str], list[float]] = {}
    generator = context.torch_generator()
    for draw in range(settings.draws):
        for scope in ("all_layers", "last_layer"):
            context.check_deadline()
            twin = copy.deepcopy(model)
            before = answers(twin)
            randomise_parameters(twin.module, generator, scope, partial(answers, twin))
            if np.array_equal(before, answers(twin), equal_nan=True):
                found |= {(method, scope): [] for method in own if (method, scope) not in found}
                continue  # nothing was randomised that the model uses
            for method, theirs in explained(twin).items():
                values = found.setdefault((method, scope), [])
                if method in own and own[method].shape[1] >= _FEWEST_RANKED and np.isfinite(theirs).all():
                    parts = own[method].shape[1]
                    turned = few.targets if method in _FOLLOW_THE_INPUT and parts >= _FEWEST_TURNED else None
                    values += _similarity(own[method], theirs, turned)
        context.progress(2 + draw + 1, 2 + settings.draws)
    return {key: np.array(values, dtype=np.float64) for key, values in found.items()}


def _similarity(own: FloatArray, theirs: FloatArray, outputs: IntArray | None) -> list[float]:
    """Mean rank correlation over the rows, none where all are constant; without the common sign of each output's rows,
    where ``outputs (n,)`` are given."""
    from auditkit.methods.explain.agreement import rank_correlations

    if outputs is None:
        correlations = rank_correlations(own, theirs)
        return [float(correlations.mean())] if len(correlations) else []
    parts = [rank_correlations(own[outputs == one], theirs[outputs == one]) for one in np.unique(outputs)]
    count = sum(len(part) for part in parts)
    return [float(sum(abs(part.sum()) for part in parts)) / count] if count else []


def feature_table(
    found: dict[str, Attribution], inputs: GradientInputs, weights: FloatArray | None, limit: int = 50
) -> Table:
    """Mean absolute attribution of each feature, one column a method, largest integrated gradients first."""
    means = {m: np.average(inputs.magnitude(attribution), axis=0, weights=weights) for m, attribution in found.items()}
    order = np.argsort(-means["integrated_gradients"], kind="stable")[:limit]
    rows: list[tuple[Scalar, ...]] = [(inputs.names[j], *(_finite(mean[j]) for mean in means.values())) for j in order]
    return Table(
        name="explain.saliency.features",
        title="Mean absolute gradient attributions",
        columns=("feature", *(method.replace("_", " ") for method in means)),
        rows=tuple(rows),
        note=f"{len(inputs.rows)} rows.",
    )


def position_curve(found: dict[str, Attribution], inputs: GradientInputs) -> Curve:
    """Mean absolute attribution by token position, over the rows that have a token there."""
    ids = inputs.tensor.cpu().numpy()
    present = inputs.present()
    count = present.sum(axis=0)
    series = []
    for method, attribution in found.items():
        total = np.where(present, inputs.magnitude(attribution), 0.0).sum(axis=0)
        y = tuple(_finite(t / c) if c else None for t, c in zip(total, count, strict=True))
        series.append(Series(name=method.replace("_", " "), x=tuple(float(p) for p in range(ids.shape[1])), y=y))
    return Curve(
        name="explain.saliency.positions",
        title="Where in the sequence the model looks",
        x_label="token position",
        y_label="mean |attribution|",
        series=tuple(series),
        note=f"{len(inputs.rows)} rows; special tokens excluded; no token is shown.",
    )


def mean_maps(
    found: dict[str, Attribution], inputs: GradientInputs, decided: IntArray, classes: tuple[str, ...]
) -> ImageGrid | None:
    """Mean absolute attribution by pixel for every decided class with ten rows or more; ``None`` if there is none."""
    pictures = []
    for code, name in enumerate(classes):
        inside = decided == code
        if inside.sum() < _MIN_ROWS_A_MAP:
            continue
        for method, attribution in found.items():
            values = np.abs(attribution.values[inside, ..., 0])
            if values.ndim not in (3, 4) or not np.isfinite(values).all():
                continue
            plane = inputs.magnitude_map(attribution)[inside].mean(axis=0).reshape(plane_shape(values.shape))
            pictures.append(_picture(f"{name}: {WORDS[method]} ({int(inside.sum())} rows)", plane))
    if not pictures:
        return None
    return ImageGrid(
        name="explain.saliency.maps",
        title="Mean saliency maps by decided class",
        pictures=tuple(pictures),
        raw=False,
        across=len(found) if len(pictures) % len(found) == 0 else None,
        note="Averages over rows; white is the largest mean attribution of the map.",
    )


def plane_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width of images of this shape ``(n, ...)``."""
    return shape[1:3] if channels_last(shape) else shape[-2:]


def _picture(label: str, plane: FloatArray) -> Picture:
    step = max(1, -(-max(plane.shape) // _LARGEST_MAP))
    if step > 1:
        high, wide = (size // step * step for size in plane.shape)
        plane = plane[:high, :wide].reshape(high // step, step, wide // step, step).mean(axis=(1, 3))
    top = float(plane.max()) or 1.0
    pixels = np.clip(np.rint(plane / top * 255.0), 0, 255).astype(np.uint8)
    content = base64.b64encode(pixels.tobytes()).decode("ascii")
    return Picture(label=label, height=pixels.shape[0], width=pixels.shape[1], pixels=content)


def _has_words(ids: IntArray, special: tuple[int, ...], unknown: int | None) -> npt.NDArray[np.bool_]:
    """Rows ``(n,)`` that hold a token which is neither special nor unknown."""
    empty = special if unknown is None else (*special, unknown)
    return np.asarray((~np.isin(ids, empty)).any(axis=1), dtype=bool)


def _ranked(attribution: Attribution, inputs: GradientInputs, method: str) -> FloatArray:
    if method not in _FOLLOW_THE_INPUT:
        return inputs.magnitude(attribution)
    return np.asarray(attribution.values[..., 0].reshape(len(attribution.values), -1), dtype=np.float64)


def _embedding_of(module: Any) -> tuple[str, int | None]:
    from auditkit.methods.explain.differentiable import find_embedding

    layer = find_embedding(module)
    if layer is None:
        raise NotApplicable(
            "AK510",
            "the model's output does not depend differentiably on its input",
            why="it takes integers, and has no torch.nn.Embedding whose output could be differentiated",
            fix="use explain.shap, which only evaluates the model",
        )
    name = next(name for name, part in module.named_modules() if part is layer)
    padding = getattr(layer, "padding_idx", None)
    return name, None if padding is None else int(padding)


def _background(subject: Subject, context: Context, limit: int) -> tuple[torch.Tensor, str]:
    split = "test" if subject.train is None else "train"
    data = subject.split(split)
    rows = background_rows(context, data.n, limit)
    model: Any = subject.model
    tensor: torch.Tensor = model.tensor(take_rows(data.inputs, rows))
    word = "training" if split == "train" else "test"
    start = f"one {word} row" if len(rows) == 1 else f"the mean of {len(rows)} {word} rows"
    return tensor, f"Paths start from {start}."


def _names(subject: Subject, tensor: torch.Tensor) -> tuple[str, ...]:
    names = subject.test.schema.names
    if tensor.ndim == 2 and len(names) == tensor.shape[1]:
        return names
    return tuple(f"input {j}" for j in range(int(np.prod(tensor.shape[1:]))))


def _positive(subject: Subject) -> int | None:
    if subject.task != "binary":
        return None
    return 1 if subject.positive is None else subject.positive


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
