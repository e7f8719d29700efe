"""torch modules behind the ``Model`` and ``Differentiable`` faces."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch  # noqa: TID253 - this module exists to drive torch

from auditkit.core.errors import AuditkitError, UsageError
from auditkit.core.subject import FloatArray, IntArray, ScoreSpace, Task
from auditkit.subjects.callable import checked_threshold, decide_from
from auditkit.subjects.fingerprint import fingerprint_of, fingerprint_parts
from auditkit.subjects.labels import class_names
from auditkit.subjects.output_checks import checked_scores, model_raised, row_count
from auditkit.subjects.torch_state import borrowed, evaluating, has_layer, module_device, module_dtype

Output = Literal["logit", "probability"]
_ROWS_TO_TELL = 8  # rows from which outputs that look like probabilities are taken as such


class TorchModel:
    """A torch module: batched forward under eval mode without gradients, its state exactly as before.

    Class scores are what the module returns: ``(n, k)``, or one column for a binary module, which becomes
    ``0, z`` (logit) or ``1-p, p`` (probability). Decisions are the largest score. Nothing is changed
    after construction.

    Attributes:
        module: The user's own module (a copy on the device when it lives on another one).
        prepare: ``inputs -> tensor or array`` applied before the module, if any.
    """

    classes: tuple[str, ...]
    score_space: ScoreSpace | None
    capabilities: frozenset[str]
    kind: str
    fingerprint: str | None

    def __init__(  # noqa: PLR0913 - one keyword for each thing a module does not say itself
        self,
        module: torch.nn.Module,
        *,
        classes: Sequence[Any] | None = None,
        task: Task | None = None,
        device: str = "auto",
        output: Output | None = None,
        prepare: Callable[[Any], Any] | None = None,
        batch_size: int = 1024,
        threshold: float | None = None,
    ) -> None:
        """Wrap ``module``.

        Args:
            module: The trained module.
            classes: Class labels in the order of its outputs; absent for ``task="regression"``.
            task: ``regression`` when the outputs are values.
            device: ``auto`` (where the module is), ``cpu`` or ``cuda``.
            output: ``logit`` or ``probability``; when left out, logits, unless the outputs look otherwise (AK221).
            prepare: Turns inputs into what the module takes (a tokenizer, a scaler).
            batch_size: Rows of one forward; halved when memory runs out.
            threshold: Probability of the second of two classes from which it is decided; otherwise the
                largest score decides.

        Raises:
            UsageError: AK217 without classes for a classifier, AK229 device.
        """
        if task == "regression" and classes:
            raise UsageError("AK217", "a regression module has no classes", fix="leave classes= out")
        if task != "regression" and not classes:
            raise UsageError(
                "AK217",
                "the classes of a torch module must be given",
                fix='pass classes=("no", "yes") or task="regression"',
            )
        self.module: Any = _placed(module, device)
        self.device = module_device(self.module)
        self.labels: tuple[Any, ...] = tuple(classes or ())
        self.classes = class_names(self.labels) if self.labels else ()
        self.output = output
        self.prepare = prepare
        self.batch_size = batch_size
        self.score_space = "value" if not self.classes else (output or "logit")
        self.threshold = checked_threshold(threshold, self.classes, self.score_space)
        self.capabilities = frozenset({"labels", "scores", "gradients", "model", "inputs"})
        self.kind = _kind(module)
        self.fingerprint = module_fingerprint(module)

    def predict(self, inputs: Any) -> npt.NDArray[Any]:
        """Decisions ``(n,)``: the largest score, or the value for regression."""
        return self.decide(self.predict_scores(inputs))

    def decide(self, scores: FloatArray) -> npt.NDArray[Any]:
        """Class codes from scores ``(n, k)``; the value itself for regression."""
        return decide_from(scores, self.score_space, self.threshold)

    def predict_scores(self, inputs: Any) -> FloatArray:
        """Scores ``(n, k)`` in :attr:`score_space`, in batches, without gradients."""
        n = row_count(inputs)
        raw = forward_batches(self.module, self.tensor, inputs, self.batch_size)
        width = max(len(self.classes), 1)
        if n == 0:
            return np.zeros((0, width))
        if raw.ndim == 1:
            raw = raw[:, None]
        if self.classes and self.output is None:
            refuse_probabilities(raw, self.kind)
        if len(self.classes) == 2 and raw.shape[1:] == (1,):
            rest = 1.0 - raw if self.output == "probability" else np.zeros_like(raw)
            raw = np.concatenate([rest, raw], axis=1)
        return checked_scores(raw, n, width, space=str(self.score_space), where=self.kind)

    def tensor(self, inputs: Any) -> torch.Tensor:
        """The tensor that the module takes, on its device: floats in the module's dtype, long for token ids."""
        prepared = inputs if self.prepare is None else self.prepare(inputs)
        return as_tensor(prepared, self.module, self.device)

    def logits(self, tensor: torch.Tensor) -> torch.Tensor:
        """Class logits ``(n, k)`` (or values ``(n, 1)``) with the graph attached, in eval mode.

        A module that returns probabilities gives their logarithms.
        """
        with evaluating(self.module), _differentiable_recurrence(self.module, self.device):
            raw = plain_output(self.module(tensor), self.kind)
        if raw.ndim == 1:
            raw = raw[:, None]
        if not self.classes:
            return raw
        single = len(self.classes) == 2 and raw.shape[1] == 1
        if self.output == "probability":
            both = torch.cat([1.0 - raw, raw], dim=1) if single else raw
            return torch.log(both.clamp_min(torch.finfo(both.dtype).tiny))
        return torch.cat([torch.zeros_like(raw), raw], dim=1) if single else raw

    def decision_logits(self, tensor: torch.Tensor) -> torch.Tensor:
        """:meth:`logits` whose largest is the decision: with a threshold, the second class gives up its log-odds."""
        found = self.logits(tensor)
        if self.threshold is None:
            return found
        given_up = math.log(self.threshold) - math.log1p(-self.threshold)
        exact = found if found.dtype.itemsize >= 4 else found.float()
        return exact - torch.tensor([0.0, given_up], dtype=exact.dtype, device=exact.device)


def forward_batches(
    module: torch.nn.Module, tensor: Callable[[Any], torch.Tensor], inputs: Any, batch_size: int
) -> npt.NDArray[Any]:
    """The module's outputs for all rows, as float64, batch by batch; batches halve when memory runs out.

    Raises:
        AuditkitError: AK224 not even one row fits, AK210 the module raised.
    """
    n = row_count(inputs)
    parts: list[npt.NDArray[Any]] = []
    start = 0
    kind = _kind(module)
    with borrowed(module):
        while start < n:
            rows = np.arange(start, min(start + batch_size, n), dtype=np.int64)
            try:
                raw = plain_output(module(tensor(_slice(inputs, rows))), kind)
            except torch.OutOfMemoryError as error:
                if batch_size == 1:
                    raise AuditkitError(
                        "AK224", "memory ran out on a batch of one row", where=kind, fix='use device = "cpu"'
                    ) from error
                batch_size = max(1, batch_size // 2)
                continue
            except (Exception, SystemExit) as error:
                model_raised(error, inputs, where=kind)
            if raw.ndim == 0 or raw.shape[0] != len(rows):
                raise AuditkitError(
                    "AK211",
                    f"the module returned shape {tuple(raw.shape)} for a batch of {len(rows)} rows",
                    where=kind,
                    fix="return one row of outputs for each input row",
                )
            parts.append(raw.detach().to("cpu", torch.float64).numpy())
            start += len(rows)
    return np.concatenate(parts) if parts else np.zeros((0, 1))


def plain_output(raw: Any, where: str) -> torch.Tensor:
    """The class scores in what a module returned: itself, ``.logits``, ``["logits"]`` or the first of a tuple.

    Raises:
        UsageError: AK223 none of these.
    """
    if isinstance(raw, torch.Tensor):
        return raw
    logits = raw.get("logits") if isinstance(raw, Mapping) else getattr(raw, "logits", None)
    if logits is None and isinstance(raw, tuple | list) and raw:
        logits = raw[0]
    if isinstance(logits, torch.Tensor):
        return logits
    raise UsageError(
        "AK223", f"the module returned {type(raw).__name__}, not a tensor", where=where, fix="return a tensor of scores"
    )


def as_tensor(inputs: Any, module: torch.nn.Module, device: str) -> torch.Tensor:
    """Numbers as a tensor on ``device``: token ids (2-D integers, embedding layer) as long, else the module's dtype.

    Raises:
        UsageError: AK222 columns that are not numbers, AK223 text without a tokenizer.
    """
    if hasattr(inputs, "columns"):
        inputs = _numbers(inputs)
    elif isinstance(inputs, list) and inputs and isinstance(inputs[0], str):
        raise UsageError("AK223", "a torch module does not take text", fix="pass tokenizer= or TorchModel(prepare=...)")
    if isinstance(inputs, Mapping):
        raise UsageError(
            "AK223",
            "the preparation returned several tensors; one is expected",
            fix="wrap the module in one that takes the token ids alone",
        )
    tensor = inputs if isinstance(inputs, torch.Tensor) else _from_array(inputs)
    integers = not tensor.is_floating_point() and not tensor.is_complex()
    if integers and tensor.ndim == 2 and has_layer(module, torch.nn.Embedding, torch.nn.EmbeddingBag):
        return tensor.to(device, torch.long)
    return tensor.to(device, module_dtype(module))


def refuse_probabilities(raw: npt.NDArray[Any], where: str) -> None:
    """Raise AK221 when outputs that were not declared look like probabilities; logits of logits would be wrong."""
    if len(raw) < _ROWS_TO_TELL or not np.isfinite(raw).all() or raw.min() < 0.0 or raw.max() > 1.0:
        return
    if raw.shape[1] > 1 and np.abs(raw.sum(axis=1) - 1.0).max() > 1e-4:
        return
    raise UsageError(
        "AK221",
        "the module's outputs look like probabilities, and logits are expected",
        where=where,
        why="all lie in [0, 1]" + (" and every row sums to 1" if raw.shape[1] > 1 else ""),
        fix='wrap it: TorchModel(module, classes=..., output="probability"), or output="logit" if they are logits',
    )


def module_fingerprint(module: torch.nn.Module) -> str | None:
    """Hash of a module: its printed form, every tensor of its state, settings that it holds as plain attributes, and
    the code of ``forward`` of classes outside torch. ``None`` when a tensor's bytes cannot be reached."""
    parts: list[tuple[str, Any]] = [("kind", _kind(module)), ("structure", str(module))]
    try:
        parts += [(name, _content(value)) for name, value in sorted(module.state_dict().items())]
    except (RuntimeError, TypeError, NotImplementedError):
        return None
    for name, part in module.named_modules():
        if not type(part).__module__.startswith("torch."):
            parts.append((f"{name} forward", type(part).forward))
        settings = {key: value for key, value in vars(part).items() if not key.startswith("_") and key != "training"}
        parts += [(f"{name}.{key}", _content(value)) for key, value in sorted(settings.items())]
    return fingerprint_parts(parts)


def _content(value: Any) -> Any:
    """A tensor as dtype, shape and bytes; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value if fingerprint_of(value) is not None else type(value).__qualname__
    flat = value.detach().to("cpu").contiguous().reshape(-1)
    return str(value.dtype), tuple(value.shape), flat.view(torch.uint8).numpy() if value.numel() else b""


def _kind(module: torch.nn.Module) -> str:
    name = f"{type(module).__module__}.{type(module).__qualname__}".replace("<locals>.", "")
    return f"torch.nn.{type(module).__name__}" if name.startswith("torch.nn.modules.") else name


def _placed(module: torch.nn.Module, device: str) -> torch.nn.Module:
    """The module itself where it already is on ``device``; else a copy there, so that the user's own stays."""
    if device == "auto" or torch.device(device).type == module_device(module):
        return module
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise UsageError("AK229", "torch sees no CUDA device", fix='use device = "auto" or "cpu"')
    if not [*module.parameters(), *module.buffers()]:
        return module
    return copy.deepcopy(module).to(device)


def _differentiable_recurrence(module: torch.nn.Module, device: str) -> Any:
    """Native kernels for recurrent layers: cuDNN refuses the backward pass of a recurrent layer in eval mode."""
    from contextlib import nullcontext

    if device == "cuda" and has_layer(module, torch.nn.RNNBase):
        return torch.backends.cudnn.flags(enabled=False)
    return nullcontext()


def _numbers(frame: Any) -> npt.NDArray[Any]:
    import pandas as pd

    words = [str(name) for name, dtype in zip(frame.columns, frame.dtypes, strict=True) if not _is_number(pd, dtype)]
    if words:
        raise UsageError(
            "AK222",
            f"a torch module takes numbers, but these columns are not: {', '.join(map(repr, words[:8]))}",
            fix="encode them, or pass TorchModel(prepare=...) that does",
        )
    if all(isinstance(dtype, np.dtype) and dtype.kind in "iub" for dtype in frame.dtypes):
        return np.asarray(frame.to_numpy(dtype=np.int64), dtype=np.float64)
    return np.asarray(frame.to_numpy(dtype=np.float64, na_value=np.nan))


def _is_number(pd: Any, dtype: Any) -> bool:
    return bool(pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype))


def _from_array(inputs: Any) -> torch.Tensor:
    array = np.asarray(inputs)
    if array.dtype.kind not in "iufb":
        raise UsageError(
            "AK222", f"a torch module takes numbers, got an array of {array.dtype}", fix="encode the inputs"
        )
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    # A copy: the caller's array is never shared with a module that might write into its input.
    return torch.from_numpy(np.array(array, order="C", copy=True))


def _slice(inputs: Any, rows: IntArray) -> Any:
    start, stop = int(rows[0]), int(rows[-1]) + 1
    return inputs.iloc[start:stop] if hasattr(inputs, "iloc") else inputs[start:stop]
