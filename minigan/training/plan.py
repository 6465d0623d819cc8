"""The plan of a run: a member and its options, the data's options and the run's."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..data import Dataset, mixture
from ..data.kinds import KINDS, usual_place
from ..data.opening import DataOptions, Root
from ..errors import UserError
from ..gans import MEMBERS
from ..gans.base import Options
from ..options import REMEDY, check_images, check_names, short
from .game import Game
from .recipes import recipe
from .run import Run
from .settings import RunOptions, check_processes, is_path


@dataclass(frozen=True)
class Plan:
    """All options of a run, checked. All but `run` and `dataroot` affect the weights: see `game`.

    classes  the names of the data's classes, for a conditional member; empty until `on` sets them

    Raises UserError for options that contradict each other.
    """

    member: str
    options: Options
    data: DataOptions
    run: RunOptions
    dataroot: Root = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dataroot", root_of(self.dataroot))
        shown = self.dataroot if isinstance(self.dataroot, str) else " ".join(self.dataroot or ())
        if self.dataroot is not None and not self.data.kind.files:
            raise UserError(
                f"--dataroot {short(shown)}: --data {self.data.data} reads no files; drop one"
            )
        if isinstance(self.dataroot, tuple) and self.data.data != "folder":
            raise UserError(
                f"--dataroot {short(shown)}: two paths are the two classes of --data folder, not of "
                f"--data {self.data.data}; give one path"
            )
        if MEMBERS[self.member].translates and not self.data.has_domains:
            raise UserError(
                f"--data {self.data.data}: member {self.member} translates between two classes; use "
                "seasons, a folder with two subfolders, or celeba with one attribute as --condition"
            )
        if MEMBERS[self.member].conditional and not self.data.has_classes:
            labelled = ", ".join(name for name, kind in KINDS.items() if kind.classes)
            remedy = "give --condition, or use" if self.data.data == "celeba" else "use"
            raise UserError(
                f"--data {self.data.data} has no classes, and member {self.member} needs them; "
                f"{remedy} one of {labelled}"
            )
        if MEMBERS[self.member].only_images and self.data.kind.points:
            raise UserError(
                f"--data {self.data.data}: member {self.member} makes images, not points; use another "
                "member, or other data, such as faces"
            )
        if self.data.condition is not None and not MEMBERS[self.member].conditional:
            told = ", ".join(name for name, member in MEMBERS.items() if member.conditional)
            raise UserError(
                f"--condition {short(self.data.condition)}: member {self.member} is told no classes; "
                f"leave it out, or train {told}"
            )
        self.check_processes(self.run.ngpu or 1)

    def check_processes(self, count: int) -> None:
        """Raise UserError unless this many processes can share the plan's batches."""
        images = len(self.data.shape) == 3 and not MEMBERS[self.member].translates
        check_processes(count, self.options.batch_size, images, self.run.device)
        share, unit = self.options.batch_size // count, self.options.unit
        self.options.check_share(share)
        if count > 1 and share % unit:
            raise UserError(
                f"--batch-size {self.options.batch_size}: D judges {unit} samples together in each of "
                f"{count} processes; make it a multiple of {count * unit}"
            )

    def table(self) -> dict[str, Any]:
        """The plan as a table for config.json."""
        return {**self.game.table(), "run": asdict(self.run), "dataroot": self.dataroot}

    @property
    def game(self) -> Game:
        """The part of the plan that determines the weights."""
        return Game(self.member, self.options, self.data, self.classes)

    def on(self, data: Dataset) -> Plan:
        """The plan with the classes of its data; unchanged if its member is not conditional.

        Raises UserError if they are not the classes with which the run was started, or not two for a
        member that translates.
        """
        if not MEMBERS[self.member].conditional:
            return self
        if self.classes and self.classes != tuple(data.classes):
            raise UserError(
                f"the classes of {data.name} are {short(', '.join(data.classes))}, but the run was "
                f"started with {short(', '.join(self.classes))}; give their --dataroot, or start a "
                "new run"
            )
        if MEMBERS[self.member].translates and len(data.classes) != 2:
            raise UserError(
                f"{data.name} has {len(data.classes)} classes, and member {self.member} translates "
                "between two; give a folder with two subfolders"
            )
        return dataclasses.replace(self, classes=tuple(data.classes))

    @classmethod
    def read(cls, config: dict[str, Any], where: Path | str) -> Plan:
        """The plan in the content of config.json. Raises UserError if there is none.

        where  the file, for the message
        """
        if "member" not in config and "options" in config:
            raise UserError(
                f"{where} was written by minigan 0.1, whose options and checkpoints were different; "
                "start a new run"
            )
        game = Game.read(config, where)
        dataroot = config.get("dataroot")
        run = RunOptions.read(config.get("run"), f"{where}: run")
        try:
            return cls(game.member, game.options, game.data, run, dataroot, game.classes)
        except UserError as error:
            raise UserError(f"{where}: {error}; {REMEDY}") from None


def root_of(given: Any) -> Root:
    """What is given as --dataroot: a path, two, or None. Raises UserError for anything else."""
    pair = isinstance(given, (list, tuple))
    if pair and len(given) == 2 and None not in given and all(map(is_path, given)):
        return tuple(given)
    if pair or not is_path(given):
        two = ", or two, one for each of two classes" if pair else ""
        raise UserError(f"--dataroot {short(repr(given))}: must be a path{two}")
    return given


def choose(member: str, given: dict[str, Any]) -> Plan:
    """The plan of a new run: the given options, else those of the recipe, else the defaults.

    Raises UserError for an unknown member, an unknown option or an illegal value.
    """
    if not isinstance(member, str) or member not in MEMBERS:
        raise UserError(f"member {short(repr(member))} is not one of {', '.join(MEMBERS)}")
    given = dict(given)
    if "data" in given:
        DataOptions(data=given["data"])  # refuses a wrong value, before anything is looked up by it
    dataroot = root_of(given.pop("dataroot", None))
    if MEMBERS[member].conditional and dataroot is None and "condition" not in given:
        # the default, faces, has no classes
        given.setdefault("data", "seasons" if MEMBERS[member].translates else "digits")
    if isinstance(dataroot, tuple) or (MEMBERS[member].translates and "condition" not in given):
        given.setdefault("data", "folder")
    if dataroot is None:
        dataroot = usual_place(given.get("data", "celeba"))
    given.setdefault("data", "faces" if dataroot is None else "celeba")
    tables = (MEMBERS[member].Options, DataOptions, RunOptions)
    check_names(given, tables, member)
    if given["data"] in mixture.CENTERS:
        check_images(given, tables, given["data"])
    given = {**recipe(member, given["data"]), **given}
    return Plan(member, *(table.pick(given) for table in tables), dataroot)


def resumed(run: Run, given: dict[str, Any]) -> Plan:
    """The plan of an existing run, in which the given options of the run replace the saved ones.

    Raises UserError if an option that affects the weights is given a different value; the message lists
    the differences.
    """
    where = run.folder / "config.json"
    plan = Plan.read(run.config, where)
    given = {"out": str(run.out), **given}  # not config.json's, because the folder may have moved
    dataroot = given.pop("dataroot", plan.dataroot)
    check_names(given, (type(plan.options), DataOptions, RunOptions), plan.member)
    if changes := plan.options.changes(given) + plan.data.changes(given):
        raise UserError(f"{run.folder} was started with other options: {', '.join(changes)}")
    chosen = {name: given[name] for name in RunOptions.names() if name in given}
    return dataclasses.replace(plan, run=dataclasses.replace(plan.run, **chosen), dataroot=dataroot)
