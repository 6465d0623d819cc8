"""The console: programs end properly whoever reads them, and print commands that can be typed."""

import argparse
import errno
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import tiny

from minigan import console, doctor
from minigan.backend import threads
from minigan.commands import main, sample
from minigan.data.opening import DataOptions
from minigan.errors import UserError
from minigan.files import make_own
from minigan.gans import MEMBERS
from minigan.options import Parser, flag
from minigan.training.run import Run, RunError
from minigan.training.settings import RunOptions

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="redirects as a POSIX shell does")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="has no /dev/full")


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", None)  # as on a machine without a GPU
    monkeypatch.setattr(threads, "_threads", None)  # undoes --threads afterwards
    tiny.hurry(monkeypatch)
    console.lost_output()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run of three steps, all of whose output could be read."""
    with pytest.MonkeyPatch.context() as patch:
        tiny.hurry(patch)
        return tiny.train(tmp_path_factory.mktemp("base") / "runs", "--steps", 3)


# -- output that cannot be written, in the process itself --------------------------------------------


class Broken(io.StringIO):
    """A terminal or file whose every write fails."""

    def __init__(self, error, terminal=False):
        super().__init__()
        self.error, self.terminal = error, terminal

    def isatty(self):
        return self.terminal

    def write(self, text):
        raise self.error


class Bare:
    """The few file methods that some programs embedding Python provide as stdout."""

    def write(self, text):
        pass


def closed():
    file = io.StringIO()
    file.close()
    return file


def no_space():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def gone():
    return BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


OUTPUTS = {  # how each is made, and the note about it
    "missing": (lambda: None, None),
    "closed": (closed, "I/O operation on closed file"),
    "unread": (lambda: Broken(gone()), os.strerror(errno.EPIPE)),
    "full": (lambda: Broken(no_space()), os.strerror(errno.ENOSPC)),
    "would block": (lambda: Broken(BlockingIOError(errno.EAGAIN, "try again")), "try again"),
    "of somebody": (lambda: Broken(RuntimeError("no\nbody")), r"no\nbody"),
    "bare": (Bare, None),
    "unread terminal": (
        lambda: Broken(OSError(errno.EIO, os.strerror(errno.EIO)), terminal=True),
        os.strerror(errno.EIO),
    ),
    "ascii": (lambda: io.TextIOWrapper(io.BytesIO(), "ascii"), None),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_a_run_does_not_depend_on_its_output(base, monkeypatch, kind):
    make, reason = OUTPUTS[kind]
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", make())
        patch.setattr(sys, "stderr", make())
        run = tiny.train("rüns", "--steps", 3)
    assert tiny.newest(run) == tiny.newest(base)
    story = [event for event in tiny.events(run) if event["event"] != "output lost"]
    assert [event["event"] for event in story] == ["start", "done"]
    noted = [e["reason"] for e in tiny.events(run) if e["event"] == "output lost"]
    if reason is None:
        assert noted == []
    else:  # each stream once
        assert sorted("; ".join(noted).split("; ")) == [f"stderr: {reason}", f"stdout: {reason}"]


@pytest.mark.parametrize("kind", OUTPUTS)
def test_sampling_does_not_depend_on_its_output(base, monkeypatch, kind):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", OUTPUTS[kind][0]())
        patch.setattr(sys, "stderr", OUTPUTS[kind][0]())
        code = tiny.generate.main(["--run", str(base.folder), "--n=1", "--out=bé"])
        wrong = tiny.generate.main(["--run", "nowhere"])
    assert (code, wrong) == (0, 1)
    assert sorted(os.listdir("bé")) == ["grid.png", "interpolation.png", "single"]


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_doctor_and_what_is_refused_do_not_depend_on_their_output(monkeypatch, kind):
    def examine(patient, device):
        patient.check("something", lambda: 1 / 0)

    monkeypatch.setattr(doctor.Examination, "examine", examine)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", OUTPUTS[kind][0]())
        patch.setattr(sys, "stderr", OUTPUTS[kind][0]())
        codes = [
            main(["doctor", "--device", "cpu"]),
            main(["doctor", "--device", "gpu"]),
            tiny.train_celeba.main(["--device", "gpu"]),
        ]
        for words in (["--help"], ["--nonsense"], ["--lr", "é"]):
            with pytest.raises(SystemExit) as stop:
                tiny.train_celeba.main(words)
            codes.append(stop.value.code)
    assert codes == [1, 1, 1, 0, 2, 2]


def test_letters_that_the_encoding_lacks_are_escaped(monkeypatch):
    made = {name: io.TextIOWrapper(io.BytesIO(), name) for name in ("ascii", "cp1252", "utf-8")}
    for file in made.values():
        monkeypatch.setattr(sys, "stdout", file)
        console.say("bé 日 \udcff")
    written = {name: file.buffer.getvalue() for name, file in made.items()}
    assert written == {
        "ascii": b"b\\xe9 \\u65e5 \\udcff\n",
        "cp1252": b"b\xe9 \\u65e5 \\udcff\n",
        "utf-8": b"b\xc3\xa9 \xe6\x97\xa5 \\udcff\n",
    }
    assert console.lost_output() == []


def test_a_stream_that_failed_is_left_alone_and_another_in_its_place_is_used(monkeypatch):
    tried = []
    broken = Broken(gone())
    monkeypatch.setattr(broken, "write", lambda text: tried.append(text) or 1 / 0)
    monkeypatch.setattr(sys, "stdout", broken)
    for text in ("a", "b"):
        console.say(text)
    assert tried == ["a\n"]
    assert console.lost_output() == ["stdout: division by zero"]
    assert console.lost_output() == []
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    console.say("c")
    assert sys.stdout.getvalue() == "c\n"


def test_ctrl_c_while_something_is_said_is_not_swallowed(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        console.say("a")


def test_a_bar_on_a_terminal_that_goes_away_is_the_end_of_the_bar_alone(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Broken(gone(), terminal=True))
    with console.bar(True, total=3) as shown:
        for _ in range(3):
            shown.update()
            shown.refresh()
        assert shown.n == 3


def test_a_dry_run_whose_json_cannot_be_written_fails(monkeypatch, capsys):
    """The JSON is read by another program, which might take empty output for an answer."""
    monkeypatch.setattr(sys, "stdout", Broken(no_space()))
    assert tiny.train_celeba.main(["--dry-run", "--dataroot", "nowhere"]) == 1
    assert os.strerror(errno.ENOSPC) in capsys.readouterr().err


@POSIX
def test_a_dry_run_without_stdout_fails():
    code, said = shell(">&-", tiny.EXAMPLES / "train_celeba.py", "--dry-run", "--dataroot=x")
    assert (code, said.count("--dry-run: the options cannot be printed to stdout")) == (1, 1)


# -- the same, as processes --------------------------------------------------------------------------


def shell(redirects, *words, pipe=""):
    """Run a program with these redirects into this pipe; return its exit code and unread output."""
    program = shlex.join([sys.executable, *map(str, words)])
    line = f"{{ {program} {redirects}; echo $? >code; }} {pipe}"
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, timeout=300)
    return int(Path("code").read_text()), done.stdout + done.stderr


WITHOUT_CURVES = """
import runpy, sys
from minigan.training import pictures
pictures.save_curves = lambda folder, metrics: None
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@POSIX
@pytest.mark.parametrize(
    ("redirects", "pipe", "noted"),
    [
        ("<&- >&- 2>&-", "", None),  # all of them closed
        ("2>&1", "| :", "Broken pipe"),  # a reader that exits before any output
        pytest.param(">/dev/full 2>/dev/full", "", "No space left on device", marks=LINUX),
    ],
)
def test_without_its_standard_streams_a_run_ends_as_any(base, redirects, pipe, noted):
    train = ["-c", WITHOUT_CURVES, tiny.EXAMPLES / "train_celeba.py", *tiny.TINY, "--steps", 3]
    assert shell(redirects, *train, pipe=pipe) == (0, "")
    run = Run(Path("runs") / tiny.FIRST)
    assert tiny.newest(run) == tiny.newest(base)
    reasons = [e["reason"] for e in tiny.events(run) if e["event"] == "output lost"]
    assert reasons == ([f"stderr: {noted}; stdout: {noted}"] if noted else [])


@LINUX
def test_a_closed_stream_gives_its_number_to_no_file_of_ours():
    """Otherwise a C library writing to descriptor 2 could write into a checkpoint."""
    script = (
        "import os; from minigan import console\n"
        "def main():\n"
        "    links = [os.readlink(f'/proc/self/fd/{n}') for n in range(3)]\n"
        "    number = os.open('file', os.O_CREAT | os.O_WRONLY)\n"
        "    os.write(number, repr((links, number > 2)).encode())\n"
        "    return 7\n"
        "console.run(main)\n"
    )
    assert shell("<&- >&- 2>&-", "-c", script) == (7, "")
    assert Path("file").read_text() == repr((["/dev/null"] * 3, True))


@POSIX
@pytest.mark.parametrize(
    ("name", "value"), [("ASCII", "1"), ("BAR_FORMAT", "{foo}"), ("MININTERVAL", "abc")]
)
def test_no_bar_depends_on_the_variables_of_tqdm(monkeypatch, name, value):
    """Runs in a new process, because tqdm reads the variables when it is imported."""
    monkeypatch.setenv(f"TQDM_{name}", value)
    script = (
        "import os, sys\n"
        "from minigan import console\n"
        "sys.stderr.isatty = lambda: True\n"
        "with console.bar(True, total=2, unit='img') as shown:\n"
        "    shown.update(1)\n"
        f"assert os.environ['TQDM_{name}'] == {value!r}\n"
    )
    code, said = shell("2>&1", "-c", script)
    assert (code, "Traceback" in said, "img/s" in said) == (0, False, True)


@POSIX
@pytest.mark.parametrize("name", ["train_celeba.py", "generate.py"])
def test_both_programs_run_without_docstrings(name):
    code, said = shell("2>&1", "-OO", tiny.EXAMPLES / name, "--help")
    assert (code, said.split()[:2]) == (0, ["usage:", name])


# -- Ctrl-C outside of a run -------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("script", ["train_celeba.py", "generate.py"])
def test_ctrl_c_while_the_program_is_imported_is_no_traceback(tmp_path, sigint, script):
    (tmp_path / "threadpoolctl.py").write_text("import signal; signal.raise_signal(signal.SIGINT)")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, str(tiny.EXAMPLES / script), "--help"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@POSIX
@pytest.mark.parametrize("ignored", [False, True])
def test_ctrl_c_in_pythons_own_end_is_no_traceback(sigint, ignored):
    """A program that was started with Ctrl-C ignored keeps ignoring it."""
    script = (
        "import atexit, signal; from minigan import console\n"
        "atexit.register(signal.raise_signal, signal.SIGINT)\n"
        "console.run(lambda: 3)\n"
    )
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3 if ignored else -signal.SIGINT, "")


def test_ctrl_c_while_the_interruption_is_told_is_no_traceback(sigint):
    def main():
        raise KeyboardInterrupt

    with pytest.raises((SystemExit, KeyboardInterrupt)) as stop:
        console.run(main)
    assert (stop.type, stop.value.code) == (SystemExit, 130)


# -- what the user may type --------------------------------------------------------------------------


def typed(line):
    """The words of a line as the shell splits them, without `python -m minigan`."""
    command = line.partition(":")[2].strip()
    split = ["bash", "-c", f"printf '%s\\0' {command}"] if "$'" in command else None
    if split:  # unknown to shlex
        found = subprocess.run(split, capture_output=True, check=True).stdout
        interpreter, m, module, *words = map(os.fsdecode, found.split(b"\0")[:-1])
    else:
        interpreter, m, module, *words = shlex.split(command)
    assert Path(interpreter).absolute() == Path(sys.executable)
    assert (m, module) == ("-m", "minigan")
    return words


@POSIX
@pytest.mark.parametrize(
    "out", ["it's two words; $HOME", "-x", "ünï", os.fsdecode(b"it's\\ \n\t\xff")]
)
def test_what_the_end_advises_can_be_typed(monkeypatch, capsys, out):
    tiny.train_celeba.main([*tiny.TINY, "--steps=1", f"--out={out}"])
    samples, longer = map(typed, capsys.readouterr().out.splitlines()[-2:])
    assert main([*samples, "--n=1"]) == 0
    assert main(longer) == 0
    assert tiny.saved(Run(Path(out) / tiny.FIRST)) == [2]


@POSIX
def test_what_a_lost_disk_advises_can_be_typed():
    run = Run.create(Path("two words"), "x", {})
    with pytest.raises(RunError, match="-m minigan resume 'two words/00000-x' "), run.in_use():
        raise no_space()


def test_after_an_interruption_the_way_to_go_on_is_told(monkeypatch, capsys, sigint):
    with monkeypatch.context() as patch:
        press = lambda step, *a: signal.raise_signal(signal.SIGINT) or step(*a)
        tiny.wrap_steps(patch, press)
        run = tiny.train("two words", "--steps=3", code=130)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == f"Interrupted: look at {run.samples}"
    assert lines[-2].startswith("  sample from it: ")
    assert lines[-1].startswith("  resume it: ")
    assert main(typed(lines[-1])) == 0
    assert tiny.saved(run) == [3]


def test_commands_name_this_interpreter_as_it_is_reached_from_here(tmp_path, monkeypatch):
    def python(executable):
        monkeypatch.setattr(sys, "executable", executable and str(executable))
        return shlex.split(console.python("a b", Path("-x"), "-y"))

    if sys.platform != "win32":
        words = ["a b", os.path.join(".", "-x"), "-y"]
        assert python(tmp_path / "v" / "python") == [os.path.join("v", "python"), *words]
        assert python(tmp_path / "python") == [os.path.join(".", "python"), *words]
        assert python("/usr/bin/my python") == ["/usr/bin/my python", *words]
        assert python("") == python(None) == ["python", *words]
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(sys, "executable", "C:/My Programs/python.exe")
    assert console.pip("-e", ".[gpu]") == '"C:/My Programs/python.exe" -m pip install -e .[gpu]'


@POSIX
def test_from_a_folder_that_is_gone_commands_name_whole_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    os.chdir("gone")
    os.rmdir(tmp_path / "gone")
    assert console.nearby(tmp_path / "x") == tmp_path / "x"


# -- what is refused, and when -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--device=gpu"],
        ["--device=cuda"],
        ["--ngpu=1"],
        ["--out=file"],
        ["--out=file/runs"],
        ["--out=dangling"],
        ["--out=file", "--dry-run"],
        ["--resume=auto", "--device=gpu"],
        ["--lr=0"],
    ],
    ids=" ".join,
)
def test_options_are_checked_before_anything_is_said(capsys, words):
    Path("file").write_text("precious")
    Path("dangling").symlink_to("nowhere")
    assert tiny.train_celeba.main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "lock" not in err
    assert sorted(os.listdir()) == ["dangling", "file"]
    assert Path("file").read_text() == "precious"


def test_threads_are_checked_before_anything_is_said(monkeypatch, capsys):
    monkeypatch.setenv("MINIGAN_NUM_THREADS", "two")
    assert tiny.train_celeba.main([]) == 1
    assert capsys.readouterr().err.startswith("error: MINIGAN_NUM_THREADS is 'two'")


@pytest.mark.parametrize("out", ["file", "file/x", "dangling"])
def test_generate_checks_its_options_before_it_reads_a_checkpoint(capsys, monkeypatch, out):
    monkeypatch.setattr(sample, "load", lambda where: 1 / 0)
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    assert tiny.generate.main(["--run=auto", f"--out={out}"]) == 1
    place = out.partition("/")[0]
    error = f"error: --out {out}: {place} is not a folder; give another path\n"
    assert capsys.readouterr() == ("", error)
    assert tiny.generate.main(["--run=auto", "--device=gpu"]) == 1
    assert capsys.readouterr().err.startswith("error: unknown device 'gpu'")


def test_an_out_of_generate_that_is_no_path_is_told(capsys):
    for out in ("", "a\0b"):
        assert tiny.generate.main(["--run=auto", f"--out={out}"]) == 1
        assert f"error: --out {out!r}: must be a path\n" in capsys.readouterr().err


ESCAPE = "a\x1b[2J\nb"


@POSIX
def test_no_name_reaches_a_terminal_as_it_is(base, capsys):
    """Arguments do not either; a script may pass on file names from a stranger."""
    copy = Path(shutil.copytree(base.folder, ESCAPE))
    (copy / "checkpoints" / "step-00000009.safetensors").write_bytes(b"cut")
    for words in (
        ["--run", ESCAPE, "--n=1", "--out", f"{ESCAPE}2"],
        ["--run", f"{ESCAPE}3"],
        ["--run", ESCAPE, "--out", f"{ESCAPE}/config.json"],
    ):
        tiny.generate.main(words)
    tiny.train_celeba.main(["--resume", ESCAPE, "--steps=4", "--device=cpu"])
    tiny.train_celeba.main(["--resume", ESCAPE, f"--device={ESCAPE}"])
    main(["doctor", f"--device={ESCAPE}"])
    for program, words in (
        (tiny.train_celeba.main, [ESCAPE]),
        (tiny.generate.main, ["--run", ESCAPE, ESCAPE]),
        (main, ["doctor", ESCAPE]),
    ):
        with pytest.raises(SystemExit):
            program(words)
    out, err = capsys.readouterr()
    assert "skipped: a" in out
    assert "skipped: a" in err
    assert "\x1b" not in out + err
    assert "\nb" not in out + err


# -- single pictures ---------------------------------------------------------------------------------


def generate(base, *flags):
    assert tiny.generate.main(["--run", str(base.folder), *flags]) == 0


def test_the_single_pictures_of_an_earlier_call_do_not_stay_among_the_new_ones(base):
    folder = base.folder / "generated"
    for count in (11, 2):
        generate(base, f"--n={count}")
        assert len(os.listdir(folder / "single")) == count
        assert sorted(os.listdir(folder)) == ["grid.png", "interpolation.png", "single"]
    assert sorted(os.listdir(folder / "single")) == ["0.png", "1.png"]
    shutil.rmtree(folder)


def test_files_that_no_call_makes_are_left_alone(base):
    others = {"cat.png", "2.jpg", "000007.png", "7", "３.png", "-1.png", "9.png", "8.png"}
    single = base.folder / "generated" / "single"
    (single / "9.png").mkdir(parents=True)
    Path("precious").touch()
    for name in others - {"9.png", "8.png"}:
        (single / name).touch()
    if sys.platform == "win32":
        others.remove("8.png")
    else:
        (single / "8.png").symlink_to(Path("precious").absolute())
    generate(base, "--n=1")
    assert set(os.listdir(single)) == {*others, "0.png"}
    assert Path("precious").exists()
    shutil.rmtree(single.parent)


def test_in_a_folder_that_the_user_names_nothing_is_deleted(base):
    mine = {"7.png", "00042.png", "000007.png", "cat.png"}
    Path("ph/single").mkdir(parents=True)
    for name in mine:
        Path("ph/single", name).write_bytes(b"mine")
    generate(base, "--n=1", "--out=ph")
    assert set(os.listdir("ph/single")) == {*mine, "0.png"}
    assert all(Path("ph/single", name).read_bytes() == b"mine" for name in mine)


def test_two_calls_may_drop_the_same_pictures_and_make_the_same_folder(tmp_path, monkeypatch):
    """Each call finds that the other one has just done the same."""
    mkdir, unlink = Path.mkdir, Path.unlink
    monkeypatch.setattr(Path, "mkdir", lambda path: mkdir(path) or mkdir(path))
    monkeypatch.setattr(
        Path, "unlink", lambda path, **how: unlink(path, **how) or unlink(path, **how)
    )
    make_own(tmp_path / "single")
    (tmp_path / "single" / "7.png").touch()
    data = DataOptions(image_size=16)
    one = np.zeros((1, 3, 16, 16), np.float32)
    sample._save_singles(tmp_path / "single", one, data, own=True)
    assert os.listdir(tmp_path / "single") == ["0.png"]


# -- the help ----------------------------------------------------------------------------------------


def options_of(program, words):
    """The options in the parser of a program, or of the command that these words name."""
    found = []

    class Caught(Exception):
        pass

    def caught(parser, *arguments):
        found.append(parser)
        raise Caught

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Parser, "parse_args", caught)
        with pytest.raises(Caught):
            program(list(words))
    (parser,) = found
    for word in words:
        (parser,) = (
            a.choices[word] for a in parser._actions if isinstance(a, argparse._SubParsersAction)
        )
    return parser._actions


PROGRAMS = {
    **{f"train {name}": (main, ["train", name]) for name in MEMBERS},
    **{name: (main, [name]) for name in ("resume", "sample", "doctor")},
    "train_celeba.py": (tiny.train_celeba.main, []),
    "generate.py": (tiny.generate.main, []),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_option_has_a_sentence_and_its_limits_where_it_has_some(name):
    actions = [a for a in options_of(*PROGRAMS[name]) if a.help is not argparse.SUPPRESS]
    assert len(actions) >= 3
    limitless = {"image_size", "nc"}  # argparse lists their values
    for action in actions:
        if "--help" in action.option_strings or not action.option_strings:
            continue
        assert len(action.help.split()) >= 2, action.option_strings
        if action.type in (int, float) and action.dest not in limitless:
            assert re.search(r"at least|above|below|at most|\d+ to \d+", action.help), action.help


@pytest.mark.parametrize("name", ["train dcgan", "train wgan-gp"])
def test_a_member_shows_its_own_options_and_no_others(name):
    program, words = PROGRAMS[name]
    shown = {action.dest for action in options_of(program, words)}
    own = set(MEMBERS[words[1]].Options.names())
    others = {n for member in MEMBERS.values() for n in member.Options.names()} - own
    assert own <= shown
    assert not others & shown


TABLES = [*(member.Options for member in MEMBERS.values()), DataOptions, RunOptions]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__module__)
def test_the_limits_in_the_help_are_those_that_hold(table):
    parser = Parser()
    table.add_flags(parser)
    helps = {action.dest: action.help for action in parser._actions}
    words = {"least": ("at least", -1), "most": ("at most", 1), "above": ("above", 0)}
    words["below"] = ("below", 0)
    for field in fields(table):
        for limit, value in field.metadata["limits"].items():
            if value is None:
                continue
            word, beyond = words[limit]
            assert f"{word} {value}" in helps[field.name]
            with pytest.raises(UserError, match=f"^{flag(field.name)} .*must be "):
                table(**{field.name: value + beyond})


def test_the_limits_of_sampling_are_those_that_hold(capsys):
    helps = {a.dest: a.help for a in options_of(main, ["sample"]) if a.type is int}
    assert f"1 to {sample.MOST}" in helps["n"]
    assert f"0 to {2**64 - 1}" in helps["seed"]
    for words in (["--n=0"], [f"--n={sample.MOST + 1}"], ["--seed=-1"], [f"--seed={2**64}"]):
        assert main(["sample", "auto", *words]) == 1
        assert f"error: {words[0].replace('=', ' ')}: must be from " in capsys.readouterr().err
