"""`torch.cuda.is_available`, which most PyTorch scripts call first."""

from __future__ import annotations

from . import backend


def is_available() -> bool:
    """Whether GPU 0 can compute; `backend.gpu_trouble(0)` says what is missing."""
    return backend.gpu_trouble(0) is None
