"""The exported networks: what is written, that it computes what evaluation computes, and its card."""

import importlib.util
import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.run.export import OPENERS, RUNTIMES
from reprocnn import backend
from reprocnn.backend import keras, layers, tf
from reprocnn.commands import export
from reprocnn.commands.model_card import model_card
from reprocnn.core.errors import UserError
from reprocnn.core.files import sha256
from reprocnn.datasets import CIFAR, DATASETS, MNIST
from reprocnn.evaluation import model_files, tta
from reprocnn.gate import lock
from reprocnn.images import arrays
from tests.support.commands import ROOT, call, column, commit, save
from tests.support.edits import put

TOLERANCE = 1e-5  # of a probability; docs/guides/export.md states it


class Model:
    """A network that is saved as the name of its folder."""

    input_shape = (None, 28, 28, 1)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, path: Path) -> None:
        path.write_text(str(self.folder))


@pytest.fixture
def trained(tmp_path, monkeypatch) -> list[tuple[str, int]]:
    """The working folder, where all is trained; the devices that are asked for."""
    devices: list[tuple[str, int]] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(backend, "configure_device", lambda device, threads: devices.append((device, threads)))
    monkeypatch.setattr(model_files, "load", Model)
    monkeypatch.setattr(lock, "damaged", lambda folder: [])
    monkeypatch.setattr(lock, "changed_results", lambda rev: ["report: differs"])
    monkeypatch.setattr(export, "model_card", lambda dataset, shape, files: f"{dataset.name} {shape} {files}")
    return devices


def test_each_network_is_exported_under_its_name(trained, capsys):
    export.main([])
    assert {path.name: path.read_text() for path in Path("export").iterdir()} == {
        "mnist.keras": "models/mnist", "mnist.md": "mnist (28, 28, 1) {'keras': 'mnist.keras'}",
        "cifar.keras": "models/cifar", "cifar.md": "cifar (28, 28, 1) {'keras': 'cifar.keras'}",
    }  # fmt: skip
    assert trained == [("cpu", 0)]
    assert capsys.readouterr().out.splitlines() == [
        "export/mnist.keras: 12 bytes", "export/mnist.md: 42 bytes",
        "export/cifar.keras: 12 bytes", "export/cifar.md: 42 bytes",
    ]  # fmt: skip


def test_a_card_names_the_files_of_all_formats_once(trained, monkeypatch):
    monkeypatch.setattr(export, "_convert", lambda model, kind, path: path.write_text(kind))
    export.main(["--format", "litert", "--format", "keras", "litert"])
    assert Path("export/mnist.md").read_text().endswith("{'litert': 'mnist.tflite', 'keras': 'mnist.keras'}")
    assert Path("export/mnist.tflite").read_text() == "litert"


@pytest.mark.parametrize(("kind", "library"), [("onnx", "onnx"), ("onnx", "tf2onnx"), ("openvino", "openvino")])
def test_a_missing_library_is_named_with_its_extra_before_any_work(trained, monkeypatch, kind, library):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else "here")
    with pytest.raises(UserError, match=rf"pip install 'reprocnn\[{kind}\]' \(.* lacks {library}\)$") as error:
        export.main(["--format", "keras", kind])
    assert len(str(error.value).splitlines()) == 1
    assert trained == []
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert library in {re.split("[>=]", need)[0] for need in extras[kind]}
    assert RUNTIMES[kind] in {re.split("[>=]", need)[0] for need in extras[kind]}


def test_a_network_that_was_not_measured_is_not_exported(trained, monkeypatch):
    def refuse(*_: object) -> str:
        raise UserError("evaluation/mnist.json: measured with other weights")

    monkeypatch.setattr(export, "model_card", refuse)
    with pytest.raises(UserError, match="other weights"):
        export.main([])
    assert not Path("export/mnist.keras").exists()


def test_an_export_that_fails_leaves_the_file_before(trained):
    Path("export").mkdir()
    Path("export/mnist.keras").write_text("before")

    class Failing(Model):
        def save(self, path: Path) -> None:
            path.write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        export.export(Failing(Path()), "mnist", "keras")
    assert {path.name: path.read_text() for path in Path("export").iterdir()} == {"mnist.keras": "before"}


@pytest.mark.parametrize(
    "error", [RuntimeError("write\n  failed"), tf.errors.ResourceExhaustedError(None, None, "full")]
)
def test_what_a_converter_cannot_write_is_said_in_a_line(trained, error):
    class Failing(Model):
        def export(self, *given, **options) -> None:
            raise error

    with pytest.raises(
        UserError, match=r"^export/mnist: cannot be written as saved_model \((write failed|.*full.*)\)$"
    ):
        export.export(Failing(Path()), "mnist", "saved_model")
    assert not list(Path("export").iterdir())


def made(name: str, *others: str) -> Path:
    """Write files of an export, all with the text `new`."""
    folder = Path("export/.partial-1")
    folder.mkdir(parents=True)
    for file in (name, *others):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("new")
    return folder / name


def test_a_new_folder_replaces_the_old_one_whole(trained):
    Path("export/mnist/variables").mkdir(parents=True)
    Path("export/mnist/variables/old").write_text("old")
    made("mnist/model.pb")
    assert export.publish(Path("export/.partial-1/mnist")) == [Path("export/mnist")]
    assert [path.name for path in Path("export/mnist").rglob("*")] == ["model.pb"]


def test_what_is_opened_is_there_only_with_all_that_belongs_to_it(trained, monkeypatch):
    """An interruption between two files leaves no graph of one network beside the weights of another."""
    path = made("mnist.xml", "mnist.bin")
    for name in ("mnist.xml", "mnist.bin"):
        Path("export", name).write_text("old")
    seen = []
    replace = os.replace

    def note(source: Path, target: Path) -> None:
        replace(source, target)
        xml = Path("export/mnist.xml")
        seen.append((xml.read_text() if xml.exists() else None, Path("export/mnist.bin").read_text()))

    monkeypatch.setattr(os, "replace", note)
    assert export.publish(path) == [Path("export/mnist.xml"), Path("export/mnist.bin")]
    assert seen == [(None, "old"), (None, "new"), ("new", "new")]


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path):
    for name, size in (("a", 3), ("variables/b", 40), ("variables/deep/c", 500)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    assert (export.size(tmp_path), export.size(tmp_path / "a")) == (543, 3)


def test_files_are_on_the_disk_before_they_get_their_names(trained, monkeypatch):
    path = made("mnist.xml", "variables/data")
    files = {path.stat().st_ino, (path.parent / "variables/data").stat().st_ino}
    synced = set()

    def fsync(number: int) -> None:
        assert not Path("export/mnist.xml").exists()
        synced.add(os.fstat(number).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    export.publish(path)
    assert synced == files


def network() -> keras.Model:
    """A dense layer of one weight, 1, behind GELU."""
    inputs = keras.Input((1,), dtype="float32")
    outputs = layers.Dense(1, activation="gelu")(inputs)
    model = keras.Model(inputs, layers.Activation("gelu")(outputs), name="small")
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    return model


def test_gelu_by_erf_is_gelu():
    same = export.with_erf(network())
    once = np.array([1.0, -1.0, 0.0]) * [
        0.8413447,
        0.1586553,
        0.5,
    ]  # x times the normal distribution
    x = np.array([[1.0], [-1.0], [0.0]], dtype=np.float32)
    assert keras.Model(same.input, same.layers[1].output).predict(x, verbose=0).ravel() == pytest.approx(once, abs=1e-6)
    assert same.predict(x, verbose=0) == pytest.approx(network().predict(x, verbose=0), abs=1e-6)
    assert all(layer.activation is not keras.activations.gelu for layer in same.layers[1:])


def need(*libraries: str) -> None:
    """Skip the test where a library is missing; nothing is imported, since OpenVINO would send statistics then."""
    for library in libraries:
        if importlib.util.find_spec(library.replace("-", "_")) is None:
            pytest.skip(f"needs {library}, which make formats installs")


def test_openvino_sends_no_statistics(trained, monkeypatch):
    module = "openvino_telemetry"
    monkeypatch.setitem(sys.modules, module, None)  # so that it is as before in the end
    del sys.modules[module]
    model = network()
    monkeypatch.setattr(model, "export", lambda path, kind, **options: Path(path).write_text(str(sys.modules[module])))
    export._convert(model, "openvino", Path("small.xml"))
    assert Path("small.xml").read_text() == "None"


@pytest.mark.slow
def test_an_operation_that_onnx_lacks_is_reported(trained, monkeypatch, capfd):
    """The converter itself writes a file that no runtime opens."""
    need(*export.FORMATS["onnx"].libraries)
    monkeypatch.setattr(export, "with_erf", lambda model: model)
    inputs = keras.Input((1,), dtype="uint8")
    model = keras.Model(inputs, layers.Dense(1, activation="gelu")(inputs), name="small")
    with pytest.raises(UserError, match=r"^small: cannot be written as ONNX \(.*Erfc"):
        export.export(model, "small", "onnx")
    assert list(Path("export").iterdir()) == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", export.FORMATS)
def test_an_exported_network_computes_what_evaluation_computes(copy, kind):
    need(*export.FORMATS[kind].libraries, RUNTIMES[kind])
    lines = call(copy, "python", "-m", "reprocnn", "export", "--format", kind).splitlines()
    ending = export.FORMATS[kind].ending
    more = [".bin"] if kind == "openvino" else []
    expected = [f"export/{name}{part}" for name in ("mnist", "cifar") for part in (ending, *more, ".md")]
    assert lines == [f"{path}: {export.size(copy / path):,} bytes" for path in expected]  # and no line of a library
    assert {path.name for path in (copy / "export").iterdir()} == {Path(path).name for path in expected}
    for name in ("mnist", "cifar"):
        x = arrays.load(copy / "data/prepared" / name / "test").x
        assert x.dtype == np.uint8
        predict = OPENERS[kind](copy / "export" / f"{name}{ending}", 1)
        found = predict(x)
        assert found.argmax(axis=1).tolist() == column(copy / "plots" / name / "predictions.csv", "y_pred")
        evaluated = tta.predict(model_files.load(copy / "models" / name), x)
        assert found.shape == evaluated.shape
        assert abs(found - evaluated).max() < TOLERANCE
        assert abs(predict(x[:1]) - evaluated[:1]).max() < TOLERANCE  # a batch of another size


@pytest.fixture
def evaluated(tmp_path, monkeypatch) -> Path:
    """The working folder: a repository with the committed results, and weights that they belong to."""
    for name in ("metrics", "evaluation"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.npz"))
    shutil.copy(ROOT / "dvc.lock", tmp_path)
    for name in ("mnist", "cifar"):
        weights = tmp_path / "models" / name / "model.weights.h5"
        weights.parent.mkdir(parents=True)
        weights.write_text(name)
        put(tmp_path / f"evaluation/{name}.json", "weights", sha256(weights))
    call(tmp_path, "git", "init", "--quiet")
    save(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parts(card: str) -> tuple[dict, str]:
    """Split a card into its header, parsed, and its text."""
    empty, header, text = card.split("---\n", 2)
    assert empty == ""
    return yaml.safe_load(header), text


def test_the_header_has_the_numbers_of_the_results(evaluated):
    header, _ = parts(model_card(MNIST, (28, 28, 1), {"onnx": "mnist.onnx"}))
    test = json.loads((ROOT / "metrics/mnist.json").read_text())["mnist"]["test"]
    [model] = header.pop("model-index")
    assert header == {
        "library_name": "keras", "license": "mit", "pipeline_tag": "image-classification",
        "datasets": ["ylecun/mnist"], "metrics": ["accuracy"], "tags": ["keras", "onnx", "dvc"],
    }  # fmt: skip
    [result] = model["results"]
    assert (model["name"], result["task"]) == ("mnist_cnn", {"type": "image-classification"})
    assert result["dataset"] == {"name": "MNIST", "type": "ylecun/mnist", "split": "test"}
    found = {metric["type"]: metric["value"] for metric in result["metrics"]}
    assert found == {key: test[key] for key in ("accuracy", "top2_accuracy", "loss", "calibration_error")}
    names = [metric["name"] for metric in result["metrics"]]
    assert names == ["accuracy", "top2 accuracy", "loss", "calibration error"]
    license = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
    assert license.lower() == header["license"]


def test_the_text_says_how_good_it_is_and_how_to_make_it_again(evaluated):
    put("metrics/mnist.json", "mnist.test.accuracy", 0.98765)
    put("evaluation/mnist.json", "test.accuracy_low", 0.98123)
    put("evaluation/mnist.json", "test.accuracy_high", 0.99321)
    commit(Path())
    _, text = parts(model_card(MNIST, (28, 28, 1), {"onnx": "mnist.onnx", "keras": "mnist.keras"}))
    details = json.loads(Path("evaluation/mnist.json").read_text())
    scores = json.loads(Path("metrics/mnist.json").read_text())["mnist"]["test"]
    stage = yaml.safe_load(Path("dvc.lock").read_text())["stages"]["train_mnist"]
    for expected in (
        "# mnist_cnn, MNIST\n", "with 289,994 parameters", "(images, 28, 28, 1)", "10 classes:\n0, 1, 2,",
        '| `mnist.onnx` | `onnxruntime.InferenceSession("mnist.onnx")` |',
        '| `mnist.keras` | `keras.models.load_model("mnist.keras")` |',
        "MNIST: 54,000 for training, 6,000 for validation, 10,000 for testing.", "| On 10,000 test images | |",
        "| accuracy | 98.77%, 95 % interval 98.12% to 99.32% |",
        f"| errors | {scores['errors']} |", f"{scores['accuracy_tta']:.2%}; the files give the plain",
        f"| accuracy of the two best classes | {scores['top2_accuracy']:.2%} |",
        f"| cross-entropy | {scores['loss']:.4f} |",
        f"| expected calibration error | {scores['calibration_error']:.4f} |",
        f"commit `{call(Path(), 'git', 'rev-parse', 'HEAD').strip()}` and run `dvc repro evaluate_mnist`",
        f"SHA-256 `{details['weights']}`", f"MD5 `{stage['outs'][0]['md5']}`",
        f"cpu, {details['device']['name']}, 2 threads",
        f"keras {details['versions']['keras']}",
    ):  # fmt: skip
        assert expected in text, expected
    lowest = min(details["classes"], key=lambda row: row["recall"])
    assert f"weakest class is {lowest['class']}, with a recall of {lowest['recall']:.2%}" in text
    assert yaml.safe_load(text.split("```yaml\n")[1].split("```")[0]) == stage["params"]["params.yaml"]
    assert "sample" not in text


def test_a_class_of_which_no_image_is_found_is_the_weakest(evaluated):
    classes = json.loads(Path("evaluation/mnist.json").read_text())["classes"]
    for row, recall in zip(classes[3:5], (None, 0.0), strict=True):
        row["recall"] = recall
    put("evaluation/mnist.json", "classes", classes)
    assert "weakest class is 4, with a recall of 0.00%" in model_card(MNIST, (28, 28, 1), {})


def test_a_card_names_its_data_set_as_hubs_do(evaluated):
    header, _ = parts(model_card(CIFAR, (32, 32, 3), {}))
    assert header["datasets"] == ["uoft-cs/cifar10"]


def test_changes_that_are_not_committed_are_said(evaluated):
    Path("note.txt").touch()  # not git's, so not of the results
    assert "uncommitted" not in model_card(CIFAR, (32, 32, 3), {})
    put("evaluation/cifar.json", "parameters", 1)
    assert re.search(r"commit `\w{40}`, with uncommitted changes,", model_card(CIFAR, (32, 32, 3), {}))


def test_the_card_says_how_exact_the_training_was(evaluated):
    put("evaluation/mnist.json", "device.precision", "mixed_bfloat16")
    put("evaluation/mnist.json", "device.instructions", "avx512")
    assert " 2 threads,\n  mixed_bfloat16\n" in model_card(MNIST, (28, 28, 1), {})


def test_a_card_without_a_commit_names_the_repository(evaluated):
    shutil.rmtree(".git")
    call(evaluated, "git", "init", "--quiet")
    assert "Check out the repository and run `dvc repro evaluate_mnist`." in model_card(MNIST, (28, 28, 1), {})


def test_the_sample_is_no_published_data_set(evaluated):
    put("evaluation/cifar.json", "source", "sample")
    header, text = parts(model_card(CIFAR, (32, 32, 3), {}))
    assert "datasets" not in header
    assert header["model-index"][0]["results"][0]["dataset"]["type"] == "sample"
    assert "# cifar_cnn, sample: shapes" in text
    assert "Do not use it for anything else." in text


def test_training_on_all_images_is_said(evaluated):
    put("evaluation/mnist.json", "validation_images", None)
    assert "MNIST: 60,000 for training, 10,000 for testing." in model_card(MNIST, (28, 28, 1), {})


@pytest.mark.parametrize("file", ["metrics/mnist.json", "evaluation/mnist.json"])
@pytest.mark.parametrize("text", ["{}", "[]", "NaN", "3", '{"mnist": {}}', '{"mnist": {"test": []}, "test": 0}', "{"])
def test_results_of_another_form_are_a_line_per_fault(evaluated, file, text):
    Path(file).write_text(text)
    with pytest.raises(UserError) as error:
        model_card(MNIST, (28, 28, 1), {})
    assert all(line.startswith(f"{file}: ") and "git checkout" in line for line in str(error.value).splitlines())


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("metrics/mnist.json", "mnist.test.accuracy", "high"),
        ("metrics/mnist.json", "mnist.test.accuracy_tta", None),
        ("evaluation/mnist.json", "device.kind", 3),
        ("evaluation/mnist.json", "images.test", {}),
        ("evaluation/mnist.json", "classes", [{"class": "a", "precision": None, "recall": None, "n": 0}] * 10),
    ],
)
def test_a_result_of_another_kind_is_named(evaluated, file, key, value):
    put(file, key, value)
    with pytest.raises(UserError, match=rf"^{re.escape(file)}: {re.escape(key)}: found .*, expected .*$"):
        model_card(MNIST, (28, 28, 1), {})


def test_metrics_of_another_evaluation_are_refused(evaluated):
    put("metrics/mnist.json", "mnist.test.accuracy", 0.5)
    with pytest.raises(
        UserError, match=r"^evaluation/mnist\.json: test: .* expected the interval of 50\.00% in metrics"
    ):
        model_card(MNIST, (28, 28, 1), {})


def test_results_that_were_edited_are_refused(trained, monkeypatch):
    changed = ["metrics/mnist.json: differs", "evaluation/cifar.json: missing", "report: differs"]
    monkeypatch.setattr(lock, "changed_results", lambda rev: changed if rev == "workspace" else [])
    with pytest.raises(UserError, match=r"^metrics/mnist\.json: differs\nevaluation/cifar\.json: missing$"):
        export.main([])
    assert not Path("export").exists()


def test_results_of_other_weights_are_refused(evaluated):
    Path("models/mnist/model.weights.h5").write_text("others")
    with pytest.raises(UserError, match=r"^evaluation/mnist\.json: .* other weights .* `dvc repro evaluate_mnist`$"):
        model_card(MNIST, (28, 28, 1), {})


def test_a_stage_that_dvc_did_not_run_is_named(evaluated):
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    for stages in ({}, None, {"train_mnist": lock["stages"]["train_mnist"] | {"params": {}}},
                   {"train_mnist": lock["stages"]["train_mnist"] | {"outs": []}}):  # fmt: skip
        Path("dvc.lock").write_text(yaml.safe_dump(lock | {"stages": stages}))
        with pytest.raises(UserError, match=r"^dvc\.lock: train_mnist: missing, or .* run `dvc repro train_mnist`$"):
            model_card(MNIST, (28, 28, 1), {})


def test_dvc_knows_each_model_by_its_name():
    pipeline = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    assert {name: artifact["path"] for name, artifact in pipeline["artifacts"].items()} == {
        dataset.name: f"models/{dataset.name}" for dataset in DATASETS
    }
    outs = [out for stage in pipeline["stages"].values() for out in stage.get("outs", [])]
    assert all(artifact["path"] in outs and artifact["type"] == "model" for artifact in pipeline["artifacts"].values())


@pytest.mark.slow
def test_a_version_of_a_model_can_be_had_from_elsewhere(copy, tmp_path):
    call(copy, "dvc", "remote", "add", "--default", "storage", str(tmp_path / "storage"))
    call(copy, "dvc", "push", "models/mnist")
    commit(copy)
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    call(copy, "git", *identity, "tag", "--annotate", "mnist@v1.0.0", "--message=A version")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    call(elsewhere, "dvc", "artifacts", "get", str(copy), "mnist", "--out", "got")
    weights = Path("model.weights.h5")
    assert (elsewhere / "got" / weights).read_bytes() == (copy / "models/mnist" / weights).read_bytes()
