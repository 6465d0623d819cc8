"""The question that every PyTorch script asks first."""

from __future__ import annotations

from . import backend


def is_available() -> bool:
    """Whether GPU 0 really computes; `backend.gpu_trouble(0)` says what is missing."""
    return backend.gpu_trouble(0) is None
