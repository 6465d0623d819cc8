"""Checkpoints: plain safetensors, either whole or absent, and never accepted if damaged."""

import ast
import json
import os
import shutil

import hostile
import numpy as np
import pytest
import tiny
from safetensors import safe_open
from safetensors.numpy import save

from minigan.training import checkpoint
from minigan.training.checkpoint import CheckpointError
from minigan.training.loop import Loop
from minigan.training.run import Run, write_config

rng = np.random.default_rng


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.hurry(monkeypatch)


def write(path, seed=0, **table):
    """A checkpoint of two arrays and this table, and the expected result of reading it."""
    arrays = {"net.w": rng(seed).standard_normal((3, 5)).astype("f"), "net.n": np.array(seed)}
    checkpoint.write_file(path, arrays, table)
    return contents(arrays, table)


def contents(arrays, table):
    return {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}, table


# -- the file -----------------------------------------------------------------------------------------


def test_what_was_written_comes_back(tmp_path):
    table = {"numbers": {"step": 3}, "deep": {"list": [1, 2.5, None], "big": 2**100}}
    expected = write(tmp_path / "c", **table)
    assert contents(*checkpoint.read_file(tmp_path / "c")) == expected
    assert checkpoint.read_table(tmp_path / "c") == table
    assert checkpoint.read_forms(tmp_path / "c") == {
        "net.w": (np.dtype("f"), (3, 5)),
        "net.n": (np.dtype("i8"), ()),
    }


def test_the_file_is_safetensors_under_the_documented_names():
    run = tiny.train("out", "--steps", 2)
    (path,) = checkpoint.newest_first(run.checkpoints)
    assert path.name == "step-00000002.safetensors"
    norm = [f"main.1.{n}" for n in ("weight", "bias", "running_mean", "running_var")]
    with safe_open(path, framework="numpy") as file:
        names, metadata = set(file.keys()), file.metadata()
        assert file.get_tensor("players.G.net.main.0.weight").shape == (8, 8, 4, 4)
        assert file.get_tensor("players.G.net.main.1.num_batches_tracked") == 4  # two steps of two
    assert {"players.D.net.main.0.weight", *(f"players.G.net.{n}" for n in norm)} <= names
    nets = {n for n in names if n.startswith("players.G.net.")}
    averages = {n for n in names if n.startswith("players.G.average.")}
    assert averages == {n.replace(".net.", ".average.") for n in nets}
    # G has three convolutions and two batch norms, D three and one
    parameters = {"G": 3 + 2 * 2, "D": 3 + 2}
    assert {n for n in names if ".optimizer." in n} == {
        f"players.{player}.optimizer.{i}.{entry}"
        for player, count in parameters.items()
        for i in range(count)
        for entry in ("exp_avg", "exp_avg_sq")
    }
    kind, digest, text = metadata.pop("minigan").split("\n")
    assert (kind, len(digest), metadata) == ("minigan checkpoint 3", 64, {})
    table = json.loads(text)
    assert set(table) == {"game", "numbers"}
    assert set(table["game"]) == {"member", "options", "data"}
    assert table["game"]["options"]["ngf"] == 4
    counts = {"draw.step": 2, "draw.batches": 2, "draw.again": 0}
    steps = {f"players.{p}.optimizer.{i}.step": 2 for p, n in parameters.items() for i in range(n)}
    assert table["numbers"] == {**counts, **steps}


def test_nothing_in_the_package_or_the_examples_can_unpickle():
    for path in [*tiny.ROOT.glob("minigan/**/*.py"), *tiny.EXAMPLES.glob("*.py")]:
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                assert not {a.name.split(".")[0] for a in node.names} & UNPICKLERS, path
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in UNPICKLERS, path
        assert "allow_pickle" not in source, path


UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib"}


# -- whole or not at all ------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    old = write(tmp_path / "c")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        for name in ("c", "new"):
            with pytest.raises(OSError, match="No space left"):
                write(tmp_path / name, seed=1)
    assert os.listdir(tmp_path) == ["c"]
    assert contents(*checkpoint.read_file(tmp_path / "c")) == old


def test_the_bytes_are_on_the_disk_before_the_file_has_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, real=real: calls.append(name) or real(*a)
        )
    write(tmp_path / "c")
    assert calls == ["fsync", "replace", "fsync"]  # the last one makes the name durable


# -- damage -------------------------------------------------------------------------------------------


def test_any_flipped_bit_is_noticed(tmp_path):
    write(tmp_path / "c")
    data = (tmp_path / "c").read_bytes()
    bits = rng(0).integers(0, 8, len(data))
    with open(tmp_path / "c", "r+b", buffering=0) as file:
        for i, bit in enumerate(bits.tolist()):
            file.seek(i)
            file.write(bytes([data[i] ^ 1 << bit]))
            with pytest.raises(CheckpointError):
                checkpoint.read_file(tmp_path / "c")
            file.seek(i)
            file.write(data[i : i + 1])
    checkpoint.read_file(tmp_path / "c")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("y", lambda x: x),
        ("x", lambda x: x.reshape(3, 2)),
        ("x", lambda x: x.view("i4")),
    ],
)
def test_another_name_shape_or_type_of_the_same_bytes_is_noticed(tmp_path, name, change):
    x = np.arange(6, dtype="f").reshape(2, 3)
    (tmp_path / "c").write_bytes(hostile.signed("{}", {"x": x}))
    np.testing.assert_array_equal(checkpoint.read_file(tmp_path / "c")[0]["x"], x)
    with safe_open(tmp_path / "c", "numpy") as file:
        metadata = file.metadata()
    (tmp_path / "c").write_bytes(save({name: change(x)}, metadata))
    with pytest.raises(CheckpointError, match="its contents do not match its checksum"):
        checkpoint.read_file(tmp_path / "c")


def test_a_file_cut_anywhere_is_noticed(tmp_path):
    write(tmp_path / "c")
    for length in range((tmp_path / "c").stat().st_size - 1, -1, -7):
        os.truncate(tmp_path / "c", length)
        with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
            checkpoint.read_file(tmp_path / "c")


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        (None, "none"),
        ({}, "none"),
        ({"minigan": "minigan checkpoint 4\nof tomorrow"}, "minigan checkpoint 4"),
    ],
)
def test_another_format_is_refused(tmp_path, metadata, found):
    (tmp_path / "c").write_bytes(save({"x": np.zeros(3, "f")}, metadata))
    said = f"its format is '{found}', but this version reads 'minigan checkpoint 3'; use another"
    for read in (checkpoint.read_file, checkpoint.read_table):
        with pytest.raises(CheckpointError, match=said):
            read(tmp_path / "c")


EARLIER = {
    "minigan checkpoint 1": {"format": "minigan checkpoint 1", "sha256": "0" * 64, "state": "{}"},
    "minigan checkpoint 2": {"minigan": "minigan checkpoint 2\n" + "0" * 64 + '\n{"step": 3}'},
}


@pytest.mark.parametrize("name", EARLIER)
def test_an_earlier_format_is_refused_by_name_with_the_remedy(tmp_path, name):
    (tmp_path / "c").write_bytes(save({"G.main.0.weight": np.zeros(3, "f")}, EARLIER[name]))
    said = f"{tmp_path / 'c'}: its format is {name!r}, of minigan 0.1, but this version reads 'minigan "
    said += "checkpoint 3'; start a new run, or continue with minigan 0.1"
    for read in (checkpoint.read_file, checkpoint.read_table):
        with pytest.raises(CheckpointError) as caught:
            read(tmp_path / "c")
        assert str(caught.value) == said


@pytest.mark.parametrize("what", ["nothing", "folder", "text"])
def test_what_is_no_checkpoint_is_refused_with_its_path(tmp_path, what):
    if what == "folder":
        (tmp_path / "c").mkdir()
    elif what == "text":
        (tmp_path / "c").write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="c cannot be read as a checkpoint"):
        checkpoint.read_file(tmp_path / "c")


# -- in a run -----------------------------------------------------------------------------------------


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the file ends with weights, where safetensors notices nothing
    path.write_bytes(data)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [flip_a_bit, cut, empty])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(damage, capsys):
    flags = ["--checkpoint-every", 2]
    straight = tiny.train("straight", "--steps", 8, *flags)
    run = tiny.train("out", "--steps", 6, *flags)
    path = checkpoint.path_of(run.checkpoints, 6)
    damage(path)
    tiny.train("out", "--steps", 8, "--resume", "auto")
    assert f"skipped: {path}" in capsys.readouterr().out
    (resume,) = [e for e in tiny.events(run) if e["event"] == "resume"]
    assert resume["step"] == 4
    (skipped,) = resume["skipped"]
    assert str(path) in skipped
    assert tiny.newest(run) == tiny.newest(straight)
    assert tiny.metrics(run) == tiny.metrics(straight)
    assert tiny.saved(run) == [4, 6, 8]


def test_without_any_readable_checkpoint_each_is_named(capsys):
    run = tiny.train("out", "--steps", 6, "--checkpoint-every", 2)
    before = (run.folder / "metrics.jsonl").read_bytes()
    paths = checkpoint.newest_first(run.checkpoints)
    for path, damage in zip(paths, (flip_a_bit, cut, empty), strict=True):
        damage(path)
    tiny.train("out", "--steps", 8, "--resume", "auto", code=1)
    (error,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error:")]
    assert all(str(path) in error for path in paths)
    assert (run.folder / "metrics.jsonl").read_bytes() == before


def test_a_damaged_checkpoint_never_crowds_out_a_good_one(monkeypatch):
    run = tiny.train("out", "--steps", 6, "--checkpoint-every", 2)
    for step in (4, 6):
        cut(checkpoint.path_of(run.checkpoints, step))
    save, readable = Loop.save, []

    def save_and_look(loop):
        assert save(loop)
        newest = checkpoint.path_of(loop.run.checkpoints, loop.draw.step)
        readable.append(checkpoint.read_file(newest)[1]["numbers"]["draw.step"])
        return True

    monkeypatch.setattr(Loop, "save", save_and_look)
    tiny.train("out", "--steps", 8, "--keep", 1, "--resume", "auto")
    assert readable == [4, 6, 8]
    assert tiny.saved(run) == [8]


def test_only_the_newest_are_kept():
    flags = ["--checkpoint-every", 1, "--steps"]
    assert tiny.saved(tiny.train("one", *flags, 4, "--keep", 1)) == [4]
    assert tiny.saved(tiny.train("two", *flags, 5, "--keep", 2)) == [4, 5]
    assert tiny.saved(tiny.train("all", *flags, 3, "--keep", 9)) == [1, 2, 3]


@pytest.mark.parametrize("flags", [["--checkpoint-every", 3], ["--keep", 1], ["--steps", 9]])
def test_where_nothing_is_trained_no_checkpoint_is_dropped(flags):
    run = tiny.train("out", "--steps", 10, "--checkpoint-every", 4)
    assert tiny.saved(run) == [4, 8, 10]
    tiny.train("out", "--resume", "auto", *flags)
    assert tiny.saved(run) == [4, 8, 10]


def test_the_last_step_is_saved_once(monkeypatch):
    save, steps = Loop.save, []
    monkeypatch.setattr(Loop, "save", lambda loop: steps.append(loop.draw.step) or save(loop))
    tiny.train("out", "--steps", 5, "--checkpoint-every", 2)
    tiny.train("out", "--steps", 6, "--checkpoint-every", 2, "--resume", "auto")
    assert steps == [2, 4, 5, 6]


def test_a_checkpoint_of_another_run_is_passed_over_and_each_difference_named(capsys):
    run = tiny.train("out", "--steps", 4, "--checkpoint-every", 2)
    other = tiny.train("other", "--steps", 6, "--seed", 5, "--lr", 0.1)
    foreign = checkpoint.path_of(run.checkpoints, 6)
    shutil.copy(checkpoint.path_of(other.checkpoints, 6), foreign)
    tiny.train("out", "--resume", "auto", "--steps", 5)
    (resume,) = [e for e in tiny.events(run) if e["event"] == "resume"]
    assert resume["step"] == 4
    assert resume["skipped"] == [
        f"{foreign} does not fit: it was written with other options: --lr 0.1 -> 0.0005, "
        "--seed 5 -> 999; restore config.json, or use another checkpoint"
    ]


@pytest.mark.parametrize(
    ("table", "option"),
    [
        ("options", {"lr": 1.0}),
        ("options", {"ema": 0.5}),
        ("options", {"nz": 10_000, "ngf": 1024, "ndf": 1024}),  # 3 GB of weights
        ("data", {"flip": True}),
        ("options", {"loss": "minimax"}),
    ],
)
def test_an_option_of_the_game_is_not_changed_by_way_of_config_json(table, option, capsys):
    run = tiny.train("out", "--steps", 2)
    config = run.config
    config[table].update(option)
    write_config(run.folder, config)
    before = {p: p.read_bytes() for p in run.folder.rglob("*") if p.is_file()}
    assert tiny.train_celeba.main(["--resume", "auto", "--out", "out", "--steps", "5"]) == 1
    (error,) = capsys.readouterr().err.splitlines()[-1:]
    assert f"it was written with other options: --{next(iter(option))} " in error
    assert error.startswith(f"error: {run.folder} has no checkpoint to resume from; ")
    assert before == {p: p.read_bytes() for p in before}


def test_a_checkpoint_under_the_name_of_another_step_is_passed_over(capsys):
    run = tiny.train("out", "--steps", 4, "--checkpoint-every", 2)
    wrong = checkpoint.path_of(run.checkpoints, 9)
    shutil.copy(checkpoint.path_of(run.checkpoints, 2), wrong)
    tiny.train("out", "--resume", "auto", "--steps", 5)
    (resume,) = [e for e in tiny.events(run) if e["event"] == "resume"]
    assert resume["step"] == 4
    assert (
        f"{wrong}: its step is 2, not the one in its name; use another checkpoint"
        in resume["skipped"][0]
    )
    assert tiny.generate.main(["--run", str(wrong), "--n", "1", "--out", "g"]) == 1


def test_a_run_folder_can_be_moved_and_resumed(capsys):
    run = tiny.train("out", "--steps", 2)
    shutil.move(run.folder, "elsewhere")
    tiny.train("out", "--steps", 2)  # another run, which auto would find
    assert tiny.train_celeba.main(["--resume", "elsewhere", "--steps", "3"]) == 0
    moved = Run(tiny.Path("elsewhere"))
    assert tiny.saved(moved) == [3]
    assert [row["step"] for row in tiny.metrics(moved)] == [1, 2, 3]


def test_files_of_other_names_are_left_alone():
    run = tiny.train("out", "--steps", 2, "--checkpoint-every", 1, "--keep", 1)
    for name in ("step-best.safetensors", "step-00000001.safetensors.bak", "step-1.safetensors"):
        shutil.copy(checkpoint.path_of(run.checkpoints, 2), run.checkpoints / name)
    tiny.train("out", "--steps", 4, "--resume", "auto")
    assert tiny.saved(run) == [4]
    assert len(list(run.checkpoints.iterdir())) == 4
