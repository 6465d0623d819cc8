"""The console: what the program tells the user, and the commands that it suggests.

All output goes through here, because a standard stream may be missing (in a daemon or pythonw), closed,
on a full disk, in an encoding that lacks a letter, or a pipe whose reader has ended. Output that cannot
be written never stops a run.
"""

from __future__ import annotations

import functools
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from tqdm import tqdm

INTERRUPTED = 130  # the exit code after Ctrl-C: 128 + SIGINT


def plain(text: object) -> str:
    """Any text, such as a file name, on one line and without terminal control codes."""
    text = str(text) or type(text).__name__
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


# -- what the user is told ------------------------------------------------------------------------

_lost: list[str] = []


def lost_output() -> list[str]:
    """The streams that have failed since the last call, each with the reason."""
    lost, _lost[:] = _lost[:], []
    return lost


class Stream:
    """sys.stdout or sys.stderr as a file whose `write` and `flush` never fail.

    After the first error, nothing more is written to that file.
    """

    def __init__(self, name: str):
        self._name = name
        self._failed: Any = None  # the file that raised the error

    @property
    def _file(self) -> Any:
        file = getattr(sys, self._name, None)
        return None if file is self._failed else file

    @property
    def encoding(self) -> str:
        return getattr(self._file, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return bool(self._file.isatty())
        except (AttributeError, OSError, ValueError):  # there is no file, or it is closed
            return False

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, text: str) -> None:
        """Write the text; letters that the encoding lacks become backslash escapes."""
        self._attempt(
            lambda file: file.write(
                text.encode(self.encoding, "backslashreplace").decode(self.encoding)
            )
        )

    def flush(self) -> None:
        self._attempt(lambda file: getattr(file, "flush", lambda: None)())

    def _attempt(self, work: Callable[[Any], object]) -> None:
        file = self._file
        if file is None:
            return
        try:
            work(file)
        except Exception as error:  # sys.stdout may be an object of any class
            self._failed = file
            _lost.append(f"{self._name}: {getattr(error, 'strerror', None) or plain(error)}")
            if file in (sys.__stdout__, sys.__stderr__):
                _drop_what_is_buffered(file)


def _drop_what_is_buffered(file: Any) -> None:
    """Redirect the file to the null device; otherwise Python fails when it flushes the file at exit."""
    with suppress(OSError, ValueError):
        number = file.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


STDOUT, STDERR = Stream("stdout"), Stream("stderr")


def say(text: object, stream: Stream = STDOUT) -> None:
    """Write a line for the user and flush it, so that it appears at once even in a pipe."""
    stream.write(plain(text) + "\n")
    stream.flush()


@functools.cache
def import_tqdm() -> type[tqdm]:
    """The class tqdm, imported without the environment variables TQDM_*.

    tqdm reads these on import, and fails on some values. (They still count if another module has
    imported tqdm before.)
    """
    variables = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith("TQDM_")}
    try:
        from tqdm import tqdm
    finally:
        os.environ.update(variables)
    return tqdm


def bar(shown: bool, **options: Any) -> tqdm:
    """A progress bar on stderr, shown only on a terminal."""
    return import_tqdm()(file=STDERR, disable=not (shown and STDERR.isatty()), **options)


# -- the program ----------------------------------------------------------------------------------


def run(main: Callable[[], int]) -> NoReturn:
    """Run a program and exit with its code, even if output fails; Ctrl-C prints no traceback."""
    _open_descriptors()
    try:
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # see the first lines of the examples
            signal.signal(signal.SIGINT, signal.default_int_handler)
        code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:  # argparse raises SystemExit
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # otherwise Ctrl-C while Python exits would print a traceback
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        STDOUT.flush()
        STDERR.flush()
    sys.exit(code)


def _open_descriptors() -> None:
    """Open the descriptors 0, 1 and 2 if they are closed, so that no other file gets these numbers.

    C libraries and child processes write to these numbers as to the standard streams.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


# -- suggested commands -----------------------------------------------------------------------------


def python(*words: object) -> str:
    """A command for the user's shell that runs this Python with these arguments."""
    return quote(_executable(), *words)


def pip(*words: object) -> str:
    """A command that installs packages for this Python."""
    return python("-m", "pip", "install", *words)


def quote(*words: object) -> str:
    """The words quoted for the user's shell."""
    texts = [_not_an_option(w) if isinstance(w, Path) else str(w) for w in words]
    if sys.platform == "win32":
        return subprocess.list2cmdline(texts)
    return " ".join(shlex.quote(t) if t.isprintable() else _escaped(t) for t in texts)


def _escaped(text: str) -> str:
    """A word with unprintable letters in bash's and zsh's form: $'...', with bytes in octal."""
    return (
        "$'" + "".join(c if c.isprintable() and c not in "\\'" else _octal(c) for c in text) + "'"
    )


def _octal(letter: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(letter))


def nearby(path: Path) -> Path:
    """The path, relative to the working folder if it is below that."""
    try:
        return path.relative_to(Path.cwd())
    except (OSError, ValueError):  # the working folder has been removed, or is elsewhere
        return path


def _executable() -> str:
    if not sys.executable:  # Python embedded in another program
        return "python"
    path = str(nearby(Path(sys.executable)))
    return path if os.path.dirname(path) else os.path.join(os.curdir, path)


def _not_an_option(path: Path) -> str:
    return os.path.join(os.curdir, path) if str(path).startswith("-") else str(path)
