"""Evaluation while a run trains: what it records, what it keeps, and that it changes nothing."""

import json
import math
import shutil

import pytest
import test_members
import tiny

from minigan.commands import main
from minigan.evaluation import table
from minigan.gans import MEMBERS
from minigan.training import scoring
from minigan.training.game import Game
from minigan.training.looks import drawn
from minigan.training.pictures import save_curves
from minigan.training.plan import choose
from minigan.training.run import Run
from minigan.training.scoring import Scoring, best

RUNS = [("dcgan", "ring"), ("conditional", "digits"), ("cyclegan", "seasons")]
EVERY = ["--steps", 6, "--checkpoint-every", 2, "--evaluate-every", 2]


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    tiny.hurry(monkeypatch)
    monkeypatch.setattr(scoring, "COUNT", 10)


def train(folder, member, data, *flags, code=0):
    return test_members.train(folder, member, data, *map(str, flags), code=code)


def lines(run):
    return [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]


def saved(run):
    return sorted(path.name for path in run.checkpoints.iterdir())


@pytest.mark.parametrize(("member", "data"), RUNS)
def test_evaluations_change_no_byte_and_a_resumed_run_has_the_same(member, data, tmp_path):
    plain = train(tmp_path / "plain", member, data, *EVERY[:4])
    run = train(tmp_path / "evaluated", member, data, *EVERY, "--keep", 3)
    last = "step-00000006.safetensors"
    assert (run.checkpoints / last).read_bytes() == (plain.checkpoints / last).read_bytes()
    with_them = [line["step"] for line in lines(run) if any(" " in name for name in line)]
    assert with_them == [2, 4, 6]
    parts = Run(shutil.copytree(run.folder, tmp_path / "parts"))
    (parts.checkpoints / last).unlink()  # as after a kill following step 4
    assert main(["resume", str(parts.folder)]) == 0
    assert [without_speed(line) for line in lines(parts)] == [
        without_speed(line) for line in lines(run)
    ]


def without_speed(line):
    return {name: value for name, value in line.items() if name != "images_per_second"}


def test_they_are_what_minigan_evaluate_measures(tmp_path):
    run = train(tmp_path, "dcgan", "faces", *EVERY, "--ema", 0.5)
    wanted = scoring.names(Game.read(run.config, "config.json"))
    assert wanted == ["frechet_faces", "precision_recall_faces", "attributes"]
    words = ["evaluate", str(run.folder), "--device", "cpu", "--n", "10"]
    assert main([*words, "--metrics", ",".join(wanted)]) == 0
    found = json.loads((run.folder / "evaluation.json").read_text())["metrics"]
    for name, entry in found.items():
        for key, value in entry["values"].items():
            assert lines(run)[-1][f"{name} {key}"] == pytest.approx(value, rel=1e-12)
    (event,) = [e for e in tiny.events(run) if e["event"] == "evaluation"]
    assert event["protocols"] == {name: entry["protocol"] for name, entry in found.items()}


def test_the_best_checkpoint_outlives_newer_ones(tmp_path, monkeypatch, capsys):
    distances = iter([3.0, 1.0, 4.0, 1.0, 2.0])
    monkeypatch.setattr(Scoring, "measure", lambda self: {"earth_mover distance": next(distances)})
    flags = ["--steps", 10, "--checkpoint-every", 2, "--evaluate-every", 2, "--keep", 2]
    run = train(tmp_path, "dcgan", "ring", *flags)
    assert saved(run) == [f"step-{step:08d}.safetensors" for step in (4, 8, 10)]
    assert tiny.events(run)[-1]["best"] == 4
    assert f"  the best so far:   {run.checkpoints / saved(run)[0]}\n" in capsys.readouterr().out
    again = ["resume", str(run.folder)]
    assert main(again) == 0  # it is complete, and nothing is deleted
    assert len(saved(run)) == 3


def test_without_evaluations_there_is_no_best_one(tmp_path, capsys):
    run = train(tmp_path, "dcgan", "ring", "--steps", 2)
    assert "the best so far" not in capsys.readouterr().out
    assert not any(" " in name for line in lines(run) for name in line)


@pytest.mark.parametrize(
    ("values", "step"),
    [([2.0, 1.0, 1.0], 2), ([math.nan, 3.0, math.inf], 2), ([math.nan], None), ([], None)],
)
def test_the_first_of_the_lowest_distances_is_the_best(values, step):
    found = [{"step": 1.0 + i, "d": value} for i, value in enumerate(values)]
    assert best([*found, {"step": 99.0}], "d") == step


def test_evaluations_have_a_figure_of_their_own(tmp_path):
    save_curves(tmp_path, [{"step": step, "frechet_faces distance": 1.0} for step in (2, 4)])
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.png"]


@pytest.mark.parametrize("member", MEMBERS)
def test_each_member_has_a_distance_that_decides(member):
    plan = choose(member, {})
    assert "distance" in scoring.deciding(plan.game)
    assert set(scoring.names(plan.game)) <= set(table.METRICS)


def test_samples_that_are_not_finite_stop_the_run(tmp_path, monkeypatch, capsys):
    def not_finite(member, path, raw, device, z, y):
        return drawn(lambda z: z * math.nan, path, device, [z], member.shape)

    monkeypatch.setattr(scoring, "draw_samples", not_finite)
    train(tmp_path, "dcgan", "ring", *EVERY, code=1)
    assert "step 2: earth_mover distance is nan; the last good" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--evaluate-every", 3],
            "3: checkpoints are evaluated, so it must be a multiple of --check",
        ),
        (["--evaluate-every", 0], "--evaluate-every 0: must be at least 1"),
        (
            ["--evaluate-every", 2, "--max-images", 6],
            "needs 8 samples of the data, and faces16 has 6",
        ),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_the_run(flags, words, tmp_path, capsys):
    code = tiny.start(tmp_path, "dcgan", "faces", "--checkpoint-every", 2, "--steps", 2, *flags)
    assert code == 1
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("0*"))
