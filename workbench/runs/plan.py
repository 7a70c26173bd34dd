"""What a run is to do: its tasks, and how its rows are divided into blocks and given seeds.

A block is the unit of work: a few neighbouring rows of the manifest with all their tasks. It is
decoded together and written down in one transaction, so it is either finished or not begun, and a
run that was interrupted decodes exactly the batches of one that was not. The seed of a row is a
hash of the run's seed, the row and the task: it does not depend on what is decoded beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice

from workbench.errors import OptionError, check_one_of, check_whole, did_you_mean
from workbench.generation.options import DecodingSettings
from workbench.model.prompt import PUBLISHED_PROMPTS, Message, Prompts, check_characters
from workbench.radiograph.fit import FITS

#: Where blocks are decoded.
ENGINES = ("local", "ray")
#: Tasks with a prompt of the model's.
NAMED = ("report", "differential")

_HELP = (
    "a task is 'report', 'differential' or 'ask:QUESTION' (in Python also {'ask': 'a question', "
    "'name': 'optional'})"
)


@dataclass(frozen=True)
class Task:
    """One thing to ask about every image: a "report", a "differential" or a "question".

    `question` is empty for the model's own prompts.

    >>> [turn.role for turn in wb.runs.Task("tube", "question", "Is there a tube?").messages()]
    ['system', 'user']
    """

    name: str
    kind: str
    question: str = ""

    def messages(self, prompts: Prompts = PUBLISHED_PROMPTS) -> list[Message]:
        """Return the dialogue that asks for it."""
        if self.kind not in NAMED:
            return prompts.question_messages(self.question)
        report = self.kind == "report"
        return prompts.report_messages() if report else prompts.differential_messages()


@dataclass(frozen=True)
class Item:
    """One row of a manifest, numbered from 0; the path is None for a row without an image."""

    row: int
    id: str
    source: str
    path: str | None


@dataclass(frozen=True)
class Block:
    """Neighbouring rows that are decoded and written down together; numbered from 0."""

    number: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class RunPlan:
    """Everything that decides the texts of a run, the model and the manifest aside.

    Attributes:
        settings: how it is decoded; the seed is the run's.
        batch_size: answers that are decoded together at most.
        fit, upright: how images are read, see `load_radiograph`.

    Raises:
        OptionError: batch_size, fit or upright is not allowed.

    >>> wb.runs.RunPlan((wb.runs.Task("report", "report"),), wb.DecodingSettings()).batch_size
    8
    """

    tasks: tuple[Task, ...]
    settings: DecodingSettings
    batch_size: int = 8
    fit: str = "crop"
    upright: bool = False

    def __post_init__(self) -> None:
        check_whole(1, batch_size=self.batch_size)
        check_one_of("fit", self.fit, FITS)
        if not isinstance(self.upright, bool):
            raise OptionError(f"upright must be True or False, got {self.upright!r}")
        if self.settings.seed is None:
            object.__setattr__(self, "settings", replace(self.settings, seed=0))

    def blocks(self, items: Iterable[Item]) -> Iterator[Block]:
        """Divide rows into blocks, taking them as they are needed."""
        items, number = iter(items), 0
        images = max(1, self.batch_size // len(self.tasks))
        while chunk := tuple(islice(items, images)):
            yield Block(number, chunk)
            number += 1

    def settings_of(self, item: Item, task: Task) -> DecodingSettings:
        """Return the settings of one answer, with its own seed where it is sampled."""
        if self.settings.greedy:
            return replace(self.settings, seed=None)
        key = f"{self.settings.seed}|{item.row}|{item.source}|{item.id}|{task.name}"
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return replace(self.settings, seed=int.from_bytes(digest[:4], "big") >> 1)

    def to_dict(self, prompts: Sequence[str]) -> dict:
        """Return the plan as plain values for JSON, with the prompts as the model renders them."""
        pairs = zip(self.tasks, prompts, strict=True)
        return {
            "tasks": [{**asdict(task), "prompt": prompt} for task, prompt in pairs],
            "decoding": self.settings.to_dict(),
            "batch_size": self.batch_size,
            "fit": self.fit,
            "upright": self.upright,
        }


def read_tasks(tasks: Sequence[str | Mapping | Task] | str) -> tuple[Task, ...]:
    """Read one or several tasks as users give them, see `_HELP`.

    Raises:
        OptionError: there is none, one is something else, or two have one name.
        InputError: a name or a question cannot be used.
    """
    given = [tasks] if isinstance(tasks, (str, Mapping, Task)) else list(tasks)
    found = tuple(_read(task) for task in given)
    if not found:
        raise OptionError(f"a run needs at least one task; {_HELP}")
    names = [task.name for task in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise OptionError(
            f"two tasks are called {twice[0]!r}; give each question a 'name' of its own"
        )
    for task in found:
        check_characters(task.name)
        task.messages()
    return found


def _read(task: str | Mapping | Task) -> Task:
    if isinstance(task, Task):
        return task
    if isinstance(task, str):
        if task in NAMED:
            return Task(task, task)
        if task.startswith("ask:"):
            return _read({"ask": task.removeprefix("ask:").strip()})
    elif isinstance(task, Mapping) and "ask" in task and set(task) <= {"ask", "name"}:
        question = task["ask"]
        return Task(str(task.get("name") or f"ask: {question}"), "question", question)
    raise OptionError(f"unknown task {task!r}{did_you_mean(task, NAMED)}; {_HELP}")
