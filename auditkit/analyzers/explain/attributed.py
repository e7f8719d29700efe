"""The gradient, path, map and occlusion explainers by name, and how far they agree with one another."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from auditkit.analyzers.explain.explained import TOO_FEW
from auditkit.core.analyzer import Context, Note, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import Measurement
from auditkit.core.subject import FloatArray, channels_last
from auditkit.stats.intervals import mean_interval

if TYPE_CHECKING:
    from auditkit.analyzers.explain.differentiated import GradientInputs
    from auditkit.core.attribution import Attribution

Method = Literal[
    "integrated_gradients",
    "saliency",
    "input_x_gradient",
    "smooth_grad",
    "deep_lift",
    "expected_gradients",
    "grad_cam",
    "guided_grad_cam",
    "occlusion",
]
DEFAULTS: Mapping[str, tuple[Method, ...]] = {
    "tabular": ("integrated_gradients", "saliency"),
    "image": ("integrated_gradients", "saliency", "grad_cam", "occlusion"),
    "tokens": ("integrated_gradients", "saliency", "occlusion"),
}
WORDS: Mapping[str, str] = {
    "integrated_gradients": "integrated gradients",
    "saliency": "saliency",
    "input_x_gradient": "input x gradient",
    "smooth_grad": "SmoothGrad",
    "deep_lift": "DeepLift",
    "expected_gradients": "expected gradients",
    "grad_cam": "GradCAM",
    "guided_grad_cam": "guided GradCAM",
    "occlusion": "occlusion",
}
_FEWEST_RANKED = 4
_CELLS_A_SIDE = 7


def methods_for(chosen: tuple[Method, ...] | None, inputs: GradientInputs) -> tuple[Method, ...]:
    """The methods asked for, or those of the inputs' kind; integrated gradients always come first."""
    kind = "tokens" if inputs.embedding is not None else ("image" if inputs.tensor.ndim in (3, 4) else "tabular")
    wanted = DEFAULTS[kind] if chosen is None else chosen
    first: tuple[Method, ...] = ("integrated_gradients",)
    return first + tuple(dict.fromkeys(method for method in wanted if method != "integrated_gradients"))


def attribute_all(
    model: Any,
    context: Context,
    inputs: GradientInputs,
    methods: tuple[Method, ...],
    tolerance: float,
    max_steps: int,
) -> tuple[dict[str, Attribution], list[Note]]:
    """Attributions by method; a method that does not fit the model is told in a note.

    Raises:
        NotApplicable: the first method's reason, where none fits.
    """
    found: dict[str, Attribution] = {}
    notes: list[Note] = []
    refused: NotApplicable | None = None
    for done, method in enumerate(methods):
        context.check_deadline()
        try:
            found[method] = _by_name(model, context, inputs, method, tolerance, max_steps)
            if tried := found[method].params.get("tried"):
                notes.append(Note(f"{_capital(WORDS[method])} is worked out without captum's hooks: {tried}."))
        except NotApplicable as error:
            refused = refused or error
            notes.append(Note(f"{_capital(WORDS[method])} does not apply: {error.what}; {error.why or error.fix}."))
        context.progress(done + 1, 2 * len(methods))
    if refused is not None and "integrated_gradients" not in found:
        raise refused
    return found, notes


def _by_name(
    model: Any, context: Context, inputs: GradientInputs, method: Method, tolerance: float, max_steps: int
) -> Attribution:
    from auditkit.analyzers.explain.differentiated import attribute, differentiated
    from auditkit.methods.explain import captum_engine, expected_gradients, hooked
    from auditkit.methods.explain.differentiable import Differentiated

    if method in ("integrated_gradients", "saliency"):
        return attribute(model, inputs, method, tolerance, max_steps)
    subject: Differentiated = differentiated(model, inputs)
    if method == "input_x_gradient":
        return captum_engine.gradient_attribution(subject, inputs.tensor, "input_x_gradient")
    if method == "occlusion":
        return _occluded(subject, inputs)
    if inputs.embedding is not None or inputs.background is None:
        raise NotApplicable("AK485", "token ids have no values to disturb", fix="use occlusion")
    if method == "smooth_grad":
        return captum_engine.smooth_grad(subject, inputs.tensor, context.torch_generator())
    if method == "expected_gradients":
        return expected_gradients.expected_gradients(
            subject, inputs.tensor, inputs.background, tolerance=tolerance, max_steps=max_steps
        )
    if method == "deep_lift":
        return hooked.deep_lift(subject, inputs.tensor, inputs.baseline, tolerance=tolerance)
    layer = hooked.find_convolution(subject, inputs.tensor) if inputs.tensor.ndim in (3, 4) else None
    if layer is None:
        raise NotApplicable("AK486", "the model has no two-dimensional convolution", fix="use occlusion")
    engine = hooked.grad_cam if method == "grad_cam" else hooked.guided_grad_cam
    last = inputs.tensor.ndim == 3 or channels_last(tuple(inputs.tensor.shape))
    return engine(subject, inputs.tensor, layer, plane=(1, 2) if last else (2, 3))


def _occluded(subject: Any, inputs: GradientInputs) -> Attribution:
    """Tokens by the padding or unknown token; pixels in squares of a seventh of the side; features one by one."""
    from auditkit.analyzers.explain.differentiated import plane_shape
    from auditkit.methods.explain.occlusion import occlusion, token_occlusion

    if inputs.embedding is not None:
        return token_occlusion(subject, inputs.tensor, inputs.replacement)
    shape = tuple(int(extent) for extent in inputs.tensor.shape[1:])
    if len(shape) == 1:
        return occlusion(subject, inputs.tensor, inputs.baseline, window=(1,), stride=(1,))
    whole = tuple(inputs.tensor.shape)
    side = max(1, -(-max(plane_shape(whole)) // _CELLS_A_SIDE))
    step = max(1, side // 2)
    window: tuple[int, ...]
    stride: tuple[int, ...]
    if channels_last(whole):
        window, stride = (side, side, shape[2]), (step, step, shape[2])
    else:
        window, stride = (*shape[:-2], side, side), (*shape[:-2], step, step)
    return occlusion(subject, inputs.tensor, inputs.baseline, window=window, stride=stride)


def agreement(found: dict[str, Attribution], inputs: GradientInputs, data: Any) -> Iterator[Produced]:
    """Mean rank correlation of absolute attributions, one measurement for each pair of methods."""
    places = inputs.present()
    sizes = {method: inputs.magnitude_map(attribution) for method, attribution in found.items()}
    for first, second in combinations(found, 2):
        one, other = sizes[first], sizes[second]
        correlations = np.array([_correlation(a[p], b[p]) for a, b, p in zip(one, other, places, strict=True)])
        used = np.flatnonzero(np.isfinite(correlations)).astype(np.int64)
        value, interval = None, None
        if len(used):
            some = data.take(used)
            value, interval = mean_interval(correlations[used], some.weights, some.clusters)
        if interval is not None:
            interval = dataclasses.replace(interval, low=max(interval.low, -1.0), high=min(interval.high, 1.0))
        lacking = TOO_FEW
        failed = [WORDS[m] for m in (first, second) if found[m].status == "failed"]
        yield Measurement(
            name="explain.method_agreement",
            value=value,
            n=len(used),
            interval=interval,
            params={"first": WORDS[first], "second": WORDS[second]},
            direction="neutral",
            bounds=(-1.0, 1.0),
            reason="attributions are constant, or have fewer than four inputs"
            if value is None
            else (None if interval else lacking),
            unreliable=f"the {' and '.join(failed)} attributions failed their check" if failed else None,
        )


def _correlation(first: FloatArray, second: FloatArray) -> float:
    from auditkit.methods.explain.agreement import rank_correlations

    if len(first) < _FEWEST_RANKED or not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    found = rank_correlations(first[None, :], second[None, :])
    return float(found[0]) if len(found) else float("nan")


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
