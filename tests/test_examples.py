"""The programs as a user sees them: what they print, which files they leave, and how they end."""

import ast
import os
import shlex
import shutil
import signal
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import celeba_factory as factory
import numpy as np
import pytest
import tiny
from PIL import Image

from minigan import backend
from minigan.backend import threads
from minigan.commands import main, sample
from minigan.data import celeba, imagefiles, images
from minigan.data.opening import DataOptions
from minigan.gans.standard import DCGAN
from minigan.keys import generator, noise
from minigan.tensor import Tensor
from minigan.training import checkpoint, pictures, session
from minigan.training.recipes import FACES
from minigan.training.run import Run
from minigan.training.settings import RunOptions

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to another process")


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", None)  # as on a machine without a GPU


@pytest.fixture
def without_curves(monkeypatch):
    tiny.hurry(monkeypatch)


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def size(path):
    """The size of a picture, which must open and be complete."""
    with Image.open(path) as image:
        image.load()
        return image.size


def test_whoever_has_installed_cupy_is_told_why_no_gpu_is_used(monkeypatch, capsys, without_curves):
    cupy = ModuleType("cupy")
    cupy.__version__, cupy.__spec__ = "13.6.0", ModuleSpec("cupy", None)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    backend.gpu_trouble.cache_clear()
    tiny.train("runs", "--steps", 1, "--device", "auto")
    told = capsys.readouterr().out
    assert "Training on the CPU although CuPy is installed: CuPy 13.6.0 is too old; " in told
    tiny.train("runs", "--steps", 1, "--device", "cpu")
    assert "although CuPy" not in capsys.readouterr().out
    backend.gpu_trouble.cache_clear()


# -- what a run leaves -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with data, one file of which is broken, and with runs/: a run of seven steps."""
    folder = tmp_path_factory.mktemp("base")
    factory.make(folder / "data", 20)
    (folder / "data" / "000003.jpg").write_bytes(b"not a picture")
    flags = ["--dataroot", "data", "--checkpoint-every", 2, "--keep", 2, "--sample-every", 3]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny.train("runs", *flags, "--steps", 7, "--seed", 5)
    return folder


@pytest.fixture
def run(base):
    return Run(base / "runs" / "00000-dcgan-pictures16")


def test_a_run_leaves_these_files_and_no_others(run, base):
    assert files(run.folder) == [
        ".lock",
        "checkpoints/step-00000006.safetensors",
        "checkpoints/step-00000007.safetensors",
        "config.json",
        "events.jsonl",
        "gradients.png",
        "losses.png",
        "metrics.jsonl",
        "progress.gif",
        "samples/raw-beside-average.png",
        "samples/real-beside-fake.png",
        "samples/reals.png",
        "samples/step-00000000.png",
        "samples/step-00000003.png",
        "samples/step-00000006.png",
        "samples/step-00000007.png",
        "scores.png",
        "skipped.txt",
    ]
    assert sorted(os.listdir(base / "runs")) == [".lock", "00000-dcgan-pictures16", "cache"]
    assert len(os.listdir(base / "runs" / "cache")) == 3


def test_its_pictures_open_and_have_the_right_size(run):
    grid = 8 * 18 + 2
    for step in (0, 3, 6, 7):
        assert size(run.samples / f"step-{step:08d}.png") == (grid, grid)
    assert size(run.samples / "reals.png") == (grid, grid)
    for name in ("real-beside-fake.png", "raw-beside-average.png"):
        assert size(run.samples / name) == (2 * grid + 12, grid)
    for name in ("losses.png", "scores.png", "gradients.png"):
        assert size(run.folder / name) == (960, 480)
    with Image.open(run.folder / "progress.gif") as film:
        assert (film.size, film.n_frames) == ((grid, grid), 4)


def test_reals_are_the_data_and_stand_beside_the_last_fakes(run, base):
    source = celeba.open_source(base / "data", 16)
    usable = [source.load(i) for i in range(20) if source.name(i) != "000003.jpg"]
    expected = images.grid(np.stack([usable[i % 19] for i in range(64)]))
    with Image.open(run.samples / "reals.png") as image:
        np.testing.assert_array_equal(np.asarray(image), expected)
    with Image.open(run.samples / "step-00000007.png") as image:
        fakes = np.asarray(image)
    with Image.open(run.samples / "real-beside-fake.png") as image:
        np.testing.assert_array_equal(np.asarray(image), pictures.beside(expected, fakes))


def test_its_configuration_has_every_option_the_versions_and_the_data(run):
    config = run.config
    tables = {"options": DCGAN.Options, "data": DataOptions, "run": RunOptions}
    given = {"options": {"seed": 5, "ngf": 4}, "data": {"data": "celeba", "image_size": 16}}
    given["run"] = {"steps": 7, "keep": 2, "sample_every": 3}
    for name, table in tables.items():
        assert config[name].items() >= given[name].items()
        assert list(config[name]) == table.names()
    assert (config["member"], config["dataroot"], config["device"]) == ("dcgan", "data", "cpu")
    assert set(config["versions"]) == {"minigan", "python", "numpy", "pillow"}
    assert config["versions"]["numpy"] == np.__version__
    identity = config["identity"]
    assert (identity["count"], identity["skipped"]) == (19, 1)
    assert identity["path"].endswith("data")
    assert len(identity["fingerprint"]) == 64


def test_its_metrics_have_each_step_once(run):
    rows = tiny.metrics(run)
    assert [row["step"] for row in rows] == list(range(1, 8))
    scores = {"loss_d", "loss_g", "grad_d", "grad_g", "d_x", "d_gz_before", "d_gz_after"}
    for row in rows:
        assert set(row) == {"step", "epoch", *scores}
        assert all(np.isfinite(row[name]) for name in scores)
        assert all(0 <= row[name] <= 1 for name in scores if name[1] == "_")
        assert min(row["loss_d"], row["loss_g"]) > 0


def test_its_events_tell_its_story(run):
    story = [{k: v for k, v in e.items() if k != "time"} for e in tiny.events(run)]
    assert story == [
        {"event": "start", "samples": 19},
        {"event": "skipped files", "count": 1, "listing": "skipped.txt"},
        {"event": "done", "step": 7},
    ]
    reason = "not a JPEG, PNG, WebP, BMP or GIF image"
    assert (run.folder / "skipped.txt").read_text() == f"000003.jpg\t{reason}\n"


# -- data ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "zip", "nested zip"])
def test_celeba_trains_and_is_decoded_only_once(
    tmp_path, monkeypatch, capsys, without_curves, kind
):
    root = factory.make(tmp_path / "data", 9, as_zip="zip" in kind, nested="nested" in kind)
    run = tiny.train("runs", "--dataroot", root, "--steps", 3)
    name = "dcgan-pictures16" if kind == "folder" else "dcgan-celeba16"
    assert run.folder.name == f"00000-{name}"
    assert len(tiny.metrics(run)) == 3
    (cache,) = Path("runs/cache").glob("*.npy")
    before = cache.stat()
    monkeypatch.setattr(imagefiles, "decode", lambda *arguments: 1 / 0)
    again = tiny.train("runs", "--dataroot", root, "--steps", 3)
    assert again.folder.name == f"00001-{name}"
    after = cache.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert tiny.metrics(again) == tiny.metrics(run)
    assert capsys.readouterr().err == ""


def test_celeba_in_the_folder_data_is_found(tmp_path, capsys, without_curves):
    factory.make(tmp_path / "data", 9, as_zip=True)
    run = tiny.train("runs", "--steps", 2)
    assert run.folder.name == "00000-dcgan-celeba16"
    assert run.config["dataroot"] == "data/img_align_celeba.zip"
    assert run.config["identity"]["count"] == 9
    assert capsys.readouterr().err == ""


def test_without_data_it_explains_itself_and_trains_on_faces(capsys, without_curves):
    typed = f"{shlex.quote(sys.executable)} -m minigan"
    run = tiny.train("runs", "--steps", 4)
    out, err = capsys.readouterr()
    explained = err.splitlines()
    assert explained[0].startswith(
        "No --dataroot and no data/img_align_celeba.zip: training on faces"
    )
    assert "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html" in explained[1]
    assert "the folder data/" in explained[2]
    assert explained[3].startswith("  The recipe for dcgan on faces sets --")
    assert explained[3].endswith(f" --epochs {FACES['epochs']}.")
    said = out.splitlines()
    assert said[0] == f"{run.folder}: step 0 of 4 on cpu"
    assert said[1].startswith("  About ")
    assert said[2].startswith("step 1/4  epoch 1/1  Loss_D ")
    assert said[-3:] == [
        f"Done: look at {run.folder}/samples",
        f"  sample from it:    {typed} sample {run.folder}",
        f"  train for longer:  {typed} resume {run.folder} --steps 8",
    ]
    assert run.config["identity"]["kind"] == "faces"
    # and its advice works
    assert main(said[-2].split()[-2:]) == 0
    assert main(said[-1].split()[-4:]) == 0
    assert [row["step"] for row in tiny.metrics(run)] == list(range(1, 9))


def web_page(folder):
    (folder / "img_align_celeba.zip").write_text("<!DOCTYPE html><title>Quota exceeded</title>")
    return folder / "img_align_celeba.zip"


def empty_folder(folder):
    (folder / "nothing").mkdir()
    return folder / "nothing"


def all_broken(folder):
    return factory.write_files(folder / "broken", {f"{i}.jpg": b"x" for i in range(9)})


def too_few(folder):
    return factory.make(folder / "few", 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "nowhere", "nowhere does not exist; give the path"),
        (web_page, "img_align_celeba.zip is a web page, probably the download site's notice"),
        (empty_folder, "nothing is an empty folder; give the path"),
        (all_broken, "none of the 9 images"),
        (too_few, "--batch-size 4: pictures16 has 3 samples; lower it, or use more data"),
    ],
)
def test_data_that_cannot_be_used_is_one_sentence_and_leaves_no_run(
    tmp_path, capsys, make, message
):
    (tmp_path / "given").mkdir()
    data = make(tmp_path / "given")
    assert tiny.train_celeba.main([*tiny.TINY, "--dataroot", str(data)]) == 1
    out, err = capsys.readouterr()
    assert out in ("", "9 files could not be used; skipped.txt in the run names them.\n")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
    assert set(os.listdir("runs") if Path("runs").exists() else []) <= {"cache"}


# -- resuming --------------------------------------------------------------------------------------


def test_with_nothing_to_resume_it_starts_anew_and_says_so(capsys, without_curves):
    run = tiny.train("out", "--steps", 1, "--resume", "auto")
    assert "Nothing to resume in out: starting a new run.\n" in capsys.readouterr().out
    assert tiny.saved(run) == [1]
    assert [e["event"] for e in tiny.events(run)] == ["start", "done"]


def test_auto_resumes_the_newest_run_that_has_a_checkpoint(capsys, without_curves):
    for steps in (1, 2, 3):
        run = tiny.train("out", "--steps", steps)
    (tiny_checkpoint,) = checkpoint.newest_first(run.checkpoints)
    tiny_checkpoint.unlink()
    tiny.train("out", "--steps", 4, "--resume", "auto")
    assert f"{Path('out')}/00001-dcgan-faces16: step 2 of 4 on cpu\n" in capsys.readouterr().out
    assert [tiny.saved(Run(p)) for p in sorted(Path("out").glob("0*"))] == [[1], [4], []]


def test_nothing_left_to_do_is_said(capsys, without_curves):
    run = tiny.train("out", "--steps", 2)
    before = {name: (run.folder / name).read_bytes() for name in files(run.folder)}
    capsys.readouterr()
    tiny.train("out", "--resume", "auto")
    out, err = capsys.readouterr()
    assert out == f"{run.folder} is at step 2 of 2: raise --steps to continue.\n"
    assert err == ""
    del before["events.jsonl"]
    assert before.items() <= {n: (run.folder / n).read_bytes() for n in files(run.folder)}.items()


def test_a_raised_number_of_steps_is_kept_for_the_next_time(monkeypatch, without_curves):
    run = tiny.train("out", "--steps", 2)
    tiny.train("out", "--steps", 4, "--resume", "auto", "--keep", 1)
    assert (run.config["run"]["steps"], run.config["run"]["keep"]) == (4, 1)
    (newest,) = checkpoint.newest_first(run.checkpoints)
    game = checkpoint.read_table(newest)["game"]
    assert game == {name: run.config[name] for name in ("member", "options", "data")}


def test_epochs_may_be_raised(without_curves):
    tiny.train("out", "--epochs", 1)
    run = tiny.train("out", "--epochs", 2, "--resume", "auto")
    assert tiny.saved(run) == [10]
    assert [row["epoch"] for row in tiny.metrics(run)] == [0] * 5 + [1] * 5


def test_options_that_would_alter_the_training_are_refused(capsys, without_curves):
    run = tiny.train("out", "--steps", 1)
    before = {name: (run.folder / name).read_bytes() for name in files(run.folder)}
    capsys.readouterr()
    tiny.train("out", "--resume", "auto", "--lr", "1", "--nz", "9", "--steps", "5", code=1)
    assert capsys.readouterr() == (
        "",
        f"error: {run.folder} was started with other options: --nz 8 -> 9, --lr 0.0005 -> 1.0\n",
    )
    assert before == {name: (run.folder / name).read_bytes() for name in files(run.folder)}


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_a_run_that_is_not_there_cannot_be_resumed(capsys, where):
    assert tiny.train_celeba.main([*tiny.TINY, "--resume", where]) == 1
    error = f"{where} is not a run folder: it has no config.json; give the path of a run, or auto"
    assert capsys.readouterr().err == f"error: {error}\n"
    assert os.listdir() == []


def test_a_run_without_checkpoints_cannot_be_resumed(capsys, without_curves):
    run = tiny.train("out", "--steps", 1)
    shutil.rmtree(run.checkpoints)
    capsys.readouterr()
    tiny.train("out", "--resume", run.folder, code=1)
    assert capsys.readouterr().err == f"error: {run.folder} has no checkpoint to resume from\n"


def test_a_run_goes_on_with_moved_data_and_refuses_other_images(tmp_path, capsys, without_curves):
    folder = factory.make(tmp_path / "first", 20)
    tiny.train("out", "--dataroot", folder, "--steps", 1)
    moved = folder.rename(tmp_path / "moved")
    run = tiny.train("out", "--resume", "auto", "--dataroot", moved, "--steps", 2)
    assert tiny.saved(run)[-1] == 2
    (moved / "000001.jpg").write_bytes((moved / "000002.jpg").read_bytes())
    tiny.train("out", "--resume", "auto", "--dataroot", moved, "--steps", 3, code=1)
    assert "are not the 20 with which" in capsys.readouterr().err


# -- as processes ----------------------------------------------------------------------------------


def test_a_run_below_its_data_goes_on(tmp_path, capsys, without_curves):
    """The run's own pictures do not count as data."""
    flags = ["--dataroot", factory.make(tmp_path / "data", 8), "--out", tmp_path / "data" / "runs"]
    run = tiny.train(tmp_path / "data" / "runs", "--steps", 1, *flags)
    tiny.train(run.out, "--steps", 2, *flags, "--resume", "auto")
    assert tiny.saved(run) == [2]
    flags[-1] = tmp_path / "data" / "runs" / ".."
    assert tiny.train_celeba.main([*tiny.TINY, *map(str, flags)]) == 1
    assert "is also the folder of --dataroot" in capsys.readouterr().err


def test_a_run_that_goes_on_keeps_its_name(capsys, without_curves):
    run = tiny.train("out", "--steps", 1, "--name", "one")
    tiny.train("out", "--resume", "auto", "--name", "two", code=1)
    assert "--name two: a run that is resumed keeps its name" in capsys.readouterr().err
    (run.folder / "config.json").unlink()
    assert tiny.train_celeba.main(["--resume", "auto", "--out", "out"]) == 1
    assert "one, the newest run, has no config.json; restore it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--epochs=1", "--steps=10"], "--epochs"),
        (["--epochs=2", "--steps=3"], "--steps"),
        (["--epochs=1", "--steps=5"], "--epochs and --steps"),
    ],
)
def test_the_end_names_the_limit_that_was_reached(capsys, without_curves, flags, names):
    run = tiny.train("out", *flags)
    *_, longer = capsys.readouterr().out.splitlines()
    tiny.train("out", "--resume", "auto")
    assert f": raise {names} to continue." in capsys.readouterr().out
    before = tiny.saved(run)
    assert main(shlex.split(longer)[6:]) == 0
    assert tiny.saved(run) > before


def start(script, *flags):
    """A process whose output goes through pipes, with Python's default buffering."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, *script, *map(str, flags)]
    return subprocess.Popen(command, env=env, text=True, **pipes)


@POSIX
def test_ctrl_c_after_the_first_line_saves_and_exits_130(sigint, without_curves):
    flags = [*tiny.TINY, "--out", "out", "--epochs", 400]
    with start([tiny.EXAMPLES / "train_celeba.py"], *flags) as child:
        while not child.stdout.readline().startswith("step 1/2000"):  # comes at once, by a pipe
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in err
    assert "Interrupted: look at" in out
    run = Run(Path("out") / tiny.FIRST)
    step = tiny.saved(run)[-1]
    assert [row["step"] for row in tiny.metrics(run)] == list(range(1, step + 1))
    assert {"losses.png", "scores.png", "progress.gif"} <= set(files(run.folder))
    assert not [name for name in files("out") if "partial" in name]
    tiny.train("out", "--resume", "auto", "--steps", step + 2)
    assert [row["step"] for row in tiny.metrics(run)] == list(range(1, step + 3))


DECODING = """
import sys
sys.path.insert(0, {examples!r})
import train_celeba
from minigan.data import imagefiles
def decode(data, size):
    print("decoding", flush=True)
    sys.stdin.read()
imagefiles.decode = decode
sys.exit(train_celeba.main(sys.argv[1:]))
"""


@POSIX
def test_ctrl_c_while_pictures_are_decoded_is_one_line(tmp_path, sigint, without_curves):
    root = factory.make(tmp_path / "data", 8)
    flags = [*tiny.TINY, "--out", "out", "--dataroot", root, "--steps", 1]
    with start(["-c", DECODING.format(examples=str(tiny.EXAMPLES))], *flags) as child:
        assert child.stdout.readline() == "decoding\n"
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "interrupted\n")
    assert not list(Path("out").glob("0*"))
    assert tiny.saved(tiny.train("out", "--dataroot", root, "--steps", 1)) == [1]


def test_both_scripts_run_from_a_shell():
    for script, flags, last in (
        ("train_celeba.py", [*tiny.TINY, "--steps", "1"], "  train for longer:"),
        ("generate.py", ["--run", "auto", "--n", "2"], "step-00000001.safetensors: 2 samples"),
    ):
        command = [sys.executable, str(tiny.EXAMPLES / script), *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith(last)


# -- generate.py -----------------------------------------------------------------------------------


def generated(run, out, *flags, code=0):
    assert tiny.generate.main(["--run", str(run), "--out", str(out), *map(str, flags)]) == code
    return {name: (Path(out) / name).read_bytes() for name in files(out)}


def test_generated_are_a_grid_single_pictures_and_interpolations(run, capsys):
    pictures_of = generated(run.folder, "out", "--n", 11)
    singles = [f"single/{i:02d}.png" for i in range(11)]
    assert list(pictures_of) == ["grid.png", "interpolation.png", *singles]
    assert size("out/grid.png") == (8 * 18 + 2, 2 * 18 + 2)
    assert size("out/interpolation.png") == (10 * 18 + 2, 8 * 18 + 2)
    single = [np.asarray(Image.open(f"out/{name}")) for name in singles]
    np.testing.assert_array_equal(
        np.asarray(Image.open("out/grid.png")), images.grid(np.stack(single))
    )
    assert len({image.tobytes() for image in single}) == 11
    assert capsys.readouterr().out == (
        "step-00000007.safetensors: 11 samples and 8 interpolations in out\n"
    )


def test_the_seed_decides_what_is_generated(run):
    first = generated(run.folder, "a", "--n", 3, "--seed", 4)
    assert first == generated(run.folder, "b", "--n", 3, "--seed", 4)
    other = generated(run.folder, "c", "--n", 3, "--seed", 5)
    assert all(first[name] != other[name] for name in first)


def test_one_image_and_more_than_a_batch_can_be_generated(run):
    assert len(generated(run.folder, "one", "--n", 1)) == 3
    assert size("one/grid.png") == (20, 20)
    assert len(generated(run.folder, "many", "--n", 70)) == 72
    assert size("many/grid.png") == (8 * 18 + 2, 9 * 18 + 2)


def test_auto_is_the_newest_run_and_its_folder_the_usual_place(base, run, monkeypatch):
    monkeypatch.chdir(base)
    assert tiny.generate.main(["--run", "auto", "--n", "2"]) == 0
    written = run.folder / "generated"
    assert files(written) == ["grid.png", "interpolation.png", "single/0.png", "single/1.png"]
    shutil.rmtree(written)


def test_a_checkpoint_alone_suffices(run):
    newest, older = checkpoint.newest_first(run.checkpoints)
    shutil.copy(newest, "alone.bin")
    assert generated("alone.bin", "a", "--n", 2) == generated(run.folder, "b", "--n", 2)
    assert generated(older, "c", "--n", 2) != generated(run.folder, "b", "--n", 2)


def test_the_pictures_of_a_checkpoint_alone_go_to_its_run(run, monkeypatch, capsys):
    written = run.folder / "generated"
    for folder in (run.checkpoints, run.folder, run.folder.parent):
        monkeypatch.chdir(folder)
        path = os.path.relpath(checkpoint.newest_first(run.checkpoints)[0])
        assert tiny.generate.main(["--run", path, "--n", "1"]) == 0
        assert files(written) == ["grid.png", "interpolation.png", "single/0.png"]
        shutil.rmtree(written)
    assert not (run.checkpoints / "generated").exists()


def test_a_checkpoint_that_lies_in_no_run_needs_a_folder_for_its_pictures(run, capsys):
    shutil.copy(checkpoint.newest_first(run.checkpoints)[0], "alone.bin")
    assert tiny.generate.main(["--run", "alone.bin", "--n", "1"]) == 1
    error = "error: alone.bin is not in a run; give --out, a folder for the pictures\n"
    assert capsys.readouterr() == ("", error)
    assert os.listdir() == ["alone.bin"]


@pytest.mark.filterwarnings("error")
def test_weights_too_large_to_draw_with_are_one_sentence(run, capsys):
    arrays, table = checkpoint.read_file(checkpoint.newest_first(run.checkpoints)[0])
    huge = lambda a: np.copysign(np.float32(3e38), a)
    arrays = {k: huge(a) if k.endswith("weight") else a for k, a in arrays.items()}
    checkpoint.write_file(Path("huge"), arrays, table)
    assert generated("huge", "out", code=1) == {}
    assert capsys.readouterr() == (
        "",
        "error: huge: its generator draws values that are not finite; use another checkpoint\n",
    )


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(run, base, tmp_path, capsys):
    copy = shutil.copytree(run.folder, tmp_path / "00000-copy")
    older, newest = sorted((copy / "checkpoints").iterdir())
    expected = generated(older, "a", "--n", 2)
    newest.write_bytes(newest.read_bytes()[:-1])
    capsys.readouterr()
    assert generated(copy, "b", "--n", 2) == expected
    assert capsys.readouterr().err.startswith(f"skipped: {newest}")
    older.write_bytes(b"")
    assert generated(copy, "c", "--n", 2, code=1) == {}
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.count("cannot be read as a checkpoint") == 2  # each of them, with the reason


def test_generated_images_are_those_of_the_generator_in_evaluation_mode(run):
    """Generated one at a time, images are the same, because batch norm does not use the others."""
    generated(run.folder, "out", "--n", 5, "--seed", 1)
    member, _, _ = session.load(run.folder, print)
    z = noise(generator(1, "sample"), (5, 8), "normal")
    for i in range(5):
        (expected,) = images.to_pixels(member.sample(Tensor(z[i : i + 1])).numpy()).astype(int)
        assert np.abs(np.asarray(Image.open(f"out/single/{i}.png")) - expected).max() <= 1


def test_raw_images_are_those_of_the_generator_itself(run):
    average, raw = (
        generated(run.folder, "a", "--n", 2),
        generated(run.folder, "r", "--n", 2, "--raw"),
    )
    assert all(average[name] != raw[name] for name in average)


def test_an_interpolation_goes_along_the_arc_from_one_end_to_the_other():
    a, b = np.random.default_rng(0).standard_normal((2, 3, 50)).astype(np.float32)
    length = lambda z: np.linalg.norm(z, axis=-1)
    a, b = a / length(a)[:, None], b / length(b)[:, None]
    walk = sample.interpolate(a, b, 7)
    assert (walk.shape, walk.dtype) == ((21, 50), np.float32)
    walk = walk.reshape(3, 7, 50)
    np.testing.assert_allclose(walk[:, 0], a, atol=1e-6)
    np.testing.assert_allclose(walk[:, -1], b, atol=1e-6)
    np.testing.assert_allclose(length(walk), 1, atol=1e-5)
    strides = length(np.diff(walk, axis=1))
    np.testing.assert_allclose(strides, strides[:, :1].repeat(6, axis=1), rtol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_interpolation_between_parallel_noises_is_finite(sign):
    a = np.ones((1, 1), np.float32)
    walk = sample.interpolate(a, sign * 2 * a, 5).ravel()
    assert np.isfinite(walk).all()
    assert (walk[0], walk[-1]) == pytest.approx((1, 2 * sign), abs=1e-3)


def no_checkpoint(folder):
    return Run.create(folder, "x", {}).folder


def text(folder):
    (folder / "c.safetensors").write_text("nothing")
    return folder / "c.safetensors"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: "auto", "auto: runs/ has no run with a checkpoint; start one with "),
        (lambda folder: "nowhere", "nowhere is not a run folder: it has no config.json"),
        (no_checkpoint, "00000-x has no checkpoint to sample from"),
        (text, "c.safetensors cannot be read as a checkpoint"),
    ],
)
def test_what_cannot_be_generated_is_one_sentence(tmp_path, capsys, make, message):
    (tmp_path / "given").mkdir()
    assert generated(make(tmp_path / "given"), "out", code=1) == {}
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    assert message in err


def test_a_gpu_that_is_not_there_is_one_sentence(run, capsys):
    assert generated(run.folder, "out", "--device", "cuda", code=1) == {}
    assert capsys.readouterr().err.startswith("error: device 'cuda' cannot be used: ")


@pytest.mark.parametrize("flags", ["--n many", "--cuont 3", "--threads x"])
def test_bad_flags_of_generate_are_told(run, capsys, flags):
    with pytest.raises(SystemExit) as stop:
        tiny.generate.main(["--run", str(run.folder), *flags.split()])
    assert stop.value.code == 2
    assert ": error: " in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("flags", ["--n 0", "--seed -1", "--threads 0"])
def test_numbers_out_of_their_limits_are_one_sentence(run, capsys, flags):
    assert tiny.generate.main(["--run", str(run.folder), *flags.split()]) == 1
    assert capsys.readouterr().err.startswith(f"error: {flags}: must be from ")


def test_generate_uses_so_many_threads(run, monkeypatch):
    monkeypatch.setattr(threads, "_threads", 1)
    generated(run.folder, "out", "--n", 1, "--threads", 3)
    assert threads.get_num_threads() == 3


@pytest.mark.parametrize("number", ["two", "0", "²", "1025", "99999"])
def test_a_wrong_number_of_threads_in_the_environment_is_one_sentence(
    run, monkeypatch, capsys, number
):
    monkeypatch.setenv("MINIGAN_NUM_THREADS", number)
    for program, flags in (
        (tiny.train_celeba.main, ["--dataroot", "nowhere"]),
        (tiny.generate.main, ["--run", str(run.folder), "--out", "out"]),
    ):
        monkeypatch.setattr(threads, "_threads", None)
        assert program(flags) == 1
        assert capsys.readouterr() == (
            "",
            f"error: MINIGAN_NUM_THREADS is {number!r}: it must be a number from 1 to 1024\n",
        )
    assert os.listdir() == []


# -- no network ------------------------------------------------------------------------------------

NETWORK = {"urllib", "requests", "socket", "http", "ftplib", "httpx", "aiohttp", "ssl", "smtplib"}


def test_nothing_imports_what_could_reach_the_network():
    sources = [*tiny.ROOT.glob("minigan/**/*.py"), *tiny.EXAMPLES.glob("*.py")]
    assert len(sources) > 20
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in imported} & NETWORK, path


STARTING = """
import sys
sys.path.insert(0, {examples!r})
if __name__ == "__mp_main__":  # a worker, which imports this script again
    print("starting", flush=True)
    sys.stdin.read()
import train_celeba
if __name__ == "__main__":
    sys.exit(train_celeba.main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="groups of processes are POSIX")
def test_ctrl_c_at_a_terminal_while_workers_start_is_one_line_too(tmp_path):
    """A terminal signals the whole process group, including workers that are still starting."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    root = factory.make(tmp_path / "data", 8)
    script = tmp_path / "script.py"
    script.write_text(STARTING.format(examples=str(tiny.EXAMPLES)))
    flags = [*tiny.TINY, "--workers", "2", "--out", str(tmp_path / "out"), "--dataroot", str(root)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    command = [sys.executable, str(script), *flags]
    with subprocess.Popen(command, text=True, start_new_session=True, **pipes) as child:
        assert child.stdout.readline() == "starting\n"
        os.killpg(child.pid, signal.SIGINT)
        _, err = child.communicate(timeout=60)
    signal.signal(signal.SIGINT, before)
    assert (child.returncode, err) == (130, "interrupted\n")


# -- the ring --------------------------------------------------------------------------------------


def test_the_ring_leaves_its_last_picture_and_how_it_came_there(capsys):
    modes = tiny.example("ring").main(12)
    assert 0 <= modes <= 8
    assert size("ring.png") == (256, 256)
    with Image.open("ring.gif") as film:
        assert (film.size, film.n_frames) == ((256, 256), 12)
        film.seek(11)
        last = np.asarray(film.convert("RGB")).astype(int)
    with Image.open("ring.png") as image:
        assert (
            np.abs(np.asarray(image.convert("RGB")) - last).max() < 40
        )  # the film has few colours
    *lines, look = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"step {i}" for i in range(1, 13)]
    assert lines[-1].endswith("of the points on one")
    assert look == "Look at ring.png and ring.gif"


def test_the_ring_is_the_same_again_and_does_not_depend_on_how_often_it_is_looked_at(capsys):
    ring = tiny.example("ring")
    for name, steps in (("a", 10), ("b", 10), ("c", 80)):
        Path(name).mkdir()
        ring.main(steps, Path(name))
    a, b, c = (Path(name, "ring.png").read_bytes() for name in "abc")
    assert a == b != c
    lines = [s for s in capsys.readouterr().out.splitlines() if s.startswith("step 10:")]
    assert len(lines) == 3
    assert len(set(lines)) == 1  # the same after ten frames as after five


def test_the_ring_runs_from_a_shell():
    command = [sys.executable, str(tiny.EXAMPLES / "ring.py"), "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(os.listdir()) == ["ring.gif", "ring.png"]
