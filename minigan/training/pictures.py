"""Pictures of a run: grids of images, curves, and the film of its progress."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..files import naming, write_atomically

GAP = 2  # pixels between the images of a grid
FRAMES = 60  # of progress.gif at the most
FRAME_MS, LAST_FRAME_MS = 150, 2000


def to_pixels(images: np.ndarray) -> np.ndarray:
    """Values in [-1, 1] to uint8: (N, C, H, W) -> (N, H, W, 3).

    The scale is a constant. Grids stretched by their own minimum and maximum cannot be compared.
    """
    pixels = np.rint((images.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


def grid(pixels: np.ndarray, columns: int = 8) -> np.ndarray:
    """uint8 images side by side, white between them: (N, H, W, 3) -> (rows*H + ..., ..., 3)."""
    n, h, w, c = pixels.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    canvas = np.full((rows * (h + GAP) + GAP, columns * (w + GAP) + GAP, c), 255, np.uint8)
    for i, picture in enumerate(pixels):
        top, left = GAP + i // columns * (h + GAP), GAP + i % columns * (w + GAP)
        canvas[top : top + h, left : left + w] = picture
    return canvas


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two grids of one height next to each other, with a wider gap."""
    gap = np.full((left.shape[0], 6 * GAP, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as a PNG, wholly or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def save_film(path: Path, frames: Sequence[Path]) -> None:
    """A GIF of grid pictures, thinned evenly to FRAMES; the last one stays longer."""
    chosen = sorted({round(i) for i in np.linspace(0, len(frames) - 1, min(FRAMES, len(frames)))})
    images = []
    for i in chosen:
        with naming(frames[i]), open(frames[i], "rb") as file, Image.open(file) as image:
            images.append(image.convert("RGB").quantize(128))
    buffer = io.BytesIO()
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_FRAME_MS]
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0
    )
    write_atomically(path, buffer.getvalue())


def save_curves(folder: Path, metrics: Sequence[dict[str, float]]) -> None:
    """losses.png and scores.png: the values of every step, and their running mean in front."""
    curves = {
        "losses.png": ("loss", {"loss_d": "Loss_D", "loss_g": "Loss_G"}),
        "scores.png": (
            "mean probability of being real",
            {"d_x": "D(x)", "d_gz_before": "D(G(z)) before", "d_gz_after": "D(G(z)) after"},
        ),
    }
    from matplotlib.figure import Figure  # half a second: not to be paid by whoever draws nothing

    steps = np.array([m["step"] for m in metrics])
    width = min(max(1, len(steps) // 50), 2000)  # the time it takes is its product with the steps
    for name, (title, lines) in curves.items():
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        for key, label in lines.items():
            values = np.array([m[key] for m in metrics], float)  # None: nan, a gap
            (line,) = axes.plot(steps, values, alpha=0.25, linewidth=0.8)
            smooth = np.convolve(values, np.ones(width) / width, "valid")
            axes.plot(steps[width - 1 :], smooth, color=line.get_color(), label=label)
        axes.set(xlabel="step", ylabel=title)
        axes.grid(alpha=0.3)
        axes.legend()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        write_atomically(folder / name, buffer.getvalue())
