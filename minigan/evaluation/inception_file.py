"""The weights of InceptionV3: one file, known by its size and its digest, which the user brings.

`pt_inception-2015-12-05-6726825d.pth` holds TensorFlow's weights of 2015 as a PyTorch state dict.
pytorch-fid and torch-fidelity use it. `torchfile.py` reads it once, and a copy is made beside it as a
tensor file, which then serves as well. Any other weights are refused, because a distance of their
features would not be FID. Nothing is downloaded.

The copy says which file it was made from, and holds a digest of its arrays. That detects damage, but
not a forgery.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from .. import tensorfile
from ..errors import UserError
from ..files import is_own, reason
from ..options import short
from . import torchfile
from .classifier import digest_of
from .inception import InceptionV3
from .inception_input import RESIZES, STANDARD

NAME = "pt_inception-2015-12-05-6726825d.pth"
SIZE = 95_628_359  # bytes
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
BLOCK = 2**20  # bytes hashed at a time


def load(path: Path, resize: str = STANDARD, say: Callable[[str], None] = print) -> InceptionV3:
    """InceptionV3 with the weights of the standard file, or of the copy that this function makes of it.

    resize  how images become 299 x 299 pixels: a name in RESIZES
    say     is called with a line about the copy

    Raises UserError if the file is another one, is damaged, or cannot be read.
    """
    if resize not in RESIZES:
        raise UserError(
            f"--inception-resize {resize}: is not known; choose one of {', '.join(RESIZES)}"
        )
    net = InceptionV3(resize, SHA256[:12])
    counters = {
        name: t.numpy()
        for name, t in net.state_dict().items()
        if name.endswith("num_batches_tracked")  # which files from before PyTorch 0.4.1 lack
    }
    try:
        copied = path.suffix == ".safetensors"
        arrays = _read_copy(path) if copied else _read_standard(path)
        net.load_state_dict(counters | arrays)
    except OSError as error:
        raise UserError(f"--inception {path}: {reason(error)}") from error
    except (ValueError, KeyError) as error:
        why = short(error.args[0]) if isinstance(error, KeyError) else error
        raise UserError(
            f"--inception {path}: {why}; give {NAME}, or the copy made from it"
        ) from error
    if not copied:
        _copy(path.with_suffix(".safetensors"), arrays, say)
    return net


def load_if_given(
    path: str | Path | None, resize: str | None, say: Callable[[str], None]
) -> InceptionV3 | None:
    """What `load` returns; None without a path. UserError: there is a way to resize, but no path."""
    if path is not None:
        return load(Path(path), resize or STANDARD, say)
    if resize is not None:
        raise UserError(f"--inception-resize {resize}: only --inception uses it; drop it")
    return None


def _read_standard(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the standard file, once its size and its digest agree."""
    if path.exists() and not path.is_file():
        raise ValueError("it is not a file")  # opening a pipe would wait for a writer
    if (size := path.stat().st_size) != SIZE:
        raise ValueError(f"it has {size:,} bytes, and the standard weights have {SIZE:,}")
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    if digest.hexdigest() != SHA256:
        raise ValueError(
            f"its SHA-256 begins with {digest.hexdigest()[:12]}, and that of the standard weights with "
            f"{SHA256[:12]}"
        )
    return torchfile.read(path)


def _read_copy(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a copy, once it says that it is one and its arrays agree with its digest."""
    text = tensorfile.read_text(path).get(tensorfile.KEY, "")
    arrays = tensorfile.read(path)
    if text != _text(arrays):
        raise ValueError("it is not an intact copy of the standard weights")
    return arrays


def _text(arrays: dict[str, np.ndarray]) -> str:
    return json.dumps({"copy of": SHA256, "arrays": digest_of(arrays)})


def _copy(path: Path, arrays: dict[str, np.ndarray], say: Callable[[str], None]) -> None:
    """Write the copy, unless there is one. A folder that cannot be written is no reason to stop."""
    try:
        if not is_own(path):
            tensorfile.write(path, arrays, _text(arrays))
            say(f"{path} is a copy of the weights in a format that holds nothing but numbers")
    except OSError as error:
        say(f"the weights were not copied to {path}: {reason(error)}")
