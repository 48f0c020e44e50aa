"""The documentation: generated pages are current, links lead somewhere, and the site works without a network."""

import functools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from docs import reference
from tests.support.browser import chromium, needs_chromium, opened
from tests.support.commands import ROOT, environment

DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


def text_of(path: Path) -> str:
    """Read a page without its code blocks and comments."""
    return re.sub(r"^```.*?^```|<!--.*?-->", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.*)", text_of(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", reference.pages())
def test_a_generated_page_is_current(name):
    page = reference.FOLDER / name
    assert (ROOT / page).read_text(encoding="utf-8") == pages()[name], f"{page}: out of date; run `make generate`"


@functools.cache
def pages() -> dict[str, str]:
    return reference.pages()


def test_params_are_described_with_type_bounds_value_and_meaning():
    page = pages()["params.md"]
    assert "| `lr` | number, > 0, ≤ 10 | `0.01` | Base learning rate" in page
    assert "| `epochs` | integer, ≥ 1, ≤ 10,000 | `16` | `14` |" in page
    assert "| `flip` | boolean | `false` | `true` |" in page
    assert "| `optimizer` | `adam`, `muon` | `adam` | `muon` |" in page
    assert "| `cifar.test.accuracy` | at_least 0.915 |" in page


def test_every_param_has_a_meaning():
    schema = json.loads((ROOT / "params.schema.json").read_text(encoding="utf-8"))
    keys = {**schema["properties"], **schema["$defs"]["dataset"]["properties"]}
    sections = {"mnist", "cifar", "targets", "gate"}
    assert [key for key, own in keys.items() if key not in sections and not own.get("description")] == []


def test_arguments_are_described_by_the_commands_own_parsers():
    page = pages()["command-line.md"]
    assert "| `--threads N` | threads per trial | `2` |" in page
    assert "| `--format {text,json,sarif}` |" in page
    assert "| `NAME_OR_FILE` |" in page
    assert "| `make docs` |" in page


def test_every_page_has_its_place_in_the_navigation():
    def files(entries) -> list[str]:
        found = []
        for entry in entries:
            (value,) = entry.values()
            found += files(value) if isinstance(value, list) else [value]
        return found

    assert sorted(files(CONFIG["nav"])) == PAGES


@pytest.mark.parametrize("page", ["../README.md", "../CONTRIBUTING.md", "../benchmarks/README.md", *PAGES])
def test_links_and_images_of_a_page_lead_somewhere(page):
    """On GitHub too; strict mode does not look for images."""
    path = DOCS / page
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        target, _, anchor = link.partition("#")
        if not re.match(r"[a-z]+:", link):
            file = (path.parent / target).resolve() if target else path
            assert file.exists(), link
            assert not anchor or anchor in anchors(file), link
            if page in PAGES:
                assert DOCS in file.parents, f"{link}: not on the site"


def build(folder: Path) -> tuple[int, str]:
    """Build the site in a copy; give the exit code and the output."""
    command = [str(ROOT / ".venv-docs/bin/zensical"), "build", "--clean", "--strict"]
    done = subprocess.run(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, re.sub(r"\x1b\[[\d;]*m", "", done.stdout)


@pytest.fixture
def source(tmp_path, tmp_path_factory) -> Path:
    """Copy what the site is built from, and install what builds it unless `make docs` has."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "venv-docs.lock"):
        make = ["make", "--assume-old=.venv/.installed", ".venv-docs/.installed"]
        done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        assert os.environ.get("CI") != "true", done.stderr
        pytest.skip(f"needs a package index: {done.stderr[-200:]}")
    for name in ("docs", "reprocnn"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("planted", "complaint"),
    [
        ("[a page](nowhere.md)", "page does not exist"),
        ("[a heading](quick-start.md#nowhere)", "anchor does not exist"),
        ("::: reprocnn.nowhere", "could not be found"),
    ],
)
def test_a_planted_dead_link_fails_the_build(source, planted, complaint):
    with (source / "docs/index.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{planted}\n")
    code, output = build(source)
    assert code == 1, output
    assert complaint in output


@pytest.mark.slow
@needs_chromium
def test_search_works_from_files_without_a_network(source):
    code, output = build(source)
    assert code == 0, output
    assert not list((source / "site").rglob("*.py"))
    with chromium() as browser, opened(browser, source / "site/index.html", width=1280) as seen:
        seen.page.get_by_role("button", name="Search").first.click()
        box = seen.page.locator("input[aria-label=Search]")
        box.press_sequentially("McNemar", delay=30)
        hit = seen.page.locator("a[href*='reference/api/gate']", has_text="mcnemar").first
        hit.wait_for()
        assert box.input_value() == "McNemar"
        hit.click()
        seen.page.wait_for_url("**/reference/api/gate.html*")
        assert seen.page.locator("h1").inner_text().startswith("Gate API")
        assert seen.requests == []
        assert [line for line in seen.complaints if line.startswith("error")] == []
        assert seen.broken_images() == []
