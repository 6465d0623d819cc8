"""The exercises: stubs fail, solutions pass, and each wrong answer gets the hint meant for it."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import minigan
import minigan.functional as F
from minigan import nn
from minigan.commands import main
from minigan.evaluation import metrics, transport
from minigan.exercises import process
from minigan.exercises.judge import Verdict, check_file, judge
from minigan.exercises.ladder import LADDER, PAGES, game_on_the_ring
from minigan.gans.penalties import slope_penalty
from minigan.gans.unrolled import unrolled

ROOT = Path(__file__).parent.parent
DOCS = (ROOT / "docs/exercises.md").read_text("utf-8")
EXERCISES = list(LADDER.values())
WRONG = [(e, hint, f) for e in EXERCISES for hint, f in e.wrong_answers.items()]

every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.name)


@pytest.fixture(autouse=True)
def somewhere_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def in_this_process(monkeypatch):
    """Check files here, because starting Python takes most of a second."""
    monkeypatch.setattr(process, "check", check_file)


def checked(exercise, text):
    path = Path("answer.py")
    path.write_text(text, "utf-8")
    return check_file(exercise, path)


# -- every page --------------------------------------------------------------------------------------


@every_exercise
def test_the_stub_fails_and_has_nothing_of_the_solution(exercise):
    stub = exercise.stub()
    verdict = checked(exercise, stub)
    assert verdict == Verdict(
        False, [], f"it is not written yet: write {exercise.function}", verdict.hint
    )
    assert verdict.hint == ""
    assert f"minigan learn check {exercise.name}" in stub
    body = exercise.solved().splitlines()[len(stub.splitlines()) - 1 :]
    assert body
    assert not [line for line in body if line.strip() and line in stub.splitlines()]


@every_exercise
def test_the_solution_passes(exercise):
    verdict = checked(exercise, exercise.solved())
    assert verdict == Verdict(True, verdict.checks)
    assert len(verdict.checks) >= 4


@pytest.mark.parametrize(
    ("exercise", "hint", "answer"), WRONG, ids=[f"{e.name}-{f.__name__}" for e, _, f in WRONG]
)
def test_a_typical_wrong_answer_gets_the_hint_meant_for_it(exercise, hint, answer):
    verdict = judge(exercise, answer)
    assert not verdict.passed
    assert verdict.hint == hint, verdict.message


@every_exercise
def test_a_solution_that_is_only_imported_is_recognised(exercise, monkeypatch):
    monkeypatch.setattr(game_on_the_ring, "STEPS", 1)
    monkeypatch.setattr(game_on_the_ring, "FOUND", 0)
    module = exercise.page.__name__
    verdict = checked(exercise, f"from {module} import {exercise.function}\n")
    assert not verdict.passed
    assert verdict.message == (
        f"all numbers are correct, but {module}.{exercise.function} computed them; write it yourself"
    )


@every_exercise
def test_a_page_has_its_parts(exercise):
    page = exercise.page
    assert len(exercise.wrong_answers) >= 4
    assert len(exercise.title) <= 70
    for text in (*exercise.wrong_answers, *exercise.hints):
        assert text.endswith((".", "?")), text
        assert "\n" not in text
    assert exercise.solution.__doc__
    assert isinstance(page.OFF_LIMITS, tuple)
    assert all(path.is_file() for path in exercise.pictures)
    assert all(line == line.rstrip() and len(line) <= 104 for line in exercise.stub().splitlines())


def test_the_documents_list_the_ladder():
    lessons = (ROOT / "docs/lessons.md").read_text("utf-8")
    table = lessons.partition("| exercises | chapter |")[2].partition("\n\n")[0]
    assert re.findall(r"`([a-z-]+)`", table) == list(LADDER)


def test_the_ladder_holds_every_page():
    folder = Path(PAGES[0].__file__).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {page.__name__.rpartition(".")[2] for page in PAGES} == files
    assert len(LADDER) == len(PAGES)


# -- the solutions beside the library ------------------------------------------------------------------


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def solution(name):
    return LADDER[name].solution


def test_the_solutions_agree_with_the_library():
    """To 1e-12 of numbers of about 1: both are float64, and their sums have at most 20 terms."""
    same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)

    g, w = random(3, 4), random(2, 3)
    image = F.conv_transpose2d(
        minigan.tensor(g[None, None]), minigan.tensor(w[None, None]), stride=2
    )
    same(solution("conv-adjoint")(g, w, (6, 9), 2), image.numpy()[0, 0])

    x = minigan.tensor(random(6, 3), requires_grad=True)
    g = random(3, 6).T
    (F.batch_norm(x, None, None, training=True, eps=0.1) * minigan.tensor(g)).sum().backward()
    same(solution("batch-norm-rule")(g, x.numpy(), 0.1), x.grad.numpy())

    x, t = 5 * random(9), random(9) > 0
    loss = F.binary_cross_entropy_with_logits(
        minigan.tensor(x), minigan.tensor(t.astype(float)), reduction="none"
    )
    same(solution("stable-loss")(x, t), loss.numpy())

    a, b = random(8), 2 * random(9)[1:]
    same(solution("earth-mover")(a, b), transport.earth_mover(a[:, None], b[:, None]))

    D = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).double()
    x, fakes, u = (minigan.tensor(a) for a in (random(5, 3), random(3, 5).T, random(5, 1) ** 2))
    between = u * x + (1 - u) * fakes
    penalty = solution("gradient-penalty")(D, x, fakes, u)
    # the library adds 1e-12 under the root
    np.testing.assert_allclose(
        penalty.numpy(), slope_penalty(D, between, 1.0).numpy(), rtol=0, atol=1e-10
    )

    layer = nn.utils.spectral_norm(nn.Linear(4, 3).double())
    W, u = minigan.tensor(layer.weight_orig.numpy()), minigan.tensor(layer.weight_u.numpy())
    layer(minigan.tensor(random(1, 4)))
    normal, new = solution("spectral-norm")(W, u)
    same(normal.numpy(), layer.weight.numpy())
    same(new.numpy(), layer.weight_u.numpy())

    w = minigan.tensor(random(4), requires_grad=True)
    f = minigan.tensor(random(5)[1:], requires_grad=True)
    loss_D, loss_G = (lambda w: (f * w + w**3).sum()), (lambda w: (f * w).sum())
    sgd = lambda weights, slopes: [w - 0.1 * g for w, g in zip(weights, slopes, strict=True)]
    (ahead,) = unrolled(lambda weights: loss_D(*weights), [w], sgd, 3)
    for loss in (solution("unrolled-step")(loss_D, loss_G, w, 0.1, 3), loss_G(ahead)):
        same(loss.numpy(), loss_G(ahead).numpy())
        (found,) = minigan.grad(loss, f, retain_graph=True)
        same(found.numpy(), minigan.grad(loss_G(ahead), f, retain_graph=True)[0].numpy())

    a, b = random(9, 3), 1 + 2 * random(3, 9).T
    same(solution("frechet-distance")(a, b), metrics.frechet_distance(a, b))


# -- what the learner is told --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("pass", ": unbroadcast gives None; does it lack a return?"),
        ("return 'x'", ": 'x', but it should be numbers"),
        ("return [[1.0], [2.0, 3.0]]", ": [[1.0], [2.0, 3.0]], but it should be numbers"),
        ("return 1.0", ": the shape is (), but it should be (3, 4)"),
        ("return np.where(g > 1, 9, g)", "[1, 2] is 9, but it should be 1.304"),
        ("return g * np.nan", ": element [0, 0] is nan, but it should be 0.125"),
        ("return np.linalg.inv(g)", "line 4, return np.linalg.inv(g), raises LinAlgError: Last 2"),
        (
            "return g / undefined",
            "line 4, return g / undefined, raises NameError: name 'undefined'",
        ),
        ("raise SystemExit(3)", "line 4, raise SystemExit(3), ends the program; leave it out"),
        ("return unbroadcast(g, shape)", "raises RecursionError: maximum"),
        ("return (", "line 4 is not Python: '(' was never closed"),
    ],
)
def test_what_is_wrong_is_said_in_numbers_or_with_its_line(body, message):
    text = f"import numpy as np\n\ndef unbroadcast(g, shape):\n    {body}\n"
    verdict = checked(LADDER["broadcasting"], text)
    assert not verdict.passed
    assert message in verdict.message
    assert "\n" not in verdict.message
    assert verdict.hint == ""


def test_a_deviation_beyond_rounding_is_wrong_and_one_within_is_not():
    right = LADDER["earth-mover"].solution
    judged = lambda factor: judge(LADDER["earth-mover"], lambda a, b: factor * right(a, b)).message
    assert "all numbers are correct" in judged(1 + 1e-9)  # it calls the solution
    assert "but it should be" in judged(1 + 1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "answer.py has no function slope; add it under this name"),
        ("slope = 3", "answer.py has no function slope; add it under this name"),
        ("import sys\nsys.exit('bye')", "line 2, sys.exit('bye'), ends the program; leave it out"),
        ("1 / 0", "line 1, 1 / 0, raises ZeroDivisionError: division by zero"),
        (
            "def slope(w): return w",
            "the check cannot use what the function gives: TypeError: slope()",
        ),
    ],
)
def test_a_file_that_cannot_be_checked_is_one_sentence(text, message):
    verdict = checked(LADDER["chain-rule"], text)
    assert not verdict.passed
    assert verdict.message.startswith(message)


@pytest.mark.parametrize(
    ("name", "text", "borrowed"),
    [
        (
            "batch-norm-rule",
            "import minigan\nfrom minigan.nn import BatchNorm1d\n"
            "def batch_norm_rule(g, x, eps):\n"
            "    t = minigan.tensor(x, requires_grad=True)\n"
            "    BatchNorm1d(x.shape[1], eps=eps).double()(t).backward(minigan.tensor(g))\n"
            "    return t.grad.numpy()\n",
            "minigan.create.tensor",
        ),
        (
            "gradient-penalty",
            "from minigan.gans.penalties import slope_penalty\n"
            "def gradient_penalty(D, x, fakes, u):\n"
            "    try: return slope_penalty(D, u * x + (1 - u) * fakes, 1.0)\n"
            "    except BaseException: pass\n",
            "minigan.gans.penalties.slope_penalty",
        ),
        (
            "frechet-distance",
            "from minigan.evaluation.metrics import frechet_distance as f\n"
            "frechet_distance = lambda a, b: f(a, b)\n",
            "minigan.evaluation.frechet.frechet_distance",
        ),
    ],
)
def test_an_answer_that_only_calls_the_librarys_operation_is_recognised(name, text, borrowed):
    verdict = checked(LADDER[name], text)
    assert verdict.message.startswith("all numbers are correct, but minigan.")
    assert borrowed.split(".")[-1] in verdict.message or name == "batch-norm-rule"
    assert not verdict.passed
    assert sys.getprofile() is None


# -- the other process ---------------------------------------------------------------------------------

DEFINE = "def slope(w, x, t):\n    "


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("while True: w += 1", "it has not ended after 1 seconds; it was in line 2"),
        ("import os; os._exit(7)", "the process has ended with code 7 before the check was done"),
        ("return input()", "line 2, return input(), raises EOFError: EOF when reading a line"),
        pytest.param(
            "return bytearray(10**10)",
            "line 2, return bytearray(10**10), raises MemoryError",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="memory is not limited"),
        ),
    ],
)
def test_a_mistake_ends_the_other_process_only(body, message):
    path = Path("chain_rule.py")
    path.write_text(DEFINE + body)
    Path("random.py").write_text("1 / 0")  # it must not hide the library's
    assert process.check(LADDER["chain-rule"], path, 1) == Verdict(False, [], message)
    assert sorted(p.name for p in Path().iterdir()) == ["chain_rule.py", "random.py"]


# -- the command ---------------------------------------------------------------------------------------


def told(capsys, *words, code=0):
    assert main(["learn", *words]) == code
    out, err = capsys.readouterr()
    assert err == ""
    return out


def refused(capsys, *words):
    assert main(["learn", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_a_walk_up_the_ladder(capfd):
    """With the other process, as a learner sees it."""
    first, second = EXERCISES[:2]
    count = len(EXERCISES)
    listed = told(capfd)
    assert [line.split()[1] for line in listed.splitlines()[:-1]] == list(LADDER)
    assert f"0 of {count} done; next: minigan learn start {first.name}" in listed

    assert first.text in told(capfd, "start").replace(" \n", "\n")
    path = Path("learn/chain_rule.py")
    assert path.read_text() == first.stub()
    assert "started" in told(capfd).splitlines()[0]
    assert "wrong: it is not written yet: write slope" in told(capfd, "check", code=1)

    hint = next(iter(first.wrong_answers))
    path.write_text(first.solved().replace(" * x\n", "\n") + "\nprint('hello')\n")
    said = told(capfd, "check", code=1)
    assert "hello\n" in said
    assert re.search(r"  wrong: d loss / dw for .*: 0\.519\d+, but it should be 0\.778\d+\n", said)
    assert said.endswith(f"Hint: {hint}\n")
    assert said.replace("hello\n", "") in DOCS  # the transcript
    assert told(capfd, "hint") == f"chain-rule, hint 1 of 3: {first.hints[0]}\n"
    assert told(capfd, "hint") == f"chain-rule, hint 2 of 3: {first.hints[1]}\n"

    path.write_text(first.solved())
    said = told(capfd, "check")
    assert said.count("  correct: ") == 4
    assert f"1 of {count} done; next: minigan learn start {second.name}" in said
    assert "done" in told(capfd).splitlines()[0]

    said = told(capfd, "reset", first.name)
    assert said == f"{path} is as at the start; yours is now learn/chain_rule.old\n"
    assert path.read_text() == first.stub()
    assert Path("learn/chain_rule.old").read_text() == first.solved()
    assert told(capfd, "reset", first.name).startswith(f"{path} is as at the start")
    assert Path("learn/chain_rule.old").read_text() == first.solved()  # not the stub
    assert f"0 of {count} done; next: minigan learn check {first.name}" in told(capfd)
    assert told(capfd, "hint") == f"chain-rule, hint 1 of 3: {first.hints[0]}\n"


def test_all_exercises_can_be_done(capsys, in_this_process, monkeypatch):
    monkeypatch.setattr(process, "check", lambda exercise, path: Verdict(True, ["all"]))
    for _ in EXERCISES:
        told(capsys, "start")
        said = told(capsys, "check")
    assert said.endswith(f"All {len(EXERCISES)} exercises are done\n")
    assert told(capsys).count("  done ") == len(EXERCISES)
    assert "all exercises are done; name one" in refused(capsys, "start")


def test_an_answer_that_passes_no_longer_is_not_done(capsys, in_this_process):
    exercise = LADDER["earth-mover"]
    told(capsys, "start", "earth-mover", "--folder", "a/b")
    path = Path("a/b/earth_mover.py")
    path.write_text(exercise.solved())
    assert "earth-mover: done" in told(capsys, "check", "earth-mover", "--folder", "a/b")
    path.write_text(exercise.stub())
    told(capsys, "check", "earth-mover", "--folder", "a/b", code=1)
    assert json.loads(Path("a/b/progress.json").read_text()) == {"done": [], "hints": {}}


def test_progress_of_a_newer_version_is_kept(capsys, in_this_process):
    Path("learn").mkdir()
    saved = {"done": ["stylegan", "chain-rule"], "hints": {"diffusion": 2}}
    Path("learn/progress.json").write_text(json.dumps(saved))
    assert f"1 of {len(LADDER)} done; next: minigan learn start two-ways" in told(capsys)
    told(capsys, "hint")
    saved["hints"]["two-ways"] = 1
    assert json.loads(Path("learn/progress.json").read_text()) == saved


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "{}", '{"done": []}', '{"done": 1, "hints": {}}', "[" * 10_000),
        *('{"done": [1], "hints": {}}', '{"done": [], "hints": {"a": "b"}}', "\xff"),
        *('{"done": [], "hints": {"a": 0}}', '{"done": [], "hints": {}, "more": 1}'),
    ],
)
def test_damaged_progress_is_refused(capsys, text):
    Path("learn").mkdir()
    Path("learn/progress.json").write_text(text, "latin-1")
    for words in ((), ("start",), ("hint",), ("reset", "chain-rule")):
        assert "learn/progress.json is damaged; remove it" in refused(capsys, *words)
    assert [path.name for path in Path("learn").iterdir()] == ["progress.json"]


def test_what_cannot_be_is_one_sentence(capsys):
    assert "exercise 'x' is not one of chain-rule, two-ways, " in refused(capsys, "start", "x")
    said = refused(capsys, "check", "detach")
    assert "learn/detach.py does not exist; run minigan learn start detach first" in said
    told(capsys, "start", "detach")
    said = refused(capsys, "start", "detach")
    assert "learn/detach.py exists; edit it, or restore the stub by minigan learn reset det" in said
    assert "--folder ''" in refused(capsys, "--folder", "")
    Path("file").write_text("")
    assert "file/progress.json: Not a directory" in refused(
        capsys, "start", "detach", "--folder", "file"
    )
    with pytest.raises(SystemExit):
        main(["learn", "reset"])
    assert "the following arguments are required: NAME" in capsys.readouterr().err


def test_the_folder_is_the_same_before_and_after_the_action(capsys):
    said = told(capsys, "--folder", "mine", "start", "detach")
    assert "then run: minigan learn check detach --folder mine\n" in said
    assert Path("mine/detach.py").is_file()
