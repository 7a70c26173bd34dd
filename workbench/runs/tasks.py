"""What is asked about every image of a run: a report, a differential, or questions.

Does not know: images, models, how the answers are decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workbench.errors import OptionError, did_you_mean
from workbench.model.prompt import (
    Message,
    check_characters,
    differential_messages,
    question_messages,
    render_chat,
    report_messages,
)

#: Tasks with a published prompt.
NAMED = {"report": report_messages, "differential": differential_messages}

_HELP = (
    "a task is 'report', 'differential' or 'ask:QUESTION' (in Python also {'ask': 'a question', "
    "'name': 'optional'})"
)


@dataclass(frozen=True)
class Task:
    """One thing to ask about every image.

    Attributes:
        name: what the column `task` of the results says.
        kind: "report", "differential" or "question".
        question: the user's words; empty for the published prompts.
    """

    name: str
    kind: str
    question: str = ""

    def messages(self) -> list[Message]:
        """Return the dialogue that asks for it."""
        return NAMED[self.kind]() if self.kind in NAMED else question_messages(self.question)

    def to_dict(self) -> dict:
        """Return the task and its prompt as rendered, as plain values for JSON."""
        prompt = render_chat(self.messages())
        return {"name": self.name, "kind": self.kind, "question": self.question, "prompt": prompt}


def read_tasks(tasks: Sequence[str | Mapping | Task] | str) -> tuple[Task, ...]:
    """Read tasks as users give them.

    Args:
        tasks: "report", "differential", {"ask": question} (with an optional "name"), or a list of
            these; a text that begins with "ask:" is a question too.

    Raises:
        OptionError: there is none, one is something else, or two have one name.
        InputError: a question is empty or holds a mark of the chat template, or a name or a
            question has half a character.
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
