"""The gate on small git + DVC repositories: two states of a result, and what is to be said of them."""

import hashlib
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.fs import GitFileSystem, LocalFileSystem
from dvc.repo.index import Index

from reprocnn.core import params as params_module
from reprocnn.core.errors import UserError
from reprocnn.gate import command, compare, limits, revisions
from reprocnn.gate import lock as dvc_lock
from reprocnn.gate.predictions import SAME_IMAGES
from tests.support import edits
from tests.support.commands import ROOT, call, commit, save

IMAGES = 1000
METRICS, PREDICTIONS = Path("metrics/digits.json"), Path("plots/digits/predictions.csv")
DETAILS = Path("evaluation/digits.json")
DVC_YAML: dict[str, Any] = {
    "stages": {
        "evaluate": {
            "cmd": "python evaluate.py",
            "deps": ["evaluate.py"],
            "params": ["seed"],
            "metrics": [{str(METRICS): {"cache": False}}],
            "plots": [{str(PREDICTIONS): {"cache": False}}],
        }
    }
}


@dataclass
class State:
    """A result of which the images numbered `wrong` are misclassified; `change` may then spoil its metrics."""

    wrong: set[int] = field(default_factory=lambda: set(range(40)))
    images: int = IMAGES
    digest: str | None = "the same images"
    shifted: int = 0  # makes other labels
    predictions: bool = True
    beside: bool = False  # source, n and digest are in evaluation/digits.json
    change: Callable[[dict[str, Any]], Any] = lambda metrics: None
    alpha: float = 0.01
    tolerance: float = 0.05
    target: Any = 0.9

    def write(self) -> None:
        Path("evaluate.py").write_text("print('a model, measured')\n")
        Path("dvc.yaml").write_text(yaml.safe_dump(DVC_YAML))
        limits = {"digits": {"test": {"accuracy": {"at_least": self.target}}}}
        settings = {"seed": 0, "targets": limits, "gate": {"alpha": self.alpha, "tolerance": self.tolerance}}
        Path("params.yaml").write_text(yaml.safe_dump(settings))
        right = self.images - len(self.wrong)
        test: dict[str, Any] = {"n": self.images, "accuracy": right / self.images, "errors": len(self.wrong)}
        if self.digest:
            test["digest"] = self.digest
        metrics: dict[str, Any] = {"digits": {"source": "public", "test": test}}
        self.change(metrics)
        DETAILS.unlink(missing_ok=True)
        if self.beside:
            test = metrics["digits"]["test"]
            of_images = {key: test.pop(key) for key in ("n", "digest") if key in test}
            DETAILS.parent.mkdir(exist_ok=True)
            DETAILS.write_text(json.dumps({"source": metrics["digits"].pop("source"), "test": of_images}))
        METRICS.parent.mkdir(exist_ok=True)
        METRICS.write_text(json.dumps(metrics))
        PREDICTIONS.parent.mkdir(parents=True, exist_ok=True)
        lines = ["index,y_true,y_pred,confidence"]
        for i in range(self.images):
            label = (i + self.shifted) % 10
            lines.append(f"{i},{label},{(label + 1) % 10 if i in self.wrong else label},0.9")
        PREDICTIONS.write_text("\n".join(lines) + "\n")
        if not self.predictions:
            PREDICTIONS.unlink()
        lock()


def lock() -> None:
    """Writes the dvc.lock that `dvc repro` would write for the files that are here."""

    def entry(path: Path) -> dict[str, Any]:
        content = path.read_bytes()
        return {"path": str(path), "hash": "md5", "md5": hashlib.md5(content).hexdigest(), "size": len(content)}

    evaluate = {
        "cmd": "python evaluate.py",
        "deps": [entry(Path("evaluate.py"))],
        "params": {"params.yaml": {"seed": 0}},
        "outs": [entry(path) for path in (METRICS, PREDICTIONS, DETAILS) if path.exists()],
    }
    if not PREDICTIONS.exists() or DETAILS.exists():
        plots: list[Any] = [{str(path): {"cache": False}} for path in (PREDICTIONS, DETAILS) if path.exists()]
        stages = {"evaluate": {**DVC_YAML["stages"]["evaluate"], "plots": plots}}
        Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"evaluate": evaluate}}))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet", "--initial-branch=main")
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("")
    Path(".dvc/.gitignore").write_text("/tmp\n/cache\n/config.local\n")
    return tmp_path


@dataclass
class Scenario:
    name: str
    code: int
    said: str
    then: State | None
    now: State
    after: Callable[[], Any] = lambda: None  # what happens to the files once they are written
    against: str | None = "HEAD"
    accept: tuple[str, ...] = ()


def accuracy(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda metrics: metrics["digits"]["test"].__setitem__("accuracy", value)


def edit(path: str, old: str, new: str) -> Callable[[], None]:
    return lambda: edits.edit(path, old, new)


def renamed(metrics: dict[str, Any]) -> None:
    metrics["digits"]["test"]["acc"] = metrics["digits"]["test"].pop("accuracy")


def of_the_sample(metrics: dict[str, Any]) -> None:
    metrics["digits"]["source"] = "sample"


def from_another(source: Any) -> Callable[[dict[str, Any]], None]:
    return lambda metrics: metrics["digits"].update(source=source)


def with_source(section: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(metrics: dict[str, Any]) -> None:
        for name in section.split("."):
            metrics = metrics.setdefault(name, {})
        metrics["source"] = value

    return change


def nothing_known(metrics: dict[str, Any]) -> None:
    metrics.clear()
    metrics["speed"] = 3.0


def loss(value: float) -> Callable[[dict[str, Any]], None]:
    return lambda metrics: metrics["digits"]["test"].__setitem__("loss", value)


def target_of_the_loss() -> None:
    values = yaml.safe_load(Path("params.yaml").read_text())
    values["targets"]["digits"]["test"]["loss"] = {"at_most": 0.2}
    Path("params.yaml").write_text(yaml.safe_dump(values))


def raw(text: str, path: Path = METRICS) -> Callable[[], None]:
    """Write a result as a program of somebody else might, and lock it."""

    def write() -> None:
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        lock()

    return write


def limits_file(**changes: Any) -> Callable[[], None]:
    """Replace what params.yaml says under `targets` or `gate`, None to drop it."""

    def write() -> None:
        values = yaml.safe_load(Path("params.yaml").read_text()) | changes
        Path("params.yaml").write_text(
            yaml.safe_dump({key: value for key, value in values.items() if value is not None})
        )

    return write


def table(change: Callable[[list[list[str]]], Any]) -> Callable[[], None]:
    """Change the rows of the predictions, the header first, and lock them."""

    def write() -> None:
        rows = [line.split(",") for line in PREDICTIONS.read_text().splitlines()]
        rows = change(rows) or rows
        PREDICTIONS.write_text("".join(",".join(row) + "\n" for row in rows))
        lock()

    return write


def moved() -> None:
    """The same metric in another file, of the same stage."""
    other = "metrics/others.json"
    METRICS.rename(other)
    for name in ("dvc.yaml", "dvc.lock"):
        Path(name).write_text(Path(name).read_text().replace(str(METRICS), other))


def kept_by_dvc(path: Path) -> Callable[[], None]:
    """DVC is to keep a result, of which its cache has no copy, and the result is edited."""

    def write() -> None:
        text = Path("dvc.yaml").read_text()
        entry = f"- {path}:\n        cache: false\n"
        assert entry in text
        Path("dvc.yaml").write_text(text.replace(entry, f"- {path}\n"))
        path.write_text(path.read_text() + " \n")

    return write


def without_the_seed(change: Callable[[], Any] = lambda: None) -> Callable[[], None]:
    """The stage's only param is neither in dvc.yaml nor in dvc.lock."""

    def write() -> None:
        for name in ("dvc.yaml", "dvc.lock"):
            values = yaml.safe_load(Path(name).read_text())
            del values["stages"]["evaluate"]["params"]
            Path(name).write_text(yaml.safe_dump(values))
        change()

    return write


def with_a_module() -> None:
    """The stage imports by name a module that dvc.yaml does not list."""
    Path("evaluate.py").write_text("import importlib\nimportlib.import_module('model')\n")
    Path("model.py").write_text("layers = 3\n")
    lock()


def without_a_pipeline() -> None:
    """What stays is a list of metrics, as DVCLive writes it, and a better number."""
    Path("metrics/dvc.yaml").write_text(yaml.safe_dump({"metrics": [METRICS.name]}))
    METRICS.write_text('{"digits": {"source": "public", "test": {"accuracy": 0.99, "digest": "the same images"}}}')
    Path("dvc.yaml").unlink()
    Path("dvc.lock").unlink()


def by_no_stage(metrics: str | None) -> Callable[[], None]:
    """The metrics file is one of dvc.yaml's own list, which no stage makes; `metrics` is its new content."""

    def write() -> None:
        stage = {**DVC_YAML["stages"]["evaluate"], "metrics": []}
        Path("dvc.yaml").write_text(yaml.safe_dump({"metrics": [str(METRICS)], "stages": {"evaluate": stage}}))
        locked = yaml.safe_load(Path("dvc.lock").read_text())
        outs = locked["stages"]["evaluate"]["outs"]
        locked["stages"]["evaluate"]["outs"] = [out for out in outs if out["path"] != str(METRICS)]
        Path("dvc.lock").write_text(yaml.safe_dump(locked))
        if metrics is not None:
            METRICS.write_text(metrics)

    return write


def one_more() -> None:
    """A second metrics file, which no stage makes."""
    values = yaml.safe_load(Path("dvc.yaml").read_text())
    Path("dvc.yaml").write_text(yaml.safe_dump(values | {"metrics": ["metrics/more.json"]}))
    Path("metrics/more.json").write_text('{"more": {"test": {"accuracy": 1.0}}}')


def details_by_no_stage(content: str | None = None) -> Callable[[], None]:
    """No stage makes evaluation/digits.json any more; `content` takes its place."""

    def write() -> None:
        if content is not None:
            DETAILS.write_text(content)
        for name, kind in (("dvc.yaml", "plots"), ("dvc.lock", "outs")):
            values = yaml.safe_load(Path(name).read_text())
            stage = values["stages"]["evaluate"]
            stage[kind] = [one for one in stage[kind] if str(DETAILS) not in (one, one.get("path"), *one)]
            Path(name).write_text(yaml.safe_dump(values))

    return write


def linked(path: Path) -> Callable[[], None]:
    """Put a symbolic link, of the same content, in the place of a file or a folder."""

    def link() -> None:
        path.rename("elsewhere")
        path.symlink_to(Path("elsewhere").resolve())

    return link


def ignored(path: Path) -> Callable[[], None]:
    """Take a file out of git, which ignores it from now on."""

    def write() -> None:
        Path(".gitignore").write_text(f"/{path}\n")
        call(Path(), "git", "rm", "--quiet", "--cached", str(path))

    return write


def of_another_repository() -> None:
    """Make the metrics' folder a git repository."""
    call(Path(), "git", "rm", "--quiet", "--cached", str(METRICS))
    call(METRICS.parent, "git", "init", "--quiet")
    call(METRICS.parent, "git", "add", METRICS.name)
    commit(METRICS.parent)


def deep(path: str) -> Callable[[], None]:
    """Write lists in lists, at which a parser in C would crash."""

    def write() -> None:
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("stages: " + "[" * 100_000)

    return write


def deep_params() -> None:
    """A stage depends on such a file."""
    stage = {**DVC_YAML["stages"]["evaluate"], "params": ["seed", {"other.yaml": ["width"]}]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"evaluate": stage}}))
    deep("other.yaml")()


def target(**limits: float) -> dict[str, Any]:
    return {"digits": {"test": {"accuracy": limits}}}


def wrong(*ranges: tuple[int, int]) -> set[int]:
    return {i for first, end in ranges for i in range(first, end)}


BASE = State()
NO_PREDICTIONS = State(predictions=False)
BESIDE, BESIDE_ALONE = State(beside=True), State(beside=True, predictions=False)
SCENARIOS = [
    Scenario("no change", 2, "no result is compared with itself", BASE, State()),
    Scenario("no change but a note", 0, "target met, same", BASE, State(),
             edit("params.yaml", "seed: 0", "seed: 0 # a")),
    Scenario("improvement", 0, "target met, better", BASE, State(wrong((0, 20)))),
    Scenario("drop within noise", 0, "worse within noise", BASE, State(wrong((5, 50)))),
    # Of n images that changed all were lost: p is 1/2^n, 0.0156 for 6 and 0.0078 for 7.
    Scenario("six lost, none won", 0, "6 lost, 0 won, p = 0.016", BASE, State(wrong((0, 46)))),
    Scenario("seven lost, none won", 1, "7 lost, 0 won, p = 0.0078", BASE, State(wrong((0, 47)))),
    Scenario("seven lost, stricter alpha", 0, "within noise", State(alpha=0.001), State(wrong((0, 47)), alpha=0.001)),
    Scenario("significant drop", 1, "WORSE (p < 0.01)", BASE, State(wrong((0, 60)))),
    # 100 lost and 80 won: 2 points less, p = 0.08.
    Scenario("drop beyond the tolerance", 1, "WORSE (by more than 0.01)", State(wrong((0, 80)), target=0.5),
             State(wrong((100, 200)), tolerance=0.01, target=0.5)),
    Scenario("drop of just the tolerance", 0, "worse within noise", State(wrong((0, 80)), target=0.5),
             State(wrong((100, 200)), tolerance=0.02, target=0.5)),
    Scenario("below the target", 1, "BELOW TARGET", BASE, State(target=0.961)),
    Scenario("just at the target", 0, "target met", BASE, State(target=0.96)),
    Scenario("below the target though better", 1, "BELOW TARGET, better", BASE, State(wrong((0, 30)), target=0.98)),
    Scenario("first commit", 0, "nothing: HEAD is the first commit", None, State(), against=None),
    Scenario("first commit, below the target", 1, "BELOW TARGET, new", None, State(target=0.99), against=None),
    Scenario("extra metric", 0, "digits.test.loss", BASE, State(change=loss(0.3))),
    Scenario("extra metric that is not finite", 2, "digits.test.loss: found nan, expected a finite number", BASE,
             State(change=loss(math.nan))),
    Scenario("metric missing", 2, "digits.test.accuracy: missing", BASE,
             State(change=lambda metrics: metrics["digits"]["test"].pop("accuracy"))),
    Scenario("metric renamed", 2, "digits.test.accuracy: missing", BASE, State(change=renamed)),
    Scenario("metric null", 2, "digits.test.accuracy: missing or null", BASE, State(change=accuracy(None))),
    Scenario("metric NaN", 2, "digits.test.accuracy: found nan, expected", BASE, State(change=accuracy(math.nan))),
    Scenario("metric infinite", 2, "digits.test.accuracy: found inf, expected", BASE, State(change=accuracy(math.inf))),
    Scenario("metric true", 2, "found True here", BASE, State(change=accuracy(True))),
    Scenario("metric text", 2, "found '0.96' here", BASE, State(change=accuracy("0.96"))),
    Scenario("metric NaN before", 2, "found nan at HEAD", State(change=accuracy(math.nan)), State()),
    Scenario("metric null before, as good as new", 0, "target met, new", State(change=accuracy(None)), State()),
    Scenario("no metric in common", 0, "target met, new", State(change=nothing_known), State()),
    Scenario("other test images", 2, "other test images", BASE, State(digest="others")),
    Scenario("other test images, judged by tolerance", 2, "other test images", State(change=loss(0.1)),
             State(change=loss(0.1), digest="others"), target_of_the_loss),
    Scenario("digest gone", 2, "other test images", BASE, State(digest=None)),
    Scenario("another number of predictions", 2, "1,000 predictions at HEAD, 900 here", State(digest=None),
             State(images=900, digest=None)),
    Scenario("other labels", 2, "other true classes", State(digest=None), State(shifted=1, digest=None)),
    Scenario("sample", 2, "here: results of the sample (digits.source)", BASE, State(change=of_the_sample)),
    Scenario("sample, first commit", 2, "here: results of the sample (digits.source)", None,
             State(change=of_the_sample, beside=True), against=None),
    Scenario("sample, without a data set's name", 2, "here: results of the sample (source)", BASE,
             State(change=lambda metrics: metrics.update(source="sample"))),
    Scenario("sample before", 2, "at HEAD: results of the sample", State(change=of_the_sample), State()),
    Scenario("source, n and digest moved beside the metrics", 0, "0 lost, 1 won", BASE,
             State(wrong((0, 39)), beside=True)),
    Scenario("moved beside the metrics, a drop counts", 1, "20 lost, 0 won", BASE, State(wrong((0, 60)), beside=True)),
    Scenario("moved beside the metrics, n counts", 1, "two proportions", NO_PREDICTIONS,
             State(wrong((0, 70)), beside=True, predictions=False)),
    Scenario("moved beside the metrics, other test images", 2, "digits.test.digest: the same images at HEAD, others",
             BASE, State(digest="others", beside=True)),
    Scenario("beside the metrics, other test images", 2, "other test images", BESIDE,
             State(digest="others", beside=True)),
    Scenario("beside the metrics, digest gone", 2, "other test images", BESIDE, State(digest=None, beside=True)),
    Scenario("beside the metrics, sample", 2, "here: results of the sample (digits.source)", BESIDE,
             State(change=of_the_sample, beside=True)),
    *[Scenario(f"the source becomes {source!r}, beside the metrics: {beside}", 1,
               f"digits.source: LOOSENED (public -> {said})", State(beside=beside),
               State(wrong((0, 39)), change=from_another(source), beside=beside))
      for beside in (True, False)
      for source, said in (("Sample", "Sample"), (None, "removed"),
                           (["sample"], "['sample']" if beside else "removed"))],  # a list is no metric
    Scenario("the source is no longer said", 1, "digits.source: LOOSENED (public -> removed)", BESIDE,
             State(wrong((0, 39)), beside=True), raw('{"test": {"n": 1000, "digest": "the same images"}}', DETAILS)),
    Scenario("another source, accepted", 0, "ACCEPTED: digits.source: public -> Sample", BASE,
             State(wrong((0, 39)), change=from_another("Sample")), accept=("digits.source",)),
    Scenario("the source of what has no target", 0, "target met", State(change=with_source("another", "a")),
             State(wrong((0, 39)), change=with_source("another", "b"))),
    Scenario("a number whose name is source", 0, "target met", State(change=with_source("digits.test", 1.0)),
             State(wrong((0, 39)), change=with_source("digits.test", 2.0))),
    Scenario("beside the metrics, sample before", 2, "at HEAD: results of the sample",
             State(change=of_the_sample, beside=True), BASE),
    Scenario("beside the metrics, n smaller", 2, "1,000 predictions, but digits.test.n is 10", BESIDE,
             State(change=lambda metrics: metrics["digits"]["test"].update(n=10), beside=True)),
    Scenario("beside the metrics, n gone", 2, "digits.test.n: 1,000 at HEAD, no count", BESIDE_ALONE,
             State(change=lambda metrics: metrics["digits"]["test"].pop("n"), beside=True, predictions=False)),
    Scenario("beside the metrics, edited by hand", 2, "evaluation/digits.json: differs from dvc.lock", BESIDE, BESIDE,
             edit(str(DETAILS), "1000", "10")),
    Scenario("beside the metrics, deleted", 2, "evaluation/digits.json: missing", BESIDE, BESIDE, DETAILS.unlink),
    Scenario("beside the metrics, not JSON", 2, "evaluation/digits.json -> removed", BESIDE, BESIDE, raw("{", DETAILS)),
    Scenario("metrics that contradict what is beside them", 2, "digits.test.n: 900 in metrics/digits.json, 1000 in e",
             BESIDE, BESIDE, raw('{"digits": {"test": {"accuracy": 0.96, "n": 900}}}')),
    Scenario("beside the metrics, made by no stage any more", 1, "evaluation/digits.json is made by a stage -> by none",
             BESIDE, State(wrong((0, 39)), beside=True), details_by_no_stage()),
    Scenario("beside the metrics, made by no stage and changed", 2, "changed, and no stage makes it", BESIDE_ALONE,
             BESIDE_ALONE, details_by_no_stage('{"test": {"n": 10, "digest": "the same images"}}')),
    Scenario("a large file of another kind beside the metrics", 0, "0 lost, 1 won", BASE, State(wrong((0, 39))),
             lambda: (DETAILS.parent.mkdir(), DETAILS.write_text('{"test": {"n": 1}}' + " " * 10**6))),
    Scenario("metric edited by hand", 2, "metrics/digits.json: differs from dvc.lock", BASE, State(),
             edit(str(METRICS), "0.96", "0.97")),
    Scenario("predictions edited by hand", 2, "predictions.csv: differs from dvc.lock", BASE, State(),
             edit(str(PREDICTIONS), "0,0,1", "0,0,0")),
    *[Scenario(f"{path}, which DVC is to keep and has not, edited by hand", 2, f"{path}: other bytes than dvc.lock has",
               BESIDE, State(wrong((0, 39)), beside=True), kept_by_dvc(path))
      for path in (METRICS, PREDICTIONS, DETAILS)],
    Scenario("metrics deleted", 2, "metrics/digits.json: missing", BASE, State(), METRICS.unlink),
    Scenario("code newer than the lock", 2, "evaluate: out of date (evaluate.py modified)", BASE, State(),
             edit("evaluate.py", "a model", "another model")),
    Scenario("params newer than the lock", 2, "evaluate: out of date (seed modified)", BASE, State(),
             edit("params.yaml", "seed: 0", "seed: 1")),
    Scenario("command newer than the lock", 2, "out of date (cmd changed)", BASE, State(),
             edit("dvc.yaml", "evaluate.py", "evaluate.py --fast")),
    Scenario("no lock", 2, "dvc.lock: evaluate: missing", BASE, State(), Path("dvc.lock").unlink),
    Scenario("bad revision", 2, "nosuch: no such revision", BASE, State(), against="nosuch"),
    *[Scenario(f"{rev} as the revision", 2, f"{rev}: no such revision", BASE, State(), against=rev)
      for rev in ("HEAD^{tree}", "HEAD:params.yaml")],
    Scenario("no predictions before, drop within noise", 0, "two proportions, predictions missing",
             NO_PREDICTIONS, State(wrong((0, 45)))),
    # Fisher's tea: 3 of 4 and 1 of 4, (16 + 1) / 70.
    Scenario("no predictions before, by hand", 0, "p = 0.24",
             State({0}, images=4, predictions=False, target=0, tolerance=1),
             State({0, 1, 2}, images=4, target=0, tolerance=1)),
    Scenario("no predictions before, significant drop", 1, "WORSE (p < 0.01)", NO_PREDICTIONS, State(wrong((0, 70)))),
    Scenario("no predictions now", 1, "plots/digits/predictions.csv -> removed", BASE, State(predictions=False)),
    Scenario("predictions of another model", 2, "gives an accuracy of 0.960000, but the metric is 0.95", BASE,
             State(change=accuracy(0.95))),
    Scenario("a limit from above", 0, "target met, worse within 0.05", State(change=loss(0.10)),
             State(change=loss(0.14)), target_of_the_loss),
    Scenario("a limit from above, better", 0, "target met, better", State(change=loss(0.19)), State(change=loss(0.1)),
             target_of_the_loss),
    Scenario("a limit from above, missing", 2, "digits.test.loss: missing", State(change=loss(0.1)), State(),
             target_of_the_loss),
    Scenario("a limit from above, passed", 1, "ABOVE TARGET", State(change=loss(0.19)), State(change=loss(0.21)),
             target_of_the_loss),
    Scenario("a limit from above, worse", 1, "WORSE (by more than 0.05)", State(change=loss(0.1)),
             State(change=loss(0.16)), target_of_the_loss),
    Scenario("no limits of the gate", 2, "alpha: found nothing", BASE, State(), edit("params.yaml", "gate", "gates")),
    Scenario("no targets", 2, "targets: found none", BASE, State(), edit("params.yaml", "targets", "aims")),
    Scenario("a target without direction", 2, "expected METRIC.at_least or METRIC.at_most", BASE, State(),
             edit("params.yaml", "at_least", "least")),
    Scenario("params.yaml is broken", 2, "params.yaml: invalid YAML", BASE, State(),
             edit("params.yaml", "seed: 0", "seed: [")),
    *[Scenario(f"an accuracy of {value}", 2, "expected a share from 0 to 1", BASE, State(change=accuracy(value)))
      for value in (92.16, 1.0000001, -0.5)],
    Scenario("an accuracy out of range before", 2, "expected a share", State(change=accuracy(96)), State()),
    Scenario("n gone", 2, "digits.test.n: 1,000 at HEAD, no count", NO_PREDICTIONS,
             State(predictions=False, change=lambda metrics: metrics["digits"]["test"].pop("n"))),
    Scenario("fewer images, of which no digest is known", 2, "digits.test.n: 1,000 at HEAD, 10 here: other test images",
             State(predictions=False, digest=None), State({0}, images=10, predictions=False, digest=None)),
    Scenario("n true", 2, "1,000 predictions, but digits.test.n is True", BASE,
             State(change=lambda metrics: metrics["digits"]["test"].update(n=True))),
    Scenario("n smaller", 2, "1,000 predictions, but digits.test.n is 10", BASE,
             State(change=lambda metrics: metrics["digits"]["test"].update(n=10))),
    Scenario("a key twice", 2, "the key 'accuracy' is there twice", BASE, State(),
             raw('{"digits": {"test": {"n": 1000, "accuracy": 0.5, "accuracy": 0.96}}}')),
    Scenario("a byte-order mark before the metrics", 2, "a byte-order mark, expected UTF-8 without one", BASE,
             State(), raw('\ufeff{"digits": {"test": {"n": 1000, "accuracy": 0.96}}}')),
    Scenario("a key nested and with dots", 2, "'digits.test.accuracy': there twice", BASE, State(),
             raw('{"digits": {"test": {"accuracy": 0.5}}, "digits.test.accuracy": 0.96}')),
    *[Scenario(f"a number {text}", 2, "expected a finite number", BASE, State(),
               raw(f'{{"digits": {{"test": {{"accuracy": 0.96, "speed": {text}}}}}}}'))
      for text in ("NaN", "-Infinity", "1e999")],
    *[Scenario(f"nested {depth:,} deep", 2, "metrics/digits.json here: ", BASE, State(),
               raw('{"a":' * depth + "1" + "}" * depth)) for depth in (30, 100_000)],
    *[Scenario(f"a lone surrogate in a {place}", 2, "lone surrogate", BASE, State(), raw(text))
      for place, text in (("key", r'{"a\ud800": 1}'), ("value", r'{"a": "\udfff"}'))],
    *[Scenario(name, 2, "metrics/digits.json here: ", BASE, State(), raw(text))
      for name, text in (("not JSON", "{"), ("no text", "\ud800"), ("empty", ""), ("other JSON", "[1, 2]x"))],
    *[Scenario(name, 2, said, BASE, State(), raw(text)) for name, text, said in (
        ("a list", "[0.96]", "digits.test.accuracy: missing"), ("null", "null", "digits.test.accuracy: missing"),
        ("a number alone", "0.96", "digits.test.accuracy: missing"))],
    Scenario("metrics that no stage makes, changed", 2, "changed, and no stage makes it", BASE, State(),
             by_no_stage('{"digits": {"test": {"accuracy": 0.96}}}')),
    Scenario("metrics that no stage makes, new", 2, "metrics/more.json: changed, and no stage makes it", BASE,
             State(wrong((0, 39))), one_more),
    Scenario("the pipeline removed", 2, "changed, and no stage makes it", NO_PREDICTIONS, NO_PREDICTIONS,
             without_a_pipeline),
    Scenario("metrics that no stage makes any more", 1, "made by a stage -> by none", BASE, State(), by_no_stage(None)),
    Scenario("alpha of 0", 1, "gate.alpha: LOOSENED (0.01 -> 0)", BASE, State(wrong((0, 47)), alpha=0)),
    Scenario("alpha of 0, judged by the base's", 1, "WORSE (p < 0.01)", BASE, State(wrong((0, 47)), alpha=0)),
    Scenario("alpha of 0, accepted", 0, "ACCEPTED: gate.alpha: 0.01 -> 0", BASE, State(wrong((0, 47)), alpha=0),
             accept=("gate.alpha",)),
    Scenario("a larger alpha", 0, "target met", BASE, State(wrong((0, 39)), alpha=0.5)),
    Scenario("a larger alpha counts", 1, "WORSE (p < 0.5)", BASE, State(wrong((0, 42)), alpha=0.5)),
    Scenario("tolerance of 1", 1, "gate.tolerance: LOOSENED (0.05 -> 1)", BASE, State(tolerance=1)),
    Scenario("tolerance of 1, accepted for another", 1, "gate.tolerance: LOOSENED", BASE, State(tolerance=1),
             accept=("gate.alpha",)),
    Scenario("a smaller tolerance", 0, "target met, same", BASE, State(tolerance=0)),
    Scenario("target lowered", 1, "digits.test.accuracy: LOOSENED (≥ 0.9 -> ≥ 0.5)", BASE, State(target=0.5)),
    Scenario("target lowered below a drop", 1, "BELOW TARGET", BASE, State(wrong((0, 240)), target=0.5)),
    Scenario("target lowered, accepted", 0, "ACCEPTED: digits.test.accuracy: ≥ 0.9 -> ≥ 0.5", BASE, State(target=0.5),
             accept=("targets.digits.test.accuracy",)),
    Scenario("target lowered and accepted, the drop is one still", 1, "WORSE (p < 0.01)", BASE,
             State(wrong((0, 240)), target=0.5), accept=("digits.test.accuracy",)),
    Scenario("target raised", 0, "≥ 0.95", BASE, State(target=0.95)),
    Scenario("target removed", 1, "LOOSENED (≥ 0.9 -> removed)", BASE, State(wrong((0, 400))),
             limits_file(targets={"digits": {"test": {"n": {"at_least": 1}}}})),
    Scenario("target removed, judged all the same", 1, "BELOW TARGET, WORSE (p < 0.01)", BASE, State(wrong((0, 400))),
             limits_file(targets={"digits": {"test": {"n": {"at_least": 1}}}})),
    Scenario("target removed, accepted", 0, "ACCEPTED: digits.test.accuracy", BASE, State(wrong((0, 400))),
             limits_file(targets={"digits": {"test": {"n": {"at_least": 1}}}}), accept=("digits.test.accuracy",)),
    Scenario("target turned round", 1, "LOOSENED (≥ 0.9 -> ≤ 0.99)", BASE, State(wrong((0, 400))),
             limits_file(targets=target(at_most=0.99))),
    Scenario("a second direction", 2, "found at_least and at_most", BASE, State(),
             limits_file(targets=target(at_least=0.9, at_most=1))),
    Scenario("all targets removed", 2, "targets: found none", BASE, State(), limits_file(targets=None)),
    Scenario("the gate's section removed", 2, "gate.alpha: found nothing", BASE, State(), limits_file(gate=None)),
    Scenario("metric and target renamed", 1, "digits.test.accuracy: GONE", BASE, State(change=renamed),
             limits_file(targets={"digits": {"test": {"acc": {"at_least": 0.9}}}})),
    Scenario("metric and target renamed, accepted", 0, "target met, new", BASE, State(change=renamed),
             limits_file(targets={"digits": {"test": {"acc": {"at_least": 0.9}}}}), accept=("digits.test.accuracy",)),
    Scenario("metric in another file", 1, "metrics/digits.json -> metrics/others.json", BASE, State(), moved),
    Scenario("metric in another file, accepted", 0, "ACCEPTED", BASE, State(), moved, accept=("digits.test.accuracy",)),
    Scenario("metric in another file, something else accepted", 1, "metrics/digits.json -> metrics/others.json", BASE,
             State(), moved, accept=("digits.test.loss",)),
    Scenario("no predictions now, accepted", 1, "two proportions", BASE, State(wrong((0, 70)), predictions=False),
             accept=("digits.test.accuracy",)),
    Scenario("nothing to accept", 0, "ACCEPTED: digits.loss: nothing to accept", BASE, State(wrong((0, 39))),
             accept=("digits.loss",)),
    Scenario("a param's line removed from dvc.yaml", 2, "evaluate: out of date (seed removed from dvc.yaml)", BASE,
             State(), edit("dvc.yaml", "    params:\n    - seed\n", "")),
    Scenario("a dep's line removed from dvc.yaml", 2, "(evaluate.py removed from dvc.yaml)", BASE, State(),
             edit("dvc.yaml", "    deps:\n    - evaluate.py\n", "")),
    Scenario("predictions removed from dvc.yaml", 2, "predictions.csv removed from dvc.yaml", BASE, State(),
             edit("dvc.yaml", f"    plots:\n    - {PREDICTIONS}:\n        cache: false\n", "")),
    Scenario("a param removed from dvc.yaml and lock", 1, "seed: LOOSENED (no longer a param of metrics", BASE, State(),
             without_the_seed(edit("params.yaml", "seed: 0", "seed: 1"))),
    Scenario("a param removed, accepted", 0, "ACCEPTED: seed", BASE, State(), without_the_seed(),
             accept=("seed",)),
    Scenario("a param removed, something else accepted", 1, "seed: LOOSENED", BASE, State(), without_the_seed(),
             accept=("seeds",)),
    Scenario("a param removed that is gone", 0, "target met", BASE, State(),
             without_the_seed(edit("params.yaml", "seed: 0\n", ""))),
    Scenario("a module that dvc.yaml does not list", 2, "deps: add model.py", BASE, State(), with_a_module),
    Scenario("a byte-order mark before the predictions", 0, "0 lost, 0 won", BASE, State(),
             table(lambda rows: rows[0].__setitem__(0, "\ufeffindex"))),
    Scenario("n as text", 2, "1,000 predictions, but digits.test.n is '1000'", BASE,
             State(change=lambda metrics: metrics["digits"]["test"].update(n="1000"))),
    Scenario("rows in another order", 0, "0 lost, 0 won", BASE, State(), table(lambda rows: [rows[0], *rows[:0:-1]])),
    Scenario("rows in another order hide no loss", 1, "20 lost, 0 won", BASE, State(wrong((0, 60))),
             table(lambda rows: [rows[0], *rows[:0:-1]])),
    Scenario("an index twice", 2, "the index 0 twice", BASE, State(), table(lambda rows: rows[2].__setitem__(0, "0"))),
    Scenario("another index", 2, "index lists other", BASE, State(), table(lambda rows: rows[2].__setitem__(0, "x"))),
    Scenario("no index any more", 2, "index lists other", BASE, State(),
             table(lambda rows: [row[1:] for row in rows])),
    Scenario("a column twice", 2, "two columns of one name", BASE, State(),
             table(lambda rows: [[*row, row[2]] for row in rows])),
    *[Scenario(f"a link in the place of {path}", 2, f"{said}: a symbolic link", BESIDE,
               State(wrong((0, 39)), beside=True), linked(Path(path)))
      for path, said in ((METRICS, METRICS), (METRICS.parent, METRICS), (PREDICTIONS, PREDICTIONS), (DETAILS, DETAILS),
                         *((Path(name), name) for name in ("params.yaml", "dvc.yaml", "dvc.lock")))],
    *[Scenario(f"{path} is ignored by git", 2, f"{path}: git ignores it", BESIDE, State(wrong((0, 39)), beside=True),
               ignored(path)) for path in (METRICS, PREDICTIONS, DETAILS, Path("params.yaml"))],
    Scenario("metrics in a repository of their own", 2, "metrics/digits.json: git ignores it or leaves it to a", BASE,
             State(wrong((0, 39))), of_another_repository),
    *[Scenario(f"{path} nested 100,000 deep", 2, f"{path}: nested more than 100 deep; restore it", BASE, State(),
               deep(path)) for path in ("dvc.yaml", "dvc.lock", "data.dvc", "below/dvc.lock")],
    Scenario("a params file nested 100,000 deep", 2, "other.yaml: nested more than 100 deep", BASE, State(),
             deep_params),
    Scenario("dvc.yaml is broken", 2, "dvc: ", BASE, State(), edit("dvc.yaml", "stages", "scenes")),
]  # fmt: skip


def outcome(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the gate, run in this process."""
    with pytest.raises(SystemExit) as ended:
        command.main(list(arguments))
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def play(scenario: Scenario, capsys: pytest.CaptureFixture[str]) -> None:
    if scenario.then:
        scenario.then.write()
        save()
    scenario.now.write()
    scenario.after()
    arguments = [f"--against={scenario.against}"] if scenario.against else []
    arguments += [f"--accept={name}" for name in scenario.accept]
    code, out, err = outcome(capsys, *arguments)
    assert code == scenario.code, out + err
    assert scenario.said in out + err, out + err
    assert f"gate: {['passed', 'failed: ', 'cannot judge'][code]}" in out
    assert bool(err) == (code == 2)
    assert all(line.startswith("error: ") for line in err.splitlines())


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario(scenario, repository, capsys):
    play(scenario, capsys)


@pytest.mark.parametrize(("now", "exit_code"), [(0.93, 0), (0.90, 1)])
def test_metrics_without_a_pipeline_are_judged(repository, capsys, now, exit_code):
    """As DVCLive leaves them, in a dvc.yaml of its own."""
    limits = {"targets": {"accuracy": {"at_least": 0.5}}, "gate": {"alpha": 0.01, "tolerance": 0.05}}
    Path("params.yaml").write_text(yaml.safe_dump(limits))
    Path("dvclive").mkdir()
    Path("dvclive/dvc.yaml").write_text(yaml.safe_dump({"metrics": ["metrics.json"]}))
    for value in (0.96, now):
        Path("dvclive/metrics.json").write_text(json.dumps({"accuracy": value}))
        if value == 0.96:
            save()
    code, out, err = outcome(capsys)
    assert code == exit_code, out + err
    assert "baseline: HEAD (" in out
    assert "0.9600" in out


@pytest.mark.parametrize(("now", "exit_code"), [("0.93", 0), ("0.90", 1), ('"0.96"', 2), ("true", 2)])
def test_a_file_that_is_a_number_is_a_metric_by_its_path(repository, capsys, now, exit_code):
    for content in ("0.96", now):
        State(predictions=False).write()
        limits_file(targets={str(METRICS): {"at_least": 0.5}}, note=content)()
        raw(content)()
        if content == "0.96":
            save()
    code, out, err = outcome(capsys, "--against=HEAD")
    assert code == exit_code, out + err
    assert f"{METRICS}: found " in err if exit_code == 2 else f"{METRICS} " in out


def test_a_base_whose_metrics_cannot_be_had_is_not_one_without_metrics(repository, capsys):
    State().write()
    values = yaml.safe_load(Path("dvc.yaml").read_text())
    values["stages"]["evaluate"]["metrics"] = [str(METRICS)]  # DVC is to keep it, and has not got it
    Path("dvc.yaml").write_text(yaml.safe_dump(values))
    Path(".gitignore").write_text(f"{METRICS}\n")
    save()
    Path(".gitignore").unlink()
    State(wrong((0, 39))).write()
    code, out, err = outcome(capsys, "--against=HEAD")
    assert (code, f"{METRICS} at HEAD: not available in this clone" in err) == (2, True), out + err


@pytest.mark.parametrize("base", [True, False])
def test_what_says_on_which_images_a_metric_was_measured_is_not_done_without(repository, capsys, base):
    """Where DVC keeps it and has not got it: a digest that cannot be read is none that is the same."""
    fewer = State(predictions=False, digest=None, change=lambda metrics: metrics["digits"]["test"].pop("n"))
    for state, kept in ((BESIDE_ALONE, base), (fewer if base else BESIDE_ALONE, not base)):
        state.write()
        Path("note").write_text(str(kept))
        if kept:
            kept_by_dvc(DETAILS)()
            DETAILS.unlink()
        save()
    code, out, err = outcome(capsys, "--against=HEAD~")
    reason = f"{DETAILS} at HEAD~: not available in this clone" if base else f"{DETAILS}: missing; run `dvc repro` or"
    assert (code, reason in err) == (2, True), out + err


@pytest.mark.parametrize("path", ["dvc.lock", "dvc.yaml", "data.dvc", "params.yaml"])
def test_a_base_that_nests_too_deep_is_a_line(repository, capsys, path):
    BASE.write()
    deep(path)()
    save()
    Path(path).unlink()
    State(wrong((0, 39))).write()
    code, _, err = outcome(capsys, "--against=HEAD")
    assert (code, err) == (
        2,
        f"error: {path} at HEAD: nested more than 100 deep; name another revision with --against\n",
    )


def test_a_base_of_which_git_lacks_a_file_is_a_line(repository):
    """DVC would wait for it without end."""
    BASE.write()
    save()
    blob = call(repository, "git", "rev-parse", f"HEAD:{METRICS}").strip()
    Path(".git/objects", blob[:2], blob[2:]).unlink()
    State(wrong((0, 39))).write()
    done = subprocess.run(
        [sys.executable, "-m", "reprocnn", "gate", "--against=HEAD"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, f"missing blob object '{blob}'" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("path", [Path("params.yaml"), METRICS, PREDICTIONS], ids=str)
def test_a_base_of_another_encoding_asks_for_another_revision(repository, capsys, path):
    BESIDE.write()
    path.write_bytes(path.read_bytes() + b"# \xe9\n")
    lock()
    save()
    State(wrong((0, 39)), beside=True).write()
    code, _, err = outcome(capsys, "--against=HEAD")
    assert code == 2
    assert err.startswith(f"error: {path} at HEAD: ")
    assert err.endswith("; name another revision with --against\n")


def test_each_revision_is_read_once(repository, capsys, monkeypatch):
    """A judgement asks some ten times for what dvc.yaml and dvc.lock say."""
    read = []
    from_repo = Index.from_repo
    monkeypatch.setattr(Index, "from_repo", lambda repo, *more: read.append(type(repo.fs)) or from_repo(repo, *more))
    BASE.write()
    save()
    State(wrong((0, 39))).write()
    assert outcome(capsys, "--against=HEAD")[0] == 0
    assert read == [LocalFileSystem, GitFileSystem]


def test_the_three_formats_and_the_exit_code_agree(repository, capsys):
    BASE.write()
    save()
    for state, verdict in (
        (State(wrong((0, 39))), "passed"),
        (State(wrong((0, 60))), "failed"),
        (State(digest="x"), "cannot judge"),
    ):
        state.write()
        code, out, _ = outcome(capsys, "--against=HEAD", "--format=json")
        judgement = json.loads(out)
        assert judgement["verdict"] == verdict
        assert judgement["exit_code"] == code == ["passed", "failed", "cannot judge"].index(verdict)
        assert (
            judgement["reasons"]
            == {
                0: [],
                1: ["digits.test.accuracy: target met, WORSE (p < 0.01)"],
                2: [f"digits.test.digest: the same images at HEAD, x here: other test images; {SAME_IMAGES}"],
            }[code]
        )
        again, out, _ = outcome(capsys, "--against=HEAD", "--format=markdown")
        assert again == code
        assert out.startswith(f"### gate: {verdict}")
        assert all(reason in out for reason in judgement["reasons"])


@pytest.mark.parametrize("form", ["text", "json", "markdown", "junit"])
def test_a_module_that_dvc_yaml_never_listed_is_a_warning(repository, capsys, form):
    BASE.write()
    with_a_module()
    save()
    for lost, exit_code in ((20, 0), (60, 1)):
        State(wrong((0, lost))).write()
        with_a_module()
        Path("model.py").write_text(f"layers = {lost}\n")
        code, out, _ = outcome(capsys, "--against=HEAD", f"--format={form}")
        assert code == exit_code, out
        assert "dvc.yaml: evaluate: deps: add model.py (so it is at the baseline" in out.replace("&#40;", "(")


def test_a_module_that_dvc_yaml_never_listed_hides_no_new_one(repository, capsys):
    BASE.write()
    with_a_module()
    save()
    State(wrong((0, 20))).write()
    with_a_module()
    Path("model.py").write_text("import other\n")
    Path("other.py").write_text("units = 3\n")
    code, _, err = outcome(capsys, "--against=HEAD")
    assert (code, err.count("error: ")) == (2, 1)
    assert "deps: add other.py" in err


def test_json_has_the_figures(repository, capsys):
    BASE.write()
    save()
    State(wrong((5, 60))).write()
    row = json.loads(outcome(capsys, "--against=HEAD", "--format=json")[1])["metrics"][0]
    assert (row["metric"], row["then"], row["now"]) == ("digits.test.accuracy", 0.96, 0.945)
    assert row["change"] == pytest.approx(-0.015)
    assert row["interval"] == pytest.approx([0.9291, 0.9575], abs=5e-4)  # Wilson's formula
    expected = sum(math.comb(25, k) for k in range(20, 26)) / 2**25  # 20 lost, 5 won
    assert row["p"] == pytest.approx(expected)
    assert row["failed"] is True


def test_changed_params_are_listed_with_their_values_then_and_now(repository, capsys):
    BASE.write()
    save()
    State(alpha=0.02).write()
    edit("params.yaml", "tolerance", "tolerances")()
    assert revisions.changed_params("HEAD", dvc_lock) == [
        {"key": "gate.alpha", "then": 0.01, "now": 0.02},
        {"key": "gate.tolerance", "then": 0.05, "now": None},
        {"key": "gate.tolerances", "then": None, "now": 0.05},
    ]
    edit("params.yaml", "tolerances", "tolerance")()
    code, out, _ = outcome(capsys, "--against=HEAD")
    assert code == 0
    assert "changed: gate.alpha: 0.01 -> 0.02\n" in out
    assert "seed" not in out


@pytest.mark.parametrize(("then", "now"), [("1.0", "1"), ("true", "1"), ("[0.5, 2.0]", "[0.5, 2]")])
def test_params_that_only_dvc_takes_for_equal_are_shown(repository, capsys, then, now):
    """scikit-learn's max_features: 1.0 is all, 1 is one."""
    for value in (then, now):
        BASE.write()
        with Path("params.yaml").open("a") as file:
            file.write(f"features: {value}\n")
        if value is then:
            save()
    code, out, _ = outcome(capsys, "--against=HEAD")
    shown = f"{yaml.safe_load(then)!r} -> {yaml.safe_load(now)!r}"
    assert code == 0
    assert f"warning: params: features: {shown}, equal to DVC, which does not run again; " in out


def test_params_that_json_lacks_are_written_by_their_names(repository, capsys):
    for state, clip in ((BASE, "1"), (State(wrong((0, 39))), "[.inf]")):
        state.write()
        Path("more.yaml").write_text(f"clip: {clip}\nsame: .nan\n")
        Path("dvc.yaml").write_text(yaml.safe_dump(DVC_YAML | {"params": ["more.yaml"]}))
        if state is BASE:
            save()
    code, out, _ = outcome(capsys, "--against=HEAD", "--format=json")
    assert (code, json.loads(out)["params"]) == (0, [{"key": "clip", "then": 1, "now": ["inf"]}])


def test_it_reads_what_dvc_metrics_diff_reads(repository, capsys):
    BASE.write()
    save()
    State(wrong((0, 45)), change=loss(0.3)).write()
    rows = json.loads(outcome(capsys, "--against=HEAD", "--format=json")[1])["metrics"]
    diff = json.loads(call(repository, "dvc", "metrics", "diff", "--json", "HEAD"))[str(METRICS)]
    assert {row["metric"]: (row["then"], row["now"]) for row in rows} == {
        key: (change.get("old"), change["new"]) for key, change in diff.items()
    }


def test_a_revision_before_the_metrics_leaves_the_targets(repository, capsys):
    Path("README").write_text("A beginning.\n")
    save()
    State().write()
    code, out, _ = outcome(capsys)
    assert code == 0
    assert ", which has no metrics\n" in out
    assert "target met, new" in out
    assert "digits.test.errors" not in out
    State(target=0.99).write()
    assert outcome(capsys)[0] == 1


def test_a_base_whose_metrics_were_edited_by_hand_is_not_believed(repository, capsys):
    BASE.write()
    edit(str(METRICS), "0.96", "0.90")()
    save()
    State(wrong((0, 80))).write()
    code, _, err = outcome(capsys, "--against=HEAD")
    assert code == 2
    assert "metrics/digits.json: differs from dvc.lock" in err
    assert "at HEAD" in err


def test_it_compares_with_the_merge_base_by_default(repository, capsys):
    BASE.write()
    save()
    call(repository, "git", "checkout", "--quiet", "-b", "feature")
    State(wrong((0, 45))).write()
    save()
    call(repository, "git", "checkout", "--quiet", "main")
    State(wrong((0, 10))).write()
    save()
    call(repository, "git", "checkout", "--quiet", "feature")
    base = call(repository, "git", "merge-base", "main", "feature").strip()
    assert revisions.default_revision() == base
    code, out, _ = outcome(capsys, "--format=json")
    assert code == 0
    assert len(json.loads(out)["against"]) >= 7
    assert base.startswith(json.loads(out)["against"])
    assert json.loads(out)["metrics"][0]["then"] == 0.96
    short = call(repository, "git", "rev-parse", "--short", "main").strip()
    code, out, _ = outcome(capsys, "--against=main")
    assert code == 1
    assert out.startswith(f"gate: baseline: main ({short})\n")


def test_a_new_branch_is_judged_before_its_first_commit(repository, capsys):
    """As the hook of pre-commit does, where nothing of the gate's may have changed."""
    BASE.write()
    save()
    call(repository, "git", "switch", "--quiet", "--create", "feature")
    Path("README").write_text("Words alone.\n")
    call(repository, "git", "add", "README")
    code, out, err = outcome(capsys)
    assert (code, "target met, same" in out) == (0, True), out + err
    State(wrong((0, 60))).write()
    call(repository, "git", "add", "--all")
    code, out, err = outcome(capsys)
    assert (code, "WORSE (p < 0.01)" in out) == (1, True), out + err


def test_a_revision_is_described_by_its_commit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet", "--initial-branch=trunk")
    assert revisions.default_revision() is None
    for name in ("a", "b"):
        Path(name).touch()
        save()
    before = call(tmp_path, "git", "rev-parse", "HEAD~").strip()
    assert revisions.describe(before) == before[:7]
    assert revisions.describe("HEAD~") == f"HEAD~ ({before[:7]})"
    assert revisions.describe("exp-of-dvc") == "exp-of-dvc"


@pytest.mark.parametrize("fault", ["GIT_DIR", "PATH", "orphan", "object"])
def test_where_git_does_not_answer_head_is_not_the_first_commit(repository, capsys, monkeypatch, fault):
    """As where another user owns the checkout, which git refuses."""
    BASE.write()
    save()
    State(wrong((0, 60))).write()
    if fault == "orphan":
        call(repository, "git", "checkout", "--quiet", "--orphan", "other")
    elif fault == "object":
        commit = call(repository, "git", "rev-parse", "HEAD").strip()
        Path(".git/objects", commit[:2], commit[2:]).unlink()
    else:
        monkeypatch.setenv(fault, "/nowhere")
    code, out, _ = outcome(capsys)
    assert (code, "first commit" in out) == (2, False), out


def test_a_shallow_clone_must_fetch(repository, tmp_path, capsys, monkeypatch):
    BASE.write()
    save()
    call(repository, "git", "checkout", "--quiet", "-b", "feature")
    Path("note").write_text("x")
    save()
    call(repository, "git", "checkout", "--quiet", "main")
    Path("other").write_text("x")
    save()
    call(repository, "git", "clone", "--quiet", "--depth=1", "--no-single-branch", f"file://{repository}", "shallow")
    monkeypatch.chdir("shallow")
    call(Path(), "git", "checkout", "--quiet", "feature")
    code, _, err = outcome(capsys)
    assert code == 2
    assert "fetch-depth: 0" in err


@pytest.mark.parametrize("kind", ["no repository", "no dvc"])
def test_a_folder_that_is_no_repository(kind, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    if kind == "no dvc":
        call(tmp_path, "git", "init", "--quiet")
    State().write()
    code, _, err = outcome(capsys)
    assert code == 2
    assert "not a DVC repository" in err


def test_this_project_is_judged_by_its_schema_too(repository, capsys):
    BASE.write()
    save()
    State().write()
    shutil.copy(ROOT / "params.schema.json", ".")
    code, _, err = outcome(capsys)
    assert code == 2
    assert "mnist: missing" in err


def test_limits_of_this_project(monkeypatch):
    monkeypatch.chdir(ROOT)
    targets = limits.read_limits().targets
    assert targets["mnist.test.accuracy"] == ("at_least", 0.99)
    assert targets["cifar.test.accuracy"][0] == "at_least"
    assert targets["cifar.test.accuracy"][1] >= 0.85


def test_a_result_of_the_sample_is_refused_as_its_users_run_it(finished):
    """The command itself, in the sample's repository."""
    done = subprocess.run(
        [sys.executable, "-m", "reprocnn", "gate", "--against", "HEAD"], cwd=finished, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "results of the sample" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_of_params_it_cannot_read_is_a_line(repository):
    State().write()
    Path("params.yaml").unlink()
    with pytest.raises(UserError, match=r"params\.yaml: missing"):
        params_module.load(Path("params.yaml"))
    assert compare.judge(None).exit_code == 2
