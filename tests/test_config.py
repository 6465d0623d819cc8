"""The options: their flags and limits, refused before any data is read, and what may change later."""

import argparse
import json
import os
import shlex
import sys
from dataclasses import asdict, fields

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from minigan.training.config import (
    FACES,
    Config,
    ConfigError,
    add_options,
    differences,
    resumed,
    use_threads,
)

from minigan import backend
from minigan.backend import threads


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", None)  # a machine without a GPU, wherever this runs
    backend.gpu_trouble.cache_clear()  # which names paths as they are seen from here


def parsed(*flags):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_options(parser)
    return vars(parser.parse_args(list(flags)))


# -- flags --------------------------------------------------------------------------------------------


def test_what_is_not_given_is_not_in_the_result():
    assert parsed() == {}
    assert parsed("--lr", "1e-3", "--flip") == {"lr": 1e-3, "flip": True}


def test_the_defaults_are_those_of_the_tutorial():
    config = Config()
    assert (config.image_size, config.nc, config.nz, config.ngf, config.ndf) == (64, 3, 100, 64, 64)
    assert (config.batch_size, config.lr, config.beta1, config.seed) == (128, 0.0002, 0.5, 999)
    assert (config.loss, config.noise) == ("non-saturating", "normal")


def test_every_option_has_a_flag_that_sets_it():
    other = {int: 16, float: 0.25, str: "x", type(None): "3"}
    choices = {"noise": "uniform", "loss": "minimax", "on_divergence": "stop", "image_size": "32"}
    for field in fields(Config):
        if isinstance(field.default, bool):
            continue
        value = choices.get(field.name, str(other[type(field.default)]))
        (result,) = parsed("--" + field.name.replace("_", "-"), value).items()
        assert result[0] == field.name
        assert str(result[1]) == value
        assert field.default is None or type(result[1]) is type(field.default)


@pytest.mark.parametrize(
    ("flags", "result"),
    [
        ("--batchSize 64 --imageSize 32", {"batch_size": 64, "image_size": 32}),
        ("--niter 25 --manualSeed 7 --outf x", {"epochs": 25, "seed": 7, "out": "x"}),
        ("--steps 3 --max-images 9", {"steps": 3, "max_images": 9}),
        ("--flip", {"flip": True}),
        ("--no-flip", {"flip": False}),
        ("--flip --no-flip", {"flip": False}),
        ("--fresh-noise", {"fresh_noise": True}),
        ("--reuse-fakes", {"fresh_noise": False}),
        ("--reuse-fakes --fresh-noise", {"fresh_noise": True}),
    ],
)
def test_the_tutorials_names_and_the_pairs_of_switches(flags, result):
    assert parsed(*flags.split()) == result


def test_the_help_names_every_option_with_its_default(capsys):
    with pytest.raises(SystemExit) as stop:
        tiny.train_celeba.main(["--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for field in fields(Config):
        assert "--" + field.name.replace("_", "-") in text
        assert field.default is None or f"(default: {field.default})" in text


# -- limits -------------------------------------------------------------------------------------------

BAD = [
    ("--image-size 63", "--image-size 63: choose one of (16, 32, 64, 128, 256)"),
    ("--imageSize 0", "--image-size 0: choose one of (16, 32, 64, 128, 256)"),
    ("--nc 2", "--nc 2: choose 3 (colour) or 1 (grey)"),
    ("--batch-size 1", "--batch-size 1: must be at least 2, as batch norm needs a variance"),
    ("--epochs 0", "--epochs 0: must be at least 1"),
    ("--niter -1", "--epochs -1: must be at least 1"),
    ("--steps 0", "--steps 0: must be at least 1"),
    ("--max-images 0", "--max-images 0: must be at least 1"),
    ("--sample-every 0", "--sample-every 0: must be at least 1"),
    ("--checkpoint-every 0", "--checkpoint-every 0: must be at least 1"),
    ("--keep 0", "--keep 0: must be at least 1"),
    ("--nz 0", "--nz 0: must be at least 1"),
    ("--ngf 0", "--ngf 0: must be at least 1"),
    ("--threads 0", "--threads 0: must be at least 1"),
    ("--ndf 0", "--ndf 0: must be at least 1"),
    ("--workers -1", "--workers -1: must be at least 0"),
    ("--seed -1", "--seed -1: must be at least 0"),
    ("--lr nan", "--lr nan: must be a finite number above 0"),
    ("--lr inf", "--lr inf: must be a finite number above 0"),
    ("--lr 0", "--lr 0.0: must be a finite number above 0"),
    ("--lr -1", "--lr -1.0: must be a finite number above 0"),
    ("--lr 1e400", "--lr inf: must be a finite number above 0"),
    ("--beta1 1.5", "--beta1 1.5: must be at least 0 and below 1"),
    ("--beta1 1", "--beta1 1.0: must be at least 0 and below 1"),
    ("--beta1 -0.1", "--beta1 -0.1: must be at least 0 and below 1"),
    ("--beta1 nan", "--beta1 nan: must be at least 0 and below 1"),
    ("--name ../x", "--name '../x': must be a plain folder name"),
    ("--name /x", "--name '/x': must be a plain folder name"),
    ("--name .", "--name '.': must be a plain folder name"),
    ("--name=", "--name '': must be a plain folder name"),
    ("--name=a\x01b", "--name 'a\\x01b': must be a plain folder name"),
    (f"--name {'x' * 201}", f"--name '{'x' * 59}...: must be a plain folder name"),
    ("--out=", "--out '': must be a path"),
    ("--out=a\0b", "--out 'a\\x00b': must be a path"),
    ("--only=Smiling --dataroot=", "--dataroot '': must be a path"),
    ("--nz 10001", "--nz 10001: must be at most 10000"),
    ("--ngf 1025", "--ngf 1025: must be at most 1024"),
    (f"--ndf {2**40}", "--ndf 1099511627776: must be at most 1024"),
    ("--workers 4097", "--workers 4097: must be at most 4096"),
    ("--threads 1025", "--threads 1025: must be at most 1024"),
    ("--ngpu 1025 --batch-size 2050", "--ngpu 1025: must be at most 1024"),
    (f"--seed {2**64}", "--seed 18446744073709551616: must be at most 18446744073709551615"),
    ("--max-images 10000001", "--max-images 10000001: must be at most 10000000"),
    ("--batch-size 1000000001", "--batch-size 1000000001: must be at most 1000000000"),
    ("--epochs 1000000001", "--epochs 1000000001: must be at most 1000000000"),
    (f"--steps {'1' * 400}", f"--steps {'1' * 60}...: must be at most 99999999"),
    (
        f"--image-size {'1' * 400}",
        f"--image-size {'1' * 60}...: choose one of (16, 32, 64, 128, 256)",
    ),
    ("--ngpu -1", "--ngpu -1: must be at least 0"),
    ("--ngpu 3", "--batch-size 128: must be divisible by 3, the processes it is for"),
    (
        "--ngpu 2 --batch-size 2",
        "--batch-size 2: must be at least 4, as batch norm needs a variance in every process",
    ),
    (
        "--ngpu 2 --device cuda:1",
        "--device cuda:1 is one GPU, 2 processes take one each: use --device cuda",
    ),
    (
        "--ngpu 0 --device cuda",
        "--ngpu 0 is the CPU, --device cuda is not: give one of them",
    ),
    (
        "--ngpu 0 --device cuda:1",
        "--ngpu 0 is the CPU, --device cuda:1 is not: give one of them",
    ),
    ("--ngpu 1 --device cpu", "--ngpu 1 is the GPU, --device cpu is not: give one of them"),
    (
        "--device cuda",
        "device 'cuda' cannot be used: CuPy is not installed; "
        f"{shlex.quote(sys.executable)} -m pip install -e '.[gpu]', or use --device cpu",
    ),
    (
        "--ngpu 1",
        "device 'cuda' cannot be used: CuPy is not installed; "
        f"{shlex.quote(sys.executable)} -m pip install -e '.[gpu]', or use --device cpu",
    ),
    ("--device tpu", "unknown device 'tpu': choose auto, cpu, cuda or cuda:N"),
]


@pytest.mark.parametrize(("flags", "message"), BAD, ids=[flags for flags, _ in BAD])
def test_a_bad_option_is_told_before_any_data_is_looked_at(flags, message, tmp_path, capsys):
    for data in (["--dataroot", "nowhere"], ["--resume", "auto", "--dataroot", "nowhere"]):
        assert tiny.train_celeba.main([*data, *flags.split()]) == 1
        assert capsys.readouterr() == ("", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--no-such-flag", "unrecognized arguments: --no-such-flag"),
        ("--batch 4", "unrecognized arguments: --batch 4"),  # no abbreviations
        ("--image-siz 64", "unrecognized arguments: --image-siz 64"),
        ("--dry", "unrecognized arguments: --dry"),
        ("--steps many", "argument --steps: invalid int value: 'many'"),
        ("--threads x", "argument --threads: invalid int value: 'x'"),
        ("--batch-size 4.5", "argument --batch-size/--batchSize: invalid int value: '4.5'"),
        ("--loss wgan", "argument --loss: invalid choice: 'wgan'"),
        ("--noise pink", "argument --noise: invalid choice: 'pink'"),
    ],
)
def test_a_flag_that_cannot_be_parsed_is_told_by_name(flags, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        tiny.train_celeba.main(["--dataroot", "nowhere", *flags.split()])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert message in err.splitlines()[-1]
    assert out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("device", "ngpu", "name"),
    [
        ("auto", None, "auto"),
        ("auto", 0, "cpu"),
        ("auto", 1, "cuda"),
        ("auto", 2, "cuda"),
        ("cpu", 0, "cpu"),
        ("cpu", 2, "cpu"),
        ("cuda:1", 1, "cuda:1"),
        ("cuda:1", None, "cuda:1"),
    ],
)
def test_ngpu_and_device_name_one_device(device, ngpu, name):
    assert Config(device=device, ngpu=ngpu).device_name == name


def test_threads_are_as_the_option_says_else_the_environment_else_the_cores(monkeypatch):
    monkeypatch.setattr(threads, "_threads", None)
    monkeypatch.setenv("MINIGAN_NUM_THREADS", "3")
    use_threads(None)
    assert threads.get_num_threads() == 3
    use_threads(5)
    assert threads.get_num_threads() == 5
    monkeypatch.setattr(threads, "_threads", None)
    monkeypatch.setenv("MINIGAN_NUM_THREADS", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 4, 6, 7}, raising=False)
    use_threads(None)
    assert threads.get_num_threads() == 4


# -- dry run ------------------------------------------------------------------------------------------


def dry(capsys, *flags):
    assert tiny.train_celeba.main([*flags, "--dry-run"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


def test_a_dry_run_prints_the_options_as_json_and_writes_nothing(tmp_path, capsys):
    options, err = dry(capsys, "--dataroot", "nowhere", "--lr", "1e-3", "--reuse-fakes")
    assert options == asdict(Config(dataroot="nowhere", lr=1e-3, fresh_noise=False))
    assert err == ""
    assert list(tmp_path.iterdir()) == []


def test_without_data_a_dry_run_shows_the_lighter_options_and_explains_them_apart(tmp_path, capsys):
    options, err = dry(capsys, "--batch-size", "8")
    assert options == asdict(Config(**{**FACES, "batch_size": 8}))
    assert options["dataroot"] is None
    lines = err.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("No --dataroot and no data/img_align_celeba.zip: training on faces")
    assert lines[1].startswith("  To get CelebA: ")
    assert lines[2].startswith("  To train on it: put it into the folder data/, or give --dataroot")
    sets = [k for k in FACES if k != "batch_size"]
    assert lines[3].endswith(f" it sets {differences(sets, Config(**FACES))}.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "place", ["data/img_align_celeba.zip", "data/img_align_celeba/x.jpg", "data/celeba/x.jpg"]
)
def test_data_in_the_usual_place_is_found_and_gets_the_tutorials_options(tmp_path, capsys, place):
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    options, err = dry(capsys)
    assert options == asdict(Config(dataroot=place.removesuffix("/x.jpg")))
    assert err == ""


def test_a_dry_run_of_a_bad_option_is_an_error(capsys):
    assert tiny.train_celeba.main(["--dry-run", "--keep", "0"]) == 1
    assert capsys.readouterr() == ("", "error: --keep 0: must be at least 1\n")


# -- resuming ------------------------------------------------------------------------------------------


def test_what_alters_the_training_cannot_change_and_each_difference_is_listed():
    saved = asdict(Config(dataroot="a", lr=0.1))
    with pytest.raises(ConfigError) as caught:
        resumed(saved, {"lr": 0.2, "seed": 1, "loss": "non-saturating", "epochs": 9, "flip": True})
    assert str(caught.value) == (
        "the run to resume was started with other options: "
        "--lr 0.1 -> 0.2, --seed 999 -> 1, --flip False -> True"
    )


# the images of a --dataroot are compared, not its name
FREE = {"dataroot", "workers", "epochs", "steps", "device", "ngpu", "out"}
FREE |= {"threads", "tf32", "log_every", "checkpoint_every", "keep", "sample_every"}


@pytest.mark.parametrize("name", [field.name for field in fields(Config)])
def test_an_option_may_change_if_and_only_if_it_does_not_alter_the_training(name):
    saved = asdict(Config())
    if name in FREE:
        value = "x" if name in ("dataroot", "device", "out") else 1
        assert getattr(resumed(saved, {name: value}), name) == value
    else:
        with pytest.raises(ConfigError, match="--" + name.replace("_", "-")):
            resumed(saved, {name: "another value"})


def test_what_is_given_alike_or_not_at_all_stays():
    config = Config(dataroot="a", lr=0.1, steps=5, keep=2)
    assert resumed(asdict(config), {}) == config
    assert resumed(asdict(config), {"lr": 0.1, "dataroot": "a", "steps": 9}).steps == 9


def test_options_given_on_resuming_have_the_same_limits():
    with pytest.raises(ConfigError, match="--keep 0: must be at least 1"):
        resumed(asdict(Config()), {"keep": 0})


def test_options_as_the_user_would_type_them():
    assert differences(["ngf", "batch_size"], Config()) == "--ngf 64 --batch-size 128"


# -- a config.json that has been edited, or is of another version -------------------------------------


def test_an_option_that_was_not_there_yet_has_its_default():
    saved = asdict(Config(lr=0.1))
    del saved["tf32"], saved["flip"]
    assert resumed(saved, {"steps": 3}) == Config(lr=0.1, steps=3)
    with pytest.raises(ConfigError, match="--flip False -> True"):
        resumed(saved, {"flip": True})


@pytest.mark.parametrize("name", ["loss", "noise"])
def test_a_choice_is_one_of_those_there_are(name):
    with pytest.raises(ConfigError, match=f"--{name} other: choose one of "):
        resumed({**asdict(Config()), name: "other"}, {})


def test_an_unknown_option_is_named():
    with pytest.raises(ConfigError, match=r"does not know: \['ema', 'zeta'\]"):
        resumed({**asdict(Config()), "zeta": 1, "ema": 0.9}, {})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.sampled_from([f.name for f in fields(Config)]), JSON)
def test_whatever_stands_there_is_an_option_or_one_sentence(name, value):
    config, said = None, ""
    try:
        config = resumed({**asdict(Config()), name: value}, {})
    except ConfigError as error:
        said = str(error)
    if config is None:
        assert name in said or name.replace("_", "-") in said
        assert "\n" not in said
    else:
        assert getattr(config, name) == value


@given(JSON)
def test_whatever_stands_in_the_place_of_the_options_is_one_sentence(saved):
    if saved == {}:
        assert resumed(saved, {}) == Config()
    else:
        with pytest.raises(ConfigError, match=r"config\.json"):
            resumed(saved, {})
