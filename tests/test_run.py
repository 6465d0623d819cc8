"""The run folder: each number is used once, files are whole or absent, metrics have each step once."""

import errno
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from minigan.console import python
from minigan.files import write_atomically
from minigan.training import record
from minigan.training import run as module
from minigan.training.record import MetricsFile
from minigan.training.run import Run, RunError, numbered_runs, write_config


def names(out):
    return [path.name for path in numbered_runs(out)]


def test_runs_are_numbered_from_zero_and_hold_their_configuration(tmp_path):
    out = tmp_path / "deep" / "runs"
    first, second = Run.create(out, "a", {"x": [1, None]}), Run.create(out, "b", {})
    assert names(out) == ["00000-a", "00001-b"]
    assert sorted(os.listdir(first.folder)) == ["checkpoints", "config.json", "samples"]
    assert first.config == {"x": [1, None]}
    assert second.config == {}


def test_the_next_number_is_after_the_highest_and_other_names_do_not_matter(tmp_path):
    for name in ("00007-x", "cache", "00009", "20240101_backup", "123-x", "x-00010"):
        (tmp_path / name).mkdir()
    (tmp_path / "00011-file").touch()
    assert names(tmp_path) == ["00007-x"]
    assert Run.create(tmp_path, "y", {}).folder.name == "00008-y"


def test_runs_beyond_five_digits_are_still_in_order(tmp_path):
    for name in ("99999-x", "100000-x"):
        (tmp_path / name).mkdir()
    assert names(tmp_path) == ["99999-x", "100000-x"]
    assert Run.create(tmp_path, "x", {}).folder.name == "100001-x"


def test_runs_that_start_at_once_get_different_numbers(tmp_path, monkeypatch):
    """Without the lock, the first two would read the same highest number before either makes a folder.

    With the lock, they never both wait at the barrier. So the barrier breaks, and all continue.
    """
    look, two = module.numbered_runs, threading.Barrier(2)

    def look_together(out):
        found = look(out)
        with suppress(threading.BrokenBarrierError):
            two.wait(timeout=0.3)
        return found

    monkeypatch.setattr(module, "numbered_runs", look_together)
    with ThreadPoolExecutor(16) as pool:
        runs = list(pool.map(lambda i: Run.create(tmp_path, f"x{i % 3}", {"i": i}), range(16)))
    monkeypatch.setattr(module, "numbered_runs", look)
    assert [name[:5] for name in names(tmp_path)] == [f"{i:05d}" for i in range(16)]
    assert sorted(run.config["i"] for run in runs) == list(range(16))


def test_a_run_that_was_never_finished_to_be_made_is_no_run_and_in_nobodys_way(
    tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_config", lambda folder, config: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            Run.create(tmp_path, "x", {})
    assert os.listdir(tmp_path / ".new.partial") != []
    assert names(tmp_path) == []
    assert Run.find("auto", tmp_path) is None
    run = Run.create(tmp_path, "y", {})
    assert sorted(os.listdir(tmp_path)) == [".lock", "00000-y"]
    assert sorted(os.listdir(run.folder)) == ["checkpoints", "config.json", "samples"]


def test_auto_is_the_newest_run_with_a_checkpoint(tmp_path):
    assert Run.find("auto", tmp_path / "nowhere") is None
    runs = [Run.create(tmp_path, name, {}) for name in ("c", "b", "a")]
    assert Run.find("auto", tmp_path) is None
    for i in (0, 1):
        (runs[i].checkpoints / "step-00000001.safetensors").touch()
    assert Run.find("auto", tmp_path).folder == runs[1].folder
    assert Run.find(str(runs[2].folder), tmp_path).folder == runs[2].folder


def test_auto_does_not_pass_over_a_run_that_cannot_be_looked_into(tmp_path, monkeypatch):
    """A stand-in for another user's folder, because the tests may run as root."""
    runs = [Run.create(tmp_path, name, {}) for name in "ab"]
    for run in runs:
        (run.checkpoints / "step-00000001.safetensors").touch()
    secret, scandir, listdir = str(runs[1].checkpoints), os.scandir, os.listdir

    def refusing(real):
        def call(path="."):
            if str(path) == secret:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), secret)
            return real(path)

        return call

    monkeypatch.setattr(os, "scandir", refusing(scandir))
    monkeypatch.setattr(os, "listdir", refusing(listdir))
    with pytest.raises(
        RunError, match=f"{secret}: Permission denied; make it .* or use another run"
    ):
        Run.find("auto", tmp_path)


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_a_folder_without_a_configuration_is_no_run(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"is not a run folder: it has no config\.json"):
        Run.find(where, tmp_path)


def test_a_configuration_that_is_not_json_is_named(tmp_path):
    run = Run.create(tmp_path, "x", {})
    (run.folder / "config.json").write_text('{"options": ')
    with pytest.raises(RunError, match=r"config\.json is not JSON: .*line 1"):
        _ = run.config


def test_a_configuration_can_be_replaced(tmp_path):
    run = Run.create(tmp_path, "x", {"steps": 1})
    write_config(run.folder, {"steps": 2})
    assert run.config == {"steps": 2}
    assert sorted(os.listdir(run.folder)) == ["checkpoints", "config.json", "samples"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_is_written_wholly_or_not_at_all(tmp_path, monkeypatch, call):
    write_atomically(tmp_path / "a", b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, lambda *arguments: 1 / 0)
        for name in ("a", "b"):
            with pytest.raises(ZeroDivisionError):
                write_atomically(tmp_path / name, b"new")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_tidying_that_fails_too_does_not_hide_the_first_error(tmp_path, monkeypatch):
    def fail(number):
        def call(*arguments, **options):
            raise OSError(number, os.strerror(number))

        return call

    monkeypatch.setattr(os, "replace", fail(errno.ENOSPC))
    monkeypatch.setattr(module.Path, "unlink", fail(errno.EIO))
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "a", b"new")
    assert caught.value.filename == str(tmp_path / "a")


@pytest.mark.skipif(os.name == "nt", reason="opens no folders")
def test_the_new_name_is_put_on_the_disk_where_the_file_system_can(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace

    def synced(file):
        is_folder = stat.S_ISDIR(os.fstat(file).st_mode)
        calls.append("folder" if is_folder else "file")
        if is_folder:
            raise OSError(errno.EINVAL, "not for folders")
        fsync(file)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", lambda *a: calls.append("name") or replace(*a))
    write_atomically(tmp_path / "a", b"new")
    assert calls == ["file", "name", "folder"]
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_run_in_use_is_refused_and_free_again_afterwards(tmp_path):
    run = Run.create(tmp_path, "x", {})
    with (
        run.in_use(),
        pytest.raises(RunError, match="00000-x is in use by another process; wait until it ends"),
        Run(run.folder).in_use(),
    ):
        pass
    with Run(run.folder).in_use():
        pass


def test_what_a_killed_process_was_writing_is_tidied_up_and_nothing_else(tmp_path):
    run = Run.create(tmp_path, "x", {})
    left = [
        run.folder / ".losses.png.7.partial",
        run.samples / ".step-00000001.png.123456.partial",
        run.checkpoints / ".step-00000001.safetensors.7.partial",
    ]
    kept = [
        run.samples / "step-1.partial.png",
        run.folder / ".notes.partial",
        run.folder / ".diary.txt.7.partial",
        run.folder / ".losses.png.x.partial",
        run.samples / ".losses.png.7.partial",
    ]
    for path in (*left, *kept):
        path.touch()
    folders = [run.folder / ".x.partial", run.checkpoints / ".step-1.safetensors.7.partial"]
    for path in folders:
        path.mkdir()
    with run.in_use():
        assert not any(path.exists() for path in left)
    assert all(path.exists() for path in (*kept, *folders))


def test_what_another_process_is_writing_without_the_lock_is_left_alone(tmp_path):
    run = Run.create(tmp_path, "x", {})
    partial = run.folder / "generated" / ".grid.png.7.partial"
    partial.parent.mkdir()
    partial.touch()
    with run.in_use():
        assert partial.exists()


@pytest.mark.parametrize(
    ("number", "filename", "message"),
    [
        (errno.ENOSPC, "runs/x/a.png", "runs/x/a.png: No space left on device; make room there, "),
        (errno.EMFILE, "a", "a: Too many open files; raise the limit on open files (ulimit -n), "),
        (
            errno.EIO,
            None,
            "{}: Input/output error; check that the folder exists and that its disk wo",
        ),
    ],
)
def test_what_happens_to_files_of_a_run_in_use_is_told_in_a_sentence(
    tmp_path, number, filename, message
):
    run = Run.create(tmp_path, "x", {})
    error = OSError(number, os.strerror(number), filename)
    with pytest.raises(RunError) as caught, run.in_use():
        raise error
    assert str(caught.value).startswith(message.format(run.folder))
    command = python("-m", "minigan", "resume", run.folder)
    assert f", then resume with {command} (or start again," in str(caught.value)
    with run.in_use():  # the lock is free again
        pass


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "null", "[" * 100_000])
def test_a_configuration_that_is_no_table_is_named(tmp_path, text):
    run = Run.create(tmp_path, "x", {})
    (run.folder / "config.json").write_text(text)
    with pytest.raises(RunError, match=r"config\.json .*; restore it, or start a new run"):
        _ = run.config


# -- metrics, events, skipped files -------------------------------------------------------------------

# Metrics of some member; the run folder knows only the step and the epoch by name.
NAMES = ("loss_d", "loss_g", "grad_d", "grad_g", "d_x", "images_per_second")


def line(step, **others):
    """A line of metrics, as a run writes it."""
    return {"step": step, "epoch": step // 9, **dict.fromkeys(NAMES, step / 3), **others}


def text(*lines):
    return b"".join(json.dumps(each).encode() + b"\n" for each in lines)


def test_each_line_of_the_metrics_is_there_at_once(tmp_path):
    run = Run.create(tmp_path, "x", {})
    assert run.cut_metrics(0) == []
    metrics = run.open_metrics()
    path = run.folder / "metrics.jsonl"
    assert path.read_bytes() == b""
    metrics.write(line(1))
    assert path.read_bytes() == text(line(1))
    metrics.write(line(2, loss_d=1e-9))
    assert run.metrics() == [line(1), line(2, loss_d=1e-9)]
    metrics.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no file that is always full")
def test_metrics_that_cannot_be_written_name_their_file():
    metrics = MetricsFile("/dev/full")
    for call in (lambda: metrics.write({"step": 1}), metrics.sync, metrics.close):
        with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
            call()


@pytest.mark.parametrize(
    ("steps", "tail"),
    [(9, b""), *((n, tail) for n in (0, 2, 4) for tail in (b"", b'{"step": 5, "lo', b"{"))],
)
def test_metrics_are_cut_back_to_the_step_of_the_checkpoint(tmp_path, steps, tail):
    run = Run.create(tmp_path, "x", {})
    path = run.folder / "metrics.jsonl"
    path.write_bytes(text(*map(line, range(1, 5))) + tail)
    kept = [line(i) for i in range(1, min(steps, 4) + 1)]
    assert run.cut_metrics(steps) == kept  # without a warning, which would raise here
    metrics = run.open_metrics()
    metrics.write(line(steps + 1, loss_g=0.5))
    metrics.close()
    assert path.read_bytes() == text(*kept, line(steps + 1, loss_g=0.5))
    assert sorted(os.listdir(run.folder)) == [
        *("checkpoints", "config.json", "metrics.jsonl", "samples"),
    ]


@pytest.mark.parametrize(
    ("before", "tail", "steps", "every"),
    [
        (text(line(1)), b'{"step": 2, "lo', 4, 1),
        (text(line(10)), b'{"step": 20, "lo', 25, 10),
        (b"", bytes(400), 4, 1),
        (text(line(1), line(2)), bytes(400), 4, 1),
        (b"", text(line(1), line(2))[:-1].replace(b"\n", b" "), 4, 1),
    ],
)
def test_a_line_cut_short_before_the_checkpoint_is_told_and_kept(
    tmp_path, before, tail, steps, every
):
    run, said = Run.create(tmp_path, "x", {}), []
    path = run.folder / "metrics.jsonl"
    path.write_bytes(before + tail)
    run.cut_metrics(steps, said.append, every)
    assert path.read_bytes() == before
    assert (run.folder / "metrics.jsonl.damaged").read_bytes() == before + tail
    assert len(said) == 1


def test_a_line_cut_short_after_the_last_that_was_due_is_what_a_kill_leaves(tmp_path):
    run = Run.create(tmp_path, "x", {})
    (run.folder / "metrics.jsonl").write_bytes(text(line(10), line(20)) + b'{"step": 30, "lo')
    assert run.cut_metrics(25, every=10) == [line(10), line(20)]


def test_zeros_instead_of_metrics_are_told(tmp_path):
    run, said = Run.create(tmp_path, "x", {}), []
    (run.folder / "metrics.jsonl").write_bytes(bytes(400))
    assert run.metrics(said.append) == []
    assert "line 1 is wrong (not JSON)" in said[0]


WRONG = {
    "zeros": (b"\0" * 40 + b"\n", "not JSON"),
    "no UTF-8": (b"\xff\xfe\n", "not JSON"),
    "cut": (text(line(3))[:50] + b"\n", "not JSON"),
    "two in one": (text(line(3))[:-1] + text(line(3)), "not JSON"),
    "deep": (b"[" * 9999 + b"\n", "not JSON"),
    "many digits": (b'{"step": ' + b"9" * 9999 + b"}\n", "not JSON"),
    "long": (text(line(3, note="x" * 200_000)), "not JSON"),
    "list": (b"[1]\n", "not a table"),
    "number": (b"3\n", "not a table"),
    "text": (b'"step"\n', "not a table"),
    "an event": (b'{"event": "start"}\n', "it has no step"),
    "a step alone": (b'{"step": 3}\n', "it has no epoch"),
    "negative": (text(line(-9999999)), "its 'step' is -9999999"),
    "zero": (text(line(0)), "its 'step' is 0"),
    "step of text": (text(line(3) | {"step": "3"}), "its 'step' is '3'"),
    "step of a float": (text(line(3) | {"step": 3.0}), "its 'step' is 3.0"),
    "true": (text(line(3) | {"step": True}), "its 'step' is True"),
    "step out of reach": (text(line(10**8)), "its 'step' is 100000000"),
    "no epoch": (text(line(3, epoch=None)), "its 'epoch' is None"),
    "huge": (text(line(3, grad_g=1e200)), "its 'grad_g' is 1e+200"),
    "beyond": (text(line(3, loss_g=10**400)), "its 'loss_g' is 1000"),
    "nan": (text(line(3, loss_d=float("nan"))), "its 'loss_d' is nan"),
    "infinity": (text(line(3, grad_d=float("-inf"))), "its 'grad_d' is -inf"),
    "metric of text": (text(line(3, d_x="\x1b[2J")), "its 'd_x' is '\\x1b[2J'"),
    "metric of a list": (text(line(3, d_x=[[]] * 99)), "its 'd_x' is [["),
    "metric of a bool": (text(line(3, d_x=False)), "its 'd_x' is False"),
    "strange metric": (text(line(3) | {"\n\x1b": {}}), r"its '\n\x1b' is {}"),
    "again": (text(line(2)), "step 2 stands after step 2"),
    "backwards": (text(line(1)), "step 1 stands after step 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_line_among_the_metrics_is_told_and_costs_no_other(tmp_path, name):
    wrong, reason = WRONG[name]
    run, said = Run.create(tmp_path, "x", {}), []
    path = run.folder / "metrics.jsonl"
    before = text(line(1), line(2)) + wrong + text(line(4), line(5))
    path.write_bytes(before)
    assert run.metrics(said.append) == [line(1), line(2), line(4), line(5)]
    assert path.read_bytes() == before
    run.cut_metrics(4, said.append)
    assert path.read_bytes() == text(line(1), line(2), line(4))
    assert (run.folder / "metrics.jsonl.damaged").read_bytes() == before
    assert all(each.startswith(f"{path}: line 3 is wrong ({reason}") for each in said)
    assert all(each.isprintable() and "; " in each and len(each) < 500 for each in said)
    assert len(said) == 2
    assert said[1].endswith("and the old file is now metrics.jsonl.damaged")
    run.cut_metrics(4, said.append)  # now nothing is damaged
    assert run.metrics(said.append) == [line(1), line(2), line(4)]
    assert len(said) == 2


@pytest.mark.parametrize("name", WRONG)
def test_lines_after_the_checkpoint_are_written_again_so_faults_there_do_not_matter(tmp_path, name):
    """For example after a power cut. Lines up to a checkpoint are flushed to disk before it."""
    run = Run.create(tmp_path, "x", {})
    path = run.folder / "metrics.jsonl"
    wrong = WRONG[name][0] if name not in ("again", "backwards") else text(line(3), line(3))
    path.write_bytes(text(line(1), line(2)) + wrong + text(line(4)))
    run.cut_metrics(2)
    assert path.read_bytes() == text(line(1), line(2))
    assert not (run.folder / "metrics.jsonl.damaged").exists()


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_what_editors_do_to_metrics_loses_nothing(tmp_path, end):
    """Blank lines, other line ends, a byte order mark, no final newline, other orders of keys."""
    run = Run.create(tmp_path, "x", {})
    turned = dict(reversed(line(2).items()))
    edited = b"\xef\xbb\xbf" + text(line(1)) + b"\n  \t\n" + text(turned, line(4))[:-1]
    (run.folder / "metrics.jsonl").write_bytes(edited.replace(b"\n", end))
    assert run.metrics() == [line(1), line(2), line(4)]
    run.cut_metrics(9)
    assert (run.folder / "metrics.jsonl").read_bytes() == text(line(1), turned, line(4))


def test_null_and_metrics_of_any_name_are_metrics(tmp_path):
    run = Run.create(tmp_path, "x", {})
    lines = [line(1, loss_g=None, grad_g=None), line(2, grad_d=3.4e38, loss_d=0), line(3, fid=7.5)]
    lines += [{"step": 4, "epoch": 0}, {"step": 5, "epoch": 0, "distance": -5}]
    (run.folder / "metrics.jsonl").write_bytes(text(*lines))
    assert run.metrics() == lines


def test_metrics_out_of_order_are_sorted_and_the_later_of_two_lines_of_a_step_counts(tmp_path):
    run, said = Run.create(tmp_path, "x", {}), []
    lines = [line(7), line(2), line(5, d_x=1), line(2, d_x=0), line(99_999_999), line(1)]
    (run.folder / "metrics.jsonl").write_bytes(text(*lines))
    run.cut_metrics(7, said.append)
    assert run.metrics() == [line(1), line(2, d_x=0), line(5, d_x=1), line(7)]
    assert "line 2 is wrong (step 2 stands after step 7), and 3 more; " in said[0]


def test_each_damaged_file_is_kept_under_a_name_of_its_own(tmp_path):
    run = Run.create(tmp_path, "x", {})
    for i in range(3):
        (run.folder / "metrics.jsonl").write_bytes(b"%d\n" % i)
        run.cut_metrics(1, lambda said: None)
    kept = [run.folder / f"metrics.jsonl.damaged{i}" for i in ("", 1, 2)]
    assert [path.read_bytes() for path in kept] == [b"0\n", b"1\n", b"2\n"]
    events = [json.loads(s) for s in (run.folder / "events.jsonl").read_text().splitlines()]
    assert [event["kept"] for event in events] == [path.name for path in kept]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_a_damaged_file_is_kept_where_a_file_has_one_name_only(tmp_path, monkeypatch, number):
    def link(path, other):
        raise OSError(number, os.strerror(number), path)

    run = Run.create(tmp_path, "x", {})
    (run.folder / "metrics.jsonl").write_bytes(b"0\n")
    monkeypatch.setattr(os, "link", link)
    run.cut_metrics(1, lambda said: None)
    assert (run.folder / "metrics.jsonl.damaged").read_bytes() == b"0\n"
    assert run.metrics() == []


def test_a_damaged_file_is_there_under_one_of_its_names_whatever_fails(tmp_path, monkeypatch):
    run = Run.create(tmp_path, "x", {})
    (run.folder / "metrics.jsonl").write_bytes(b"0\n" + text(line(1)))
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *paths: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.cut_metrics(1, lambda said: None)
    assert run.metrics(lambda said: None) == [line(1)]


@pytest.mark.skipif(os.name == "nt", reason="has room for each zero")
def test_a_huge_file_of_nothing_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "FAULTS", 1000)
    run, said = Run.create(tmp_path, "x", {}), []
    path = run.folder / "metrics.jsonl"
    path.write_bytes(text(line(1)))
    os.truncate(path, 2**42)  # takes no space on disk
    run.cut_metrics(5, said.append)
    assert path.read_bytes() == text(line(1))
    assert "line 2 is wrong (not JSON), and 999 more, and what follows was not read; " in said[0]
    assert (run.folder / "metrics.jsonl.damaged").stat().st_size == 2**42
    os.truncate(path, 2**42)
    run.cut_metrics(1, said.append)  # the unread rest might hold lines of earlier steps
    assert "line 1001 is wrong (not JSON), and what follows was not read; " in said[1]


def test_a_run_without_metrics_has_none(tmp_path):
    assert Run.create(tmp_path, "x", {}).metrics() == []


def test_events_are_lines_with_a_time(tmp_path):
    run = Run.create(tmp_path, "x", {})
    run.event("start", samples=3)
    run.event("done", step=9)
    lines = [json.loads(s) for s in (run.folder / "events.jsonl").read_text().splitlines()]
    times = [line.pop("time") for line in lines]
    assert lines == [{"event": "start", "samples": 3}, {"event": "done", "step": 9}]
    assert all(time[4] == "-" and time[10] == "T" for time in times)


@pytest.mark.parametrize("cut", [2, 20, 40])
def test_an_event_takes_the_place_of_one_that_was_cut_short(tmp_path, cut):
    run = Run.create(tmp_path, "x", {})
    path = run.folder / "events.jsonl"
    run.event("start", samples=3)
    run.event("done", step=9)
    os.truncate(path, path.stat().st_size - cut)
    run.event("resume")
    lines = [json.loads(s) for s in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "resume"]


@pytest.mark.parametrize("end", [b"", b"\r"])
def test_an_event_that_has_lost_its_line_end_stays(tmp_path, end):
    run = Run.create(tmp_path, "x", {})
    path = run.folder / "events.jsonl"
    path.write_bytes(b'{"event": "start"}' + end)
    run.event("resume")
    assert [json.loads(s)["event"] for s in path.read_text().splitlines()] == ["start", "resume"]


def test_events_with_other_line_ends_stay(tmp_path):
    run = Run.create(tmp_path, "x", {})
    path = run.folder / "events.jsonl"
    path.write_bytes(b'{"event": "start"}\r{"event": "done"}\r{"time')
    run.event("resume")
    kinds = [json.loads(s)["event"] for s in path.read_text().splitlines()]
    assert kinds == ["start", "done", "resume"]


@pytest.mark.skipif(os.name == "nt", reason="has room for each zero")
def test_an_event_follows_a_huge_file_of_nothing(tmp_path):
    run = Run.create(tmp_path, "x", {})
    path = run.folder / "events.jsonl"
    path.touch()
    os.truncate(path, 2**42)
    run.event("resume")
    with open(path, "rb") as file:
        file.seek(2**42)
        assert file.read(1) == b"\n"
        assert json.loads(file.read())["event"] == "resume"


def test_skipped_files_are_listed_with_their_reasons(tmp_path):
    run = Run.create(tmp_path, "x", {})
    run.write_skipped([("a.jpg", "empty file"), ("ä.jpg", "broken picture: Ω")])
    text = (run.folder / "skipped.txt").read_text(encoding="utf-8")
    assert text == "a.jpg\tempty file\nä.jpg\tbroken picture: Ω\n"
