"""The cache: decoded once, resumed after a kill, rebuilt when damaged, the same for any workers."""

import errno
import hashlib
import io
import json
import os
import subprocess
import sys
import threading

import celeba_factory as factory
import numpy as np
import pytest
from hostile import sentence

from minigan.data import cache, celeba, workers
from minigan.errors import UserError
from minigan.files import reason


def build(source, folder, workers=1):
    return cache.build(source, folder, workers, progress=False)


def refused(words, source, folder, workers=1):
    """The error of a build, which must match `words` and be one sentence with a remedy."""
    with pytest.raises(UserError, match=words) as caught:
        build(source, folder, workers)
    text = sentence(caught.value)
    assert ". " not in text
    return text


def squares(tmp_path, count=40, **options):
    return factory.Squares(count, str(tmp_path / "log"), **options)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(workers, "CHUNK", 8)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_images_come_back_in_order_without_the_unreadable(tmp_path):
    source = squares(tmp_path, bad=(0, 17, 39))
    images = build(source, tmp_path / "cache")
    kept = [i for i in range(40) if i not in source.bad]
    assert images.names == [f"{i:06d}" for i in kept]
    assert images.skipped == [(f"{i:06d}", f"bad number {i}") for i in source.bad]
    assert images.pixels.shape == (37, 4, 4, 3)
    np.testing.assert_array_equal(images.pixels[:, 0, 0, 0], kept)
    assert images.identity["squares"] == 40
    key = images.identity["key"]
    assert files(tmp_path / "cache") == [f"{key}.json", f"{key}.lock", f"{key}.npy"]


def test_the_array_is_a_read_only_memory_map_of_an_ordinary_npy_file(tmp_path):
    images = build(squares(tmp_path), tmp_path)
    assert isinstance(images.pixels, np.memmap)
    assert not images.pixels.flags.writeable
    with_numpy = np.load(tmp_path / f"{images.identity['key']}.npy", mmap_mode="r")
    np.testing.assert_array_equal(with_numpy, images.pixels)


def test_the_header_is_what_numpy_writes(tmp_path):
    for shape in [(1, 64, 64, 3), (202_599, 128, 128, 3)]:
        (tmp_path / "header").write_bytes(cache._npy_header(shape))
        with open(tmp_path / "header", "rb") as file:
            assert np.lib.format.read_magic(file) == (1, 0)
            header = np.lib.format.read_array_header_1_0(file)
            assert file.tell() == cache.HEADER
        assert header == (shape, False, np.uint8)


def test_the_digest_is_that_of_the_pixels(tmp_path):
    images = build(squares(tmp_path, bad=(3,)), tmp_path)
    assert images.digest == hashlib.sha256(images.pixels.tobytes()).hexdigest()
    assert build(squares(tmp_path, bad=(3,)), tmp_path).digest == images.digest


def test_a_second_build_decodes_nothing(tmp_path):
    source = squares(tmp_path, bad=(3,))
    first = build(source, tmp_path)
    second = build(source, tmp_path)
    assert source.loaded() == list(range(40))
    np.testing.assert_array_equal(first.pixels, second.pixels)
    assert second.skipped == first.skipped
    assert (second.names, second.identity) == (first.names, first.identity)


def test_another_identity_is_another_cache(tmp_path):
    small = build(squares(tmp_path, size=4), tmp_path)
    large = build(squares(tmp_path, size=8), tmp_path)
    assert small.identity["key"] != large.identity["key"]
    assert large.pixels.shape == (40, 8, 8, 3)
    assert build(squares(tmp_path, size=4), tmp_path).pixels.shape == (40, 4, 4, 3)


@pytest.mark.parametrize("as_zip", [False, True])
def test_the_bytes_do_not_depend_on_the_workers(tmp_path, as_zip):
    root = factory.make(tmp_path / "data", 60, as_zip)
    if not as_zip:
        (root / "000011.jpg").write_bytes(b"rubbish")
    source = celeba.open_source(root, 16)
    alone = build(source, tmp_path / "alone", workers=0)
    shared = build(source, tmp_path / "shared", workers=2)
    np.testing.assert_array_equal(alone.pixels, shared.pixels)
    assert (alone.names, alone.skipped) == (shared.names, shared.skipped)
    assert len(alone.skipped) == (0 if as_zip else 1)


# Interrupted builds

KILLED = """
import sys
from celeba_factory import Squares
from minigan.data import cache, workers
workers.CHUNK = 8
cache.build(Squares(40, sys.argv[1], bad=(2, 30), fatal=21), sys.argv[2], progress=False)
"""


def with_factory():
    """The environment for a script that imports celeba_factory."""
    folders = [os.path.dirname(factory.__file__), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, folders))}


def flip(path):
    """Flip one bit of the last pixel, as a faulty disk may."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def kill_a_build(tmp_path):
    """Decode images 0 to 20 in another process, which is killed at 21, in the third chunk of eight."""
    command = [sys.executable, "-c", KILLED, str(tmp_path / "log"), str(tmp_path / "cache")]
    assert subprocess.run(command, env=with_factory()).returncode != 0
    (tmp_path / "log.survive").touch()
    source = squares(tmp_path, bad=(2, 30), fatal=21)
    assert source.loaded() == list(range(21))
    (tmp_path / "log").unlink()
    return source


ORPHANED = """
import os, sys
from celeba_factory import Squares
from minigan.data import cache, workers
if __name__ == "__main__":
    cache._write_json = lambda *arguments: os.kill(os.getpid(), 9)
    cache.build(Squares(2000, sys.argv[1]), sys.argv[2], workers=2, progress=False)
"""


def test_workers_end_with_a_killed_parent(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ORPHANED)
    command = [sys.executable, script, tmp_path / "log", tmp_path / "cache"]
    # returns when the last process that holds the captured output has ended
    done = subprocess.run(command, env=with_factory(), capture_output=True, timeout=60)
    assert done.returncode != 0


def test_a_killed_build_leaves_no_cache_and_goes_on_where_it_stopped(tmp_path):
    source = kill_a_build(tmp_path)
    assert not list((tmp_path / "cache").glob("*.npy"))
    resumed = build(source, tmp_path / "cache")
    assert source.loaded() == list(range(16, 40))  # two chunks were finished
    clean = build(source, tmp_path / "clean")
    name = clean.identity["key"]
    for suffix in (".npy", ".json"):
        written = (tmp_path / "cache" / f"{name}{suffix}").read_bytes()
        assert written == (tmp_path / "clean" / f"{name}{suffix}").read_bytes()
    assert resumed.skipped == [("000002", "bad number 2"), ("000030", "bad number 30")]
    assert len(files(tmp_path / "cache")) == 3


@pytest.mark.parametrize("fault", ["short", "journal", "no journal", "no pixels", "bit", "tail"])
def test_a_partial_file_that_does_not_fit_its_journal_is_started_anew(tmp_path, fault):
    source = kill_a_build(tmp_path)
    (partial,) = (tmp_path / "cache").glob("*.partial")
    (journal,) = (tmp_path / "cache").glob("*.partial.json")
    if fault == "short":
        os.truncate(partial, partial.stat().st_size - 1)
    elif fault == "journal":
        journal.write_text(journal.read_text()[:-2])
    elif fault == "no journal":
        journal.unlink()
    elif fault == "no pixels":
        partial.unlink()
    elif fault == "bit":
        flip(partial)
    elif fault == "tail":  # the tail of a partly written chunk is dropped
        partial.write_bytes(partial.read_bytes() + b"x" * 5000)
    images = build(source, tmp_path / "cache")
    assert source.loaded() == list(range(16 if fault == "tail" else 0, 40))
    np.testing.assert_array_equal(
        images.pixels[:, 1, 1, 1], [i for i in range(40) if i not in (2, 30)]
    )


def test_a_worker_that_dies_is_an_error_and_not_a_wait(tmp_path):
    source = squares(tmp_path, fatal=20)
    refused("a worker process died while .*npy was being built", source, tmp_path / "cache", 2)
    (tmp_path / "log.survive").touch()
    np.testing.assert_array_equal(
        build(source, tmp_path / "cache").pixels[:, 0, 0, 0], np.arange(40)
    )


BUILD = """
import sys
from celeba_factory import Squares
from minigan.data import cache, workers
workers.CHUNK = 8
cache.build(Squares(40, sys.argv[1]), sys.argv[2], workers=2, progress=False)
"""


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("file", 'a script that lacks `if __name__ == "__main__":`; put that line before'),
        ("module", 'a script that lacks `if __name__ == "__main__":`; put that line before'),
        ("standard input", "<stdin> is not a file, so workers cannot import it; save it"),
        ("-c", None),  # a worker has nothing to import, so it does nothing twice
    ],
)
def test_a_script_that_its_workers_import_does_not_wait_for_itself(tmp_path, how, error):
    (tmp_path / "script.py").write_text(BUILD)
    words = {"file": ["script.py"], "module": ["-m", "script"], "standard input": ["-"]}
    command = [sys.executable, *words.get(how, ["-c", BUILD]), "log", "cache"]
    done = subprocess.run(
        command, cwd=tmp_path, env=with_factory(), timeout=60, capture_output=True, text=True,
        input=BUILD if how == "standard input" else "",
    )  # fmt: skip
    if error is None:
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert said[-1].startswith("minigan.errors.UserError: ")
    assert error in said[-1]
    assert "workers=1" in said[-1]
    assert sum(line.startswith("Traceback") for line in said) <= 2  # only from this process
    assert squares(tmp_path).loaded() == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_told_with_the_room_that_is_needed(tmp_path, monkeypatch, call):
    calls = iter(range(100))
    real = getattr(os, call)

    def full_at_last(*arguments):
        if next(calls) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)

    source = squares(tmp_path)
    monkeypatch.setattr(cache.os, call, full_at_last)
    said = refused("No space left on device", source, tmp_path / "cache")
    assert str(tmp_path / "cache") in said
    assert f"{128 + 40 * 48:,} bytes" in said
    assert not list((tmp_path / "cache").glob("*.npy"))
    (tmp_path / "log").unlink()
    images = build(source, tmp_path / "cache")
    assert source.loaded()[0] > 0  # images written before are kept
    np.testing.assert_array_equal(images.pixels[:, 0, 0, 0], np.arange(40))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):
        refused(f"^{tmp_path / 'file'} is not a folder; move it away", squares(tmp_path), folder)


def test_one_builds_while_others_wait(tmp_path):
    """The first build ends only after the second has begun; the second must find the finished cache."""
    waiting = threading.Event()

    class First(factory.Squares):
        def load(self, i):
            if i == 0:
                second_thread.start()
            assert waiting.wait(timeout=30)
            return super().load(i)

    class Second(factory.Squares):
        def identity(self):
            waiting.set()
            return super().identity()

    log = str(tmp_path / "log")
    results = []
    second_thread = threading.Thread(
        target=lambda: results.append(build(Second(40, log), tmp_path / "cache"))
    )
    results.append(build(First(40, log), tmp_path / "cache"))
    second_thread.join(timeout=30)
    assert First(40, log).loaded() == list(range(40))
    for images in results:
        np.testing.assert_array_equal(images.pixels[:, 0, 0, 0], np.arange(40))


# Damaged caches


@pytest.mark.parametrize(
    "fault", ["short", "long", "header", "bit", "no pixels", "json", "list", "other", "no digest"]
)
def test_a_damaged_or_foreign_cache_is_built_anew(tmp_path, fault):
    source = squares(tmp_path)
    key = build(source, tmp_path).identity["key"]
    npy, text = tmp_path / f"{key}.npy", tmp_path / f"{key}.json"
    data = npy.read_bytes()
    if fault == "short":
        npy.write_bytes(data[:-1])
    elif fault == "long":
        npy.write_bytes(data + b"x")
    elif fault == "header":
        npy.write_bytes(bytes(128) + data[128:])
    elif fault == "bit":
        flip(npy)
    elif fault == "no pixels":
        npy.unlink()
    elif fault == "json":
        text.write_text(text.read_text()[:-1])
    elif fault == "list":
        text.write_text("[]")
    elif fault == "other":
        text.write_text(json.dumps({**json.loads(text.read_text()), "identity": {}}))
    elif fault == "no digest":  # as in caches of earlier releases
        text.write_text(text.read_text().replace('"digest"', '"other"'))
    images = build(source, tmp_path)
    assert source.loaded() == [*range(40), *range(40)]
    np.testing.assert_array_equal(images.pixels[:, 0, 0, 0], np.arange(40))


def test_nothing_usable_is_an_error_with_three_reasons(tmp_path):
    source = squares(tmp_path, count=20, bad=tuple(range(20)))
    said = refused("none of the 20 images", source, tmp_path / "cache")
    assert "000000: bad number 0, 000001: bad number 1, 000002: bad number 2)" in said
    assert [name[-5:] for name in files(tmp_path / "cache")] == [".lock"]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOLCK, "No locks available"), PermissionError(13, "No")]
)
def test_a_lock_that_cannot_be_had_is_named(tmp_path, monkeypatch, error):
    def refuse(*arguments, **options):
        raise error

    monkeypatch.setattr(cache, "hold", refuse)
    refused(r"\.lock: No.*; .*, or wait if another", squares(tmp_path), tmp_path / "cache")


def test_a_cache_that_another_program_spoils_during_the_build_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_open", lambda *arguments: None)
    refused(r"\.npy was changed while it was being built; run", squares(tmp_path), tmp_path)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_progress_of_a_build_is_one_line_that_counts_the_images(tmp_path, monkeypatch):
    source = kill_a_build(tmp_path)  # 16 of 40 images are done
    monkeypatch.setattr(sys, "stderr", Terminal())
    cache.build(source, tmp_path / "cache")
    said = sys.stderr.getvalue()
    lines = [line for line in said.replace("\n", "\r").split("\r") if line.strip()]
    assert all(line.startswith("preparing the images: ") for line in lines)
    assert " 16/40 " in lines[0]
    assert " 40/40 " in lines[-1]
    assert said.count("\n") == 1
    monkeypatch.setattr(sys, "stderr", Terminal())
    cache.build(source, tmp_path / "cache")
    assert sys.stderr.getvalue() == ""  # nothing to decode, and the digest takes less than a second


@pytest.mark.parametrize(("progress", "stream"), [(False, Terminal), (True, io.StringIO)])
def test_no_progress_is_shown_where_nobody_looks(tmp_path, monkeypatch, progress, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    cache.build(squares(tmp_path), tmp_path / "cache", progress=progress)
    assert sys.stderr.getvalue() == ""


def test_other_errors_of_a_source_are_not_hidden(tmp_path):
    class Faulty(factory.Squares):
        def load(self, i):
            raise UserError("the disk is gone")

    with pytest.raises(UserError, match="the disk is gone"):
        build(Faulty(3, str(tmp_path / "log")), tmp_path / "cache")


def test_what_maps_the_pixels_is_imported_before_the_files_run_out():
    """np.memmap imports mmap only when it is first called."""
    script = "import sys; from minigan.data import cache; assert 'mmap' in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_damaged_name_or_reason_is_noticed(tmp_path):
    source = factory.Squares(4, str(tmp_path / "log"))
    images = cache.build(source, tmp_path, progress=False)
    path = tmp_path / f"{images.identity['key']}.json"
    whole = path.read_text()
    for key, value in (("names", ["x", *images.names[1:]]), ("skipped", [["a", "b"]])):
        path.write_text(json.dumps({**json.loads(whole), key: value}))
        again = cache.build(source, tmp_path, progress=False)
        assert (again.names, again.skipped) == (images.names, images.skipped)


def test_a_folder_in_the_place_of_the_cache_is_named(tmp_path):
    source = factory.Squares(4, str(tmp_path / "log"))
    key = cache.build(source, tmp_path, progress=False).identity["key"]
    (tmp_path / f"{key}.npy").unlink()
    (tmp_path / f"{key}.npy").mkdir()
    refused(rf"{key}.npy: Is a directory; move it away", source, tmp_path)


def test_workers_that_cannot_be_started_are_named(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(workers, "ProcessPoolExecutor", refuse)
    words = r"^2 worker processes cannot .*, or run with --workers 1$"
    refused(words, factory.Squares(4, str(tmp_path / "log")), tmp_path, 2)


def test_what_cannot_be_read_is_to_be_made_readable(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert reason(PermissionError(errno.EACCES, "no", str(path))) == "no; make it readable"
    assert reason(PermissionError(errno.EACCES, "no", "new")) == "no; make it writable"
