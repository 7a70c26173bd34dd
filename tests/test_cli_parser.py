"""What the command line answers to slips: nearest name, one line of usage, words of the shell."""

from __future__ import annotations

import argparse
import ast
import re
from functools import cache
from pathlib import Path

import pytest

from workbench.cli import COMMANDS, USAGE, Parser, build_parser, main
from workbench.errors import did_you_mean

ROOT = Path(__file__).resolve().parents[1]


def leaves(parser: Parser) -> list[Parser]:
    """Return the parsers of all commands, of their actions where a command has some."""
    listed = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    below = [leaf for action in listed for sub in action.choices.values() for leaf in leaves(sub)]
    return below or [parser]


LEAVES = {leaf.prog: leaf for leaf in leaves(build_parser())}


def refusal(arguments: list[str], capsys) -> str:
    """Return what is said of a slip: a line of usage, and a line about the slip."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == USAGE
    usage, said = capsys.readouterr().err.splitlines()
    assert usage.startswith("usage: workbench")
    return said


# --- one line of usage ---------------------------------------------------------------------------


@pytest.mark.parametrize("prog", LEAVES)
def test_an_unknown_option_is_two_lines_everywhere(prog, capsys):
    said = refusal([*prog.split()[1:], "--no-such-thing"], capsys)
    assert said.startswith(f"{prog}: error: unknown option --no-such-thing")


def test_usage_names_what_a_command_cannot_do_without():
    assert (
        LEAVES["workbench run"]
        .short_usage()
        .startswith("usage: workbench run --manifest FILE --out DIR [options]")
    )
    assert "IMAGE QUESTION" in LEAVES["workbench ask"].short_usage()
    assert "RECIPE" not in LEAVES["workbench train"].short_usage()


# --- the nearest name ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("reprot", "report"), ("Report", "report"), ("reports", "report"), ("rep", "report"),
        ("evalute", "evaluate"), ("eval", "evaluate"), ("docter", "doctor"), ("lable", "label"),
        ("check_text", "check-text"), ("checktext", "check-text"), ("manifset", "manifest"),
        ("model", "models"), ("benchmarks", "benchmark"), ("trian", "train"), ("phantm", "phantom"),
        ("reveiw", "review"), ("aks", "ask"), ("apps", "app"), ("rnu", "run"), ("demos", "demo"),
    ],
)  # fmt: skip
def test_a_misspelt_command_is_recognised(typed, meant, capsys):
    assert f"unknown command {typed!r}; did you mean {meant!r}?" in refusal([typed, "x"], capsys)


def test_a_command_that_is_near_to_none_gets_the_list(capsys):
    said = refusal(["frobnicate"], capsys)
    assert "did you mean" not in said
    assert all(name in said for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["report", "x.png", "--mitgation", "revise"], "--mitigation"),
        (["report", "x.png", "--max-tokens=3"], "--max-new-tokens"),
        (["run", "--manifset", "m.csv", "--out", "r"], "--manifest"),
        (["run", "--batchsize", "3"], "--batch-size"),
        (["ask", "x.png", "q", "--devcie", "cpu"], "--device"),
        (["label", "x.csv", "--text_column", "t"], "--text-column"),
        (["evaluate", "--refernces", "x"], "--references"),
        (["review", "analyse", "study", "--partail"], "--partial"),
        (["manifest", "split", "m.csv", "--trian", "0.5"], "--train"),
        (["doctor", "--partiy", "x"], "--parity"),
        (["--versoin"], "--version"),
        (["report", "x.png", "--mitigation", "revize"], "revise"),
        (["report", "x.png", "--task", "Differential"], "differential"),
        (["report", "x.png", "--dtype", "bfloat"], "bfloat16"),
        (["run", "--quantize", "8-bit"], "8bit"),
        (["evaluate", "--policy", "joint_definite"], "joint-definite"),
        (["phantom", "--zone", "lowr"], "lower"),
        (["phantom", "--findings", "plural effusion"], "pleural effusion"),
        (["benchmark", "saliensy"], "saliency"),
        (["manifest", "chekc", "m.csv"], "check"),
        (["review", "que", "r"], "queue"),
        (["train", "mini", "--stages", "phantom"], "phantoms"),
    ],
)
def test_a_misspelt_option_choice_or_action_is_recognised(arguments, meant, capsys):
    assert f"did you mean {meant!r}?" in refusal(arguments, capsys)


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["manifest", "card", "nhi"], "nih"),
        (["run", "--manifest", "m", "--out", "r", "--task", "differental"], "differential"),
        (["label", "x.csv", "--backend", "rule"], "rules"),
        (["train", "stage3_lor"], "stage3_lora"),
        (["train", "stage3_lora", "--set", "training.epoch=3", "--plan"], "epochs"),
        (["models", "mimi"], "mini"),
        (["report", __file__, "--model", "Mini"], "mini"),
    ],
)
def test_a_misspelt_name_is_recognised_where_the_command_reads_it(arguments, meant, capsys):
    assert main(arguments) in (1, 2)
    assert f"did you mean {meant!r}?" in capsys.readouterr().err


def test_what_is_near_to_nothing_is_near_to_nothing():
    assert did_you_mean("x", ("report", "run")) == ""
    assert did_you_mean(None, ("report",)) == ""
    assert did_you_mean("", ("report",)) == ""


def test_an_option_on_the_wrong_side_of_the_command_is_sent_to_its_place(capsys):
    said = refusal(["report", "x.png", "--verbose"], capsys)
    assert "it stands before the command: workbench --verbose report" in said
    assert "stands behind it: workbench COMMAND --json" in refusal(["--json", "report"], capsys)


# --- quotes that are missing ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        ("ask x.png Is there a pneumothorax?", '"Is there a pneumothorax?"'),
        ("ask x.png Is there a nodule there --model mini", '"Is there a nodule there"'),
        ("ask --json x.png What is it", '"What is it"'),
        ("run --manifest m --out r --task ask:Is it normal? --json", '--task "ask:Is it normal?"'),
        ("review queue runs/x --kind missed finding", '--kind "missed finding"'),
        ("review study r --readers A --out s --title My study", '--title "My study"'),
        ("label my reports.csv", '"my reports.csv"'),
    ],
)
def test_a_text_without_quotes_is_shown_with_them(arguments, whole, capsys):
    said = refusal(arguments.split(), capsys)
    assert f"a text of several words stands in quotes: {whole}" in said


def test_a_word_too_many_is_named(capsys):
    assert "unexpected 'everything'" in refusal(["doctor", "everything"], capsys)


def test_question_and_image_that_changed_places_are_put_right(tmp_path, capsys):
    (tmp_path / "x.png").touch()
    said = refusal(["ask", "Is there a nodule?", str(tmp_path / "x.png")], capsys)
    assert "the image comes first" in said


# --- words of Python -----------------------------------------------------------------------------


@cache
def messages() -> set[str]:
    """Return what every error of the package says, with 'x' for what is only known then."""
    found = set()
    for path in sorted((ROOT / "workbench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            if ast.unparse(node.func).split(".")[-1].endswith(("Error", "warning", "append")):
                found |= {text for argument in node.args for text in said(argument)}
    return found


def said(node: ast.AST) -> list[str]:
    """Return the texts that an expression may come to."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    if isinstance(node, ast.JoinedStr):
        parts = [
            part.value if isinstance(part, ast.Constant) else "'x'" if part.conversion > 0 else "x"
            for part in node.values
        ]
        return ["".join(parts)]
    return [text for part in ast.iter_child_nodes(node) for text in said(part)]


@pytest.mark.parametrize("prog", LEAVES)
def test_no_error_names_an_argument_of_python_to_who_typed_a_command(prog):
    parser = LEAVES[prog]
    options = {action.dest for action in parser._actions if action.option_strings}
    for message in messages():
        spoken = parser.spoken(message)
        for found in re.finditer(r"(?<![\w.\-&?/])([a-z]\w*)=(\S*)", spoken):
            assert found[1] not in options, spoken
        for name in options:
            assert "_" not in name or not re.search(rf"(?<![\w.'-]){name}(?![\w('])", spoken), (
                spoken
            )


@pytest.mark.parametrize(
    ("prog", "message", "spoken"),
    [
        ("review analyse", "Wait, or ask for partial=True", "Wait, or ask for --partial"),
        ("manifest split", "divide one by within='train', or throw it away with replace=True",
         "divide one by --within train, or throw it away with --replace"),
        ("run", "name it with root=", "name it with --root"),
        ("run", "use device='cpu', or quantize='8bit'", "use --device cpu, or --quantize 8bit"),
        ("run", "workers belong to engine='ray'", "workers belong to --engine ray"),
        ("run", "batch_size must be 1 or more", "--batch-size must be 1 or more"),
        ("report", "temperature must be 0 or more", "--temperature must be 0 or more"),
        ("report", "load it with fit='pad' or turn it", "load it with --fit pad or turn it"),
        ("report", "load it with invert=True", "load it with invert=True (in Python)"),
        ("train", "go on with it by resume=True (--resume)", "go on with it by --resume"),
        ("report", "a=b.csv and seed=3.csv are no images", "a=b.csv and seed=3.csv are no images"),
        ("report", "top_p.png: no such file", "top_p.png: no such file"),
    ],
)  # fmt: skip
def test_arguments_of_python_are_said_as_they_are_typed(prog, message, spoken):
    assert LEAVES[f"workbench {prog}"].spoken(message) == spoken
