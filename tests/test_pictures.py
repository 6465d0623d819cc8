"""Pictures: a constant scale, the right place for each image of a grid, readable films and curves."""

import ast
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import celeba_factory as factory
import hostile
import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from minigan.data.images import GAP, grid, to_pixels, to_tensor
from minigan.errors import UserError
from minigan.training import pictures
from minigan.training.metrics import METRICS, PANELS
from minigan.training.pictures import beside, save_curves, save_film, save_png
from minigan.training.run import Run


def test_the_scale_is_a_constant():
    values = np.array([-2, -1, -0.5, 0, 0.5, 1, 2], np.float32)
    images = values.reshape(1, 1, 1, 7).repeat(3, axis=1)
    pixels = to_pixels(images)
    assert (pixels.shape, pixels.dtype) == ((1, 1, 7, 3), np.uint8)
    assert pixels[0, 0, :, 0].tolist() == [0, 0, 64, 128, 191, 255, 255]
    for part in (images[..., 2:5], images[..., 3:4]):  # whatever the rest of the picture is
        assert set(to_pixels(part).ravel().tolist()) <= {64, 128, 191}


def test_every_pixel_value_survives_the_way_to_the_network_and_back():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    values = to_tensor(pixels, 3, "cpu").numpy()
    np.testing.assert_array_equal(to_pixels(values), pixels.transpose(0, 2, 3, 1))


def test_channels_stay_in_order_and_grey_becomes_three_alike():
    red = np.array([1, -1, -1], np.float32).reshape(1, 3, 1, 1)
    assert to_pixels(red).tolist() == [[[[255, 0, 0]]]]
    assert to_pixels(red[:, :1]).tolist() == [[[[255, 255, 255]]]]


@pytest.mark.parametrize(
    ("n", "columns", "shape"), [(1, 8, (1, 1)), (5, 8, (1, 5)), (8, 8, (1, 8)), (10, 4, (3, 4))]
)
def test_a_grid_has_each_image_in_its_place_and_white_between(n, columns, shape):
    images = np.random.default_rng(0).integers(0, 255, (n, 3, 5, 3), dtype=np.uint8)
    canvas = grid(images, columns)
    rows, columns = shape
    assert canvas.shape == (rows * (3 + GAP) + GAP, columns * (5 + GAP) + GAP, 3)
    white = np.ones(canvas.shape[:2], bool)
    for i, image in enumerate(images):
        top, left = GAP + i // columns * (3 + GAP), GAP + i % columns * (5 + GAP)
        np.testing.assert_array_equal(canvas[top : top + 3, left : left + 5], image)
        white[top : top + 3, left : left + 5] = False
    assert (canvas[white] == 255).all()


def test_two_grids_side_by_side():
    left, right = np.zeros((4, 5, 3), np.uint8), np.ones((4, 6, 3), np.uint8)
    both = beside(left, right)
    assert both.shape == (4, 5 + pictures.GAP + 6, 3)
    assert (both[:, :5] == 0).all()
    assert (both[:, -6:] == 1).all()
    assert (both[:, 5:-6] == 255).all()


def test_a_png_holds_the_very_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    save_png(tmp_path / "a.png", pixels)
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), pixels)
    assert os.listdir(tmp_path) == ["a.png"]


def frames(tmp_path, count):
    """Pictures that are identified by the width of their white part."""
    paths = []
    for i in range(count):
        pixels = np.zeros((8, count + 1, 3), np.uint8)
        pixels[:, : i + 1] = 255
        paths.append(tmp_path / f"step-{i:08d}.png")
        save_png(paths[-1], pixels)
    return paths


def film(path):
    """The number and the duration of each frame."""
    with Image.open(path) as image:
        assert image.format == "GIF"
        assert image.info["loop"] == 0  # forever
        shown = []
        for i in range(image.n_frames):
            image.seek(i)
            white = (np.asarray(image.convert("RGB"))[0, :, 0] > 127).sum() - 1
            shown.append((int(white), image.info["duration"]))
    return shown


def test_a_film_shows_all_frames_in_order_and_the_last_one_longer(tmp_path):
    save_film(tmp_path / "film.gif", frames(tmp_path, 5))
    assert film(tmp_path / "film.gif") == [(0, 150), (1, 150), (2, 150), (3, 150), (4, 2000)]


def test_a_film_of_many_frames_is_thinned_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FRAMES", 5)
    save_film(tmp_path / "film.gif", frames(tmp_path, 21))
    assert [frame for frame, _ in film(tmp_path / "film.gif")] == [0, 5, 10, 15, 20]


def test_a_film_of_one_frame(tmp_path):
    save_film(tmp_path / "film.gif", frames(tmp_path, 1))
    with Image.open(tmp_path / "film.gif") as image:
        assert image.n_frames == 1


def cut(path):
    path.write_bytes(path.read_bytes()[:40])


def pipe(path):
    path.unlink()
    os.mkfifo(path)


def folder(path):
    path.unlink()
    path.mkdir()


def link(path):
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


STRANGE = {
    "EPS": (lambda path: path.write_bytes(hostile.EPS), "not a PNG picture"),  # no Ghostscript
    "GIF": (lambda path: path.write_bytes(hostile.gif()), "not a PNG picture"),
    "cut": (cut, "not a PNG picture, or a damaged one"),
    "cut pixels": (lambda path: os.truncate(path, path.stat().st_size - 30), "a damaged one"),
    "empty": (lambda path: os.truncate(path, 0), "not a PNG picture"),
    "gigapixel": (lambda path: path.write_bytes(factory.png_header(30_000, 30_000)), "6,000,000 p"),
    "9 megapixels": (lambda path: path.write_bytes(factory.png_header(3000, 3000)), "6,000,000 p"),
    "100 MB": (lambda path: os.truncate(path, 10**8), "more than 24,000,000 bytes"),
    "folder": (folder, "not a regular file"),
    "pipe": (pipe, "not a regular file"),
    "link": (link, "a link"),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes in folders")
@pytest.mark.parametrize("name", STRANGE)
def test_a_film_does_without_frames_that_cannot_be_used(tmp_path, monkeypatch, name):
    spoil, reason = STRANGE[name]
    paths, said, started = frames(tmp_path, 4), [], []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *options: started.append(options))
    for path in paths[1:3]:
        spoil(path)
    save_film(tmp_path / "film.gif", paths, said.append)
    assert [frame for frame, _ in film(tmp_path / "film.gif")] == [0, 3]
    assert started == []
    (text,) = said
    assert text.startswith(f"film.gif lacks 2 of 4 frames; {paths[1]}: ")
    assert reason in text


def test_a_film_of_nothing_is_not_made(tmp_path):
    paths, said = frames(tmp_path, 1), []
    cut(paths[0])
    save_film(tmp_path / "film.gif", paths, said.append)
    assert said[0].startswith("film.gif lacks 1 of 1 frames; ")
    assert not (tmp_path / "film.gif").exists()


def opens(source: str) -> list[str]:
    """The places where a module opens pictures other than by `Image.open(..., formats=...)`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None) or ""
            for alias in node.names:
                name = f"{module}.{alias.name}".lstrip(".")
                readers = name.startswith("PIL.ImageFile") or name.endswith((".imread", ".image"))
                if readers or name == "PIL.Image.open" or (name == "PIL.Image" and alias.asname):
                    found.append(name)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("Image.open"):
            named = [keyword.value for keyword in node.keywords if keyword.arg == "formats"]
            if not named or ast.unparse(named[0]) == "None":
                found.append(ast.unparse(node))
        if isinstance(node, ast.Attribute) and node.attr == "imread":
            found.append(node.attr)
    return found


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("Image.open(path)", 1),
        ("PIL.Image.open(path, 'r')", 1),
        ("Image.open(path, formats=None)", 1),
        ("from PIL.Image import open", 1),
        ("from PIL import Image as I", 1),
        ("from PIL import ImageFile", 1),
        ("plt.imread(path)", 1),
        ("from PIL import Image\nImage.open(path, formats=('PNG',))\nopen(path)", 0),
    ],
)
def test_an_open_without_formats_is_found(source, count):
    assert len(opens(source)) == count


@pytest.mark.parametrize("folder", ["minigan", "examples", "docs"])
def test_every_picture_is_opened_with_its_formats_named(folder):
    root = Path(__file__).parent.parent / folder
    found = {path: opens(path.read_text()) for path in root.rglob("*.py")}
    assert found
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize("count", [1, 2, 230])
def test_curves_show_each_value_and_its_running_mean(tmp_path, monkeypatch, count):
    from matplotlib.axes import Axes

    drawn, plot = {}, Axes.plot

    def noted(axes, x, y, **options):
        drawn.setdefault(options.get("label"), []).append((np.array(x), np.array(y)))
        return plot(axes, x, y, **options)

    monkeypatch.setattr(Axes, "plot", noted)
    keys = ("loss_d", "loss_g", "d_x", "d_gz_before", "d_gz_after")
    values = np.random.default_rng(0).random((count, len(keys)))
    metrics = [{"step": i + 1, **dict(zip(keys, row, strict=True))} for i, row in enumerate(values)]
    save_curves(tmp_path, metrics)

    labels = ["Loss_D", "Loss_G", "D(x)", "D(G(z)) before", "D(G(z)) after"]
    assert [label for label in drawn if label] == labels
    width = max(1, count // 50)
    for i, label in enumerate(labels):
        steps, raw = drawn[None][i]
        np.testing.assert_array_equal(steps, np.arange(1, count + 1))
        np.testing.assert_array_equal(raw, values[:, i])
        ((steps, smooth),) = drawn[label]
        assert steps.tolist() == list(range(width, count + 1))
        assert smooth[-1] == pytest.approx(values[-width:, i].mean())
    assert sorted(os.listdir(tmp_path)) == ["losses.png", "scores.png"]
    for name in ("losses.png", "scores.png"):
        with Image.open(tmp_path / name) as image:
            image.load()
            assert image.size == (960, 480)


LINES = [
    {"step": i, **dict.fromkeys(("loss_d", "loss_g", "d_x", "d_gz_before", "d_gz_after"), i / 9)}
    for i in range(1, 9)
]
SETTINGS = """
    text.usetex: True
    font.family: monospace
    figure.dpi: 30
    savefig.dpi: 10
    savefig.bbox: tight
    savefig.format: svg
    savefig.transparent: True
    savefig.facecolor: red
    axes.grid: True
    axes.prop_cycle: cycler('color', ['r', 'g'])
    lines.linewidth: 9
    path.simplify: False
    xtick.labelsize: 30
    axes.formatter.limits: 0, 0
    backend: svg
"""
DRAW = """
import sys, pathlib
sys.path.insert(0, sys.argv[1])
import test_pictures
test_pictures.save_curves(pathlib.Path(sys.argv[2]), test_pictures.LINES)
"""


def curves(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def test_curves_have_the_same_bytes_whatever_the_users_settings_of_matplotlib(tmp_path):
    """The settings: an unknown backend in the environment, a matplotlibrc in the working folder."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "matplotlibrc").write_text(textwrap.dedent(SETTINGS))
    words = [sys.executable, "-c", DRAW, str(Path(__file__).parent), "there"]
    env = {**os.environ, "MPLBACKEND": "nonsense"}
    subprocess.run(words, cwd=tmp_path, env=env, check=True)
    save_curves(tmp_path / "here", LINES)
    assert set(curves(tmp_path / "here")) == {"losses.png", "scores.png"}
    assert curves(tmp_path / "here") == curves(tmp_path / "there")


def test_drawing_curves_leaves_the_users_settings_as_they_are(tmp_path, monkeypatch):
    import matplotlib

    monkeypatch.setenv("MPLBACKEND", "nonsense")
    settings = matplotlib.rcParams
    backend = dict.__getitem__(settings, "backend")  # may be a marker: to be chosen later
    try:
        with matplotlib.rc_context({"lines.linewidth": 9, "savefig.dpi": 10}):
            settings["backend"] = "svg"
            before = dict(settings.copy())
            save_curves(tmp_path, LINES)
            assert dict(settings.copy()) == before
    finally:
        dict.__setitem__(settings, "backend", backend)
    assert os.environ["MPLBACKEND"] == "nonsense"


def test_a_matplotlib_that_cannot_be_imported_is_one_sentence(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "matplotlibrc").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"cannot be used to draw the curves: 'utf-8' codec .*; reinst"
    ):
        save_curves(tmp_path, LINES)
    assert os.listdir(tmp_path) == ["matplotlibrc"]


def test_a_metric_that_was_not_finite_is_a_gap_in_its_curve(tmp_path):
    line = dict.fromkeys(("loss_d", "loss_g", "d_x", "d_gz_before", "d_gz_after"), 0.5)
    metrics = [{**line, "step": i} for i in range(1, 9)]
    metrics[3] = {**metrics[3], "loss_g": None}  # as in metrics.jsonl
    save_curves(tmp_path, metrics)
    assert sorted(os.listdir(tmp_path)) == ["losses.png", "scores.png"]


# -- the table of metrics ----------------------------------------------------------------------------


@pytest.fixture
def figures(monkeypatch):
    """{file name: (the axis label, the curves' labels)}"""
    from matplotlib.figure import Figure

    drawn, savefig, write = {}, Figure.savefig, pictures.write_atomically
    latest = []

    def saved(figure, *arguments, **options):
        latest[:] = [
            (axes.get_ylabel(), [t.get_text() for t in legend.get_texts()] if legend else [])
            for axes in figure.axes
            for legend in [axes.get_legend()]
        ]
        return savefig(figure, *arguments, **options)

    def written(path, content):
        drawn[path.name] = list(latest)
        write(path, content)

    monkeypatch.setattr(Figure, "savefig", saved)
    monkeypatch.setattr(pictures, "write_atomically", written)
    return drawn


def test_each_metric_is_drawn_in_its_panel_and_an_unknown_one_under_its_own_name(tmp_path, figures):
    names = [name for name in METRICS if METRICS[name].panel]
    lines = [
        {
            "step": i,
            "epoch": 0,
            "images_per_second": 9.0,
            **dict.fromkeys([*names, "fid", "kid"], i),
        }
        for i in range(1, 4)
    ]
    save_curves(tmp_path, lines)
    assert figures == {
        "losses.png": [("loss", ["Loss_D", "Loss_G", "distance", "penalty"])],
        "scores.png": [(PANELS["scores"], ["D(x)", "D(G(z)) before", "D(G(z)) after"])],
        "critic.png": [
            (PANELS["critic"], ["score of x", "score of G(z) before", "score of G(z) after"])
        ],
        "gradients.png": [(PANELS["gradients"], ["|grad D|", "|grad G|"])],
        "diversity.png": [(PANELS["diversity"], ["diversity"])],
        "others.png": [("fid", []), ("kid", [])],  # one axis each, because units may differ
    }
    with Image.open(tmp_path / "others.png") as image:
        assert image.size == (960, 2 * 480)


def test_a_metric_that_only_some_lines_have_is_drawn_where_it_is(tmp_path, figures):
    save_curves(tmp_path, [{"step": 1, "epoch": 0, "fid": 3.0}, {"step": 2, "epoch": 0, "kid": 1}])
    assert figures == {"others.png": [("fid", []), ("kid", [])]}


HOSTILE = {
    "a formula": r"$\frac{",
    "two dollars": "$x^{2$",
    "escaped": r"\$\$",
    "an escape sequence": "\x1b[2J\x07",
    "lines": "a\nb\r\n" * 99,
    "a null": "a\0b",
    "hidden": "_hidden",
    "empty": "",
    "blank": " \t",
    "letters of no font": "\ufdd0\U0010ffff日",
    "half a letter": "\ud800",
    "long": "x" * 60_000,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", HOSTILE)
def test_no_name_of_a_metric_keeps_the_curves_from_being_drawn(tmp_path, kind):
    """metrics.jsonl may come from a stranger, and its names may be any JSON strings."""
    run = Run.create(tmp_path, "x", {})
    lines = [{"step": i, "epoch": 0, "loss_d": 0.5, HOSTILE[kind]: i} for i in (1, 2)]
    (run.folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = []
    found = run.metrics(said.append)
    assert (found, said) == (lines, [])
    save_curves(run.folder, found)
    for name in ("losses.png", "others.png"):
        with Image.open(run.folder / name) as image:
            image.load()
            assert image.size == (960, 480)


def test_of_very_many_metrics_the_first_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_CURVES", 2)
    line = {"step": 1, "epoch": 0, **{f"m{i}": 1.0 for i in range(300)}}
    save_curves(tmp_path, [line])
    with Image.open(tmp_path / "others.png") as image:
        assert image.size == (960, 2 * 480)
