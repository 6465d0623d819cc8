"""The plan of a run: bad options are refused before any data is read; some may change later."""

import json
import os
import shlex
import shutil
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tiny
import walk
from hypothesis import given
from hypothesis import strategies as st
from test_options import JSON

from minigan import backend, init, nn
from minigan.backend import threads
from minigan.commands import main
from minigan.data.opening import DataOptions
from minigan.errors import UserError
from minigan.gans import MEMBERS
from minigan.options import flag
from minigan.training import estimate, session
from minigan.training.plan import Plan, choose, resumed
from minigan.training.recipes import FACES, RECIPES
from minigan.training.run import Run
from minigan.training.settings import RunOptions, use_threads


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def without_cupy(monkeypatch):
    """As on a machine without a GPU. (Not for Hypothesis, which reads all modules.)"""
    monkeypatch.setitem(sys.modules, "cupy", None)
    backend.gpu_trouble.cache_clear()  # whose message names paths relative to here


# -- a new run ----------------------------------------------------------------------------------------


def test_the_defaults_are_those_of_the_tutorial():
    plan = choose("dcgan", {"dataroot": "nowhere"})
    o, data, run = plan.options, plan.data, plan.run
    assert (data.data, data.image_size, data.nc, data.max_images) == ("celeba", 64, 3, None)
    assert (o.nz, o.ngf, o.ndf, o.batch_size, o.noise) == (100, 64, 64, 128, "normal")
    assert (o.lr, o.beta1, o.seed, o.loss, o.fresh_noise) == (
        2e-4,
        0.5,
        999,
        "non-saturating",
        True,
    )
    assert (run.steps, run.out, plan.dataroot) == (None, "runs", "nowhere")


def test_the_defaults_of_wgan_gp_are_those_of_its_paper():
    o = choose("wgan-gp", {"dataroot": "nowhere"}).options
    assert (o.lr, o.beta1, o.beta2, o.d_steps, o.penalty) == (1e-4, 0.0, 0.9, 5, 10.0)


@pytest.mark.parametrize(("member", "data"), RECIPES)
def test_a_recipe_is_of_options_that_exist_and_gives_way_to_what_is_given(member, data):
    recipe, plan = RECIPES[member, data], choose(member, {"data": data})
    chosen = {**asdict(plan.options), **asdict(plan.data), **asdict(plan.run)}
    assert {name: chosen[name] for name in recipe} == recipe
    assert choose(member, {"data": data, "batch_size": 8}).options.batch_size == 8


def test_a_member_or_an_option_that_does_not_exist_is_named():
    with pytest.raises(UserError, match="member 'gan' is not one of dcgan, "):
        choose("gan", {})
    with pytest.raises(UserError, match="dcgan has no option clip; see --help"):
        choose("dcgan", {"clip": 2})


@pytest.mark.parametrize(
    ("member", "given", "message"),
    [
        (
            "dcgan",
            {"network": "mlp", "norm": "layer"},
            "--norm layer: D of --network mlp has no norm;",
        ),
        (
            "wgan",
            {"network": "mlp", "norm": "batch"},
            "--norm batch: D of --network mlp has no norm; ",
        ),
        (
            "hinge",
            {"network": "sngan", "norm": "layer"},
            "--norm layer: D of --network sngan has no",
        ),
        (
            "ensemble",
            {"sharpness": 2.0},
            r"--sharpness 2\.0: --combine mean has no softmax; leave it",
        ),
        (
            "ensemble",
            {"sharpness": 0.0, "combine": "max"},
            r"--sharpness 0\.0: --combine max has no",
        ),
        (
            "dcgan",
            {"batch_size": 4, "pack": 4, "minibatch_std": True},
            "--minibatch-std: D compares packs of 4, but would be shown one at a time; raise --batch-",
        ),
        (
            "dcgan",
            {"batch_size": 4, "pack": 4, "minibatch_discrimination": True},
            "--minibatch-discrimination: D compares packs of 4, but would be shown one at a time;",
        ),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(member, given, message):
    with pytest.raises(UserError, match=message):
        choose(member, given)
    for name in given:  # each alone, or with the options that it needs
        needs = {"combine": "softmax"} if name == "sharpness" else {}
        choose(member, {**needs, name: given[name]})


def test_each_process_is_shown_several_samples_to_compare():
    given = {"data": "ring", "batch_size": 4, "minibatch_discrimination": True, "device": "cpu"}
    plan = choose("dcgan", given)
    plan.check_processes(2)
    with pytest.raises(
        UserError, match="D compares samples, but would be shown one at a time; raise"
    ):
        plan.check_processes(4)


# -- flags --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("without_cupy")
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
def test_the_tutorials_names_and_the_pairs_of_switches(flags, result, capsys):
    table, _ = dry(capsys, "--dataroot", "nowhere", *flags.split())
    shown = {**table["options"], **table["data"], **table["run"]}
    assert {name: shown[name] for name in result} == result


BAD = [
    ("--batch-size 1", "--batch-size 1: must be at least 2 and at most 1000000000"),
    ("--epochs 0", "--epochs 0: must be at least 1 and at most 1000000000"),
    ("--niter -1", "--epochs -1: must be at least 1 and at most 1000000000"),
    ("--steps 0", "--steps 0: must be at least 1 and at most 99999999"),
    ("--max-images 0", "--max-images 0: must be at least 1 and at most 10000000"),
    ("--sample-every 0", "--sample-every 0: must be at least 1 and at most 1000000000"),
    ("--checkpoint-every 0", "--checkpoint-every 0: must be at least 1 and at most 1000000000"),
    ("--keep 0", "--keep 0: must be at least 1 and at most 1000000000"),
    ("--nz 0", "--nz 0: must be at least 1 and at most 10000"),
    ("--ngf 0", "--ngf 0: must be at least 1 and at most 1024"),
    ("--threads 0", "--threads 0: must be at least 1 and at most 1024"),
    ("--ndf 0", "--ndf 0: must be at least 1 and at most 1024"),
    ("--workers -1", "--workers -1: must be at least 0 and at most 4096"),
    ("--seed -1", "--seed -1: must be at least 0 and at most 18446744073709551615"),
    ("--lr nan", "--lr nan: must be above 0"),
    ("--lr inf", "--lr inf: must be a finite number"),
    ("--lr 0", "--lr 0.0: must be above 0"),
    ("--lr -1", "--lr -1.0: must be above 0"),
    ("--lr 1e400", "--lr inf: must be a finite number"),
    ("--beta1 1.5", "--beta1 1.5: must be at least 0 and below 1"),
    ("--beta1 1", "--beta1 1.0: must be at least 0 and below 1"),
    ("--beta1 -0.1", "--beta1 -0.1: must be at least 0 and below 1"),
    ("--beta1 nan", "--beta1 nan: must be at least 0 and below 1"),
    ("--ema 1", "--ema 1.0: must be at least 0 and below 1"),
    ("--name ../x", "--name '../x': must be a plain folder name"),
    ("--name /x", "--name '/x': must be a plain folder name"),
    ("--name .", "--name '.': must be a plain folder name"),
    ("--name=", "--name '': must be a plain folder name"),
    ("--name=a\x01b", "--name 'a\\x01b': must be a plain folder name"),
    (f"--name {'x' * 201}", f"--name '{'x' * 59}...: must be a plain folder name"),
    ("--out=", "--out '': must be a path"),
    ("--out=a\0b", "--out 'a\\x00b': must be a path"),
    ("--only=Smiling --dataroot=", "--dataroot '': must be a path"),
    ("--nz 10001", "--nz 10001: must be at least 1 and at most 10000"),
    ("--ngf 1025", "--ngf 1025: must be at least 1 and at most 1024"),
    (f"--ndf {2**40}", "--ndf 1099511627776: must be at least 1 and at most 1024"),
    ("--workers 4097", "--workers 4097: must be at least 0 and at most 4096"),
    ("--threads 1025", "--threads 1025: must be at least 1 and at most 1024"),
    ("--ngpu 1025 --batch-size 2050", "--ngpu 1025: must be at least 0 and at most 1024"),
    (
        f"--seed {2**64}",
        "--seed 18446744073709551616: must be at least 0 and at most 18446744073709551615",
    ),
    ("--max-images 10000001", "--max-images 10000001: must be at least 1 and at most 10000000"),
    (
        "--batch-size 1000000001",
        "--batch-size 1000000001: must be at least 2 and at most 1000000000",
    ),
    ("--epochs 1000000001", "--epochs 1000000001: must be at least 1 and at most 1000000000"),
    (f"--steps {'1' * 400}", f"--steps {'1' * 60}...: must be at least 1 and at most 99999999"),
    ("--ngpu -1", "--ngpu -1: must be at least 0 and at most 1024"),
    (
        "--ngpu 3",
        "--batch-size 128: must be a multiple of 3, because 3 processes share each batch equally",
    ),
    (
        "--ngpu 2 --batch-size 2",
        "--batch-size 2: must be at least 4, because batch norm needs 2 images in each of the 2 "
        "processes",
    ),
    (
        "--ngpu 2 --device cuda:1",
        "--device cuda:1 is one GPU, but each of 2 processes needs its own; use --device cuda",
    ),
    ("--ngpu 0 --device cuda", "--ngpu 0 selects the CPU but --device cuda a GPU; drop one"),
    ("--ngpu 0 --device cuda:1", "--ngpu 0 selects the CPU but --device cuda:1 a GPU; drop one"),
    ("--ngpu 1 --device cpu", "--ngpu 1 selects a GPU but --device cpu the CPU; drop one"),
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


@pytest.mark.usefixtures("without_cupy")
@pytest.mark.parametrize(("flags", "message"), BAD, ids=[flags for flags, _ in BAD])
def test_a_bad_option_is_told_before_any_data_is_looked_at(flags, message, tmp_path, capsys):
    for data in (["--dataroot", "nowhere"], ["--resume", "auto", "--dataroot", "nowhere"]):
        assert tiny.train_celeba.main([*data, *flags.split()]) == 1
        assert capsys.readouterr() == ("", f"error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_points_have_no_batch_norm_so_a_process_may_have_one():
    choose("dcgan", {"data": "ring", "batch_size": 4, "ngpu": 4})
    with pytest.raises(UserError, match="--batch-size 6: must be a multiple of 4, because 4 "):
        choose("dcgan", {"data": "ring", "batch_size": 6, "ngpu": 4})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "wgan-gp --norm batch",
            "--norm batch: D's score of one sample then depends on the others, so it has no slope of "
            "its own for --penalty to penalise; use --norm none",
        ),
        ("wgan-gp --d-steps 0", "--d-steps 0: must be at least 1 and at most 1000"),
        ("wgan-gp --beta2 1", "--beta2 1.0: must be at least 0 and below 1"),
        ("wgan-gp --penalty -1", "--penalty -1.0: must be at least 0 and at most 1000000.0"),
        ("dcgan --data ring --image-size 32", "--image-size: a ring has no images; leave it out"),
        ("dcgan --data grid --nc 1", "--nc: a grid has no images; leave it out"),
        ("dcgan --data ring --flip", "--flip: a ring has no images; leave it out"),
        ("dcgan --data ring --max-images 9", "--max-images: a ring has no images; leave it out"),
        (
            "dcgan --data faces --dataroot x",
            "--dataroot x: --data faces reads no files; drop one",
        ),
        ("dcgan --data ring --dataroot x", "--dataroot x: --data ring reads no files; drop one"),
        (
            "dcgan --data faces --only Male",
            "--only Male: --data faces has no list of attributes; give --dataroot",
        ),
        (
            "dcgan --data celeba",
            "--data celeba needs --dataroot: img_align_celeba.zip, or a folder or zip of images "
            "(looked for in data/img_align_celeba.zip, data/img_align_celeba, data/celeba)",
        ),
    ],
    ids=str,
)
def test_what_a_member_or_a_data_set_cannot_use_is_refused_with_the_reason(
    words, message, tmp_path, capsys
):
    assert main(["train", *words.split(), "--device", "cpu"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {message}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--no-such-flag", "unrecognized arguments: --no-such-flag"),
        ("--clip 4", "unrecognized arguments: --clip 4"),  # an option of another member
        ("--batch 4", "unrecognized arguments: --batch 4"),  # no abbreviations
        ("--image-siz 64", "unrecognized arguments: --image-siz 64"),
        ("--dry", "unrecognized arguments: --dry"),
        ("--steps many", "argument --steps: invalid int value: 'many'"),
        ("--threads x", "argument --threads: invalid int value: 'x'"),
        ("--batch-size 4.5", "argument --batch-size/--batchSize: invalid int value: '4.5'"),
        ("--loss wgan", "argument --loss: invalid choice: 'wgan'"),
        ("--noise pink", "argument --noise: invalid choice: 'pink'"),
        ("--image-size 63", "argument --image-size/--imageSize: invalid choice: 63"),
        ("--imageSize 0", "argument --image-size/--imageSize: invalid choice: 0"),
        ("--nc 2", "argument --nc: invalid choice: 2"),
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
    assert RunOptions(device=device, ngpu=ngpu).device_name == name


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


@pytest.mark.usefixtures("without_cupy")
def test_a_dry_run_prints_the_plan_as_json_and_writes_nothing(tmp_path, capsys):
    table, err = dry(capsys, "--dataroot", "nowhere", "--lr", "1e-3", "--reuse-fakes")
    plan = choose("dcgan", {"dataroot": "nowhere", "lr": 1e-3, "fresh_noise": False})
    assert table == plan.table()
    assert Plan.read(table, "stdout") == plan
    assert err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_cupy")
def test_without_data_a_dry_run_shows_the_lighter_options(tmp_path, capsys):
    table, _ = dry(capsys, "--batch-size", "8")
    assert table == choose("dcgan", {"data": "faces", "batch_size": 8}).table()
    assert {**table["options"], **table["run"]}.items() >= {**FACES, "batch_size": 8}.items()
    assert table["dataroot"] is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_cupy")
@pytest.mark.parametrize(
    "place", ["data/img_align_celeba.zip", "data/img_align_celeba/x.jpg", "data/celeba/x.jpg"]
)
def test_data_in_the_usual_place_is_found_and_gets_the_tutorials_options(tmp_path, capsys, place):
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).touch()
    table, err = dry(capsys)
    assert table == choose("dcgan", {"dataroot": place.removesuffix("/x.jpg")}).table()
    assert err == ""


def test_a_dry_run_is_json_on_a_machine_with_cupy_but_without_a_gpu(capsys, monkeypatch):
    """The line about the device is printed only before a run."""
    monkeypatch.setattr("minigan.commands.train.find_spec", lambda name: True)
    monkeypatch.setattr(backend, "resolve_device", lambda name: "cpu")
    assert dry(capsys, "--dataroot", "nowhere")[0]["run"]["device"] == "auto"


def test_a_dry_run_of_a_bad_option_is_an_error(capsys):
    assert tiny.train_celeba.main(["--dry-run", "--keep", "0"]) == 1
    message = "error: --keep 0: must be at least 1 and at most 1000000000\n"
    assert capsys.readouterr() == ("", message)


# -- resuming -----------------------------------------------------------------------------------------


def started(member="dcgan", **options) -> Run:
    """The folder of a run started with these options."""
    place = {} if MEMBERS[member].conditional else {"dataroot": "a"}
    return Run.create(Path("out"), "x", on(choose(member, {**place, **options})).table())


def on(plan):
    """The plan with two classes, as if its data had been opened, if its member is conditional."""
    return replace(plan, classes=("a", "b")) if MEMBERS[plan.member].conditional else plan


def test_what_alters_the_weights_cannot_change_and_each_difference_is_listed():
    run = started(lr=0.1)
    with pytest.raises(UserError) as caught:
        resumed(run, {"lr": 0.2, "seed": 1, "loss": "non-saturating", "epochs": 9, "flip": True})
    assert str(caught.value) == (
        f"{run.folder} was started with other options: "
        "--lr 0.1 -> 0.2, --seed 999 -> 1, --flip False -> True"
    )


# A --dataroot is compared by its images, not by its name. The fields are listed here again, because a
# run would change when resumed if a field were in the wrong table.
FREE = {"dataroot", "workers", "epochs", "steps", "device", "ngpu", "out", "on_divergence"}
FREE |= {"threads", "tf32", "log_every", "checkpoint_every", "keep", "sample_every"}
FREE |= {"evaluate_every"}
OTHER = {"dataroot": "x", "device": "cpu", "out": "x", "on_divergence": "stop", "tf32": False}
OTHER["evaluate_every"] = 500  # a multiple of --checkpoint-every


@pytest.mark.parametrize("member", MEMBERS)
def test_an_option_may_change_if_and_only_if_no_weight_depends_on_it(member):
    run = started(member)
    tables = (MEMBERS[member].Options, DataOptions, RunOptions)
    for name in ("dataroot", *(name for table in tables for name in table.names())):
        if name == "dataroot" and MEMBERS[member].conditional:
            continue  # because its digits are not files
        if name in FREE:
            value = OTHER.get(name, 1 if name != "ngpu" else 0)
            plan = resumed(run, {name: value})
            assert (plan.dataroot if name == "dataroot" else getattr(plan.run, name)) == value
        else:
            with pytest.raises(UserError, match=f"other options: {flag(name)} "):
                resumed(run, {name: "another value"})
    assert {"dataroot", *RunOptions.names()} == FREE


def test_what_is_given_alike_or_not_at_all_stays():
    run = started(lr=0.1, steps=5, keep=2)
    plan = choose("dcgan", {"dataroot": "a", "lr": 0.1, "steps": 5, "keep": 2})
    here = replace(plan, run=replace(plan.run, out="out"))
    assert resumed(run, {}) == here
    assert resumed(run, {"lr": 0.1, "dataroot": "a", "steps": 9}).run == replace(here.run, steps=9)


def test_the_folder_of_the_runs_is_where_the_run_lies_now():
    shutil.move(started(out="elsewhere").folder, "moved")
    assert resumed(Run(Path("moved")), {}).run.out == "."
    assert resumed(Run(Path("moved")), {"out": "given"}).run.out == "given"


def test_options_given_on_resuming_have_the_same_limits():
    with pytest.raises(UserError, match="--keep 0: must be at least 1"):
        resumed(started(), {"keep": 0})
    with pytest.raises(UserError, match="--batch-size 128: must be a multiple of 3, because 3 "):
        resumed(started(), {"ngpu": 3})
    with pytest.raises(UserError, match="--dataroot b: --data faces reads no files; drop one"):
        resumed(started(dataroot=None, data="faces"), {"dataroot": "b"})


def test_a_name_is_not_an_option_of_a_run_that_goes_on(capsys):
    run = started()
    assert tiny.train_celeba.main(["--resume", str(run.folder), "--name", "x", "--dry-run"]) == 1
    assert capsys.readouterr() == (
        "",
        "error: --name x: a run that is resumed keeps its name; leave it out\n",
    )


# -- a config.json that has been edited, or is of another version -------------------------------------


def edited(**changes) -> Run:
    """A run whose config.json has these tables or values."""
    run = started(lr=0.1)
    (run.folder / "config.json").write_text(json.dumps({**run.config, **changes}))
    return run


def test_an_option_that_is_missing_is_newer_than_the_run_and_takes_its_default():
    run = started(lr=0.1)
    config = run.config
    for table, name in (("run", "tf32"), ("data", "flip"), ("options", "ema")):
        del config[table][name]
    (run.folder / "config.json").write_text(json.dumps(config))
    expected = choose("dcgan", {"dataroot": "a", "lr": 0.1, "steps": 3, "out": "out"})
    assert resumed(run, {"steps": 3}) == expected
    with pytest.raises(UserError, match="--flip False -> True"):
        resumed(run, {"flip": True})


def test_a_run_of_minigan_0_1_is_refused_by_name_with_the_remedy():
    """Its config.json had a single table for all options."""
    run = Run.create(Path("out"), "x", {"options": {"nz": 100, "lr": 2e-4}, "data": {"count": 20}})
    with pytest.raises(UserError) as caught:
        resumed(run, {})
    assert str(caught.value) == (
        f"{run.folder / 'config.json'} was written by minigan 0.1, whose options and checkpoints were "
        "different; start a new run"
    )


@pytest.mark.parametrize("member", [None, "gan", 1, [], {}, "x" * 999], ids=lambda m: str(m)[:9])
def test_a_member_that_does_not_exist_is_one_sentence(member):
    run = edited(member=member)
    with pytest.raises(UserError, match=r"config\.json"):
        resumed(run, {})


@pytest.mark.parametrize("dataroot", [1, [], "a\0b", ""])
def test_a_dataroot_that_is_not_a_path_is_one_sentence(dataroot):
    with pytest.raises(UserError, match=r"config\.json: .*dataroot.*; restore it, or start a new"):
        resumed(edited(dataroot=dataroot), {})


PLACES = [("options", n) for n in MEMBERS["dcgan"].Options.names()]
PLACES += [("data", n) for n in DataOptions.names()] + [("run", n) for n in RunOptions.names()]


@given(st.sampled_from(PLACES), JSON)
def test_whatever_an_option_is_there_it_is_taken_or_told(place, value):
    table, name = place
    config = choose("dcgan", {"dataroot": "a"}).table()
    config[table][name] = value
    plan, said = None, ""
    try:
        plan = Plan.read(config, "config.json")
    except UserError as error:
        said = str(error)
    if plan is None:
        assert name in said or flag(name) in said
        assert "\n" not in said
    else:
        if value is None and table == "data":  # the defaults that depend on the data
            value = {"image_size": 64, "nc": 3}.get(name)
        assert getattr(getattr(plan, table), name) == value


@given(st.sampled_from(["member", "options", "data", "run"]), JSON)
def test_whatever_stands_for_a_table_of_options_is_one_sentence(part, value):
    config = {**choose("dcgan", {"dataroot": "a"}).table(), part: value}
    if part != "member" and value == {}:
        plan = Plan.read({**config, "dataroot": None}, "config.json")
        assert getattr(plan, part) == type(getattr(plan, part))()
    else:
        with pytest.raises(UserError, match=r"config\.json: (member|options|data|run) "):
            Plan.read(config, "config.json")


# -- the weights of a plan ----------------------------------------------------------------------------


@pytest.mark.parametrize(("member", "data"), walk.WALK)
def test_an_outline_has_the_weights_of_the_networks_without_their_memory(member, data):
    data = tiny.images(member) if data == "images" else "ring"
    sizes = walk.own(member, {"nz": 3, "ngf": 5, "ndf": 6})
    plan = on(choose(member, {"data": data, **sizes}))
    made = plan.game.build()
    expected = {
        f"players.{name}.net.{key}": (value.shape, value.dtype, value.data.nbytes)
        for name, player in made.players.items()
        for key, value in player.net.state_dict().items()
    }
    assert {
        k: (v.shape, v.dtype, v.data.nbytes) for k, v in plan.game.outline().items()
    } == expected


LARGEST = {"nz": 10_000, "ngf": 1024, "ndf": 1024, "blocks": 50, "d_layers": 6}  # 112 GB, or more
MEMORY = {
    "progressive": 10**9,
    "stylegan": 10**9,
}  # their widest layers have ngf channels, not a multiple


def largest(member):
    """The plan with the largest networks."""
    size = {"data": tiny.images(member), "image_size": 256, "nc": 3, "device": "cpu"}
    return on(choose(member, {**size, **walk.own(member, LARGEST)}))


@pytest.mark.parametrize("member", MEMBERS)
def test_the_largest_networks_are_outlined_at_no_cost(member):
    outline = largest(member).game.outline()
    assert sum(weight.data.nbytes for weight in outline.values()) > MEMORY.get(member, 10**11)
    assert all(not any(w.data.strides) for w in outline.values() if w.data.nbytes > 10**6)


@pytest.mark.parametrize("member", MEMBERS)
def test_weights_for_which_there_is_no_memory_are_refused_before_they_are_built(
    member, monkeypatch
):
    monkeypatch.setattr(estimate, "free_memory", lambda device: MEMORY.get(member, 10**11))
    plan = largest(member)
    # Three discriminators, or one; two of each, and 100 blocks in all; 16 and 17 convolutions.
    needed = {"ensemble": r"612\.2", "cyclegan": r"461\.2", "progressive": r"4\.[0-9]"}
    needed["stylegan"] = r"1[0-9]\.[0-9]"
    needed, free = needed.get(member, r"337\.[56]"), f"{MEMORY.get(member, 10**11) / 1e9:.1f}"
    with pytest.raises(
        UserError, match=rf"a step needs about {needed} GB of memory, and {free} GB are"
    ):
        session.expect(plan, None, print)


def test_shapes_only_ends_with_its_block_and_is_of_its_thread_alone():
    made = []
    with init.shapes_only():
        assert not any(nn.Linear(3, 4).weight.data.strides)
        thread = threading.Thread(target=lambda: made.append(nn.Linear(3, 4)))
        thread.start()
        thread.join()
    made.append(nn.Linear(3, 4))
    assert [layer.weight.data.strides for layer in made] == [(12, 4)] * 2
    assert all(layer.weight.numpy().any() for layer in made)
