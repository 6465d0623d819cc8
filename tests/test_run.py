"""The run folder: numbers given once, files whole or not there, metrics with each step once."""

import errno
import json
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from minigan.files import write_atomically
from minigan.training import run as module
from minigan.training.run import Metrics, Run, RunError, numbered_runs, write_config


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
    """Without the lock the first two would read the same highest number before either makes a folder.

    With it they cannot meet: the barrier breaks, and all go on.
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


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_a_folder_without_a_configuration_is_no_run(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"is no run folder: it has no config\.json"):
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
        pytest.raises(RunError, match="00000-x is in use by another process; wait for its end"),
        Run(run.folder).in_use(),
    ):
        pass
    with Run(run.folder).in_use():
        pass


def test_what_a_killed_process_was_writing_is_tidied_up(tmp_path):
    run = Run.create(tmp_path, "x", {})
    left = [run.folder / ".a.png.7.partial", run.checkpoints / ".step-1.safetensors.7.partial"]
    kept = run.samples / "step-1.partial.png"
    for path in (*left, kept):
        path.touch()
    with run.in_use():
        assert not any(path.exists() for path in left)
    assert kept.exists()


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
        (errno.EMFILE, "a", "a: Too many open files; raise the limit of open files (ulimit -n), "),
        (
            errno.EIO,
            None,
            "{}: Input/output error; see that the folder is there and its disk is so",
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
    assert f", then go on with --resume {run.folder} (or anew," in str(caught.value)
    with run.in_use():  # the lock is free
        pass


@pytest.mark.parametrize("text", ["[]", "3", '"x"', "null", "[" * 100_000])
def test_a_configuration_that_is_no_table_is_named(tmp_path, text):
    run = Run.create(tmp_path, "x", {})
    (run.folder / "config.json").write_text(text)
    with pytest.raises(RunError, match=r"config\.json .*; restore it, or start a new run"):
        _ = run.config


# -- metrics, events, skipped files -------------------------------------------------------------------


def test_each_line_of_the_metrics_is_there_at_once(tmp_path):
    run = Run.create(tmp_path, "x", {})
    metrics = run.open_metrics(0)
    path = run.folder / "metrics.jsonl"
    assert path.read_text() == ""
    metrics.write({"step": 1, "loss": 0.1})
    assert path.read_text() == '{"step": 1, "loss": 0.1}\n'
    metrics.write({"step": 2, "loss": 1e-9})
    assert run.metrics() == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 1e-9}]
    metrics.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no file that is always full")
def test_metrics_that_cannot_be_written_name_their_file():
    metrics = Metrics("/dev/full")
    for call in (lambda: metrics.write({"step": 1}), metrics.sync, metrics.close):
        with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
            call()


@pytest.mark.parametrize("steps", [0, 2, 4, 9])
@pytest.mark.parametrize("tail", ["", '{"step": 5, "lo', "{"])
def test_metrics_are_cut_back_to_the_step_of_the_checkpoint(tmp_path, steps, tail):
    run = Run.create(tmp_path, "x", {})
    path = run.folder / "metrics.jsonl"
    path.write_text("".join(f'{{"step": {i}, "loss": {i / 3}}}\n' for i in range(1, 5)) + tail)
    metrics = run.open_metrics(steps)
    metrics.write({"step": steps + 1, "loss": 0.5})
    metrics.close()
    lines = path.read_text().splitlines()
    kept = [{"step": i, "loss": i / 3} for i in range(1, min(steps, 4) + 1)]
    assert [json.loads(line) for line in lines] == [*kept, {"step": steps + 1, "loss": 0.5}]


HOLES = [
    b"\0" * 40 + b"\n",
    b"\xff\xfe\n",
    b"[1]\n",
    b"3\n",
    b'{"event": "start"}\n',
    b"{" * 9999 + b"\n",
]


@pytest.mark.parametrize("hole", HOLES, ids=range(len(HOLES)))
def test_metrics_end_before_what_a_power_cut_has_left(tmp_path, hole):
    run = Run.create(tmp_path, "x", {})
    path = run.folder / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + hole + b'{"step": 4}\n')
    assert run.metrics() == [{"step": 1}, {"step": 2}]
    run.open_metrics(3).close()
    assert path.read_bytes() == b'{"step": 1}\n{"step": 2}\n'


def test_a_run_without_metrics_has_none(tmp_path):
    assert Run.create(tmp_path, "x", {}).metrics() == []


def test_events_are_lines_with_a_time(tmp_path):
    run = Run.create(tmp_path, "x", {})
    run.event("start", images=3)
    run.event("done", step=9)
    lines = [json.loads(s) for s in (run.folder / "events.jsonl").read_text().splitlines()]
    times = [line.pop("time") for line in lines]
    assert lines == [{"event": "start", "images": 3}, {"event": "done", "step": 9}]
    assert all(time[4] == "-" and time[10] == "T" for time in times)


@pytest.mark.parametrize("cut", [1, 20, 40])
def test_an_event_takes_the_place_of_one_that_was_cut_short(tmp_path, cut):
    run = Run.create(tmp_path, "x", {})
    path = run.folder / "events.jsonl"
    run.event("start", images=3)
    run.event("done", step=9)
    os.truncate(path, path.stat().st_size - cut)
    run.event("resume")
    lines = [json.loads(s) for s in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", "resume"]


def test_skipped_files_are_listed_with_their_reasons(tmp_path):
    run = Run.create(tmp_path, "x", {})
    run.write_skipped([("a.jpg", "empty file"), ("ä.jpg", "broken picture: Ω")])
    text = (run.folder / "skipped.txt").read_text(encoding="utf-8")
    assert text == "a.jpg\tempty file\nä.jpg\tbroken picture: Ω\n"
