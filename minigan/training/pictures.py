"""Writing the pictures of a run: PNGs, curves, and the film of its progress; called by looks.py."""

from __future__ import annotations

import io
import mmap
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from ..data.source import Unreadable, contents
from ..errors import UserError
from ..files import write_atomically
from .metrics import PANELS, metric, played

GAP = 12  # pixels between two pictures
FIGURE_BYTES = 2**27  # of memory: matplotlib's libraries and a figure take 68 MB
FRAMES = 60  # of progress.gif, at most
FRAME_MS, LAST_FRAME_MS = 150, 2000
MOST_CURVES = 12  # in one figure
MOST_PIXELS = 6_000_000  # of a frame: a grid of 10 classes at 256 x 256 has 5.3 million
MOST_BYTES = 4 * MOST_PIXELS  # of a frame's file, which at worst is not compressed


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures (H, W, 3) of equal height side by side, with a gap between them."""
    gap = np.full((left.shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def save_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W, 3) uint8 as a PNG, completely or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())


def _read_frame(path: Path) -> Image.Image:
    """A grid that `save_png` wrote, as RGB. Raises Unreadable if the file is anything else."""
    if path.is_symlink():  # a run has no links, see run.py
        raise Unreadable("a link")
    file = io.BytesIO(contents(path, MOST_BYTES))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which are checked here
            with Image.open(file, formats=("PNG",)) as image:  # reads the header only
                if image.width * image.height > MOST_PIXELS:
                    raise Unreadable(f"more than {MOST_PIXELS:,} pixels")
                return image.convert("RGB")
    except (Unreadable, MemoryError):
        raise
    except Image.DecompressionBombError:  # Pillow's own limit, which is higher than ours
        raise Unreadable(f"more than {MOST_PIXELS:,} pixels") from None
    except Exception as error:  # decoders raise nearly anything when the data is damaged
        raise Unreadable("not a PNG picture, or a damaged one") from error


def save_film(path: Path, frames: Sequence[Path], say: Callable[[str], None] = print) -> None:
    """Write a GIF of at most FRAMES of the pictures, evenly spaced. The last one is shown for longer.

    Pictures that cannot be read are left out, and `say` is told of them.
    """
    chosen = sorted({round(i) for i in np.linspace(0, len(frames) - 1, min(FRAMES, len(frames)))})
    images, faults = [], []
    for i in chosen:
        try:
            images.append(_read_frame(frames[i]).quantize(128))
        except Unreadable as error:
            faults.append(f"{frames[i]}: {error}")
    if faults:
        say(f"{path.name} lacks {len(faults)} of {len(chosen)} frames; {faults[0]}")
    if not images:
        return
    buffer = io.BytesIO()
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_FRAME_MS]
    images[0].save(
        buffer, "GIF", save_all=True, append_images=images[1:], duration=durations, loop=0
    )
    write_atomically(path, buffer.getvalue())


def save_curves(folder: Path, metrics: Sequence[dict[str, float]]) -> None:
    """Write losses.png and the other panels: the values of each metric, and their running mean.

    Raises UserError if matplotlib cannot be imported, OSError if there is too little memory for it.
    """
    names = list(dict.fromkeys(name for line in metrics for name in played(line)))
    for panel, title in PANELS.items():
        shown = [name for name in names if metric(name).panel == panel][:MOST_CURVES]
        if not shown:
            continue
        parts = [shown] if title else [[name] for name in shown]
        with _new_figure(figsize=(8, 4 * len(parts)), layout="constrained") as figure:
            for i, part in enumerate(parts):
                _draw(figure.add_subplot(len(parts), 1, i + 1), title, part, metrics)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi=120)
        write_atomically(folder / f"{panel}.png", buffer.getvalue())


def _draw(axes: Any, title: str, names: Sequence[str], metrics: Sequence[dict[str, float]]) -> None:
    """Draw these metrics over the steps. Without a title there is one metric, which labels the axis."""
    for name in names:
        lines = [m for m in metrics if name in m]  # not every line has every metric
        steps = np.array([m["step"] for m in lines])
        values = np.array([m[name] for m in lines], float)  # None: nan, a gap
        width = min(max(1, len(lines) // 50), 2000)  # bounded: the time is width x steps
        (line,) = axes.plot(steps, values, alpha=0.25, linewidth=0.8)
        smooth = np.convolve(values, np.ones(width) / width, "valid")
        axes.plot(steps[width - 1 :], smooth, color=line.get_color(), label=metric(name).label)
    axes.set(xlabel="step", ylabel=title or metric(names[0]).label)
    axes.grid(alpha=0.3)
    if title:
        axes.legend()


@contextmanager
def _new_figure(**options: Any) -> Iterator[Any]:
    """A matplotlib figure, drawn by Agg with the default settings instead of the user's."""
    # OSError if less memory is free. With too little, loading matplotlib can hang or abort Python.
    mmap.mmap(-1, FIGURE_BYTES).close()
    matplotlib = _import_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # "backend" is for pyplot, which is not used here, and `rc_context` would not restore it.
    settings = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
    settings["text.parse_math"] = False  # a metric's name may contain a $
    with matplotlib.rc_context(settings):
        figure = Figure(**options)
        FigureCanvasAgg(figure)
        yield figure


def _import_matplotlib() -> ModuleType:
    """Import matplotlib, only when it is needed (it takes half a second) and without MPLBACKEND."""
    chosen = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    except (ImportError, OSError, ValueError) as error:  # the last two: from a bad matplotlibrc
        raise UserError(
            f"matplotlib cannot be used to draw the curves: {error}; reinstall it or correct its "
            "matplotlibrc, then resume the run to draw them"
        ) from error
    finally:
        if chosen is not None:
            os.environ["MPLBACKEND"] = chosen
    return matplotlib
