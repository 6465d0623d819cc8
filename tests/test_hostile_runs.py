"""A run folder from a stranger: whatever its parts are, nothing outside the folder changes.

Each part is replaced in turn by each kind of file that it must not be. Then both programs use the run.
The links point to a folder next to it, which must keep every byte.
"""

import json
import os
import shutil
import signal
import stat
import sys
from pathlib import Path

import pytest
import tiny
from hostile import sentence

from minigan import files
from minigan.files import FILE, FOLDER, is_own, make_own, write_atomically
from minigan.gans.signs import SATURATED, frozen_generator
from minigan.training import pictures
from minigan.training.metrics import COUNTS, METRICS, PANELS
from minigan.training.record import LARGEST
from minigan.training.run import Run, RunError
from minigan.training.watch import Watch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes links and pipes")

RUN = Path("stranger") / tiny.FIRST
FOLDERS = ("samples", "checkpoints", "generated", "generated/single")
FILES = (
    *(".lock", "config.json", "metrics.jsonl", "events.jsonl", "skipped.txt", "evaluation.json"),
    *("losses.png", "scores.png", "critic.png", "gradients.png"),
    *("diversity.png", "others.png", "progress.gif"),
    *(f"samples/{name}.png" for name in ("step-00000000", "reals", "real-beside-fake")),
    "samples/raw-beside-average.png",
    *(f"checkpoints/step-0000000{i}.safetensors" for i in (1, 2)),
)
SAVE_CURVES = pictures.save_curves


def hangs(number, frame):
    raise AssertionError("it waits forever")


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    """Work in an empty folder, without curves, and with a time limit."""
    monkeypatch.chdir(tmp_path)
    tiny.hurry(monkeypatch)
    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a run of two steps that has every part, and with its cache."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny.hurry(patch)
        run = tiny.train("runs", "--steps", 2, "--checkpoint-every", 1)
        assert tiny.generate.main(["--run", str(run.folder), "--n", "1"]) == 0
        for name in (*(f"{panel}.png" for panel in PANELS), "skipped.txt", "evaluation.json"):
            (run.folder / name).write_bytes(b"drawn")
        assert all((run.folder / name).is_file() for name in FILES)
    return folder / "runs"


@pytest.fixture
def victim(base):
    """A folder outside, next to a copy of the run, which the programs must not change."""
    shutil.copytree(base, "stranger")
    Path("victim").mkdir()
    Path("victim/diary.txt").write_text("precious\n")
    return Path("victim").absolute()


def contents(folder):
    """A folder's contents by name: the kind, and a file's bytes or a link's target."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        kind = stat.S_IFMT(path.lstat().st_mode)
        more = path.read_bytes() if kind == stat.S_IFREG else b""
        found[str(path)] = kind, os.readlink(path) if kind == stat.S_IFLNK else more
    return found


def resume(*flags):
    return tiny.train_celeba.main(["--steps", "4", *map(str, flags)])


def generate(*flags):
    return tiny.generate.main(["--n", "1", *map(str, flags)])


# -- each part, each kind ------------------------------------------------------------------------------


def own_place(part, victim):
    """A link to a working copy, so that only a check of the link itself finds it."""
    moved = victim / part.name
    part.rename(moved)
    part.symlink_to(moved)


def relative(part, victim):
    moved = victim / part.name
    part.rename(moved)
    part.symlink_to(os.path.relpath(moved, part.parent))


def diary(part, victim):
    drop(part)
    part.symlink_to(victim / "diary.txt")


def folder_outside(part, victim):
    drop(part)
    part.symlink_to(victim)


def nowhere(part, victim):
    drop(part)
    part.symlink_to(victim / "absent")


def itself(part, victim):
    drop(part)
    part.symlink_to(part.name)


def endless(part, victim):
    drop(part)
    part.symlink_to("/dev/zero")


def pipe(part, victim):
    drop(part)
    os.mkfifo(part)


def other_kind(part, victim):
    was_file = part.is_file()
    drop(part)
    part.mkdir() if was_file else part.write_bytes(b"")


def drop(part):
    part.unlink() if part.is_file() else shutil.rmtree(part)


KINDS = (own_place, relative, diary, folder_outside, nowhere, itself, endless, pipe, other_kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
def test_a_part_that_is_no_file_or_folder_of_the_run_is_refused(victim, capsys, name, kind):
    kind(RUN / name, victim)
    before = contents("stranger"), contents(victim)
    for main, flags in (
        (resume, ["--resume", RUN]),
        (resume, ["--resume", RUN, "--dry-run"]),
        (generate, ["--run", RUN]),
    ):
        assert main(*flags) == 1
        out, err = capsys.readouterr()
        assert out == ""
        told = sentence(err.removesuffix("\n"))
        assert told.startswith(f"error: {RUN / name}: it is ") or "it has no config.json" in told
        assert (contents("stranger"), contents(victim)) == before


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", ["checkpoints", "config.json", "samples", "metrics.jsonl"])
def test_auto_follows_no_link_either(victim, capsys, name, kind):
    """If it cannot recognise the run, it may start a new one."""
    kind(RUN / name, victim)
    before = contents(RUN), contents(victim)
    code = resume(*tiny.TINY, "--resume", "auto", "--out", "stranger", "--steps", 1)
    assert (contents(RUN), contents(victim)) == before
    assert code == (0 if name == "checkpoints" and kind not in (own_place, relative) else 1)


def test_hard_links_are_replaced_and_never_written_through(victim, capsys):
    for i, name in enumerate(FILES):
        if name != "events.jsonl":
            os.link(RUN / name, victim / str(i))
    before = contents(victim)
    assert resume("--resume", RUN, "--keep", 1) == 0
    assert generate("--run", RUN) == 0
    assert contents(victim) == before


def test_events_are_not_added_to_a_file_of_another_name(victim, capsys):
    os.link(RUN / "events.jsonl", victim / "events")
    before = contents("stranger"), contents(victim)
    assert resume("--resume", RUN) == 1
    told = sentence(capsys.readouterr().err.removesuffix("\n"))
    assert f"{RUN / 'events.jsonl'}: a hard link gives it another name; replace" in told
    assert (contents("stranger"), contents(victim)) == before


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_under_the_name_of_a_file_that_is_being_written_is_not_written_through(victim, link):
    """Files in generated/ are not removed first, because another process may be writing there."""
    for name in FILES:
        partial = (RUN / name).parent / f".{Path(name).name}.{os.getpid()}.partial"
        link(victim / "diary.txt", partial)
    for name in ("grid.png", "interpolation.png", "single/0.png"):
        path = RUN / "generated" / name
        link(victim / "diary.txt", path.parent / f".{path.name}.{os.getpid()}.partial")
        path.unlink()
        link(victim / "diary.txt", path)
    before = contents(victim)
    assert resume("--resume", RUN) == 0
    assert generate("--run", RUN) == 0
    assert contents(victim) == before
    left = list(Path("stranger").rglob("*.partial"))  # links to files that were not written
    assert left == [] if link is os.link else all(path.is_symlink() for path in left)


def test_whatever_else_is_in_the_folder_is_left_alone(victim):
    """Even links under other names, which the programs do not use."""
    (RUN / "notes").symlink_to(victim)
    (RUN / "checkpoints" / "best.safetensors").symlink_to(victim / "absent")
    (RUN / "samples" / ".DS_Store").mkdir()
    before = contents(victim)
    assert resume("--resume", RUN) == 0
    assert contents(victim) == before
    assert (RUN / "notes").is_symlink()
    assert (RUN / "checkpoints" / "best.safetensors").is_symlink()


def test_a_part_that_becomes_a_link_meanwhile_is_not_followed(victim):
    run = Run(RUN)
    for name in ("samples", "checkpoints", "metrics.jsonl", "events.jsonl", "config.json"):
        own_place(RUN / name, victim)
    before = contents(victim)
    for use in (
        lambda: run.samples,
        lambda: run.checkpoints,
        lambda: run.metrics(),
        lambda: run.cut_metrics(2),
        lambda: run.open_metrics(),
        lambda: run.event("done"),
        lambda: run.config,
    ):
        with pytest.raises(OSError, match=f"it is a symbolic link, not .*: '{RUN}/"):
            use()
    assert contents(victim) == before


def test_pictures_from_a_checkpoint_alone_are_not_put_into_a_folder_outside(victim, capsys):
    own_place(RUN / "generated", victim)
    before = contents(victim)
    assert generate("--run", RUN / "checkpoints" / "step-00000002.safetensors") == 1
    assert f"{RUN / 'generated'}: it is a symbolic link, not a folder" in capsys.readouterr().err
    assert contents(victim) == before


# -- where it writes -----------------------------------------------------------------------------------


def test_no_file_of_a_run_says_where_its_cache_is(victim, capsys):
    config = json.loads((RUN / "config.json").read_text())
    config["run"]["out"] = str(victim)
    shutil.rmtree("stranger/cache")
    before = contents(victim)
    (RUN / "config.json").write_text(
        json.dumps({**config, "run": {**config["run"], "name": "../x"}})
    )
    assert resume("--resume", RUN) == 1  # a run's name is its folder's name, not an option
    assert "config.json: run has unknown options ['name']; " in capsys.readouterr().err
    (RUN / "config.json").write_text(json.dumps(config))
    assert resume("--resume", RUN) == 0
    assert contents(victim) == before
    assert sorted(os.listdir("stranger")) == [".lock", tiny.FIRST, "cache"]
    assert sorted(os.listdir()) == ["stranger", "victim"]
    assert Run(RUN).config["run"]["out"] == "stranger"


def test_the_user_may_say_where_the_cache_is(victim):
    assert resume("--resume", RUN, "--out", "elsewhere") == 0
    assert os.listdir("elsewhere") == ["cache"]


@pytest.mark.parametrize("where", [".", f"../{tiny.FIRST}", f"../../stranger/{tiny.FIRST}/."])
def test_a_run_that_is_named_from_inside_has_its_cache_beside_it(victim, monkeypatch, where):
    monkeypatch.chdir(RUN)
    shutil.rmtree("../cache")
    assert resume("--resume", where) == 0
    assert len(os.listdir("../cache")) == 3
    assert not os.path.exists("cache")


def test_a_config_json_without_end_is_refused(victim, capsys):
    os.truncate(RUN / "config.json", 2**40)
    assert resume("--resume", RUN) == 1
    told = sentence(capsys.readouterr().err.removesuffix("\n"))
    assert "config.json is not JSON: it has more than 1,048,576 bytes; restore it" in told


# -- metrics -------------------------------------------------------------------------------------------


def test_a_run_with_damaged_metrics_goes_on_with_the_rest_and_says_so(victim, capsys, monkeypatch):
    path, drawn = RUN / "metrics.jsonl", []
    first, second = path.read_bytes().splitlines(keepends=True)
    huge = {**json.loads(second), "grad_g": 1e200}
    damaged = first + b'\n{"step": 3}\n"x"\n' + json.dumps(huge).encode() + b"\n"
    path.write_bytes(damaged + second)
    monkeypatch.setattr(pictures, "save_curves", lambda folder, metrics: drawn.append(metrics))
    assert tiny.train_celeba.main(["--resume", str(RUN)]) == 0  # it has ended, so this only draws
    fault = f"{path}: line 3 is wrong (it has no epoch), and 2 more; "
    assert f"{fault}only the usable lines are read, in order\n" in capsys.readouterr().out
    assert path.read_bytes() == damaged + second
    assert resume("--resume", RUN) == 0
    told = f"{fault}the usable lines are kept in order, and the old file is now {path.name}.damaged"
    assert capsys.readouterr().out.count(f"{told}\n") == 1
    assert [line["step"] for line in tiny.metrics(Run(RUN))] == [1, 2, 3, 4]
    assert [[line["step"] for line in metrics] for metrics in drawn] == [[1, 2], [1, 2, 3, 4]]
    assert (RUN / "metrics.jsonl.damaged").read_bytes() == damaged + second
    (event,) = [e for e in tiny.events(Run(RUN)) if e["event"] == "damaged metrics"]
    assert (event["kept"], event["fault"] + "; ") == ("metrics.jsonl.damaged", fault)


def test_curves_of_any_metrics_that_are_read_can_be_drawn(base):
    """Huge values, no values, unknown names, and steps so far apart that the mean covers few."""
    line = json.loads((base / tiny.FIRST / "metrics.jsonl").read_bytes().splitlines()[0])
    run = Run.create(Path("out"), "x", {})
    names = (*METRICS, "modes covered", "of_a_stranger")
    values = tuple(dict.fromkeys(names, value) for value in (LARGEST, None, -LARGEST))
    for lines in (
        [{**line, **v, "step": step} for step, v in zip((1, 9, 10**8 - 1), values, strict=True)],
        [{**line, **values[1]}],
        [{name: line[name] for name in COUNTS}],  # no metrics at all
    ):
        text = "".join(json.dumps(each) + "\n" for each in lines)
        (run.folder / "metrics.jsonl").write_text(text)
        assert run.metrics() == lines
        SAVE_CURVES(run.folder, lines)
        watch = Watch((SATURATED, frozen_generator(10, 0.999)), lines)
        watch.look({**line, "step": 10**8})
    assert {f"{panel}.png" for panel in PANELS} <= set(os.listdir(run.folder))


# -- links that the user names -------------------------------------------------------------------------


def test_a_run_may_be_named_by_a_link_and_its_cache_is_beside_the_link(victim):
    """So a run can be moved to another disk, with a link left in its old place."""
    Path("disk").mkdir()
    RUN.rename(Path("disk") / tiny.FIRST)
    RUN.symlink_to(Path("disk").absolute() / tiny.FIRST)
    assert resume("--resume", RUN) == 0
    assert tiny.saved(Run(Path("disk") / tiny.FIRST))[-1] == 4
    assert os.listdir("disk") == [tiny.FIRST]
    assert generate("--run", RUN) == 0


def test_auto_does_not_take_a_link_for_the_newest_run_but_says_so(victim, capsys):
    Path("stranger").rename("runs")
    shutil.copytree(Path("runs") / tiny.FIRST, "victim/run")
    link = Path("runs/00007-mine")
    link.symlink_to(Path("victim/run").absolute())
    before = contents(victim)
    for main, flag in ((resume, "--resume"), (generate, "--run")):
        assert main(flag, "auto") == 1
        told = sentence(capsys.readouterr().err.removesuffix("\n"))
        assert f"{link}, the newest run, is a link to another folder; give its path" in told
    assert contents(victim) == before
    assert resume("--resume", link) == 0


def test_the_folder_of_the_runs_may_be_a_link(victim):
    Path("stranger").rename("disk")
    Path("runs").symlink_to("disk")
    assert resume("--resume", "auto") == 0
    assert tiny.saved(Run(Path("disk") / tiny.FIRST))[-1] == 4
    assert generate("--run", "auto") == 0


# -- the checks themselves -----------------------------------------------------------------------------


def test_what_is_no_file_of_its_own_is_named():
    Path("file").touch()
    Path("folder").mkdir()
    os.mkfifo("pipe")
    Path("link").symlink_to("file")
    Path("dangling").symlink_to("nowhere")
    assert is_own(Path("file"))
    assert is_own(Path("folder"), FOLDER)
    assert not is_own(Path("nowhere"))
    assert not is_own(Path("nowhere"), FOLDER)
    for path, kind, found in (
        ("file", FOLDER, "a file"),
        ("folder", FILE, "a folder"),
        ("pipe", FILE, "a pipe"),
        ("link", FILE, "a symbolic link"),
        ("dangling", FOLDER, "a symbolic link"),
        ("/dev/null", FILE, "a device"),
    ):
        with pytest.raises(OSError, match=f"it is {found}, not {kind}") as caught:
            is_own(Path(path), kind)
        assert files.trouble(caught.value).startswith(f"{path}: it is {found}, not {kind}; ")


def test_a_junction_of_windows_is_a_link(monkeypatch):
    """lstat is replaced by a stand-in that behaves as on Windows."""
    status = type("status", (), {"st_mode": stat.S_IFDIR, "st_reparse_tag": files.JUNCTION})
    monkeypatch.setattr(os, "lstat", lambda path: status)
    with pytest.raises(OSError, match="it is a symbolic link, not a folder"):
        is_own(Path("junction"), FOLDER)


def test_a_folder_is_made_once_and_never_behind_a_link():
    for _ in range(2):
        make_own(Path("made"))
    Path("link").symlink_to("absent")
    with pytest.raises(OSError, match="it is a symbolic link"):
        make_own(Path("link"))
    assert sorted(os.listdir()) == ["link", "made"]


def test_a_file_that_is_replaced_is_not_made_executable_or_shared():
    write_atomically(Path("a"), b"x")
    with open("b", "ab", opener=files.cautiously):
        pass
    open("c", "ab").close()
    modes = {path: os.stat(path).st_mode for path in "abc"}
    assert len(set(modes.values())) == 1


def test_a_run_that_cannot_be_looked_at_is_one_sentence(victim, monkeypatch):
    def listing(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", listing)
    with pytest.raises(RunError, match="Permission denied; make it writable, then start again, or"):
        Run(RUN)
