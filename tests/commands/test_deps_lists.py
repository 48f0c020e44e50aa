"""A dep is added to the text of a dvc.yaml or removed from it, and nothing else changes."""

import pytest

from reprocnn.commands.deps_lists import edit

BLOCK = "stages:\n  a:\n    cmd: x\n    deps:\n      - a.py # entry\n      - b.py\n    outs: [b.py]\n  b:\n    cmd: x\n"
FLOW = "stages:\n  a: {cmd: x, deps: [a.py, b.py, c.py]}\n"


@pytest.mark.parametrize(
    ("text", "path", "old", "new"),
    [
        (BLOCK, "c.py", "- b.py\n", "- b.py\n      - c.py\n"),
        (BLOCK, "c d.py", "- b.py\n", '- b.py\n      - "c d.py"\n'),
        (FLOW, "d.py", "c.py]", "c.py, d.py]"),
        ("stages: {a: {cmd: x}}\n", "d.py", "{cmd", "{deps: [d.py], cmd"),
        ("stages:\n  a:\n    cmd: x\n", "d.py", "    cmd", "    deps:\n      - d.py\n    cmd"),
        ("stages:\n  a:\n    cmd: x\n    deps: []\n", "d.py", "[]", "[d.py]"),
        ("stages:\n  a:\n    cmd: x\n    deps:\n    - a.py", "d.py", "- a.py", "- a.py\n    - d.py\n"),
    ],
)
def test_adds_at_the_end_of_the_list(text, path, old, new):
    assert text.count(old) == 1
    assert edit(text, "a", "add", path) == text.replace(old, new)


SHARED = "stages:\n  a:\n    cmd: x\n    deps: &d\n      - a.py\n  b:\n    cmd: x\n"


def test_a_list_with_an_anchor_keeps_its_indent():
    assert edit(SHARED, "a", "add", "c.py") == SHARED.replace("- a.py\n", "- a.py\n      - c.py\n")


@pytest.mark.parametrize("stage", ["a", "b"])
@pytest.mark.parametrize(("action", "path"), [("add", "c.py"), ("remove", "a.py")])
def test_a_list_that_two_stages_share_is_left_alone(stage, action, path):
    text = f"{SHARED}    deps: *d\n"
    assert edit(text, stage, action, path) == text


@pytest.mark.parametrize(("action", "path"), [("add", "c.py"), ("remove", "a.py")])
@pytest.mark.parametrize(
    "text",
    [
        "stages:\n  a: &s\n    cmd: x\n    deps:\n      - a.py\n      - b.py\n  b: *s\n",  # shared by an alias
        "stages:\n  a:\n    cmd: x\n    deps:\n      -\n        b.py\n      -\n        a.py\n",  # dashes of their own
    ],
)
def test_what_no_edit_of_a_line_can_change_is_left_alone(text, action, path):
    assert edit(text, "a", action, path) == text


def test_adds_above_a_list_that_ends_in_several_lines():
    text = BLOCK.replace("- b.py\n", "- data:\n          x: 1\n")
    assert edit(text, "a", "add", "c.py") == text.replace("      - a.py", "      - c.py\n      - a.py")


@pytest.mark.parametrize(
    ("text", "path", "old", "new"),
    [
        (BLOCK, "b.py", "      - b.py\n", ""),
        (BLOCK, "a.py", "      - a.py # entry\n", ""),
        (FLOW, "a.py", "a.py, ", ""),
        (FLOW, "b.py", "b.py, ", ""),
        (FLOW, "c.py", ", c.py", ""),
        ("stages: {a: {cmd: x, deps: [a.py, b.py]}}\n", "a.py", "a.py, ", ""),
        ("stages: {a: {cmd: x, deps: [a.py]}}\n", "a.py", "[a.py]", "[]"),
        ("stages:\n  a:\n    cmd: x\n    deps: # all\n    - a.py\n    outs: [o]\n", "a.py", ": # all\n    - a.py\n",
         ": [] # all\n"),
    ],
)  # fmt: skip
def test_removes_an_item_with_its_line_or_comma(text, path, old, new):
    assert text.count(old) == 1
    assert edit(text, "a", "remove", path) == text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "stage", "action", "path"),
    [
        (BLOCK, "a", "add", "b.py"),
        (BLOCK, "a", "remove", "c.py"),
        (BLOCK, "b", "remove", "a.py"),
        (BLOCK, "nosuch", "add", "c.py"),
        ("stages:\n  a:\n    foreach: [1]\n    do: {cmd: x, deps: [a.py]}\n", "a", "add", "c.py"),
        ("stages:\n  a:\n    matrix: {i: [1]}\n    cmd: x\n    deps: [a.py]\n", "a", "add", "c.py"),
        ("stages:\n  a:\n    matrix: {i: [1]}\n    cmd: x\n    deps: [a.py]\n", "a", "remove", "a.py"),
    ],
)
def test_what_is_done_already_or_not_plain_stays_as_it_is(text, stage, action, path):
    assert edit(text, stage, action, path) == text


def test_another_stage_is_left_alone():
    assert edit(BLOCK, "b", "add", "a.py") == BLOCK.replace("  b:\n", "  b:\n    deps:\n      - a.py\n")
    text = "stages:\n  train_all: {cmd: x}\n  train: {cmd: y}\n"
    assert edit(text, "train", "add", "a.py") == text.replace("{cmd: y", "{deps: [a.py], cmd: y")


@pytest.mark.parametrize("action", ["add", "remove"])
@pytest.mark.parametrize(
    "text", [BLOCK, FLOW, "stages:\n  a:\n    cmd: x\n", "stages:\n  a:\n    cmd: x\n    deps:\n    - b.py"]
)
def test_a_line_ends_as_its_neighbour_does(text, action):
    path = "d.py" if action == "add" else "b.py"
    windows = text.replace("\n", "\r\n")
    assert edit(windows, "a", action, path) == edit(text, "a", action, path).replace("\n", "\r\n")
    mixed = f"# comment\r\n{text}".replace("outs: [b.py]\n", "outs: [b.py]\r\n")
    expected = f"# comment\r\n{edit(text, 'a', action, path)}".replace("outs: [b.py]\n", "outs: [b.py]\r\n")
    assert edit(mixed, "a", action, path) == expected
