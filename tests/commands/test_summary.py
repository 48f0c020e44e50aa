"""The table that a run ends with."""

import json
from pathlib import Path
from typing import Any

import pytest

from reprocnn.commands import summary
from reprocnn.core.errors import UserError
from reprocnn.core.files import sha256
from tests.support.commands import ROOT
from tests.support.edits import GONE, put


def write(name: str, source: str = "public", accuracy: float = 0.99, recorded: bool = False) -> None:
    interval = {"accuracy_low": accuracy - 0.0213, "accuracy_high": min(accuracy + 0.0052, 1)}
    contents: dict[str, Any] = {
        path: json.loads((ROOT / path).read_text(encoding="utf-8"))
        for path in (f"metrics/{name}.json", f"evaluation/{name}.json")
    }
    contents[f"metrics/{name}.json"][name]["test"]["accuracy"] = accuracy
    details = contents[f"evaluation/{name}.json"]
    details |= {"source": source, "test": details["test"] | interval, "parameters": 1234567}
    if recorded:
        weights = Path("models") / name / "model.weights.h5"
        weights.parent.mkdir(parents=True, exist_ok=True)
        weights.write_bytes(name.encode())
        device = {"kind": "gpu", "name": "H100"}
        contents[f"runs/train_{name}.json"] = {"weights": sha256(weights), "seconds": 83.6, "device": device}
    for path, content in contents.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(content))


def table(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    summary.main([])
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == f"report: {Path('report/report.md').resolve()}"
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines]


def test_a_row_for_each_data_set(project, capsys):
    write("mnist", accuracy=0.97126, recorded=True)
    write("cifar", accuracy=0.9234)
    heads, _, mnist, cifar = table(capsys)
    assert heads == [
        "data set", "network", "parameters", "test accuracy", "95 % interval", "target", "epochs", "training", "device",
    ]  # fmt: skip
    assert mnist == [
        "MNIST", "mnist_cnn", "1,234,567", "97.13%", "95.00% to 97.65%", "99.0% MISSED", "16", "84 s", "gpu, H100",
    ]  # fmt: skip
    assert cifar == [
        "CIFAR-10", "cifar_cnn", "1,234,567", "92.34%", "90.21% to 92.86%", "91.5% met", "14", "-", "trained elsewhere",
    ]  # fmt: skip


@pytest.mark.parametrize(("accuracy", "verdict"), [(0.9899, "99.0% MISSED"), (0.99, "99.0% met"), (1.0, "99.0% met")])
def test_the_target_is_met_from_its_value_on(project, capsys, accuracy, verdict):
    write("mnist", accuracy=accuracy)
    write("cifar")
    assert table(capsys)[2][5] == verdict


def test_the_sample_has_its_own_name_and_no_target(project, capsys):
    write("mnist", source="sample", accuracy=0.5)
    write("cifar", source="sample")
    _, _, mnist, cifar = table(capsys)
    assert (mnist[0], mnist[5], cifar[0], cifar[5]) == ("sample: digits", "none", "sample: shapes", "none")


def test_time_and_device_are_of_these_very_weights(project, capsys):
    write("mnist", recorded=True)
    write("cifar", recorded=True)
    Path("models/mnist/model.weights.h5").write_bytes(b"others")
    _, _, mnist, cifar = table(capsys)
    assert mnist[-2:] == ["-", "trained elsewhere"]
    assert cifar[-2:] == ["84 s", "gpu, H100"]
    Path("models/mnist/model.weights.h5").unlink()
    Path("runs/train_cifar.json").unlink()
    assert [row[-1] for row in table(capsys)[2:]] == ["trained elsewhere"] * 2


def test_a_missing_result_is_an_error(project):
    write("mnist")
    with pytest.raises(UserError, match=r"^metrics/cifar\.json: missing; run `dvc repro`"):
        summary.main([])


RESTORE = "; restore it with git checkout, or run `dvc repro`"
DELETE = "; delete the file; the table then shows neither time nor device"


@pytest.fixture
def results(project) -> None:
    write("mnist", recorded=True)
    write("cifar", recorded=True)


def refused() -> str:
    with pytest.raises(UserError) as refusal:
        summary.main([])
    return str(refusal.value)


@pytest.mark.parametrize(
    ("path", "key", "value", "message"),
    [
        ("metrics/mnist.json", "mnist", GONE, "mnist: missing"),
        ("metrics/mnist.json", "mnist.test", None, "mnist.test: found None, expected keys with values"),
        ("metrics/mnist.json", "mnist.test.accuracy", GONE, "mnist.test.accuracy: missing"),
        ("metrics/cifar.json", "cifar.test.accuracy", "0.9", "cifar.test.accuracy: found '0.9', expected a number from "
         "0 to 1"),
        ("evaluation/mnist.json", "source", "other", "source: found 'other', expected public or sample"),
        ("evaluation/cifar.json", "parameters", -1, "parameters: found -1, expected a whole number, not negative"),
        ("evaluation/mnist.json", "test.accuracy_low", float("nan"), "test.accuracy_low: found nan, expected a number "
         "from 0 to 1"),
    ],
)  # fmt: skip
def test_a_key_that_is_not_right_is_named(results, path, key, value, message):
    put(path, key, value)
    assert refused() == f"{path}: {message}{RESTORE}"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("weights", GONE, "weights: expected a digest, got none"),
        ("seconds", "83", "seconds: expected a number, got '83'"),
        ("seconds", float("inf"), "seconds: expected a number, got inf"),
        ("device", "cpu", "device.kind: expected cpu or gpu, got none"),
        ("device.name", None, "device.name: expected a name, got None"),
    ],
)
def test_a_record_of_the_training_that_is_not_right_is_named(results, capsys, key, value, message):
    path = Path("runs/train_cifar.json")
    put(str(path), key, value)
    assert refused() == f"{path}: {message}{DELETE}"
    path.unlink()
    assert table(capsys)[3][-2:] == ["-", "trained elsewhere"]


@pytest.mark.parametrize("text", ["", '{"seconds": 1', "[" * 100_000, b"\xff"])
def test_damaged_files_are_named(results, text):
    for path, advice in (("runs/train_mnist.json", DELETE), ("metrics/mnist.json", RESTORE)):
        Path(path).write_bytes(text if isinstance(text, bytes) else text.encode())
        message = refused()
        assert message.startswith(f"{path}: ")
        assert message.endswith(advice)
        assert "\n" not in message


@pytest.mark.parametrize("content", [[], 3, None])
def test_a_file_without_keys_is_named(results, content):
    Path("runs/train_mnist.json").write_text(json.dumps(content))
    assert refused() == f"runs/train_mnist.json: weights: expected a digest, got none{DELETE}"
    Path("evaluation/mnist.json").write_text(json.dumps(content))
    assert refused() == f"evaluation/mnist.json: found {content}, expected keys with values{RESTORE}"
