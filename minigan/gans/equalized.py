"""What the members with equalised layers share: options, and the images that their networks can make.

See models/equalized.py and models/layers.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..errors import UserError
from ..models.layers import GROUP
from ..models.progressive import START
from ..options import option, with_default
from . import base

SIZES = (16, 32, 64, 128, 256)  # pixels per side of the images


@dataclass(frozen=True)
class Options(base.Common):
    """member: its name, for messages."""

    member: ClassVar[str]

    nz: int = with_default(512, base.Options, "nz")
    noise: str = with_default("normal", base.Options, "noise")
    ngf: int = option(
        512,
        "width of G: channels up to 32 pixels a side; half as many at each doubling beyond",
        least=1,
        most=1024,
    )
    ndf: int = option(512, "width of D, likewise", least=1, most=1024)
    lr: float = with_default(1e-3, base.Options, "lr")
    beta1: float = option(0.0, "first beta of both Adams", least=0, below=1)
    beta2: float = option(0.99, "second beta of both Adams", least=0, below=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.init != "auto":
            raise UserError(
                f"--init {self.init}: the layers of {self.member} scale weights from N(0, 1); leave it "
                "out"
            )
        if self.batch_size % GROUP and self.batch_size > GROUP:
            raise UserError(
                f"--batch-size {self.batch_size}: D compares samples in groups of {GROUP}; make it a "
                "multiple"
            )

    @property
    def unit(self) -> int:
        """The samples that D compares with each other."""
        return GROUP

    def check_share(self, size: int) -> None:
        if size == 1:
            raise UserError(
                f"--batch-size {self.batch_size}: D compares samples, but would be shown one at a "
                "time; raise it"
            )

    def check_shape(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The channels and the pixels per side of images. Raises UserError for those of other sizes."""
        if len(shape) != 3:
            raise UserError(f"member {self.member} makes images, not points; use other --data")
        nc, size, _ = shape
        if size not in SIZES:
            raise UserError(
                f"--image-size {size}: images grow from {START} pixels by doubling; use one of "
                f"{', '.join(map(str, SIZES))}"
            )
        return nc, size
