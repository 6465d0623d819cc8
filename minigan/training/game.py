"""The game of a run: everything that determines its weights, saved as a table and built as a member.

A checkpoint and config.json hold the same table. `Game.read` makes the game from either, so a
checkpoint can be sampled without its run and without its data.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from ..data.opening import DataOptions
from ..errors import UserError
from ..gans import MEMBERS
from ..gans.base import GAN, Options
from ..gans.player import ALONE, Group
from ..keys import generator
from ..options import REMEDY, short
from ..tensor import Tensor

MOST_PSI = 10  # beyond, no style is one that G was trained with


class Game(NamedTuple):
    """A member's name, its options, the data's options, and the names of the data's classes.

    classes  empty for a member that is not conditional
    """

    member: str
    options: Options
    data: DataOptions
    classes: tuple[str, ...] = ()

    def table(self) -> dict[str, Any]:
        """The game as JSON values; `classes` only if there are any."""
        named = {"classes": list(self.classes)} if self.classes else {}
        return {
            "member": self.member,
            "options": asdict(self.options),
            "data": asdict(self.data),
            **named,
        }

    @classmethod
    def read(cls, table: dict[str, Any], where: Path | str) -> Game:
        """The game that the table describes. Raises UserError if the table is wrong.

        where  what the table was read from, for the message
        """
        name = table.get("member")
        if not isinstance(name, str) or name not in MEMBERS:
            known = ", ".join(MEMBERS)
            raise UserError(f"{where}: member {short(repr(name))} is not one of {known}; {REMEDY}")
        options = MEMBERS[name].Options.read(table.get("options"), f"{where}: options")
        data = DataOptions.read(table.get("data"), f"{where}: data")
        classes = table.get("classes", [])
        _check_classes(classes, name, where)
        return cls(name, options, data, tuple(classes))

    def outline(self) -> dict[str, Tensor]:
        """The shapes and dtypes of the weights, by their paths: see `GAN.outline`."""
        member = MEMBERS[self.member]
        return member.outline(self.options, self.data.shape, len(self.classes))

    def class_number(self, what: str, wanted: int | str) -> int:
        """The number of a class, given its number or its name.

        A text of digits is first looked up as a name, then as a number.

        what  the option or argument, for the message

        Raises UserError if there is no such class.
        """
        numbers = {str(k): k for k in range(len(self.classes))}
        names = {name: k for k, name in enumerate(self.classes)}
        found = numbers if isinstance(wanted, int) else {**numbers, **names}
        if not self.classes:
            raise UserError(
                f"{what} {short(wanted)}: member {self.member} has no classes; leave it out"
            )
        if str(wanted) not in found:
            raise UserError(
                f"{what} {short(wanted)}: the classes are {short(', '.join(self.classes))}; give a "
                f"name, or a number from 0 to {len(self.classes) - 1}"
            )
        return found[str(wanted)]

    def check_psi(self, what: str, psi: Any) -> None:
        """Raise UserError for a truncation that cannot be used; None asks for none.

        what  the option or argument, for the message
        """
        if psi is None:
            return
        if not MEMBERS[self.member].styled:
            raise UserError(
                f"{what} {short(psi)}: member {self.member} has no styles; leave it out"
            )
        number = isinstance(psi, (int, float)) and not isinstance(psi, bool)
        if not number or not abs(psi) <= MOST_PSI:  # refuses NaN
            raise UserError(f"{what} {short(psi)}: must be a number from -{MOST_PSI} to {MOST_PSI}")

    def build(self, device: str = "cpu", group: Group = ALONE) -> GAN:
        """The member with its first weights."""
        o, K = self.options, len(self.classes)
        rng = generator(o.seed, "init")
        return MEMBERS[self.member](o, self.data.shape, rng, device, group, K)


def _check_classes(classes: Any, member: str, where: Path | str) -> None:
    """Raise UserError unless these are different names, as many as the member needs.

    That is some for a conditional member, two for one that translates, and none for any other.
    """
    names = isinstance(classes, list) and all(isinstance(each, str) for each in classes)
    if not names or len(set(classes)) < len(classes):
        raise UserError(
            f"{where}: classes {short(repr(classes))} is not a list of different names; {REMEDY}"
        )
    translates, conditional = MEMBERS[member].translates, MEMBERS[member].conditional
    if conditional != bool(classes) or (translates and len(classes) != 2):
        needs = "a list of classes" if conditional else "no classes"
        needs = "two classes" if translates else needs
        raise UserError(
            f"{where}: member {member} needs {needs}, but {len(classes)} are listed; {REMEDY}"
        )
