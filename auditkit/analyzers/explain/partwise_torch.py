"""Images by squares and texts by tokens: amounts by gradient methods, and a torch module asked without some parts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from auditkit.analyzers.explain.attributed import WORDS, Method, attribute_all, methods_for
from auditkit.analyzers.explain.partwise import Ask, BoolArray, Moved, Partwise
from auditkit.core.analyzer import Context
from auditkit.core.errors import NotApplicable
from auditkit.core.subject import FloatArray, IntArray, Subject, channels_last

if TYPE_CHECKING:
    import torch

    from auditkit.analyzers.explain.differentiated import GradientInputs
    from auditkit.core.attribution import Attribution

_CELLS_A_SIDE = 14
_PASS = 2**20
_GRADIENTS = ("saliency", "smooth_grad")
_DECIDED = (
    "The output asked about is the log-odds of the class decided: an explanation without a sign cannot follow another."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Squares:
    """A grid over planes of ``(h, w)``: the square of each row and of each column."""

    rows: IntArray
    columns: IntArray
    last: bool

    @property
    def count(self) -> int:
        """Squares in all."""
        return int((self.rows.max() + 1) * (self.columns.max() + 1))

    def sums(self, plane: FloatArray) -> FloatArray:
        """``(n, h', w')`` maps of any size summed over the squares: ``(n, squares)``."""
        height, width = plane.shape[1:]
        down = self.rows[((np.arange(height) + 0.5) * len(self.rows) / height).astype(np.int64)]
        across = self.columns[((np.arange(width) + 0.5) * len(self.columns) / width).astype(np.int64)]
        total = np.zeros((len(plane), self.rows.max() + 1, self.columns.max() + 1))
        np.add.at(total, (np.arange(len(plane))[:, None, None], down[:, None], across[None, :]), plane)
        return total.reshape(len(plane), -1)

    def spread(self, removed: BoolArray) -> BoolArray:
        """``(m, squares)`` as ``(m, h, w)``."""
        grid = removed.reshape(len(removed), int(self.rows.max()) + 1, int(self.columns.max()) + 1)
        return np.asarray(grid[:, self.rows][:, :, self.columns])


def partwise_torch(
    subject: Subject, context: Context, limit: int, methods: tuple[Method, ...] | None, max_steps: int
) -> Partwise:
    """Gradient, path and occlusion explanations of at most ``limit`` images or texts, part by part.

    Raises:
        NotApplicable: AK465 inputs that are neither images nor tokens; and what the methods themselves raise.
    """
    from auditkit.analyzers.explain.differentiated import gradient_inputs, plane_shape

    inputs = gradient_inputs(subject, context, limit, 500)
    chosen = methods_for(methods, inputs)
    found, notes = attribute_all(subject.model, context, inputs, chosen, 0.01, max_steps)
    told = (*inputs.notes, *(note.text for note in notes))
    shape = tuple(inputs.tensor.shape)
    if inputs.embedding is None and len(shape) not in (3, 4):
        raise NotApplicable("AK465", "inputs that are neither tables, images nor tokens have no parts to remove")
    squares = None
    if inputs.embedding is None:
        height, width = plane_shape(shape)
        squares = _Squares(rows=_cells(height), columns=_cells(width), last=channels_last(shape))
    decided = _towards_decision(inputs, context)
    if inputs.positive is not None:
        told = (*told, _DECIDED)
    amounts = {
        WORDS[method]: _parts(a, inputs, squares) * (1.0 if method in _GRADIENTS else decided[:, None])
        for method, a in found.items()
    }
    first, second, maskers = _maskers(inputs, subject)
    return Partwise(
        data=subject.test.take(inputs.rows),
        amounts=amounts,
        failed={WORDS[m]: a.reason if a.status == "failed" else None for m, a in found.items()},
        ask=_asker(subject, inputs, squares, first, decided),
        other=None if second is None else _asker(subject, inputs, squares, second, decided),
        maskers=maskers,
        present=inputs.present() if squares is None else None,
        unit=next(iter(found.values())).output_space,
        parts="tokens" if squares is None else "squares",
        moved=None if squares is None else _mover(subject, context, inputs, tuple(found), squares),
        unmoved="token ids cannot be moved a little" if squares is None else "",
        notes=told,
    )


def _towards_decision(inputs: GradientInputs, context: Context) -> FloatArray:
    """``(n,)``: -1 where the explained log-odds are those of the class not decided, else 1."""
    if inputs.positive is None:
        return np.ones(len(inputs.rows))
    return np.where(context.decisions()[inputs.rows] == inputs.positive, 1.0, -1.0)


def _cells(extent: int) -> IntArray:
    count = min(_CELLS_A_SIDE, extent)
    return (np.arange(extent) * count // extent).astype(np.int64)


def _parts(attribution: Attribution, inputs: GradientInputs, squares: _Squares | None) -> FloatArray:
    """``(n, p)`` amounts of the parts; a gradient says how much a value matters, not which way, so its size counts."""
    values = attribution.values[..., 0]
    if squares is None:
        return np.where(inputs.present(), values, 0.0)
    values = np.abs(values) if attribution.method in _GRADIENTS else values
    if values.ndim == 4:
        values = values.sum(axis=3 if squares.last else 1)
    return squares.sums(values)


def _maskers(inputs: GradientInputs, subject: Subject) -> tuple[torch.Tensor, torch.Tensor | None, tuple[str, str]]:
    """Two tensors that removed parts are taken from."""
    import torch

    if inputs.embedding is not None:
        first = torch.full_like(inputs.tensor[:1], inputs.replacement)
        words = (f"token id {inputs.replacement}", f"token id {inputs.start}")
        second = None if inputs.start == inputs.replacement else torch.full_like(inputs.tensor[:1], inputs.start)
        return first, second, words
    images = inputs.tensor
    last = channels_last(tuple(images.shape))
    planes = images.movedim(-1, 1) if last else (images if images.ndim == 4 else images[:, None])
    side = max(3, min(planes.shape[-2:]) // 4 | 1)
    blurred = torch.nn.functional.avg_pool2d(planes, side, stride=1, padding=side // 2, count_include_pad=False)
    blurred = blurred.movedim(1, -1) if last else (blurred if images.ndim == 4 else blurred[:, 0])
    return inputs.baseline, blurred, ("the mean image", f"the image blurred over {side} x {side} pixels")


def _asker(
    subject: Subject, inputs: GradientInputs, squares: _Squares | None, baseline: torch.Tensor, decided: FloatArray
) -> Ask:
    import torch

    from auditkit.analyzers.explain.differentiated import differentiated
    from auditkit.methods.explain.differentiable import target_outputs, untouched

    explained = differentiated(subject.model, inputs)
    size = max(1, _PASS // inputs.tensor[0].numel())

    def ask(rows: IntArray, removed: BoolArray) -> FloatArray:
        parts = []
        with untouched(explained.module):
            for at in range(0, len(rows), size):
                some = torch.from_numpy(rows[at : at + size]).to(inputs.tensor.device)
                whole = inputs.tensor[some]
                base = baseline.expand(whole.shape) if len(baseline) == 1 else baseline[some]
                mask = torch.from_numpy(_shaped(removed[at : at + size], squares, whole.ndim)).to(whole.device)
                altered = torch.where(mask, base, whole)
                parts.append(target_outputs(explained, altered, explained.targets[rows[at : at + size]]))
        return np.concatenate([*parts, np.empty(0)]) * decided[rows]

    return ask


def _shaped(removed: BoolArray, squares: _Squares | None, ndim: int) -> BoolArray:
    if squares is None:
        return removed
    plane = squares.spread(removed)
    if ndim == 3:
        return plane
    return plane[..., None] if squares.last else plane[:, None]


def _mover(
    subject: Subject, context: Context, inputs: GradientInputs, methods: tuple[str, ...], squares: _Squares
) -> Moved:
    import torch

    kept: Any = methods

    def moved(
        rng: np.random.Generator, rows: IntArray, draws: int, radius: float
    ) -> dict[str, tuple[FloatArray, FloatArray]]:
        some = inputs.tensor[torch.from_numpy(rows).to(inputs.tensor.device)]
        count = len(some)
        flat = some.reshape(count, -1)
        reach = (radius * (flat.amax(dim=1) - flat.amin(dim=1))).reshape(-1, *[1] * some.ndim)
        noise = torch.from_numpy(rng.uniform(-1.0, 1.0, (count, draws, *some.shape[1:]))).to(some.device, some.dtype)
        copies = torch.cat([some[:, None], some[:, None] + reach * noise], dim=1).reshape(-1, *some.shape[1:])
        many = dataclasses.replace(inputs.take(np.repeat(rows, draws + 1)), tensor=copies)
        found, _ = attribute_all(subject.model, context, many, kept, 1.0, 32)
        parts = {WORDS[m]: _parts(a, many, squares).reshape(count, draws + 1, -1) for m, a in found.items()}
        return {method: (values[:, 0], values[:, 1:]) for method, values in parts.items()}

    return moved
