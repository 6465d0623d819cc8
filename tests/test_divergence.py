"""A diverging run is noticed in time, and --on-divergence decides what happens then."""

import contextlib
import io
import itertools
import math
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from minigan import tensor
from minigan.errors import UserError
from minigan.gans import MEMBERS
from minigan.gans.signs import SATURATED, STILL, Sign, frozen_generator
from minigan.gans.standard import DCGAN
from minigan.keys import generator
from minigan.optim import Adam
from minigan.training import checkpoint, loop, watch
from minigan.training.recovery import CHOICES, ROLLBACKS, decide
from minigan.training.settings import RunOptions
from minigan.training.watch import SHARE, WINDOW, Trouble, Watch

BETA2 = DCGAN.Options().beta2

# Runs that diverge by themselves, found by trial. With the minimax loss (equation 1 of the paper), G's
# gradient vanishes as D becomes certain, which is why section 3 proposes another loss. At an absurd
# rate this takes only a few steps, for which a shorter window is enough.
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
SATURATES = ["--epochs", 9999, "--loss", "minimax", "--ndf", 32, "--augment", "none"]
FREEZES = ["--epochs", 9999, "--loss", "minimax", "--lr", 1, "--augment", "none"]
SHORT = 20
EPS = 1e-8  # Adam's


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Work in an empty folder, and skip the curves, which take longer than the run."""
    monkeypatch.chdir(tmp_path)
    tiny.hurry(monkeypatch)


@pytest.fixture
def short_window(monkeypatch):
    monkeypatch.setattr(watch, "WINDOW", SHORT)


def diverged(run) -> list[dict]:
    return [e for e in tiny.events(run) if e["event"] == "diverged"]


# -- the watch ---------------------------------------------------------------------------------------


def line(step, loss_d=1.0, grad_g=1.0, **others):
    return {
        "step": step,
        "loss_d": loss_d,
        "loss_g": 1.0,
        "grad_d": 1.0,
        "grad_g": grad_g,
        **others,
    }


def standard(size=100):
    """The signs of the standard game, for a G with `size` weights."""
    return (SATURATED, frozen_generator(size, BETA2))


def noticed(lines, size=100, signs=None):
    """(step, name, since) of each trouble."""
    seen = Watch(standard(size) if signs is None else signs)
    looks = [(each["step"], seen.look(each)) for each in lines]
    return [(step, trouble.name, trouble.since) for step, trouble in looks if trouble]


def test_a_healthy_run_is_left_alone():
    values = np.random.default_rng(0).lognormal(0, 1, (3000, 2))
    assert noticed(line(i + 1, 0.05 * a, b) for i, (a, b) in enumerate(values.tolist())) == []


@pytest.mark.parametrize("start", [1, 150, 201, 202, 500, 1234])
@pytest.mark.parametrize(
    ("name", "wrong"),
    [("saturated discriminator", {"loss_d": 0.009}), ("frozen generator", {"grad_g": 1e-5})],
)
def test_what_lasts_is_noticed_after_as_many_steps_as_stated(name, wrong, start):
    lines = [line(i, **(wrong if i >= start else {})) for i in range(1, 2000)]
    lines[0] = line(1)  # frozen means relative to the gradients that Adam remembers
    needed = math.ceil(SHARE * WINDOW)
    ((step, found, since),) = noticed(lines)
    assert (step, found) == (max(2 * WINDOW, start - 1 + needed), name)
    assert since == step - WINDOW + 1
    assert step - start < 2 * WINDOW if start <= WINDOW else step - start < WINDOW


def test_a_few_good_steps_now_and_then_do_not_hide_it_and_more_do():
    allowed = round((1 - SHARE) * WINDOW)
    for good, names in ((allowed, ["saturated discriminator"]), (allowed + 1, [])):
        lines = [line(i, 1.0 if i % WINDOW < good else 0.001) for i in range(1, 1000)]
        assert [name for _, name, _ in noticed(lines)] == names


def test_each_trouble_is_noticed_once_and_one_does_not_hide_another():
    lines = [line(i, 0.001, 1.0 if i < 600 else 0.0) for i in range(1, 1500)]
    lines += [line(1500, loss_g=math.nan), line(1501, loss_g=math.inf)]
    assert [(step, name) for step, name, _ in noticed(lines)] == [
        (400, "saturated discriminator"),
        (779, "frozen generator"),
        (1500, "not finite"),
    ]


LABELS = {"loss_d": "Loss_D", "loss_g": "Loss_G", "grad_d": "|grad D|", "grad_g": "|grad G|"}
LABELS |= {"distance": "distance", "fid": "fid"}  # metrics of other members, and of no member


@pytest.mark.parametrize("key", LABELS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_not_finite_is_noticed_at_once(key, value):
    seen = Watch(standard())
    assert seen.look(line(1)) is None
    trouble = seen.look(line(2, **{key: value}))
    assert (trouble.name, trouble.since) == ("not finite", 2)
    assert trouble.text == f"{LABELS[key]} is {value}"


def test_a_generator_without_any_gradient_is_frozen_and_a_small_one_that_lasts_is_not():
    """Adam divides by remembered gradients, so even a small one moves G unless it is below eps."""
    size = 10_000
    floor = EPS * math.sqrt(size)
    for gradient, count in ((0.0, 1), (floor / 200, 1), (floor, 0), (1e-3, 0), (1e6, 0)):
        lines = [line(i, 1.0, gradient) for i in range(1, 500)]
        assert [name for _, name, _ in noticed(lines, size)] == ["frozen generator"] * count


@pytest.mark.parametrize("every", [1, 10])
def test_a_frozen_generator_is_one_that_the_optimiser_does_not_move(every):
    """All n weights have the same gradient g, so its norm is |g| sqrt(n).

    If only every tenth step is reported, the nine before it are assumed to be the same.
    """
    n = 9
    holds = frozen_generator(n, BETA2).start()
    p = tensor(np.zeros(n, np.float64), requires_grad=True)
    adam = Adam([p], lr=1.0, betas=(0.0, BETA2), eps=EPS)
    found, expected = [], []
    gradients = [1.0, 0.1, 0.03, 0.003, 1e-3, 2.0, 0.02, 0.01, 1e-9, 0.0, 1e-6]
    for i, g in enumerate(gradients, 1):
        for _ in range(every):
            before = p.numpy().copy()
            adam.step([tensor(np.full(n, g))])
        expected.append(bool((before - p.numpy() < STILL).all()))
        found.append(holds(line(i * every, grad_g=g * math.sqrt(n))))
    assert found == expected
    assert {True, False} == set(found)


@given(
    st.lists(st.tuples(st.floats(0, 0.02), st.floats(0, 1)), min_size=1, max_size=12),
    st.integers(1, 10),
    st.floats(0, 1),
)
def test_a_watch_that_is_shown_the_lines_there_are_knows_what_it_knew(levels, every, cut):
    """An interruption makes no difference, even if not every step is reported."""
    lines = [
        line(i, *level)
        for i, level in zip(
            range(every, 1200, every),
            itertools.chain.from_iterable(
                itertools.repeat(level, 100 // every) for level in levels
            ),
            strict=False,
        )
    ]
    k = int(cut * len(lines))
    whole, resumed = Watch(standard(10)), Watch(standard(10), lines[:k])
    before = [whole.look(each) for each in lines]
    assert [resumed.look(each) for each in lines[k:]] == before[k:]


# -- the watch, by member ----------------------------------------------------------------------------


def member(name):
    """The member on points, with its smallest networks."""
    Options = MEMBERS[name].Options
    return MEMBERS[name](Options(nz=2, ngf=2, ndf=2, batch_size=2), (2,), generator("init"))


def test_what_is_trouble_in_one_game_is_none_in_another():
    """A healthy critic's loss is far below 0: it is minus the distance that the critic estimates."""
    lines = [line(i, loss_d=-5.0, distance=5.0, penalty=0.1) for i in range(1, 1000)]
    assert noticed(lines, signs=member("wgan-gp").signs) == []
    ((step, name, _),) = noticed(lines, signs=member("dcgan").signs)
    assert (step, name) == (2 * WINDOW, "saturated discriminator")


def test_the_frozen_generator_of_a_member_counts_its_own_weights():
    dcgan = member("dcgan")
    size = sum(p.numel() for p in dcgan.players["G"].net.parameters())
    floor = STILL * EPS * math.sqrt(size)  # below it even Adam's step is small
    for gradient, count in ((0.9 * floor, 1), (1.1 * floor, 0)):
        lines = [line(i, 1.0, gradient) for i in range(1, 500)]
        assert len(noticed(lines, signs=dcgan.signs)) == count


class Restless(DCGAN):
    """A member with a sign of its own, on a metric of its own."""

    def build(self, rng, device, group):
        super().build(rng, device, group)
        since = lambda: lambda metrics: metrics["unrest"] > 3
        self.signs = (Sign("restless", "unrest for {} steps", "try to rest", since),)

    def step(self, draw):
        return {**super().step(draw), "unrest": tensor(float(draw.step))}


def test_the_sign_of_a_members_own_is_found_and_acted_upon(monkeypatch, capsys, short_window):
    monkeypatch.setitem(MEMBERS, "dcgan", Restless)
    run = tiny.train("out", "--steps", 2 * SHORT + 9, "--epochs", 99)
    (event,) = diverged(run)
    assert (event["name"], event["does"], event["step"]) == ("restless", "warn", 2 * SHORT)
    warning = f"warning: step {2 * SHORT}: unrest for {SHORT} steps; try to rest"
    assert warning in capsys.readouterr().out.splitlines()
    assert tiny.metrics(run)[5]["unrest"] == 5


def test_lines_that_lack_the_metric_of_a_sign_do_not_show_it():
    """For example in an edited file. Lines with only other metrics are ignored."""
    bare = [{"step": i, "epoch": 0, "fid": 1.0} for i in range(1, 1000)]
    assert noticed(bare) == []


# -- the decision ------------------------------------------------------------------------------------

OLDER = [Path("step-00000007"), Path("step-00000006")]  # an interruption left the newer one


@pytest.mark.parametrize("name", ["not finite", "spoiled weights", "of a member's"])
@pytest.mark.parametrize("wish", CHOICES)
@pytest.mark.parametrize("again", [0, ROLLBACKS])
@pytest.mark.parametrize("planned", [[], OLDER[1:]], ids=["none before", "one before"])
def test_a_decision_is_the_users_where_it_can_be(name, wish, again, planned):
    trouble = Trouble(name, 8, "something is wrong", watch.LOWER_RATE)
    does, text, _ = decide(trouble, 9, wish, again, OLDER, planned)
    expected = wish
    if name == "spoiled weights" or (name == "not finite" and wish == "warn"):
        expected = "rollback" if wish == "rollback" else "stop"
    if wish == "rollback" and (again == ROLLBACKS or not planned):
        expected = "stop"
    assert does == expected
    assert "step 9: something is wrong" in text
    if does == "stop":
        assert f"; the last good checkpoint is {OLDER[0]}; try" in text
    if does == "rollback":
        assert text.endswith("; going back to step-00000006, with different noise")
    # Advice leaves out what was already tried or is impossible.
    assert ("--on-divergence rollback" in text) == (bool(planned) and wish != "rollback")


# -- runs that diverge by themselves -----------------------------------------------------------------


@pytest.mark.skipif(not DEEP, reason="takes long: deep; the short windows below are in CI")
def test_a_saturated_discriminator_is_warned_of_once_and_the_run_goes_on(capsys):
    run = tiny.train("out", "--steps", 600, *SATURATES)
    (event,) = diverged(run)
    assert (event["name"], event["does"]) == ("saturated discriminator", "warn")
    rows = tiny.metrics(run)
    assert len(rows) == 600
    window = [row["loss_d"] < 0.01 for row in rows[event["step"] - WINDOW : event["step"]]]
    assert sum(window) == SHARE * WINDOW  # as early as possible
    (warning,) = [s for s in capsys.readouterr().out.splitlines() if s.startswith("warning: ")]
    assert f"step {event['step']}: Loss_D has been below 0.01 for 200 steps" in warning
    assert "try a new run with a tenth of --lr, a narrower D (--ndf)" in warning
    assert tiny.events(run)[-1]["event"] == "done"


def test_a_frozen_generator_is_noticed(capsys, short_window):
    run = tiny.train("out", "--steps", 2 * SHORT + 1, *FREEZES)
    assert [(e["name"], e["step"]) for e in diverged(run)] == [
        ("saturated discriminator", 2 * SHORT),  # as early as possible, and one at a time
        ("frozen generator", 2 * SHORT + 1),
    ]
    assert "G has moved by less than 0.01 lr per step" in capsys.readouterr().out


def test_stop_stops_and_names_the_checkpoint_from_before(capsys, short_window):
    flags = ["--steps", 60, *FREEZES, "--checkpoint-every", 5, "--keep", 9]
    run = tiny.train("out", *flags, "--on-divergence", "stop", code=1)
    (event,) = diverged(run)
    assert event["step"] == 2 * SHORT
    message = f"the last good checkpoint is {run.checkpoints / 'step-00000020.safetensors'}; try"
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: step {2 * SHORT}: Loss_D has been")
    assert message in error
    assert tiny.metrics(run)[-1]["step"] == 2 * SHORT
    assert max(tiny.saved(run)) == 2 * SHORT - 5
    tiny.train("out", *flags, "--resume", "auto", "--on-divergence", "ignore")  # if the user wishes
    assert tiny.metrics(run)[-1]["step"] == 60


def test_ignore_says_nothing_and_trains_as_warn_does(capsys, short_window):
    warned = tiny.train("warn", "--steps", 60, *FREEZES)
    assert "warning: " in capsys.readouterr().out
    run = tiny.train("ignore", "--steps", 60, *FREEZES, "--on-divergence", "ignore")
    assert "warning: " not in capsys.readouterr().out
    assert [e["does"] for e in diverged(run)] == ["ignore", "ignore"]
    assert tiny.newest(run) == tiny.newest(warned)


ROLLS = ["--steps", 90, *FREEZES, "--on-divergence", "rollback", "--checkpoint-every", 6]
ROLLS += ["--keep", 9, "--sample-every", 10]


@pytest.fixture(scope="module")
def rolled(tmp_path_factory):
    """A run that does not recover, and its last output."""
    out, err = tmp_path_factory.mktemp("rolled") / "straight", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(err):
        patch.setattr(watch, "WINDOW", SHORT)
        tiny.hurry(patch)
        run = tiny.train(out, *ROLLS, code=1)
    return run, err.getvalue().splitlines()[-1]


def test_a_rollback_goes_back_before_the_trouble_with_other_noise_and_not_for_ever(
    short_window, rolled
):
    run, error = rolled
    troubles = diverged(run)
    assert [e["does"] for e in troubles] == ["rollback"] * 3 + ["stop"]
    assert [e["step"] for e in tiny.events(run) if e["event"] == "rollback"] == [18, 18, 18]
    assert error.startswith("error: step 40: Loss_D has been below 0.01 for 20 steps")
    assert ", after 3 of 3 rollbacks; the last good checkpoint is " in error
    assert "--on-divergence rollback" not in error  # already tried
    rows = tiny.metrics(run)
    assert [row["step"] for row in rows] == list(range(1, 41))
    plain = tiny.train("plain", "--steps", 36, *FREEZES, "--checkpoint-every", 6, "--keep", 5)
    assert tiny.metrics(plain)[:18] == rows[:18]
    for step in (12, 18):  # from before the trouble
        one, other = (checkpoint.path_of(each.checkpoints, step) for each in (plain, run))
        assert one.read_bytes() == other.read_bytes()
    before, after = tiny.newest(plain), tiny.newest(run)
    counts = {"draw.step": 36, "draw.batches": 36, "draw.again": 0}
    assert before[1].items() >= counts.items()
    assert after[1] == {**before[1], "draw.again": 3}
    assert before[0] != after[0]  # the noise differed


@pytest.mark.parametrize("lives", [[50, 3, 40], *([[25, 30], [41, 60], [19, 30]] if DEEP else [])])
@pytest.mark.parametrize("stop", [False, True])
def test_a_run_with_rollbacks_that_is_interrupted_ends_as_one_that_is_not(
    monkeypatch, short_window, rolled, sigint, lives, stop
):
    """The count of rollbacks is in the checkpoints, so rollbacks since the last one happen again."""
    straight, _ = rolled
    for steps in lives:
        with monkeypatch.context() as patch:
            end_after(patch, steps, stop)
            with contextlib.nullcontext() if stop else pytest.raises(ZeroDivisionError):
                assert loop_main(["--out", "out", *ROLLS, "--resume", "auto"]) == 130
    run = tiny.train("out", *ROLLS, "--resume", "auto", code=1)
    expected, found = (
        {path.name: path.read_bytes() for path in checkpoint.newest_first(each.checkpoints)}
        for each in (straight, run)
    )
    assert expected.items() <= found.items()
    assert len(found) - len(expected) <= stop  # left by the last interruption
    assert tiny.metrics(run) == tiny.metrics(straight)
    assert tiny.grids(run) == tiny.grids(straight)


def end_after(monkeypatch, steps, stop):
    """By a crash before a step, or by Ctrl-C during it."""
    play, count = loop.Loop.play, itertools.count()

    def played(self):
        if next(count) == steps:
            signal.raise_signal(signal.SIGINT) if stop else 1 / 0
        return play(self)

    monkeypatch.setattr(loop.Loop, "play", played)


def loop_main(flags):
    return tiny.train_celeba.main([*tiny.TINY, *map(str, flags)])


# -- metrics and weights that are not finite ---------------------------------------------------------


def spoil(monkeypatch, *steps, what=None, value=math.nan):
    """At these steps, counted as they are played, the value replaces a metric, or the first weight
    (what="weight"), moment (what="moment") or average (what="average") of G."""
    played = itertools.count(1)

    def spoiled(step, member, draw):
        metrics = step(member, draw)
        if next(played) not in steps:
            return metrics
        G = member.players["G"]
        if what in ("weight", "average"):
            net = G.net if what == "weight" else G.average
            next(iter(net.parameters())).data[0] = value
        elif what == "moment":
            G.optimizer.state_dict()["state"][0]["exp_avg_sq"].data[0] = value
        else:
            metrics[what] = tensor(value)
        return metrics

    tiny.wrap_steps(monkeypatch, spoiled)


SIX = ["--steps", 6, "--checkpoint-every", 2]


@pytest.mark.parametrize(
    ("what", "value", "text"),
    [
        ("loss_d", math.nan, "Loss_D is nan"),
        ("loss_g", math.inf, "Loss_G is inf"),
        ("grad_d", math.inf, "|grad D| is inf"),
        ("grad_g", math.nan, "|grad G| is nan"),
    ],
)
@pytest.mark.parametrize("policy", ["warn", "stop"])
def test_a_metric_that_is_not_finite_stops_the_run(monkeypatch, capsys, what, value, text, policy):
    with monkeypatch.context() as patch:
        spoil(patch, 4, what=what, value=value)
        run = tiny.train("out", *SIX, "--on-divergence", policy, code=1)
    good = run.checkpoints / "step-00000002.safetensors"
    error = f"error: step 4: {text}; the last good checkpoint is {good}; "
    error += "try to resume with --on-divergence rollback, or a new run with a lower --lr\n"
    assert error in capsys.readouterr().err
    assert tiny.saved(run) == [2]
    rows = tiny.metrics(run)  # read strictly: JSON has no nan
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1][what] is None
    (event,) = diverged(run)
    assert event.items() >= {"step": 4, "name": "not finite", "text": text, "does": "stop"}.items()
    assert (run.folder / "progress.gif").is_file()
    assert "done" not in {e["event"] for e in tiny.events(run)}
    tiny.train("out", "--resume", "auto")
    assert [row["step"] for row in tiny.metrics(run)] == [1, 2, 3, 4, 5, 6]


def test_ignoring_a_metric_that_is_not_finite_goes_on(monkeypatch):
    straight = tiny.train("straight", *SIX)
    spoil(monkeypatch, 4, what="loss_d")
    run = tiny.train("out", *SIX, "--on-divergence", "ignore")
    assert [e["does"] for e in diverged(run)] == ["ignore"]
    assert tiny.newest(run) == tiny.newest(straight)


WHERE = {
    "weight": "players.G.net.main.0.weight",
    "moment": "players.G.optimizer.0.exp_avg_sq",
    "average": "players.G.average.main.0.weight",
}


@pytest.mark.parametrize("what", WHERE)
@pytest.mark.parametrize("policy", ["warn", "stop", "ignore"])
@pytest.mark.parametrize("every", [3, 100])
def test_what_is_not_finite_is_never_saved(monkeypatch, capsys, every, policy, what):
    """Under any policy. A step's metrics come before its update, so they cannot show bad weights."""
    flags = ["--checkpoint-every", every, "--keep", 1, "--sample-every", 1]
    tiny.train("out", "--steps", 2, *flags)
    spoil(monkeypatch, 1, what=what)
    again = ["--steps", 3, "--resume", "auto", "--on-divergence", policy]
    run = tiny.train("out", *again, code=1)
    assert tiny.saved(run) == [2]
    values = f"{WHERE[what]} holds values that are not finite"
    message = f"error: step 3: {values}; the last good checkpoint is "
    assert message + str(run.checkpoints / "step-00000002") in capsys.readouterr().err
    (event,) = diverged(run)
    assert (event["name"], event["does"]) == ("spoiled weights", "stop")


@pytest.mark.parametrize("what", ["loss_g", "weight", "moment"])
@pytest.mark.parametrize("steps", [[4], [4, 6], [3, 5, 8], [6]])
def test_a_rollback_gets_over_what_is_not_finite(monkeypatch, steps, what):
    spoil(monkeypatch, *steps, what=what)
    run = tiny.train("out", *SIX, "--on-divergence", "rollback")
    assert [e["does"] for e in diverged(run)] == ["rollback"] * len(steps)
    assert [row["step"] for row in tiny.metrics(run)] == [1, 2, 3, 4, 5, 6]
    assert tiny.saved(run) == [2, 4, 6]
    assert tiny.newest(run)[1]["draw.again"] == len(steps)
    assert tiny.events(run)[-1]["event"] == "done"


def test_with_no_checkpoint_from_before_a_rollback_stops(monkeypatch, capsys):
    spoil(monkeypatch, 2, what="loss_g")
    tiny.train("out", *SIX, "--on-divergence", "rollback", code=1)
    error = capsys.readouterr().err.splitlines()[-1]
    assert ", after 0 of 3 rollbacks; the last good checkpoint is none; " in error


def test_the_rollbacks_of_a_run_are_counted_over_its_lives(monkeypatch, capsys):
    with monkeypatch.context() as patch:
        spoil(patch, 4, 7, what="loss_g")
        tiny.train("out", *SIX, "--on-divergence", "rollback")
    spoil(monkeypatch, 2, 4, what="loss_g")
    run = tiny.train("out", "--resume", "auto", "--steps", 12, code=1)
    assert "step 8: Loss_G is nan, after 3 of 3 rollbacks; " in capsys.readouterr().err
    assert [e["does"] for e in diverged(run)] == ["rollback"] * 3 + ["stop"]


def test_an_absurd_learning_rate_is_told_in_one_sentence(capsys):
    run = tiny.train("out", "--steps", 6, "--lr", "1e30", code=1)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        "error: step 1: Loss_G is nan; the last good checkpoint is none; "
        "try a new run with a lower --lr"
    )
    assert tiny.saved(run) == []


def test_the_metrics_of_a_run_that_went_back_are_closed(monkeypatch):
    opened = []
    open_metrics = loop.Run.open_metrics
    monkeypatch.setattr(
        loop.Run, "open_metrics", lambda *a: opened.append(open_metrics(*a)) or opened[-1]
    )
    spoil(monkeypatch, 4, 9, what="loss_d")
    tiny.train("out", *SIX, "--on-divergence", "rollback")
    assert len(opened) == 2
    assert all(metrics._file.closed for metrics in opened)


def test_the_policy_is_an_option_with_four_choices():
    assert RunOptions().on_divergence == "warn"
    for choice in CHOICES:
        assert RunOptions(on_divergence=choice).on_divergence == choice
    with pytest.raises(UserError, match="choose one of warn, stop, rollback, ignore"):
        RunOptions(on_divergence="panic")
