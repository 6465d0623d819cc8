"""The commands, for each member and each kind of data, and the same calls from Python."""

import functools
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tiny
import walk
from PIL import Image

import minigan
from minigan import doctor
from minigan.backend import threads
from minigan.commands import main
from minigan.errors import UserError
from minigan.training import pictures, terminal
from minigan.training.metrics import METRICS
from minigan.training.run import Run

DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SMALL = {"nz": 4, "ngf": 4, "ndf": 4, "batch_size": 4, "threads": 1, "device": "cpu"}
IMAGES = {"image_size": 16, "max_images": 20, "workers": 1}
DATA = {"ring": {}, "grid": {}, "faces": IMAGES, "digits": IMAGES}
# test_members.py tests every member on the same kinds of data; here this is done in the long form.
WALK = [(m, "ring") for m in walk.ON_POINTS] + [("dcgan", "grid"), ("dcgan", "faces")]
WALK += [
    (m, tiny.images(m)) for m in walk.ON_POINTS if m != "dcgan" and (DEEP or m == "conditional")
]


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threads, "_threads", None)
    monkeypatch.setitem(sys.modules, "cupy", None)  # as on a machine without a GPU


@pytest.fixture
def without_curves(monkeypatch):
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: None)


def flags(**options):
    return [
        w for name, value in options.items() for w in ("--" + name.replace("_", "-"), str(value))
    ]


def size(path):
    with Image.open(path) as image:
        image.load()
        return image.size


# -- the command line --------------------------------------------------------------------------------


@pytest.mark.parametrize(("member", "data"), WALK)
def test_each_member_is_trained_resumed_and_sampled(member, data, capsys, monkeypatch):
    words = ["train", member, "--data", data, *flags(**SMALL, **DATA[data], steps=3)]
    with monkeypatch.context() as patch:  # the curves are drawn once, at the end
        patch.setattr(pictures, "save_curves", lambda folder, metrics: None)
        assert main(words) == 0
    images = data in ("faces", "digits")
    run = Run(Path("runs") / f"00000-{member}-{data}{16 if images else ''}")
    assert f"Done: look at {run.samples}" in capsys.readouterr().out
    assert main(["resume", "auto", "--steps", "5"]) == 0
    rows = tiny.metrics(run)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    panels = {METRICS[name].panel for name in rows[0] if name in METRICS} - {""}
    side = (146, {"faces": 146, "digits": 182}[data]) if images else (256, 256)
    for name in (*(f"{panel}.png" for panel in panels), "progress.gif"):
        assert size(run.folder / name)
    for name in ("reals.png", "step-00000000.png", "step-00000005.png"):
        assert size(run.samples / name) == side
    for name in ("real-beside-fake.png", "raw-beside-average.png"):
        assert size(run.samples / name) == (2 * side[0] + pictures.GAP, side[1])

    capsys.readouterr()
    assert main(["sample", "auto", "--n", "9", "--device", "cpu"]) == 0
    out = run.folder / "generated"
    walk = " and 8 interpolations" if images else ""
    assert capsys.readouterr().out == f"step-00000005.safetensors: 9 samples{walk} in {out}\n"
    assert size(out / "grid.png") == ((146, 38) if images else (256, 256))
    assert (out / "single").is_dir() == (out / "interpolation.png").is_file() == images


def test_the_doctor_is_a_command(monkeypatch, capsys):
    def examine(patient, device):
        patient.check("something", lambda: device)

    monkeypatch.setattr(doctor.Examination, "examine", examine)
    assert main(["doctor", "--device", "cpu"]) == 0
    assert "\nhealthy: 1 checks passed on cpu" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "dcgan", "--clip", "3"], "unrecognized arguments: --clip"),
        (["train", "wgan-gp", "--loss", "minimax"], "unrecognized arguments: --loss"),
        (["train", "stylegan9"], "invalid choice: 'stylegan9'"),
        (["resume", "auto", "--lr", "1"], "unrecognized arguments: --lr"),
        (["train"], "the following arguments are required: member"),
        ([], "the following arguments are required: command"),
    ],
)
def test_what_a_command_does_not_know_is_told(capsys, words, message):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train dcgan --data ring --image-size 32", "--image-size: a ring has no images; leave it"),
        ("train dcgan --data ring --flip", "--flip: a ring has no images; leave it out"),
        (
            "train wgan-gp --data faces --norm batch",
            "--norm batch: D's score of one sample then",
        ),
        ("train dcgan --data faces --dataroot x", "--dataroot x: --data faces reads no files"),
        ("train dcgan --data celeba", "--data celeba needs --dataroot"),
        ("resume auto", "runs has no run with a checkpoint; start one with minigan train"),
        ("sample auto", "runs/ has no run with a checkpoint; start one with minigan train"),
    ],
)
def test_what_cannot_be_is_one_sentence(capsys, words, message):
    assert main(words.split()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


# -- from Python -------------------------------------------------------------------------------------

train = functools.partial(minigan.train, say=lambda text: None, out="runs", **SMALL)


@pytest.mark.parametrize(("member", "data"), WALK)
def test_a_member_is_trained_and_sampled_from_python(without_curves, member, data):
    trained = train(member, data, steps=2, **DATA[data])
    shape = {"faces": (3, 16, 16), "digits": (1, 16, 16)}.get(data, (2,))
    samples = trained.sample(70)
    assert (samples.shape, samples.dtype) == ((70, *shape), np.float32)
    assert (trained.sample(70) == samples).all()
    np.testing.assert_array_equal(trained.sample(5), samples[:5])  # the first of many
    assert (trained.sample(5, seed=1) != samples[:5]).any()
    assert (trained.sample(5, raw=True) != samples[:5]).any()
    loaded = minigan.load(trained.folder)
    assert (loaded.sample(70) == samples).all()


def test_a_run_from_python_is_that_of_the_command_line(without_curves, capsys):
    trained = train("dcgan", "ring", steps=3, name="one")
    assert trained.folder == Path("runs/00000-one")
    assert main(["train", "dcgan", "--data", "ring", *flags(**SMALL, steps=3, name="two")]) == 0
    one, two = (Run(Path("runs") / name) for name in ("00000-one", "00001-two"))
    assert tiny.newest(one) == tiny.newest(two)
    assert tiny.metrics(one) == tiny.metrics(two)


def test_what_is_said_goes_where_the_caller_wants_it(without_curves, capsys):
    said = []
    train("wgan-gp", "ring", steps=2, say=said.append)
    assert capsys.readouterr().out == ""
    assert said[0] == "runs/00000-wgan-gp-ring: step 0 of 2 on cpu"
    assert [line.split("  ")[0] for line in said if line.startswith("step ")] == [
        "step 1/2",
        "step 2/2",
    ]


def test_in_a_thread_it_trains_alike_and_leaves_the_signals_alone(without_curves):
    before = [signal.getsignal(number) for number in terminal.SIGNALS]
    during, trained, said = [], [], []

    def say(text):
        said.append(text)
        during.append([signal.getsignal(number) for number in terminal.SIGNALS])

    def work():
        trained.append(train("dcgan", "ring", steps=3, say=say))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [signal.getsignal(number) for number in terminal.SIGNALS] == before
    assert said
    assert all(seen == before for seen in during)
    other = train("dcgan", "ring", steps=3)
    assert (trained[0].sample(9) == other.sample(9)).all()


@pytest.mark.parametrize(
    ("member", "options", "message"),
    [
        ("dcgan", {"clip": 2}, "dcgan has no option clip; see --help"),
        ("stylegan9", {}, r"member 'stylegan9' is not one of dcgan, "),
        (["dcgan"], {}, r"member \['dcgan'\] is not one of dcgan, "),
        (None, {}, r"member None is not one of dcgan, "),
        ("dcgan", {"data": ["ring"]}, r"--data \['ring'\]: expected str"),
        ("dcgan", {"data": None}, "--data None: expected str"),
        ("dcgan", {"lr": -1.0}, "--lr -1.0: must be above 0"),
        ("dcgan", {"lr": "1"}, "--lr 1: expected float"),
        ("dcgan", {"batch_size": 10**6}, "--batch-size 1000000: ring has 100000 samples"),
        ("dcgan", {"ngpu": 2}, "--ngpu 2: minigan.train runs in one process; use the command"),
        ("dcgan", {"name": "../up"}, "--name '../up': must be a plain folder name"),
        ("dcgan", {"name": ""}, "--name '': must be a plain folder name"),
        ("dcgan", {"name": 5}, "--name 5: must be a plain folder name"),
        ("dcgan", {"dataroot": 3}, "--dataroot 3: must be a path"),
        ("dcgan", {"device": "gpu"}, "unknown device 'gpu': choose auto, cpu, cuda or"),
        ("dcgan", {"out": __file__}, r"--out .*: .* is not a folder; give another path"),
    ],
)
def test_an_option_that_cannot_be_is_an_error_of_the_user(member, options, message):
    with pytest.raises(UserError, match=message):
        minigan.train(member, **{"data": "ring", "say": lambda text: None, **options})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n 0: must be a whole number, at least 1"),
        ({"n": -1}, "n -1: must be a whole number, at least 1"),
        ({"n": 2.5}, r"n 2\.5: must be a whole number"),
        ({"n": "3"}, "n 3: must be a whole number"),
        ({"seed": -1}, "seed -1: must be a whole number from 0 to 18446744073709551615"),
        ({"seed": None}, "seed None: must be a whole number"),
        ({"seed": 2**64}, "seed 18446744073709551616: must be a whole number"),
    ],
)
def test_samples_are_drawn_from_whole_numbers_only(without_curves, wrong, message):
    trained = train("dcgan", "ring", steps=1)
    with pytest.raises(UserError, match=message):
        trained.sample(**{"n": 3, **wrong})


def test_a_seed_of_numpy_is_the_seed_of_python(without_curves):
    trained = train("dcgan", "ring", steps=1)
    assert (trained.sample(np.int64(4), seed=np.uint8(7)) == trained.sample(4, seed=7)).all()


def test_a_path_may_be_a_path_object(without_curves, tmp_path):
    for k, name in enumerate(("a/1.png", "a/2.png", "b/1.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 9), (80 * k, 0, 0)).save(tmp_path / name)
    paths = {"dataroot": tmp_path, "out": tmp_path / "runs"}
    trained = train("dcgan", "folder", steps=1, image_size=16, **{"batch_size": 2, **paths})
    assert trained.folder == tmp_path / "runs/00000-dcgan-folder16"


def test_a_member_without_classes_takes_none(without_curves):
    trained = train("dcgan", "ring", steps=1)
    with pytest.raises(UserError, match="member dcgan has no classes"):
        trained.sample(3, y=np.zeros(3, int))


def test_what_is_no_run_cannot_be_loaded():
    with pytest.raises(UserError, match=r"has no config\.json"):
        minigan.load("nowhere")


def test_a_run_that_outlasts_its_learning_rate_is_told(capsys):
    words = ["train", "dcgan", "--data", "ring", *flags(**SMALL, **DATA["ring"], lr_decay=2)]
    assert main([*words, "--steps", "2"]) == 0
    assert "nothing is learnt" not in capsys.readouterr().out
    assert main([*words, "--steps", "3"]) == 0
    assert "--lr-decay 2: nothing is learnt in the steps after 2." in capsys.readouterr().out
