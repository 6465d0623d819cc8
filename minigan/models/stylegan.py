"""The networks of StyleGAN (Karras, Laine & Aila 2019), simplified, and the layers of StyleGAN2.

G has two parts. The *mapping* network turns the noise z into w, with fully connected layers. The
*synthesis* network draws the image, from a learned constant of 4 x 4 pixels, and w enters each of its
layers as a *style*, by which the layer scales its channels. Between its convolutions each layer adds
noise, one number per pixel, for what is random in an image, such as the place of each hair.

There are two kinds of layers, with w -> style by a Linear layer of each layer's own:

    adain     leaky ReLU(conv(x) + noise), normalised in each image and channel, times 1 + scale, plus
              shift (StyleGAN: adaptive instance normalisation, Huang & Belongie 2017)
    modulate  leaky ReLU(d conv(s x) + noise), where the demodulator d gives the result of the
              convolution a standard deviation of 1 if x has one (StyleGAN2: Karras, Laine, Aittala,
              Hellsten, Lehtinen & Aila 2020, section 2.2)

The image is doubled in size before the first convolution of each size. There is no growing: all sizes
are trained at once, as in StyleGAN2. D is that of progressive.py at its last level.
"""

from __future__ import annotations

import numpy as np

from .. import functional as F
from .. import init, nn
from ..arrays import DEFAULT_DTYPE
from ..tensor import Tensor
from .equalized import GAIN, equalized, slow_linear
from .layers import PixelNorm
from .progressive import START, channels, doublings, shrinking

STYLES = ("adain", "modulate")
EPS = 1e-8


def up(x: Tensor) -> Tensor:
    """Each pixel repeated and blurred by [1, 2, 1] / 4 in both directions: (N, C, 2H, 2W).

    Together, these two are bilinear interpolation. At the edges, where the blur would read pixels
    outside the image, they are the nearest ones inside, so that a constant image stays constant. The
    authors blur behind the convolution, where it is the same, except at the edges.
    """
    return F.interpolate(x, scale_factor=2, mode="bilinear")


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x, normalised in each image and channel, times 1 + scale, plus shift.

    x (N, C, H, W), scale and shift (N, C). Channel c of image n then has the mean shift[n, c] and the
    standard deviation |1 + scale[n, c]|. Karras, Laine & Aila 2019, equation 1; there 1 + scale is y_s.
    """
    return F.instance_norm(x, weight=1 + scale, bias=shift, eps=EPS)


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool = True) -> Tensor:
    """A convolution whose weight is scaled for each image: (N, C, H, W) -> (N, O, H, W).

    weight (O, C, k, k) with odd k; style s (N, C). Image n is convolved with w' = s[n] weight, scaled
    along C. With `demodulate`, w' is divided by sqrt(sum of w'^2 + 1e-8) over C and k x k for each of
    its outputs o, so that independent inputs of standard deviation 1 give outputs of the same.

    Scaling a weight's inputs is scaling x, and dividing its outputs is dividing the result. So one
    ordinary convolution does for all images. (StyleGAN2, equations 1 to 3.)
    """
    y = F.conv2d(x * style[:, :, None, None], weight, padding=weight.shape[2] // 2)
    if not demodulate:
        return y
    squares = style**2 @ (weight**2).sum((2, 3)).transpose(0, 1)  # (N, C) @ (C, O) -> (N, O)
    return y * ((squares + EPS) ** -0.5)[:, :, None, None]


class Layer(nn.Module):
    """What both kinds of layers share: x (N, inside, H, W), w (N, nw), noise -> (N, out, H, W).

    strength  that of the noise, (out, 1, 1), one for each channel; at first 0
    doubles   whether the image is doubled in size first
    """

    def __init__(self, out: int, doubles: bool):
        self.strength = nn.Parameter(init.memory((out, 1, 1), DEFAULT_DTYPE))
        self.doubles = doubles

    def noisy(self, x: Tensor, noise: Tensor) -> Tensor:
        """x + strength * noise, multiplied with the channels last, because x lies so in memory."""
        planes = noise.permute(0, 2, 3, 1) * self.strength.reshape(-1)  # (N, H, W, 1) * (out,)
        return x + planes.permute(0, 3, 1, 2)  # (N, H, W, out) -> (N, out, H, W)


class AdaINLayer(Layer):
    """A layer of StyleGAN. The first one, with inside = 0, has no convolution."""

    def __init__(
        self, inside: int, out: int, nw: int, doubles: bool, rng: np.random.Generator | None
    ):
        super().__init__(out, doubles)
        self.conv = equalized(nn.Conv2d(inside, out, 3, 1, 1), rng) if inside else None
        self.style = equalized(nn.Linear(nw, 2 * out), rng, gain=1.0)  # scale and shift, at first 0

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        if self.conv is not None:
            x = self.conv(up(x) if self.doubles else x)
        scale, shift = F.chunk(self.style(w), 2, 1)  # (N, 2 out) -> twice (N, out)
        return adain(F.leaky_relu(self.noisy(x, noise), 0.2), scale, shift)


class ModulatedLayer(Layer):
    """A layer of StyleGAN2."""

    def __init__(
        self, inside: int, out: int, nw: int, doubles: bool, rng: np.random.Generator | None
    ):
        super().__init__(out, doubles)
        self.conv = equalized(nn.Conv2d(inside, out, 3, 1, 1), rng)
        self.style = _scales(nw, inside, rng)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = modulated_conv(up(x) if self.doubles else x, self.conv.weight, self.style(w))
        bias = self.conv.bias[:, None, None]  # (out,) -> (out, 1, 1)
        return F.leaky_relu(self.noisy(x, noise) + bias, 0.2) * GAIN


class ToRGB(nn.Module):
    """The last layer with `modulate`: scaled by its style, but not demodulated."""

    def __init__(self, inside: int, nc: int, nw: int, rng: np.random.Generator | None):
        self.conv = equalized(nn.Conv2d(inside, nc, 1), rng, gain=1.0)
        self.style = _scales(nw, inside, rng)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = modulated_conv(x, self.conv.weight, self.style(w), demodulate=False)
        return x + self.conv.bias[:, None, None]  # (nc,) -> (nc, 1, 1)


def _scales(nw: int, inside: int, rng: np.random.Generator | None) -> nn.Module:
    """w -> the scales of a modulated convolution's inputs, which are near 1 at first."""
    layer = equalized(nn.Linear(nw, inside), rng, gain=1.0)
    init.ones_(layer.bias)
    return layer


class Mapping(nn.Module):
    """Noise z (N, nz) -> w (N, nz), by fully connected layers with leaky ReLUs.

    z is divided by its root mean square. The layers learn at `rate` times the learning rate, because
    the whole image depends on each of them.
    """

    def __init__(
        self, nz: int = 512, layers: int = 8, rate: float = 0.01,
        rng: np.random.Generator | None = None,
    ):  # fmt: skip
        parts: list[nn.Module] = [PixelNorm()]
        for _ in range(layers):
            parts += [slow_linear(nz, nz, rate, rng), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*parts)

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)


class Synthesis(nn.Module):
    """A style for each layer, w (N, styles, nw) -> images (N, nc, S, S), without bounds.

    ngf    the channels up to 32 pixels a side; beyond, see `progressive.channels`
    kind   "adain" or "modulate"
    styles the number of styles: 2 log2(S) - 2

    The noise of all layers together is (N, pixels): one number for each pixel of each layer. `noise`,
    (1, pixels), is the noise of a call that gives none. It is drawn once and never changes.
    """

    def __init__(
        self, ngf: int, nc: int, image_size: int, nw: int, kind: str, rng: np.random.Generator | None
    ):  # fmt: skip
        last = doublings(image_size)
        widths = [channels(ngf, k) for k in range(last + 1)]
        make = AdaINLayer if kind == "adain" else ModulatedLayer
        # N(0, 1), as in StyleGAN2. StyleGAN begins with ones, but a channel of equal numbers has no
        # variance, and the slope of instance norm there is 1 / sqrt(eps).
        self.constant = nn.Parameter(init.memory((1, widths[0], START, START), DEFAULT_DTYPE))
        init.normal_(self.constant, 0.0, 1.0, rng)
        layers = [make(0, widths[0], nw, False, rng)] if kind == "adain" else []
        layers.append(make(widths[0], widths[0], nw, False, rng))
        for k in range(1, last + 1):
            layers.append(make(widths[k - 1], widths[k], nw, True, rng))
            layers.append(make(widths[k], widths[k], nw, False, rng))
        self.layers = nn.ModuleList(layers)
        if kind == "adain":
            self.rgb = equalized(nn.Conv2d(widths[-1], nc, 1), rng, gain=1.0)
        else:
            self.rgb = ToRGB(widths[-1], nc, nw, rng)
        self.styles = len(layers) + (kind == "modulate")
        doubled = np.cumsum([layer.doubles for layer in layers])
        self.sizes = [START << int(k) for k in doubled]  # pixels per side behind each layer
        pixels = sum(size**2 for size in self.sizes)
        self.noise = nn.Buffer(init.memory((1, pixels), DEFAULT_DTYPE), averaged=False)
        init.normal_(self.noise, 0.0, 1.0, rng)

    def forward(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        noise = self.noise if noise is None else noise
        x, start = self.constant.expand(len(w), -1, -1, -1), 0
        for i, (layer, size) in enumerate(zip(self.layers, self.sizes, strict=True)):
            pixels = noise[:, start : start + size**2]
            x = layer(x, w[:, i], pixels.reshape(-1, 1, size, size))  # (N, S^2) -> (N, 1, S, S)
            start += size**2
        return self.rgb(x, w[:, -1]) if isinstance(self.rgb, ToRGB) else self.rgb(x)


class Generator(nn.Module):
    """Noise z (N, nz) -> images (N, nc, S, S): one style for all layers, and the fixed noise.

    The parts are called directly for anything else: `mapping` (see Mapping), `synthesis` (see
    Synthesis). Raises ValueError for an image_size that is not 4 * 2^n.
    """

    def __init__(
        self,
        nz: int = 512,
        ngf: int = 512,
        nc: int = 3,
        image_size: int = 64,
        kind: str = "adain",
        layers: int = 8,
        rate: float = 0.01,
        rng: np.random.Generator | None = None,
    ):
        self.mapping = Mapping(nz, layers, rate, rng)
        self.synthesis = Synthesis(ngf, nc, image_size, nz, kind, rng)

    def styles(self, w: Tensor) -> Tensor:
        """The same style for each layer: w (N, nw) -> (N, styles, nw)."""
        return w[:, None].expand(-1, self.synthesis.styles, -1)  # (N, nw) -> (N, 1, nw) -> ...

    def forward(self, z: Tensor) -> Tensor:
        return self.synthesis(self.styles(self.mapping(z)))


class Discriminator(nn.Module):
    """Images (N, nc, S, S) -> scores (N,), without bounds: the D of progressive.py at its last level.

    N must be at most 4 or a multiple of 4: see MinibatchStdDev. Raises ValueError for an image_size
    that is not 4 * 2^n.
    """

    def __init__(
        self,
        ndf: int = 512,
        nc: int = 3,
        image_size: int = 64,
        rng: np.random.Generator | None = None,
    ):
        widths = [channels(ndf, k) for k in range(doublings(image_size) + 1)]
        first = [equalized(nn.Conv2d(nc, widths[-1], 1), rng), nn.LeakyReLU(0.2)]
        self.main = nn.Sequential(*first, *reversed(shrinking(widths, rng)))

    def forward(self, image: Tensor) -> Tensor:
        return self.main(image).reshape(-1)  # (N, 1, 1, 1) -> (N,)
