"""The device, chosen once for a run."""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from pathlib import Path

from auditkit.core.errors import UsageError


def resolve_device(wanted: str = "auto") -> str:
    """``cpu`` or ``cuda``: ``auto`` takes CUDA when torch is installed and sees a device.

    Torch, seconds to import, is not asked where there is no driver that it could use.

    Raises:
        UsageError: AK229 unknown word, or CUDA asked for where there is none.

    >>> resolve_device("cpu")
    'cpu'
    """
    if wanted not in ("auto", "cpu", "cuda"):
        raise UsageError("AK229", f"there is no device {wanted!r}", fix="use auto, cpu or cuda")
    if wanted == "cpu" or importlib.util.find_spec("torch") is None:
        if wanted == "cuda":
            raise UsageError(
                "AK229", "cuda was asked for, but torch is not installed", fix='pip install "auditkit[torch]"'
            )
        return "cpu"
    if wanted == "auto" and not has_driver():
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if wanted == "cuda":
        raise UsageError(
            "AK229",
            "cuda was asked for, but torch sees no CUDA device",
            why=f"torch {torch.__version__}",
            fix='use device = "auto" or "cpu", or install a CUDA build of torch',
        )
    return "cpu"


def has_driver() -> bool:
    """Whether the machine has a driver without which torch sees no device: NVIDIA's, or AMD's, also CUDA to it."""
    if Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True
