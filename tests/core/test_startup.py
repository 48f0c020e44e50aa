"""How a process begins and ends, in this process."""

import io
import os
import sys
from unittest import mock

import psutil
import pytest

from reprocnn.core import startup
from reprocnn.core.errors import UserError


@pytest.mark.parametrize(
    ("version", "fits"), [((3, 10, 9), False), ((3, 11, 0), True), ((3, 13, 5), True), ((3, 14, 0), False)]
)
def test_the_versions_of_python_that_run_it(monkeypatch, version, fits):
    monkeypatch.setattr(sys, "version_info", version)
    ran: list[bool] = []
    if fits:
        startup.run(lambda: ran.append(True))
        assert ran == [True]
    else:
        with pytest.raises(SystemExit) as exit_:
            startup.run(lambda: ran.append(True))
        message = f"error: this is Python 3.{version[1]} ({sys.executable}), expected 3.11 to 3.13; "
        assert str(exit_.value.code).startswith(message)
        assert ran == []


def test_a_reader_that_has_had_enough_is_no_message(monkeypatch):
    redirected = []
    monkeypatch.setattr(os, "dup2", lambda *given: redirected.append(given[1]))

    def main() -> None:
        raise BrokenPipeError

    with pytest.raises(SystemExit) as exit_:
        startup.run(main)
    assert (exit_.value.code, redirected) == (1, [1])


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("disk on fire"), "error: disk on fire; fix that and run the same command again"),
        (PermissionError(13, "Permission denied", "x"), "error: x: Permission denied; fix that and run the same c"),
        (UserError("a"), "error: a"),
        (MemoryError(), "error: not enough memory; stop other programs, or if files were edited, restore them"),
        (MemoryError("Unable to allocate 1 PiB"), "error: not enough memory (Unable to allocate 1 PiB); stop other"),
    ],
)
def test_the_end_of_a_process_that_failed(error, line):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        startup.run(main)
    assert str(exit_.value.code).startswith(line)


def test_what_the_terminal_cannot_show_is_printed_as_an_escape(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii"))
    startup.run(lambda: print("≥ \udcff", flush=True))
    assert written.getvalue() == rb"\u2265 \udcff" + b"\n"


def test_a_module_without_a_name_keeps_its_traceback():
    def main() -> None:
        raise ModuleNotFoundError

    with pytest.raises(ModuleNotFoundError):
        startup.run(main)


class Parent:
    """The parent of this process, as psutil sees it."""

    shown = "dash"

    def __init__(self, pid: int) -> None:
        if pid != os.getppid():
            raise psutil.NoSuchProcess(pid)

    def name(self) -> str:
        return self.shown

    def ppid(self) -> int:
        return 77


@pytest.mark.parametrize(
    ("starters", "orphaned"),
    [([], False), ([0], False), ([1], True), ([0, 77], False), ([0, 78], True), ([1, 77], True)],
)
def test_an_orphan_is_a_process_whose_starter_has_gone(monkeypatch, starters, orphaned):
    monkeypatch.setattr(psutil, "Process", Parent)
    # The first as a distance from the parent's pid.
    monkeypatch.setattr(startup, "_starters", [os.getppid() + pid if i == 0 else pid for i, pid in enumerate(starters)])
    assert startup.orphaned() is orphaned


def test_a_parent_that_ends_meanwhile_leaves_an_orphan(monkeypatch):
    monkeypatch.setattr(startup, "_starters", [5, 77])
    monkeypatch.setattr(psutil, "Process", Parent)
    monkeypatch.setattr(os, "getppid", iter([5, 6]).__next__)
    assert startup.orphaned()


@pytest.mark.parametrize("name", ["dash", "bash", "sh", "zsh", "fish", "ksh", "dvc"])
def test_the_starters_are_the_parent_and_what_started_a_shell(monkeypatch, name):
    monkeypatch.setattr(psutil, "Process", Parent)
    monkeypatch.setattr(Parent, "shown", name)
    monkeypatch.setattr(startup, "_starters", [])
    startup.run(lambda: None)
    assert startup._starters == [os.getppid(), 77][: 1 if name == "dvc" else 2]


@pytest.mark.parametrize("error", [psutil.NoSuchProcess, psutil.AccessDenied])
def test_a_parent_that_cannot_be_looked_at_is_the_only_starter(monkeypatch, error):
    monkeypatch.setattr(psutil, "Process", mock.Mock(side_effect=error(1)))
    monkeypatch.setattr(startup, "_starters", [])
    startup.run(lambda: None)
    assert startup._starters == [os.getppid()]
