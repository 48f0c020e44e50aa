"""The words and commands of command lines."""

import pytest

from reprocnn.gate import shell


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python a.py --n=3", [["python", "a.py", "--n=3"]]),
        ("a && b || c; d | e & f", [["a"], ["b"], ["c"], ["d"], ["e"], ["f"]]),
        ("a\nb", [["a"], ["b"]]),
        ("a \\\n b", [["a", "b"]]),
        ("(cd x && python a.py)", [["cd", "x"], ["python", "a.py"]]),
        ("if ! test x; then time a; else exec b; fi", [["test", "x"], ["a"], ["b"], ["fi"]]),
        ("while { a; }; do until b; done", [["a"], ["}"], ["b"], ["done"]]),
        ("echo do time", [["echo", "do", "time"]]),  # words of a command, not before it
        ("sh -c 'a; b'", [["a"], ["b"]]),
        ("bash -euc 'a && b' x", [["a"], ["b"]]),
        ("bash run.sh -x", [["bash", "run.sh", "-x"]]),
        ("python -c 'a; b'", [["python", "-c", "a; b"]]),
        ("a 'b", [["a", "'b"]]),
        ("a #b", [["a", "#b"]]),
        ("$PWD/a.sh ${PWD}/b $(pwd)/c `pwd`/d", [["./a.sh", "./b", "./c", "./d"]]),
        ("python <<EOF > out\n  a\n  b\nEOF\nc", [["python", "-c", "a\nb\n", ">", "out"], ["c"]]),
    ],
)
def test_commands_of_a_line(line, expected):
    assert list(shell.commands(line)) == expected


def test_quoted_commands_are_words_too():
    assert list(shell.words("x 'a b' c")) == ["x", "a b", "a", "b", "c"]
    assert list(shell.words("'a b'")) == ["a b", "a", "b"]
    assert list(shell.words("a")) == ["a"]


@pytest.mark.parametrize(
    ("command", "name"),
    [(["A=1", "B=", "/bin/x", "y"], "x"), (["x=1"], ""), ([], ""), (["python", "a=b"], "python"), ([".", "x.sh"], ".")],
)
def test_the_program_follows_the_variables(command, name):
    assert shell.program(command) == name


@pytest.mark.parametrize("name", ["sh", "bash", "dash", "ksh", "zsh", "source", "."])
def test_what_starts_a_shell(name):
    assert shell.starts_shell([name, "x"])
    assert shell.starts_shell(["env", f"/bin/{name}" if name != "." else "."])
    assert not shell.starts_shell([f"{name}x", "x"])


@pytest.mark.parametrize("name", ["", "# a comment", "[", ":", "}", "basename", "cd", "rm", "unzip", "zip"])
def test_commands_that_run_no_code(name):
    assert shell.HARMLESS.fullmatch(name)


@pytest.mark.parametrize("name", ["make", "find", "xargs", "sh", "rmx", "[[", "env", "."])
def test_commands_that_may_run_code(name):
    assert not shell.HARMLESS.fullmatch(name)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("src/my_net.py", {"my_net.py", "src", "my_net", "py"}),
        ("a.b.Class", {"a.b.Class", "a", "b", "Class"}),
        ("--config=conf/a.yaml", {"a.yaml", "conf", "a", "yaml"}),
        ("reads x.py and y.py, not z.pyc", {"x.py", "y.py"}),
        ("", set()),
    ],
)
def test_parts_of_a_name(text, parts):
    assert shell.name_parts(text) == parts
