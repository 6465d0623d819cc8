"""Stacked digits: three digits as the channels of one image, so that there are 1,000 known modes."""

from __future__ import annotations

import numpy as np

from ..errors import UserError
from . import classifier
from .bins import mode_coverage
from .checks import as_images

KIND = "digits"  # the classifier that reads them
SIDE = 16  # pixels at least, below which nobody can read a digit


def stacked_modes(images: np.ndarray) -> tuple[int, float]:
    """The number of modes that occur, and KL(p || uniform), in nats: see `mode_coverage`.

    images  (N, 3, H, W) in [-1, 1]: a drawn digit in each channel, as one reads a number from 0 to 999

    The shipped classifier reads each channel. It misreads about one digit in 2,000, so about one image
    in 700, which can look like a mode that is not there (Metz et al. 2017, section 3.3.1). Of N images
    whose modes are equally frequent, about 1000 (1 - exp(-N / 1000)) modes are met by chance, so the
    usual N is 26,000. Time is O(N).
    """
    (images,) = as_images("stacked_modes", SIDE, images=images)
    n, channels, height, width = images.shape
    if channels != 3:
        raise UserError(
            f"stacked_modes: images has {channels} channels, but must have 3; stack them"
        )
    planes = images.reshape(3 * n, 1, height, width)  # (N, 3, H, W) -> (3 N, 1, H, W)
    features = classifier.load(KIND).describe(planes)
    digits = classifier.read(KIND, features)[:, 0].reshape(n, 3)  # (3 N,) -> (N, 3)
    return mode_coverage(digits @ np.array([100, 10, 1]), 1000)
