"""Values in Hydra's grammar: multiplied out, named, and checked before anything starts."""

import json
from pathlib import Path

import pytest
import yaml

pytest.importorskip("hydra", reason="the sweep extra is not installed")
from reprocnn.core.errors import UserError
from reprocnn.sweep.overrides import experiment_name, grid, parse, schema_faults
from tests.support import tiny


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """As much of the tiny repository as is read here."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(tiny.PARAMS))
    Path("params.schema.json").write_text(json.dumps(tiny.SCHEMA))


def test_overrides_are_those_of_dvc(repository):
    trials = grid(parse(["lr=0.1,0.2", "seed=range(0,3)", "threads=1"]))
    assert len(trials) == 6
    assert trials[1] == ("lr=0.1", "seed=1", "threads=1")
    assert len({experiment_name(trial) for trial in trials}) == 6
    assert experiment_name(trials[1]) == experiment_name(tuple(reversed(trials[1])))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lr=0.1,2"], "lr: found 2, expected a number, above 0 and at most 1"),
        (["lr=0"], "lr: found 0, expected"),
        (["lrr=0.1"], "lrr: unknown key; did you mean lr?"),
        (["+lrr=0.1,0.2"], "lrr: unknown key; did you mean lr?"),
        (["++lr=0.1,2"], "lr: found 2, expected a number"),
        (["seed=one,2"], 'seed: found "one", expected a whole number'),
        (["lr=interval(0.1,3)"], "lr: found 3"),
        (["lr=interval(1,0.1)"], "found an interval from 1 to 0.1, expected two finite ends, the lower one first"),
        (["seed=interval(2,2)"], "found an interval from 2 to 2, expected two finite ends, the lower one first"),
        (["lr=interval(nan,0.1)"], "found an interval from nan to 0.1, expected two finite ends"),
        (["lr=interval(0.1,inf)"], "found an interval from 0.1 to inf, expected two finite ends"),
        (["seed=interval(0,3)"], "from 0 to 3, expected whole numbers; write int(interval(0,3))"),
        (["lr=tag(log, interval(0,0.1))"], "found an interval from 0 to 0.1, expected one above 0 for a log"),
        (["seed=tag(log, interval(-1,3))"], "from -1 to 3, expected one above 0"),
        (["lr"], "lr: invalid override, expected KEY=VALUES"),
        (["=3"], "=3: invalid override"),
        (["lr=${x}"], "lr=${x}: invalid override"),
        (["lr=???"], "(Missing mandatory value: lr full_key: lr object_type=dict)"),
        (
            ["lr=0.1,1e400"],
            "sweep: lr: found Infinity, expected a number, above 0 and at most 1; change it",
        ),
        (["seed=glob(*)"], "seed=glob(*): invalid override"),
        (["seed=range(0,1,0)"], "seed=range(0,1,0): invalid override"),
        (["seed=range(nan,1)"], "seed=range(nan,1): invalid override"),
        (["seed=range(0,3,-1)"], "found no values, expected 1 to 100,000"),
        (["seed=range(0,100000000)"], "found more than 100,000 values"),
        (["lr=range(0,inf)"], "found more than 100,000 values"),
        (["lr=range(0.1,3,0.1)"], "lr: found 2.9"),
        (["lr=range(0,1,0.5)"], "lr: found 0"),
        (["seed=range(0,3,0.5)"], "seed: found 0.5"),
        (["lr=0.1", "lr=0.2"], "lr: given more than once"),
    ],
)
def test_bad_overrides_are_refused_before_anything_starts(repository, overrides, message):
    with pytest.raises(UserError) as error:
        parse(overrides)
    assert message in str(error.value)


def test_an_interval_that_optuna_draws_from_is_taken(repository):
    texts = ["lr=tag(log, interval(0.001,0.1))", "seed=int(interval(0,3))", "split=tag(log,int(interval(1,2)))"]
    assert [override.input_line for override in parse(texts)] == texts


@pytest.mark.parametrize(
    "texts",
    [
        ["mnist.network=cifar_cnn", "mnist.first_size=0.5,0.7"],
        ["cifar.first_size=1", "cifar.network=one_conv"],
        ["devices=4", "mnist.batch_size=256", "cifar.batch_size=1000,500"],
    ],
)
def test_a_value_is_checked_with_those_of_the_other_keys(project, texts):
    assert [override.input_line for override in parse(texts)] == texts
    with pytest.raises(UserError):
        parse(texts[-1:] if "batch" not in texts[-1] else texts[:1])


def test_a_key_that_params_lack_needs_a_plus_where_there_is_no_schema(repository):
    Path("params.schema.json").unlink()
    assert len(parse(["lr=0.1,7", "+new=1"])) == 2
    for text in ("lrr=0.1", "+lr=0.1"):
        with pytest.raises(UserError, match=r"invalid override, expected KEY=VALUES"):
            parse([text])


@pytest.mark.parametrize("bad", ["lrr=0.2", "seed=", "seed=range(0,1,0)"])
def test_a_bad_override_is_no_fault_of_the_others(repository, bad):
    with pytest.raises(UserError) as error:
        parse(["lr=0.1", bad])
    assert "lr=0.1" not in str(error.value)
    assert bad.partition("=")[0] in str(error.value)


def test_every_value_of_a_shuffled_range_is_checked(repository):
    for _ in range(2):
        with pytest.raises(UserError, match=r"lr: found 0\.0, expected a number"):
            parse(["lr=shuffle(range(0,1,0.02))"])


def test_another_folder_than_the_top_one_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^params\.yaml: missing; run from the top folder"):
        parse(["lr=0.1"])


def test_a_grid_has_at_most_100_000_trials(repository):
    swept = parse(["seed=range(0,1000)", "split=range(0,101)"])
    with pytest.raises(UserError, match=r"found 101,000 trials, expected at most 100,000; add --search"):
        grid(swept)
    assert len(grid(parse(["seed=range(0,1000)", "split=range(0,100)"]))) == 100_000


def test_an_interval_has_no_grid(repository):
    with pytest.raises(UserError, match="an interval has no grid; add --search"):
        grid(parse(["lr=interval(0.1,0.2)"]))


def test_a_value_that_is_given_twice_is_tried_once():
    assert grid(parse(["seed=0,0,1"])) == [("seed=0",), ("seed=1",)]


def test_without_a_schema_values_are_not_checked(repository):
    assert schema_faults("lr=-1")
    Path("params.schema.json").unlink()
    assert schema_faults("lr=-1") == []
