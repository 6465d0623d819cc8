"""InceptionV3 as FID uses it: images -> the 2,048 features of its last pooling, and 1,008 logits.

The network is that of Szegedy et al. 2015, "Rethinking the Inception Architecture for Computer Vision",
in the variant that TensorFlow published in 2015, whose features Heusel et al. 2017 chose for FID. Its
parts have torchvision's names, so PyTorch's state dict of the standard weights fits. It differs from
torchvision's network in three ways:

    average poolings   do not count the padding
    Mixed_7c           takes the maximum where the other blocks take the mean
    fc                 has 1,008 outputs

It is only evaluated here, never trained. `inception_file.py` reads its weights, and
`inception_input.py` prepares its images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .. import backend
from .. import functional as F
from ..arguments import Pair
from ..console import bar
from ..nn import BatchNorm2d, Conv2d, Linear, Module
from ..tensor import Tensor, no_grad
from .inception_input import STANDARD, prepared

FEATURES, CLASSES = 2048, 1008
BATCH = 8  # images at a time, always: the last bits of a product depend on the number of rows


class InceptionV3(Module):
    """Prepared images (N, 3, 299, 299), see `inception_input.py` -> features (N, 2048), "pool3".

    resize  how images become 299 x 299: a name in `inception_input.RESIZES`
    digest  twelve digits that stand for the weights

    Below, each line says which channels and pixels come out.
    """

    def __init__(self, resize: str = STANDARD, digest: str = "") -> None:
        self.resize, self.digest = resize, digest
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)  # 32 x 149 x 149
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)  # 32 x 147 x 147
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)  # 64 x 147 x 147, pooled to 73 x 73
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)  # 80 x 73 x 73
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)  # 192 x 71 x 71, pooled to 35 x 35
        self.Mixed_5b = _BlockA(192, 32)  # 256 x 35 x 35
        self.Mixed_5c = _BlockA(256, 64)  # 288 x 35 x 35
        self.Mixed_5d = _BlockA(288, 64)  # 288 x 35 x 35
        self.Mixed_6a = _BlockB(288)  # 768 x 17 x 17
        self.Mixed_6b = _BlockC(768, 128)  # 768 x 17 x 17, like the next three
        self.Mixed_6c = _BlockC(768, 160)
        self.Mixed_6d = _BlockC(768, 160)
        self.Mixed_6e = _BlockC(768, 192)
        self.Mixed_7a = _BlockD(768)  # 1280 x 8 x 8
        self.Mixed_7b = _BlockE(1280, _mean)  # 2048 x 8 x 8
        self.Mixed_7c = _BlockE(2048, _largest)  # 2048 x 8 x 8
        self.fc = Linear(FEATURES, CLASSES)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, 2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return F.mean(x, (2, 3))  # (N, 2048, 8, 8) -> (N, 2048)

    def describe(self, images: np.ndarray) -> np.ndarray:
        """The features (N, 2048) float32 of images (N, C, H, W) uint8, grey or RGB, of any size.

        A few images at a time are prepared and computed, so memory does not grow with N.
        """
        found, device = [], backend.device_of(self.fc.weight.data)
        with no_grad(), bar(True, total=len(images), unit="img", desc="InceptionV3") as shown:
            for i in range(0, len(images), BATCH):
                part = prepared(images[i : i + BATCH], self.resize)
                rest = np.zeros((BATCH - len(part), *part.shape[1:]), np.float32)
                x = Tensor(backend.move(np.concatenate([part, rest]), device))
                found.append(self(x).numpy()[: len(part)])
                shown.update(len(part))
        return np.concatenate(found)

    def logits_unbiased(self, features: np.ndarray) -> np.ndarray:
        """The logits (N, 1008) of features (N, 2048), without the bias of the last layer, in float64.

        The inception score has always been computed without it (Salimans et al. 2016, their code).
        """
        return features.astype(np.float64) @ self.fc.weight.numpy().astype(np.float64).T


class _Conv(Module):
    """A convolution, a batch norm, and a ReLU."""

    def __init__(
        self, inside: int, out: int, kernel: Pair, stride: int = 1, padding: Pair = 0
    ) -> None:
        self.conv = Conv2d(inside, out, kernel, stride, padding, bias=False)
        self.bn = BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn.activated(self.conv(x), slope=0.0)


def _mean(x: Tensor) -> Tensor:
    """The mean of each pixel and its neighbours, of which there are fewer at the border."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _largest(x: Tensor) -> Tensor:
    """The largest of each pixel and its neighbours."""
    return F.max_pool2d(x, 3, 1, 1)


# The blocks compute several branches of the same image, and join their channels. Below, `dbl` is two
# convolutions of 3 x 3 or 7 x 7 in sequence, and 1 x 7 after 7 x 1 stands for one of 7 x 7.


class _BlockA(Module):
    """(N, inside, H, W) -> (N, 224 + pooled, H, W)"""

    def __init__(self, inside: int, pooled: int) -> None:
        self.branch1x1 = _Conv(inside, 64, 1)
        self.branch5x5_1 = _Conv(inside, 48, 1)
        self.branch5x5_2 = _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Conv(inside, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(inside, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return F.cat([self.branch1x1(x), five, double, self.branch_pool(_mean(x))], 1)


class _BlockB(Module):
    """(N, inside, H, W) -> (N, 480 + inside, H // 2, W // 2), for odd H and W"""

    def __init__(self, inside: int) -> None:
        self.branch3x3 = _Conv(inside, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Conv(inside, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return F.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, 2)], 1)


class _BlockC(Module):
    """(N, inside, H, W) -> (N, 768, H, W), with `narrow` channels between the long kernels"""

    def __init__(self, inside: int, narrow: int) -> None:
        row, column = {"kernel": (1, 7), "padding": (0, 3)}, {"kernel": (7, 1), "padding": (3, 0)}
        self.branch1x1 = _Conv(inside, 192, 1)
        self.branch7x7_1 = _Conv(inside, narrow, 1)
        self.branch7x7_2 = _Conv(narrow, narrow, **row)
        self.branch7x7_3 = _Conv(narrow, 192, **column)
        self.branch7x7dbl_1 = _Conv(inside, narrow, 1)
        self.branch7x7dbl_2 = _Conv(narrow, narrow, **column)
        self.branch7x7dbl_3 = _Conv(narrow, narrow, **row)
        self.branch7x7dbl_4 = _Conv(narrow, narrow, **column)
        self.branch7x7dbl_5 = _Conv(narrow, 192, **row)
        self.branch_pool = _Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return F.cat([self.branch1x1(x), seven, double, self.branch_pool(_mean(x))], 1)


class _BlockD(Module):
    """(N, inside, H, W) -> (N, 512 + inside, H // 2, W // 2), for odd H and W"""

    def __init__(self, inside: int) -> None:
        self.branch3x3_1 = _Conv(inside, 192, 1)
        self.branch3x3_2 = _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Conv(inside, 192, 1)
        self.branch7x7x3_2 = _Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = _Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = _Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return F.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, 2)], 1)


class _BlockE(Module):
    """(N, inside, H, W) -> (N, 2048, H, W); `pool` is `_mean` or `_largest`"""

    def __init__(self, inside: int, pool: Callable[[Tensor], Tensor]) -> None:
        row, column = {"kernel": (1, 3), "padding": (0, 1)}, {"kernel": (3, 1), "padding": (1, 0)}
        self.pool = pool
        self.branch1x1 = _Conv(inside, 320, 1)
        self.branch3x3_1 = _Conv(inside, 384, 1)
        self.branch3x3_2a = _Conv(384, 384, **row)
        self.branch3x3_2b = _Conv(384, 384, **column)
        self.branch3x3dbl_1 = _Conv(inside, 448, 1)
        self.branch3x3dbl_2 = _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _Conv(384, 384, **row)
        self.branch3x3dbl_3b = _Conv(384, 384, **column)
        self.branch_pool = _Conv(inside, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three, double = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return F.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(three),
                self.branch3x3_2b(three),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(self.pool(x)),
            ],
            1,
        )
