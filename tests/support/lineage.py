"""Repositories whose dvc.yaml is compared with their code."""

from pathlib import Path

from reprocnn.commands import lineage


def lines(root: Path) -> list[str]:
    return [str(difference) for difference in lineage.differences(root)]


def make_repository(folder: Path) -> None:
    """Do what `dvc init --no-scm` does, as far as it matters here."""
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvc/config").write_text("[core]\n    no_scm = True\n")
