"""Values of options: whatever the command line or config.json contains is accepted or refused.

A refusal is one sentence on stderr and exit code 1, or argparse's usage and exit code 2. There is never
a traceback, and never more memory, processes or files than the options reasonably need.
"""

import io
import json
import os
import shutil
import sys
import tracemalloc
from argparse import ArgumentParser
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import hostile
import pytest
import tiny
from hostile import DEEP, fuzz, sentence
from hypothesis import assume, example, given
from hypothesis import strategies as st

from minigan.backend import threads
from minigan.commands.train import NO_DATA, add_flags
from minigan.data.opening import DataOptions
from minigan.gans import MEMBERS
from minigan.training.plan import Plan
from minigan.training.run import Run
from minigan.training.settings import RunOptions

posix = pytest.mark.skipif(sys.platform == "win32", reason="has no pipes in folders")


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", None)  # as on a machine without a GPU
    monkeypatch.setattr(threads, "_threads", None)  # undoes --threads afterwards
    tiny.hurry(monkeypatch)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run of one step."""
    with pytest.MonkeyPatch.context() as patch:
        tiny.hurry(patch)
        run = tiny.train(tmp_path_factory.mktemp("base") / "out", "--steps", 1)
    return run


def explains(line):
    """Whether the line is one of those printed when there is no data."""
    return line.strip() in NO_DATA or line.startswith("  The recipe for dcgan on faces sets ")


def called(main, *words):
    """Exit code, stdout and stderr of a program, which must succeed or say what is wrong."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(list(words))
        except SystemExit as stop:
            code = stop.code
    out = out.getvalue()
    err = "".join(s for s in err.getvalue().splitlines(True) if not explains(s))
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    if code == 2:
        assert err.startswith("usage: ")
        assert ": error: " in err
    if code == 1:
        assert err.startswith("error: ")
        assert err.removesuffix("\n").isprintable(), err
    return code, out, err


def parser():
    made = ArgumentParser()
    add_flags(made, "dcgan")
    return made


VALUED = [max(a.option_strings, key=len) for a in parser()._actions if a.nargs is None]
LENGTHS = [10**4, 10**5] if DEEP else [10**4]
TEXTS = [
    "", " ", "-", "--", "---", "-1", "+1", "0", "1", "2", "1_000", "0x10", "1.5", "1e3", "1e400",
    "-1e400", "nan", "inf", "-inf", "NaN", "infinity", "1e-400", "٣", "²", "½", "１２", "1 ", "\t7\n",
    "None", "True", "null", "[]", "%s", "%(prog)s", "{}", "@file", "a/b", "..", ".", "/", "~", "\\",
    "a\nb", "\x1b[2J", "\x7f", "\u202e", "\u2028", "-h", "--dry-run", "auto", "cpu", "cuda", "cuda:",
    "cuda:0", "cuda:²", "cuda:-1", "cuda:99999999999", "cuda:" + "9" * 5000, "cpu:0", "run",
    *(str(10**n) for n in (9, 12, 15, 18, 30, 400, 4000)), *(str(2**n) for n in (31, 40, 63, 64)),
    *("9" * n for n in (4300, 4301, 5000)), *("x" * n for n in (200, 256, 5000, *LENGTHS)),
    "1" + "0" * 400 + ".5", "-" + "9" * 400, *("é" * n for n in (100, 128)),
]  # fmt: skip
values = st.sampled_from(TEXTS) | st.integers().map(str) | st.floats().map(str) | st.text()


@fuzz
@given(st.data())
def test_any_value_of_any_option(data):
    flags = data.draw(st.lists(st.sampled_from([*VALUED, "--resume"]), min_size=1, max_size=3))
    words = ["--dataroot", "nowhere", "--dry-run"]
    for flag in flags:
        text = data.draw(values)
        words += data.draw(st.sampled_from([[flag, text], [f"{flag}={text}"]]))
    code, out, err = called(tiny.train_celeba.main, *words)
    if code == 0 and not out.startswith("usage: "):
        table = json.loads(out)
        assert Plan.read(table, "stdout").table() == table
    if code == 1:
        assert len(err) < 1000 or any(len(word) > 100 for word in words)  # a path is printed whole
    assert os.listdir() == []


@fuzz
@given(st.data())
def test_any_value_of_any_option_of_generate(base, data):
    words = []
    for flag in data.draw(st.lists(st.sampled_from(["--n", "--seed", "--threads", "--device"]))):
        words.append(f"{flag}={data.draw(values)}")
    where = data.draw(st.sampled_from(["nowhere", str(base.checkpoints), "."]) | values)
    code, _, _ = called(tiny.generate.main, *words, f"--run={where}", "--out=out")
    assert code in (1, 2)
    assert os.listdir() == []


@pytest.mark.parametrize("device", [text for text in TEXTS if text not in ("auto", "cpu", "\0")])
def test_a_device_that_is_none_is_told_by_both_programs(base, device):
    for main, run in (
        (tiny.train_celeba.main, ["--dataroot=nowhere"]),
        (tiny.generate.main, [f"--run={base.folder}", "--n=1", "--out=out"]),
    ):
        code, out, err = called(main, *run, f"--device={device}")
        assert (code, out) == (1, "") or device == "--"  # for some Pythons this is no value
        assert "device" in err
    assert os.listdir() == []


HUGE = [
    ("--nz", 10**12), ("--ngf", 2**40), ("--ndf", 2**62), ("--batch-size", 10**15),
    ("--steps", 10**400), ("--epochs", 10**400), ("--seed", 10**30), ("--threads", 10**9),
    ("--workers", 10**9), ("--keep", 10**30), ("--ngpu", 10**9), ("--ema", 10**10),
    ("--max-images", 10**15), ("--log-every", 10**20), ("--sample-every", 10**20),
    ("--checkpoint-every", 10**20), ("--lr", "1e400"), ("--beta1", 10**300),
]  # fmt: skip


@pytest.mark.parametrize(("flag", "value"), HUGE, ids=[flag for flag, _ in HUGE])
def test_a_huge_value_is_refused_before_anything_is_done(tmp_path, flag, value):
    factory = [*tiny.TINY, "--out", "runs", "--batch-size", "4"]
    tracemalloc.start()
    code, out, err = called(tiny.train_celeba.main, *factory, f"{flag}={value}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {flag} ")
    assert ": must be " in err
    assert len(err) < 200
    assert peak < 2**20
    assert os.listdir() == []


@pytest.mark.parametrize("flag", ["--n", "--seed", "--threads"])
def test_a_huge_value_of_generate_is_refused(base, flag):
    code, _, err = called(tiny.generate.main, f"--run={base.folder}", f"{flag}={10**30}")
    assert code == 1
    assert err.startswith(f"error: {flag} {10**30}: must be ")
    assert not (base.folder / "generated").exists()


def test_more_images_a_batch_than_there_are_is_one_sentence():
    code, _, err = called(
        tiny.train_celeba.main, *tiny.TINY, "--out=runs", "--batch-size", str(10**9)
    )
    assert code == 1
    assert "--batch-size 1000000000: faces16 has 20 samples; lower it, or use more data" in err
    assert os.listdir("runs") == ["cache"]


def test_without_a_number_of_images_the_default_number_of_faces_is_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr("minigan.data.opening.Faces", lambda *sizes: drawn.append(sizes) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tiny.train_celeba.main(["--image-size", "16"])
    assert drawn == [(6400, 999, 16)]


def test_two_dashes_are_a_value_or_told(base):
    """Some releases of Python turn `--` into a list, without calling the option's type."""
    for flag in VALUED:
        called(tiny.train_celeba.main, "--dataroot=nowhere", "--dry-run", f"{flag}=--")
    for flag in ("--n", "--seed", "--threads", "--device", "--run"):
        called(tiny.generate.main, f"--run={base.folder}", "--out=--", f"{flag}=--")


# -- names and paths ----------------------------------------------------------------------------------

NAMES = ["a b", "ä", "-x", "--x", "..", "a\\b" if os.name == "posix" else "b", "x" * 200, "é" * 100]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_name_that_is_plain_makes_a_run(name):
    run = tiny.train("runs", "--steps", 1, f"--name={name}")
    assert os.listdir("runs") == ["cache", run.folder.name] or len(os.listdir("runs")) == 3
    assert run.folder.name == f"00000-{name}"


@pytest.mark.parametrize(
    "name", ["", ".", "/", "a/b", "a/", "../x", "a\0b", "a\nb", "\x1b[2J", "\x7f", "\u2028", "x" * 201,
             "é" * 101, "\udcff"],
    ids=ascii,
)  # fmt: skip
def test_a_name_that_is_not_plain_is_told(name):
    code, out, err = called(tiny.train_celeba.main, *tiny.TINY, "--out=runs", f"--name={name}")
    assert (code, out) == (1, "")
    assert err.startswith("error: --name ")
    assert err.endswith(": must be a plain folder name\n")
    assert os.listdir() == []


@pytest.mark.parametrize("out", ["", "a\0b", "\ud800"], ids=ascii)
@pytest.mark.parametrize("flag", ["--out", "--dataroot"])
def test_what_is_no_path_is_told(flag, out):
    code, _, err = called(tiny.train_celeba.main, *tiny.TINY, f"{flag}={out}")
    assert code == 1
    assert err == f"error: {flag} {out!r}: must be a path\n"
    assert os.listdir() == []


@pytest.mark.parametrize(
    "out", ["file", "file/runs", "x" * 300, "\n" + "x" * 300, "/dev/null/runs"]
)
def test_an_out_that_cannot_be_is_one_sentence(base, out):
    Path("file").write_text("precious")
    code, _, err = called(tiny.train_celeba.main, *tiny.TINY, "--steps=1", f"--out={out}")
    assert code == 1
    sentence(err[:-1])
    code, _, err = called(tiny.generate.main, f"--run={base.folder}", "--n=1", f"--out={out}")
    assert code == 1
    sentence(err[:-1])
    assert os.listdir() == ["file"]
    assert Path("file").read_text() == "precious"


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes only on Linux")
def test_an_out_that_is_no_text_is_printed_all_the_same(capsys):
    """In paths, Python represents bytes that are not UTF-8 as surrogates."""
    out = os.fsdecode(b"\xff")
    run = tiny.train(out, "--steps", 1)
    assert r"\udcff" in capsys.readouterr().out
    assert tiny.train_celeba.main(["--resume", str(run.folder), "--steps", "2"]) == 0
    assert tiny.generate.main(["--run", str(run.folder), "--n", "1"]) == 0
    assert (run.folder / "generated" / "grid.png").is_file()


def pipe(path):
    os.mkfifo(path)


def loop(path):
    path.symlink_to(path)


@posix
@pytest.mark.parametrize("make", [pipe, loop, lambda path: path.symlink_to("/dev/zero")])
def test_a_dataroot_that_is_no_data_is_one_sentence(make):
    make(Path("data"))
    code, out, err = called(tiny.train_celeba.main, *tiny.TINY, "--dataroot=data", "--out=runs")
    assert (code, out) == (1, "")
    assert f"{Path.cwd() / 'data'} " in sentence(err[:-1])
    assert os.listdir() == ["data"]


@pytest.mark.parametrize(
    "root", ["x" * 5000, "a\n\x1b[2Jb", "/dev/null/x", "\udcff", "."], ids=ascii
)
def test_a_strange_dataroot_is_one_line(root):
    code, _, err = called(tiny.train_celeba.main, *tiny.TINY, f"--dataroot={root}", "--out=runs")
    assert code == 1
    assert "; " in err
    assert os.listdir() == []


@pytest.mark.parametrize(
    "where",
    ["", "x" * 5000, "a\n\x1b[2Jb", "\n" + "x" * 5000, "a\0b", "/dev/zero", "\udcff"],
    ids=ascii,
)
def test_a_strange_run_is_one_line_and_no_new_one_begins(where):
    for main, flags in (
        (tiny.train_celeba.main, [f"--resume={where}", "--dry-run"]),
        (tiny.generate.main, [f"--run={where}"]),
    ):
        code, out, err = called(main, *flags)
        assert (code, out) == (1, "")
        assert "is not a run folder" in err or "File name too long" in err
    assert os.listdir() == []


# -- config.json --------------------------------------------------------------------------------------


@pytest.fixture
def run(base):
    """A copy of the run, which has ended, so resuming it has nothing to do."""
    return Run(shutil.copytree(base.folder, Path("run").absolute()))


STRANGE = st.one_of(
    hostile.anything,
    st.sampled_from([10**12, 2**63, 10**400, 10**4000, -1, 0, 1e308, 1e-320]),
    st.sampled_from([float("nan"), float("inf")]),
    st.sampled_from(["x" * 10_000, "a\0b", "\ud800", "\udcff", "\n", "nowhere"]),
)  # fmt: skip


def write(run, config):
    (run.folder / "config.json").write_text(json.dumps(config))


PARTS = [
    (table, name)
    for table in ("options", "data", "run")
    for name in vars(
        getattr(Plan("dcgan", MEMBERS["dcgan"].Options(), DataOptions(), RunOptions()), table)
    )
]


@fuzz
@given(st.sampled_from([*PARTS, (None, "dataroot"), (None, "member")]), STRANGE)
@example(("data", "image_size"), None)  # a default on the command line, but never saved
@example(("data", "nc"), None)
def test_any_option_in_config_json(base, place, value):
    if not Path("run").exists():
        shutil.copytree(base.folder, "run")
    table, name = place
    config = base.config
    (config if table is None else config[table])[name] = value
    write(Run(Path("run")), config)
    code, out, err = called(tiny.train_celeba.main, "--resume=run", "--dry-run")
    if code == 0:
        shown, expected = (
            json.loads(out),
            {k: config[k] for k in ("member", "options", "data", "run")},
        )
        expected["run"] = {
            **expected["run"],
            "out": ".",
        }  # given by the run's place, not by a file
        assert shown == {**expected, "dataroot": config["dataroot"]}
    else:
        assert code == 1
        assert len(err) < 1000
        assert name in err or name.replace("_", "-") in err


@fuzz
@given(
    st.sampled_from(
        [
            "member",
            "options",
            "data",
            "run",
            "dataroot",
            "identity",
            "device",
            "versions",
            "more",
            None,
        ]
    ),
    STRANGE,
)
def test_any_part_of_config_json(base, part, value):
    """A strange part is reported if it is read; any other part may be anything. ({}: all defaults.)"""
    assume(value != {} and (part != "dataroot" or value is not None))
    if not Path("run").exists():
        shutil.copytree(base.folder, "run")
    config = value if part is None else {**base.config, part: value}
    write(Run(Path("run")), config)
    dry = [] if part == "identity" else ["--dry-run"]  # the data are not compared in a dry run
    code, _, err = called(tiny.train_celeba.main, "--resume=run", "--device=cpu", *dry)
    if part in ("device", "versions", "more"):
        assert code == 0
    else:
        assert code == 1
        assert part in ("identity", "dataroot") or "config.json" in err
        sentence(err[:-1])


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "x",
        {"count": "x" * 9999},
        {"count": 10**400},
        {"fingerprint": None},
        {"count": []},
    ],
    ids=lambda data: str(data)[:20],
)
def test_a_run_that_has_lost_what_data_it_had_is_told(run, data):
    write(run, {**run.config, "identity": data})
    code, out, err = called(tiny.train_celeba.main, "--resume=run")
    assert (code, out) == (1, "")
    assert "these 20 samples are not the " in sentence(err[:-1])


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff", b"[" * 10**5, b"9" * 10**4, b'{"options": {"nz": ' + b"9" * 5000 + b"}}"],
    ids=lambda text: repr(text[:12]),
)
def test_a_config_json_that_is_none_is_told(run, text):
    (run.folder / "config.json").write_bytes(text)
    code, out, err = called(tiny.train_celeba.main, "--resume=run")
    assert (code, out) == (1, "")
    assert "config.json" in sentence(err[:-1])
