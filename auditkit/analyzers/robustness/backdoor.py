"""A scan of an image model for backdoors: is one class reached by a far smaller patch than all others?"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from auditkit.analyzers.robustness.estimates import Rows, proportion
from auditkit.core.analyzer import Analyzer, Context, Note, Params, Produced
from auditkit.core.errors import NotApplicable
from auditkit.core.evidence import ImageGrid, Measurement, Picture, Table
from auditkit.core.subject import Differentiable, FloatArray, IntArray, Subject, take_rows

if TYPE_CHECKING:
    from auditkit.methods.robustness.trigger_scan import Triggers

FEWEST_IMAGES = 20
MOST_PICTURES = 12


class BackdoorParams(Params):
    """Settings of ``robustness.backdoor``.

    Attributes:
        max_rows: Test images used, at most: half to find triggers, half to try them.
        steps: Steps of the search for each class.
        batch: Images of one step and class.
        learning_rate: Step size of Adam on mask and pattern.
    """

    max_rows: int = Field(default=400, ge=FEWEST_IMAGES)
    steps: int = Field(default=300, ge=1)
    batch: int = Field(default=32, ge=2)
    learning_rate: float = Field(default=0.1, gt=0.0)


def run(subject: Subject, context: Context, params: BackdoorParams) -> Iterator[Produced]:
    """Find the smallest trigger of every class; yield sizes, what they turn, and how far one stands apart."""
    context.check_deadline()
    model, n = subject.model, subject.test.n
    assert isinstance(model, Differentiable)
    if len(subject.classes) < 2:
        raise NotApplicable("AK542", "the model knows fewer than two classes", why="no image can be turned")
    if n < FEWEST_IMAGES:
        raise NotApplicable("AK597", f"{n} test images are too few", why=f"a scan takes {FEWEST_IMAGES} or more")
    positions = context.rng.permutation(context.sample_rows(n, params.max_rows)).astype(np.int64)
    teach, held_out = positions[: len(positions) // 2], np.sort(positions[len(positions) // 2 :])
    found = _scan(subject, context, params, teach, held_out)
    n_held = Rows.of(subject.test, held_out)
    for at, name in enumerate(subject.classes):
        yield from _of_class(found, at, name, len(teach), n_held)
    yield from _outlier(subject, found)
    yield _table(subject, found)
    if found.masks.ndim == 3:
        yield _pictures(subject, found)
    yield Note(
        f"Triggers were sought on {len(teach)} test images and tried on {len(held_out)} others, by the largest logit "
        "of the module. ART's Neural Cleanse is for Keras models alone; this scan is auditkit's own."
    )


def _scan(subject: Subject, context: Context, params: BackdoorParams, teach: IntArray, held_out: IntArray) -> Triggers:
    from auditkit.methods.robustness.trigger_scan import scan_triggers

    model: Any = subject.model
    images, unseen = (model.tensor(take_rows(subject.test.inputs, rows)).detach() for rows in (teach, held_out))
    low, high = _range(subject)

    def tick(done: int, total: int) -> None:
        context.check_deadline()
        context.progress(done, total)

    return scan_triggers(
        model.logits,
        images,
        unseen,
        bounds=(low, high),
        steps=params.steps,
        batch=params.batch,
        learning_rate=params.learning_rate,
        seed=context.seed % 2**31,
        tick=tick,
    )


def _range(subject: Subject) -> tuple[Any, Any]:
    """The darkest and the brightest image as the module takes them: a preparation may scale each channel."""
    import torch

    from auditkit.analyzers.robustness.arena import pixel_range

    model: Any = subject.model
    low, high = pixel_range(subject.test)
    like = np.asarray(take_rows(subject.test.inputs, np.zeros(1, dtype=np.int64)))
    ends = [model.tensor(np.full_like(like, value))[0].detach() for value in (low, high)]
    return torch.minimum(*ends), torch.maximum(*ends)


def _of_class(found: Triggers, at: int, name: str, n: int, rows: Rows) -> Iterator[Measurement]:
    reached, tags = bool(found.reached[at]), {"target": name}
    yield Measurement(
        name="robustness.trigger_size",
        value=float(found.sizes[at]) if reached else None,
        n=n,
        params=tags,
        unit="share of the image",
        direction="higher",
        bounds=(0.0, 1.0),
        reason="the smallest that a search found; it has no sampling interval"
        if reached
        else "no trigger was found that turns images into this class",
    )
    asked = found.asked[at]
    share = proportion(found.turned[at][asked], rows.where(asked))
    yield Measurement(
        name="robustness.trigger_success_rate",
        value=share.value if reached else None,
        n=int(asked.sum()),
        interval=share.interval if reached else None,
        params=tags,
        direction="neutral",
        bounds=(0.0, 1.0),
        reason=share.reason if reached else "no trigger was found that turns images into this class",
    )


def _indices(found: Triggers) -> tuple[FloatArray | None, str]:
    """Each class's outlier index, or why the scan says nothing."""
    from auditkit.methods.robustness.trigger_scan import FEWEST_CLASSES, outlier_indices

    k, reached = len(found.sizes), int(found.reached.sum())
    if k < FEWEST_CLASSES:
        return None, f"unverified: {k} classes are too few to tell an outlier among them"
    if found.zero_gradients > 0.5:
        return None, "unverified: the model's gradient is zero, so that the search could not move"
    if 2 * reached <= k:
        return None, f"unverified: a trigger was found for {reached} of {k} classes only, too few to compare"
    indices = outlier_indices(found.sizes.tolist())
    return indices, "unverified: the sizes of the triggers do not vary" if indices is None else ""


def _outlier(subject: Subject, found: Triggers) -> Iterator[Produced]:
    from auditkit.methods.robustness.trigger_scan import SUSPECT_INDEX

    indices, why = _indices(found)
    k = len(subject.classes)
    suspects = [] if indices is None else [subject.classes[at] for at in np.flatnonzero(indices > SUSPECT_INDEX)]
    yield Measurement(
        name="robustness.backdoor_index",
        value=None if indices is None else float(indices.max()),
        n=k,
        n_of="classes",
        direction="lower",
        bounds=(0.0, None),
        reason=why or "an outlier among the classes; it has no sampling interval",
    )
    yield Measurement(
        name="robustness.backdoor_suspects",
        value=None if indices is None else float(len(suspects)),
        n=k,
        n_of="classes",
        direction="lower",
        bounds=(0.0, float(k)),
        reason=why or "a count of classes; it has no sampling interval",
    )
    if indices is None:
        yield Note(f"No statement on backdoors: {why}.")
    elif suspects:
        yield Note(
            f"Suspected of a backdoor: {', '.join(suspects)}. The patch that turns images into it is smaller than "
            f"those of the other classes by more than {SUSPECT_INDEX:g} deviations (median absolute deviation)."
        )
    elif k < 8:
        yield Note(f"With {k} classes an outlier is hard to tell: that none was found is weak evidence.")


def _table(subject: Subject, found: Triggers) -> Table:
    indices, why = _indices(found)
    rows = []
    for at, name in enumerate(subject.classes):
        asked = int(found.asked[at].sum())
        share = float(found.turned[at].sum() / asked) if asked and found.reached[at] else None
        size = float(found.sizes[at]) if found.reached[at] else None
        rows.append((name, size, share, asked, None if indices is None else float(indices[at])))
    return Table(
        name="robustness.backdoor",
        title="The smallest trigger of each class",
        columns=("class", "share of the image", "images turned", "of", "deviations below the median"),
        rows=tuple(rows),
        note=why or "A class far below the median is suspected. A class without a trigger counts as the whole image.",
    )


def _pictures(subject: Subject, found: Triggers) -> ImageGrid:
    order = np.argsort(found.sizes, kind="stable")[:MOST_PICTURES]
    pictures = []
    for at in order:
        grey = np.rint(found.masks[at] * 255.0).astype(np.uint8)
        pixels = base64.b64encode(grey.tobytes()).decode()
        pictures.append(
            Picture(label=subject.classes[at], height=grey.shape[0], width=grey.shape[1], pixels=pixels, palette="grey")
        )
    return ImageGrid(
        name="robustness.backdoor_masks",
        title="Where the smallest triggers lie",
        pictures=tuple(pictures),
        note="Masks that the search found, smallest first; white is where an image is replaced. No image of the data.",
    )


ANALYZER = Analyzer(
    name="robustness.backdoor",
    version="1",
    title="Backdoor scan",
    summary="Whether one class is reached by a patch far smaller than those that reach the other classes.",
    reference="Wang et al. (2019), Neural Cleanse",
    needs=frozenset({"model", "labels", "inputs", "image", "gradients", "classification"}),
    measures={
        "robustness.trigger_size": "Share of the image under the smallest mask found that turns images into the class.",
        "robustness.trigger_success_rate": "Share of held-out images of other classes that this trigger turns into it.",
        "robustness.backdoor_index": "How many deviations the smallest trigger lies below the median of all classes.",
        "robustness.backdoor_suspects": "Classes whose trigger lies more than 2 deviations below the median.",
    },
    params=BackdoorParams,
    run=run,
    extra="torch",
    packages=("torch",),
    default=False,
    limits="It finds one small patch that turns all images into one class. Large, blended or image-dependent triggers, "
    "and those for images of one class only, are not found, nor is a backdoor to most classes at once; a class with a "
    "small natural feature may be suspected wrongly. With few classes the index is weak.",
)
