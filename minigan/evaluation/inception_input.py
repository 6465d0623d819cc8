"""How images become the input of InceptionV3: three channels, 299 x 299 pixels, numbers in [-1, 1].

Programs differ here, and their FIDs with them. Each way has a name:

    tensorflow   TensorFlow 1's bilinear filter, as in the original code of FID and in torch-fidelity,
                 then (x - 128) / 128
    pytorch-fid  PyTorch's bilinear filter, then 2 x / 255 - 1
    clean-fid    Pillow's bicubic filter, each channel in floats, clipped to 0 and 255 but not rounded,
                 then (x - 128) / 128

The first two look at four pixels for each new one, however much they shrink an image, so they alias.
The third averages over all pixels (Parmar et al. 2022, "On Aliased Resizing and Surprising Subtleties
in GAN Evaluation").
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from .. import functional as F
from ..tensor import Tensor

SIDE = 299
STANDARD = "tensorflow"


def prepared(images: np.ndarray, resize: str) -> np.ndarray:
    """uint8 images (N, C, H, W), grey or RGB -> (N, 3, 299, 299) float32, by a name in RESIZES."""
    pixels = RESIZES[resize](images.astype(np.float32))
    return np.broadcast_to(pixels, (len(images), 3, SIDE, SIDE))  # grey becomes three channels


def _tensorflow(x: np.ndarray) -> np.ndarray:
    """Pixel i of a new line is at i old / new, counted in old pixels: corners, not centres, agree."""
    rows, columns = (_corner_weights(old, SIDE) for old in x.shape[2:])
    return (rows @ x @ columns.T - 128) / np.float32(128)  # (N, C, 299, 299)


def _corner_weights(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) float32 that interpolates a line as TensorFlow 1 does."""
    places = np.minimum(np.arange(new) * (old / new), old - 1)
    return (1 - np.abs(places[:, None] - np.arange(old))).clip(0).astype(np.float32)


def _pytorch_fid(x: np.ndarray) -> np.ndarray:
    return 2 * F.interpolate(Tensor(x / np.float32(255)), SIDE, mode="bilinear").numpy() - 1


def _clean_fid(x: np.ndarray) -> np.ndarray:
    size, bicubic = (SIDE, SIDE), Image.Resampling.BICUBIC
    resized = [[Image.fromarray(plane).resize(size, bicubic) for plane in image] for image in x]
    return (np.array(resized, np.float32).clip(0, 255) - 128) / np.float32(128)


RESIZES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    STANDARD: _tensorflow,
    "pytorch-fid": _pytorch_fid,
    "clean-fid": _clean_fid,
}
