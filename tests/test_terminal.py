"""The terminal: its contents at any width, and Ctrl-C, which takes effect at once."""

import os
import re
import select
import signal
import subprocess
import sys
import time

import pytest
import tiny

from minigan.training.metrics import METRICS
from minigan.training.terminal import in_words

pty = pytest.importorskip("pty", reason="Windows has no pseudo-terminals")
fcntl, termios, struct = (pytest.importorskip(name) for name in ("fcntl", "termios", "struct"))

DCGAN = {"loss_d": 1.2345, "loss_g": 12.345, "d_x": 0.7, "d_gz_before": 0.25, "d_gz_after": 0.5}
DCGAN |= {"grad_d": 1.5, "grad_g": 0.5}
CRITIC = {"distance": -1.25, "penalty": 0.125, "loss_g": 0.5, "grad_d": 1.5, "grad_g": 0.5}


def line(**values):
    return {"step": 7, "epoch": 1, **values, "images_per_second": 1234.4}


# -- the words ---------------------------------------------------------------------------------------


def test_with_room_every_metric_has_its_whole_name_in_the_order_of_the_table():
    turned = dict(reversed(DCGAN.items()))
    assert in_words(line(**turned), 20) == (
        "epoch 2/20  Loss_D 1.23  Loss_G 12.3  D(x) 0.70  D(G(z)) before 0.25  "
        "D(G(z)) after 0.50  |grad D| 1.5  |grad G| 0.5  1234 img/s"
    )


def test_with_little_room_the_names_are_short_and_the_last_are_left_out():
    whole = "D 1.23 G 12.3 D(x) 0.70 D(G(z)) 0.25 1234/s"
    for room, words in (
        (len(whole), whole),
        (len(whole) - 1, "D 1.23 G 12.3 D(x) 0.70 D(G(z)) 0.25"),
        (34, "D 1.23 G 12.3 D(x) 0.70 1234/s"),
        (18, "D 1.23 G 12.3"),
        (6, "D 1.23"),
        (5, ""),
        (-3, ""),
    ):
        assert in_words(line(**DCGAN), 20, room) == words
    assert in_words(line(**CRITIC), 20, 44) == "G 0.500 dist -1.25 pen 0.125 1234/s"


@pytest.mark.parametrize("room", range(0, 140, 7))
@pytest.mark.parametrize("values", [DCGAN, CRITIC, {"fid": 3.14159, "x" * 999: 1.0}, {}])
def test_no_width_is_exceeded_and_no_number_cut(values, room):
    text = in_words(line(**values), 20, room)
    assert len(text) <= room
    numbers = {"1234", "1234/s", "2/20", *(f"{v:.2g}" for v in values.values())}
    numbers |= {f"{v:{METRICS[k].format if k in METRICS else '.3g'}}" for k, v in values.items()}
    assert {word for word in text.split() if word[0] in "-0123456789"} <= numbers


def test_a_metric_that_is_not_in_the_table_is_shown_under_its_name():
    assert "  fid 3.14  " in in_words(line(fid=3.14159), 20)
    assert in_words(line(fid=3.14159), 20, 20) == "fid 3.14 1234/s"


# -- a terminal --------------------------------------------------------------------------------------

TRAIN = [*tiny.TINY, "--out", "out", "--steps", "9", "--log-every", "1"]
WITHOUT_CURVES = """
import sys
from minigan import console
from minigan.commands import main
from minigan.training import pictures
pictures.save_curves = lambda folder, metrics: None
{more}
console.run(lambda: main(["train", "dcgan", *sys.argv[1:]]))
"""


class Program:
    """A run on its own terminal, with this number of columns."""

    def __init__(self, folder, columns, *flags, more="", stdout=None):
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        words = [sys.executable, "-c", WITHOUT_CURVES.format(more=more), *TRAIN, *map(str, flags)]
        # Its own session, so that the terminal's Ctrl-C reaches it.
        begin = "import os, sys, fcntl, termios; os.setsid(); "
        begin += "fcntl.ioctl(2, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
        streams = {"stdin": theirs, "stdout": stdout or theirs, "stderr": theirs}
        self.child = subprocess.Popen([sys.executable, "-c", begin, *words], cwd=folder, **streams)
        os.close(theirs)
        self.text = ""

    def read(self, until=None):
        """Its output, up to this text or to its end."""
        limit = time.monotonic() + 120
        while until is None or until not in self.text:
            assert time.monotonic() < limit, self.text
            if not select.select([self.ours], [], [], 1)[0]:
                continue
            try:
                found = os.read(self.ours, 65536)
            except OSError:  # Linux's way to report the end
                found = b""
            if not found:
                break
            self.text += found.decode()
        return self.text

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.child.kill()
        self.child.wait()
        os.close(self.ours)


def last_bar(text):
    """The final state of the bar."""
    return re.findall(r"\r([ 0-9]+%\|[^\r\n]*)", text)[-1]


NUMBER = r"\d+\.\d+"


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (200, rf"epoch 2/2  Loss_D {NUMBER}  Loss_G .*D\(G\(z\)\) after {NUMBER}.* img/s"),
        (80, rf"D {NUMBER} G {NUMBER} D\(x\) {NUMBER} D\(G\(z\)\) {NUMBER} \d+/s"),
        (40, rf"D {NUMBER}"),
        (10, ""),
    ],
)
def test_on_a_terminal_of_any_width_there_is_a_bar_and_what_has_room(tmp_path, columns, shown):
    with Program(tmp_path, columns) as program:
        text = program.read()
        assert program.child.wait() == 0
    bar = last_bar(text)
    assert len(bar) <= columns
    assert re.search(shown, bar)
    assert columns < 40 or "| 9/9 " in bar


def test_the_width_is_that_of_the_terminal_which_has_the_bar(tmp_path):
    """For example in `minigan train ... | tee log`, where stdout has no width."""
    with (
        open(tmp_path / "log", "wb") as log,
        Program(tmp_path, 40, "--steps", 3, stdout=log) as program,
    ):
        text = program.read()
        assert program.child.wait() == 0
    assert re.search(rf"D {NUMBER}( G {NUMBER})?( \d+/s)?\s*$", last_bar(text))
    assert b"Done: look at" in (tmp_path / "log").read_bytes()


# The current step waits for a file, so text that appears meanwhile was printed at once.
WAIT = """
import os, time
from minigan.training.loop import Loop
play = Loop.play
def slow(loop):
    if loop.draw.step == 2:
        print("in the third step", flush=True)
        while not os.path.exists("go on"):
            time.sleep(0.01)
    return play(loop)
Loop.play = slow
"""
ANSWER = "stopping after this step; press again to stop now"


def test_ctrl_c_is_answered_at_once_and_the_step_is_finished_and_saved(tmp_path, sigint):
    with Program(tmp_path, 80, more=WAIT) as program:
        program.read("in the third step")
        os.write(program.ours, b"\x03")
        program.read(ANSWER)
        assert program.child.poll() is None
        (tmp_path / "go on").touch()
        text = program.read()
        assert program.child.wait() == 130
    assert "Interrupted: look at" in text
    assert "Traceback" not in text
    run = tiny.Run(tmp_path / "out" / tiny.FIRST)
    assert tiny.saved(run) == [3]


def test_a_second_ctrl_c_stops_now(tmp_path, sigint):
    with Program(tmp_path, 80, "--checkpoint-every", 2, more=WAIT) as program:
        program.read("in the third step")
        os.write(program.ours, b"\x03")
        program.read(ANSWER)
        os.write(program.ours, b"\x03")
        text = program.read()
        assert program.child.wait() in (130, -signal.SIGINT)
    assert "interrupted; to resume from its checkpoint: " in text
    assert "Traceback" not in text
    assert tiny.saved(tiny.Run(tmp_path / "out" / tiny.FIRST)) == [2]
