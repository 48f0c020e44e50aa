"""Metrics files that the command line names, in a git repository without DVC."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from reprocnn.gate import command
from tests.support.commands import call, commit, save

LIMITS = {
    "targets": {
        "house": {"rmse": {"at_most": 1500, "tolerance": 10}},
        "digits": {"test": {"accuracy": {"at_least": 0.8}}},
    },
    "gate": {"alpha": 0.01, "tolerance": 0.5},
}  # fmt: skip
FILES = ("--metrics=house.yaml", "--metrics=digits.json")


def write(rmse: float = 1200, wrong: int = 50) -> None:
    """Write both files, and the predictions of 1,000 images of which the first `wrong` are not those of the labels."""
    Path("house.yaml").write_text(f"house:\n  rmse: {rmse}\n")
    test = {"n": 1000, "accuracy": (1000 - wrong) / 1000}
    Path("digits.json").write_text(json.dumps({"digits": {"test": test}}))
    Path("plots/digits").mkdir(parents=True, exist_ok=True)
    rows = [f"{i},1,{int(i >= wrong)}" for i in range(1000)]
    Path("plots/digits/predictions.csv").write_text("\n".join(["index,y_true,y_pred", *rows]) + "\n")


@pytest.fixture
def plain(tmp_path, monkeypatch) -> Path:
    """A git repository with two metrics files, committed."""
    monkeypatch.chdir(tmp_path)
    call(tmp_path, "git", "init", "--quiet", "--initial-branch=main")
    Path("params.yaml").write_text(yaml.safe_dump(LIMITS | {"lr": 0.1}))
    write()
    save(tmp_path)
    return tmp_path


def outcome(capsys: Any, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        command.main(["--against=HEAD", *words])
    assert isinstance(ended.value.code, int)
    return (ended.value.code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"rmse": 1209}, 0, "worse within 10"),
        ({"rmse": 1211}, 1, "house.rmse: target met, WORSE (by more than 10)"),
        ({"rmse": 1600}, 1, "house.rmse: ABOVE TARGET"),
        ({"rmse": 1100}, 0, "target met, better"),
        ({"wrong": 55}, 0, "McNemar, 5 lost, 0 won"),
        ({"wrong": 60}, 1, "digits.test.accuracy: target met, WORSE (p < 0.01)"),
    ],
)
def test_metrics_are_judged_without_dvc(plain, capsys, change, code, said):
    write(**change)
    found = outcome(capsys, *FILES)
    assert (found[0], found[2]) == (code, "")
    assert said in found[1]


def test_changed_params_are_listed(plain, capsys):
    write(1199)
    Path("params.yaml").write_text(yaml.safe_dump(LIMITS | {"lr": 0.2}))
    assert "changed: lr: 0.1 -> 0.2" in outcome(capsys, *FILES)[1]


def test_a_param_that_is_gone_is_a_change(plain, capsys):
    write(1199)
    Path("params.yaml").write_text(yaml.safe_dump(LIMITS | {"rate": 0.1}))
    out = outcome(capsys, *FILES)[1]
    assert "changed: lr: 0.1 -> -" in out
    assert "changed: rate: - -> 0.1" in out


def test_files_below_the_top_are_found_at_the_base(plain, capsys, monkeypatch):
    Path("below").mkdir()
    call(plain, "git", "mv", "params.yaml", *("house.yaml", "digits.json", "plots"), "below")
    commit(plain)
    monkeypatch.chdir("below")
    write(1211)
    assert "house.rmse: target met, WORSE (by more than 10)" in outcome(capsys, *FILES)[1]


def test_the_baseline_is_of_the_revision_that_is_named(plain, capsys):
    write(1211)
    commit(plain)
    with pytest.raises(SystemExit) as ended:
        command.main(["--against=HEAD~", *FILES])
    assert ended.value.code == 1
    assert "house.rmse: target met, WORSE (by more than 10)" in capsys.readouterr().out


def test_only_here_are_all_numbers_to_be_finite(plain, capsys):
    """What is committed, nobody can write again."""
    content = Path("digits.json").read_text()
    Path("digits.json").write_text(content.replace('"accuracy"', '"loss": NaN, "accuracy"'))
    commit(plain)
    Path("digits.json").write_text(content.replace('"accuracy"', '"loss": 0.25, "accuracy"'))
    code, out, err = outcome(capsys, *FILES)
    assert (code, err) == (0, "")
    assert "digits.test.loss" in out
    Path("digits.json").write_text(content.replace('"accuracy"', '"loss": NaN, "accuracy"'))
    code, _, err = outcome(capsys, *FILES)
    assert (code, "digits.json here: digits.test.loss: found nan" in err) == (2, True)


def test_what_is_said_of_the_images_beside_named_metrics_counts(plain, capsys):
    Path("evaluation").mkdir()
    Path("evaluation/digits.json").write_text(json.dumps({"source": "sample", "test": {"n": 1000}}))
    code, _, err = outcome(capsys, *FILES)
    assert (code, "results of the sample (digits.source)" in err) == (2, True)


def test_a_path_from_the_root_is_the_same_file(plain, capsys):
    write(1211)
    assert "WORSE (by more than 10)" in outcome(capsys, *(word.replace("=", f"={plain}/") for word in FILES))[1]


def test_a_link_to_the_repository_is_the_repository(plain, capsys, monkeypatch, tmp_path_factory):
    write(1211)
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(plain)
    monkeypatch.chdir(link)
    for words in (FILES, [word.replace("=", f"={link}/") for word in FILES]):
        assert "WORSE (by more than 10)" in outcome(capsys, *words)[1]


@pytest.mark.parametrize("path", ["house.yaml", "params.yaml", "plots/digits/predictions.csv"])
def test_a_base_of_which_git_lacks_a_file_is_not_one_without_it(plain, capsys, path):
    """As in a partial clone whose remote cannot be reached."""
    blob = call(plain, "git", "rev-parse", f"HEAD:{path}").strip()
    Path(".git/objects", blob[:2], blob[2:]).unlink()
    write(rmse=1400, wrong=49)
    code, _, err = outcome(capsys, *FILES)
    assert (code, f"{path} at HEAD: in git, but not in this clone" in err) == (2, True), err


def test_a_limit_is_that_of_the_base(plain, capsys):
    write(1211)
    Path("params.yaml").write_text(yaml.safe_dump(LIMITS).replace("tolerance: 10", "tolerance: 20"))
    code, out, _ = outcome(capsys, *FILES)
    assert (code, "house.rmse.tolerance: 10 -> 20" in out) == (1, True)


def broken(text: str) -> Any:
    return lambda: Path("house.yaml").write_text(text)


def linked_folder() -> None:
    """Put a link to a folder in the place of the one that had the metrics at the base."""
    Path("below").mkdir()
    shutil.copy("house.yaml", "below")
    call(Path(), "git", "add", "below")
    commit(Path())
    call(Path(), "git", "mv", "below", "elsewhere")
    Path("below").symlink_to("elsewhere")
    call(Path(), "git", "add", "below")


@pytest.mark.parametrize(
    ("spoil", "words", "reason"),
    [
        (lambda: None, FILES, "nothing has changed since: no result is compared with itself"),
        (Path("house.yaml").unlink, FILES, "house.yaml: missing; name a file of metrics with --metrics"),
        (broken("house: {rmse: 1, rmse: 2}"), FILES, "house.yaml here: "),
        (broken("house: {rmse: .nan}"), FILES, "house.yaml here: house.rmse: found nan, expected a finite number"),
        (broken(f"house: {' ' * 1_000_000}"), FILES, "house.yaml here: over 1,000,000 bytes"),
        (broken("1200"), FILES, "house.yaml here: expected a mapping of names to metrics"),
        (
            lambda: Path("digits.json").write_text("[1]"),
            FILES,
            "digits.json here: expected a mapping of names",
        ),
        (broken("house: [1200]"), FILES, "house.rmse: missing or null"),
        (Path("..", "far.json").touch, ["--metrics=../far.json"], "../far.json: outside the git repository"),
        (lambda: call(Path(), "git", "rm", "--cached", "house.yaml"), FILES, "house.yaml: not in git, so no rev"),
        (
            lambda: Path("house.yaml").rename("it") and Path("house.yaml").symlink_to("it"),
            FILES,
            "house.yaml: a symbolic link, or inside a linked folder",
        ),
        (linked_folder, ["--metrics=below/house.yaml"], "below/house.yaml: a symbolic link, or inside a linked folder"),
        (
            lambda: write(1201),
            FILES[:1],
            "digits.test.accuracy: missing or null, but params.yaml has a target for it; found house.rmse; ",
        ),
        (lambda: Path("plots/digits/predictions.csv").write_text("y_true,y_pred\n1,1\n"), FILES, "but the metric is"),
    ],
)
def test_what_is_no_judgement(plain, capsys, spoil, words, reason):
    spoil()
    code, _, err = outcome(capsys, *words)
    assert code == 2
    assert reason in err


def test_a_key_of_two_files_begins_with_its_file(plain, capsys):
    for name, value in (("a.json", 1), ("b.json", 2)):
        Path(name).write_text(json.dumps({"rmse": value}))
    Path("params.yaml").write_text(
        yaml.safe_dump({"targets": {"b.json:rmse": {"at_most": 3}}, "gate": {"alpha": 0.01, "tolerance": 1}})
    )
    save(plain)
    Path("b.json").write_text(json.dumps({"rmse": 4}))
    code, out, _ = outcome(capsys, "--metrics=a.json", "--metrics=b.json")
    assert (code, "b.json:rmse: ABOVE TARGET" in out) == (1, True)
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("b.json:rmse", "rmse"))
    code, _, err = outcome(capsys, "--metrics=a.json", "--metrics=b.json", "--metrics=house.yaml")
    assert (code, "found a.json:rmse, b.json:rmse; run what writes it, or correct the target" in err) == (2, True), err


def test_a_number_in_a_list_is_to_be_finite_too(plain, capsys):
    write(1100)
    Path("house.yaml").write_text("house:\n  rmse: 1100\n  of_folds: [1, .nan]\n")
    code, _, err = outcome(capsys, *FILES)
    assert (code, "house.yaml here: house.of_folds: found nan, expected a finite number" in err) == (2, True), err


def test_a_change_counts_whatever_link_the_file_is_named_by(plain, capsys, tmp_path_factory):
    """What git cannot look up would pass for unchanged."""
    Path("below").mkdir()
    call(plain, "git", "mv", "house.yaml", "below/house.yaml")
    commit(plain)
    Path("below/house.yaml").write_text("house:\n  rmse: 1211\n")
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(plain / "below")
    code, out, err = outcome(capsys, "--against=HEAD", f"--metrics={link / 'house.yaml'}", FILES[1])
    assert (code, err) == (1, "")
    assert "WORSE (by more than 10)" in out


SAME = {"n": 1000, "digest": "a", "f1": 0.9, "tta": {"accuracy": 0.9}}


@pytest.mark.parametrize("metric", ["f1", "tta.accuracy"])
@pytest.mark.parametrize(
    ("test", "label", "code", "said"),
    [
        (SAME, 1, 0, "target met, same"),
        ({**SAME, "n": 10}, 1, 2, "digits.test.n: 1,000 at HEAD, 10 here: other test images"),
        ({key: SAME[key] for key in SAME if key != "n"}, 1, 2, "no count of images here; restore it"),
        ({**SAME, "digest": "b"}, 1, 2, "digits.test.digest: a at HEAD, b here: other test images"),
        (SAME, 2, 2, "plots/digits/predictions.csv: other true classes here than at HEAD"),
        (SAME, None, 1, "LOOSENED (plots/digits/predictions.csv -> removed)"),
    ],
)
def test_a_metric_of_any_kind_is_judged_on_the_same_images(plain, capsys, metric, test, label, code, said):
    """Not only an accuracy, of which each image is compared."""
    limits = {"targets": {f"digits.test.{metric}": {"at_least": 0.5}}, "gate": LIMITS["gate"]}
    Path("params.yaml").write_text(yaml.safe_dump(limits))
    Path("digits.json").write_text(json.dumps({"digits": {"test": SAME}}))
    save()
    Path("digits.json").write_text(json.dumps({"digits": {"test": test}}))
    predictions = Path("plots/digits/predictions.csv")
    predictions.write_text(predictions.read_text().replace(",1,", f",{label},"))
    if label is None:
        predictions.unlink()
    Path("params.yaml").write_text(yaml.safe_dump(limits | {"lr": 0.1}))
    found = outcome(capsys, "--metrics=digits.json")
    assert found[0] == code, found
    assert said in found[1] + found[2]


@pytest.mark.parametrize("file", ["x.json", "digits.json"])
def test_a_key_with_a_file_in_its_name_does_not_take_the_place_of_another(plain, capsys, file):
    """A metric of the base would be compared with it, and a lower target of the metric itself would be a new one."""
    for values, lowest in (({"f1": 0.9}, 0.8), ({"f1": 0.5, f"{file}:f1": 0.9}, 0.4)):
        targets = {name: {"at_least": lowest if name == "f1" else 0.8} for name in values}
        Path("params.yaml").write_text(yaml.safe_dump({"targets": targets, "gate": LIMITS["gate"]}))
        Path("digits.json").write_text(json.dumps(values))
        if lowest == 0.8:
            save()
    code, _, err = outcome(capsys, "--metrics=digits.json")
    assert code == 2
    assert f"the key '{file}:f1' begins with a file's name, as metrics of another file do" in err


@pytest.mark.parametrize("path", ["params.yaml", "digits.json"])
def test_what_git_keeps_as_another_text_is_refused(plain, capsys, path):
    """iconv may make ASCII of what is none: the limits that are judged would not be those of the next base."""
    Path(".gitattributes").write_text(f"{path} working-tree-encoding=ASCII//TRANSLIT\n")
    write(1199)
    code, _, err = outcome(capsys, *FILES)
    assert code == 2
    assert err.startswith(f"error: {path}: found a working-tree-encoding in .gitattributes, so git keeps other text")
