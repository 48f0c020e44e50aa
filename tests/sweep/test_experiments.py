"""The metric of an experiment, in whichever of the metric files that dvc.yaml declares."""

import json

import pytest
import yaml
from dvc.repo import Repo

pytest.importorskip("ray", reason="the sweep extra is not installed")
from reprocnn.core.errors import UserError
from reprocnn.sweep.experiments import Experiments, metric_files
from tests.conftest import call, commit

VAL = json.dumps({"val": {"accuracy": 0.5, "loss": 2}})
TEST = json.dumps({"test": {"accuracy": 0.25}, "source": "public"})


def declare(repository, **metrics) -> None:
    """Put other metrics at the top of dvc.yaml, in place of those of the stage."""
    pipeline = yaml.safe_load((repository / "dvc.yaml").read_text())
    pipeline["stages"]["train"].pop("metrics", None)
    pipeline.pop("metrics", None)
    (repository / "dvc.yaml").write_text(yaml.safe_dump(pipeline | metrics))


def experiment(repository, metric: str, **files: str) -> Experiments:
    """Those of a commit, the only one of which has the metric files NAME_SUFFIX, and is named `it`."""
    revision = call(repository, "git", "rev-parse", "HEAD").strip()
    experiments = Experiments(revision, metric, metric_files(Repo()))
    (repository / "metrics").mkdir()
    for name, text in files.items():
        (repository / "metrics" / name.replace("_", ".")).write_text(text)
    call(repository, "git", "add", "--all")
    commit(repository)
    call(repository, "git", "update-ref", f"{experiments.prefix}/it", "HEAD")
    return experiments


def test_the_metric_files_are_those_of_dvc_yaml(repository):
    assert sorted(metric_files(Repo())) == ["metrics/test.json", "metrics/val.json"]
    declare(repository, metrics=["all.yaml"])
    assert metric_files(Repo()) == ["all.yaml"]
    declare(repository)
    with pytest.raises(UserError, match=r"dvc\.yaml: found no metrics"):
        metric_files(Repo())


@pytest.mark.parametrize(("metric", "value"), [("val.accuracy", 0.5), ("test.accuracy", 0.25), ("val.loss", 2.0)])
def test_the_metric_may_be_in_either_file(repository, metric, value):
    experiments = experiment(repository, metric, val_json=VAL, test_json=TEST)
    assert experiments.names() == {"it"}
    assert experiments.value("it") == value
    assert experiments.value("other") is None


@pytest.mark.parametrize("metric", ["val.precision", "val", "source", "val.accuracy.mean"])
def test_what_is_no_number_is_refused_with_the_known_keys(repository, metric):
    with pytest.raises(UserError) as error:
        experiment(repository, metric, val_json=VAL, test_json=TEST).value("it")
    message = str(error.value)
    assert message.startswith(f"sweep: --metric {metric}: found no such number in metrics/")
    assert set(message.partition("known: ")[2].split(", ")) == {"val.accuracy", "val.loss", "test.accuracy", "source"}


def test_one_of_the_files_may_be_missing(repository):
    assert experiment(repository, "val.accuracy", val_json=VAL).value("it") == 0.5


def test_a_metric_in_both_files_is_ambiguous(repository):
    with pytest.raises(UserError, match=r"val\.accuracy: found in metrics/test\.json and metrics/val\.json, expected"):
        experiment(repository, "val.accuracy", val_json=VAL, test_json=VAL).value("it")


def test_a_metric_file_in_yaml_that_no_stage_declares(repository):
    declare(repository, metrics=["metrics/all.yaml"])
    assert experiment(repository, "val.accuracy", all_yaml="val: {accuracy: 0.75}").value("it") == 0.75


def test_a_broken_metric_file(repository):
    with pytest.raises(UserError, match=r"sweep: it: .*metrics/val\.json"):
        experiment(repository, "val.accuracy", val_json='{"val": ').value("it")
