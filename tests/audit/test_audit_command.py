"""`reprocnn audit`: exit codes, formats, and files that cannot be trusted."""

import json
import zipfile

import pytest

from reprocnn import backend
from reprocnn.audit import command
from reprocnn.backend import keras, layers
from tests.support.commands import ROOT, call
from tests.support.small_models import chain, dense, head


@pytest.fixture
def run(project, monkeypatch, capsys):
    """Run the command in this process; give exit code, stdout and stderr."""
    monkeypatch.setattr(backend, "configure_device", lambda kind, threads: None)  # TensorFlow takes it once

    def run_command(*arguments):
        try:
            command.main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run_command


def test_rules_page_is_current(run):
    assert run("--rules")[1] == (ROOT / "docs/reference/audit-rules.md").read_text(encoding="utf-8")


def test_exits_with_0_without_findings(run):
    assert run("mnist_cnn") == (0, "audit: mnist_cnn: 0 errors, 0 warnings, 0 notes\n", "")


def test_exits_with_1_for_an_error_and_writes_json(run, tmp_path):
    model = chain((8,), head(activation=None))
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy())
    model.save(tmp_path / "model.keras")
    code, out, err = run(tmp_path / "model.keras", "--format", "json")
    (finding,) = json.loads(out)
    assert (code, err) == (1, "")
    assert list(finding) == ["code", "level", "layer", "message", "why", "fix"]
    assert (finding["code"], finding["level"], finding["layer"]) == ("logits-as-probabilities", "error", "head")


def test_exits_with_0_for_warnings_and_prints_the_fix(run, tmp_path):
    chain((8,), dense(20, "hidden", activation="softmax"), head()).save(tmp_path / "model.keras")
    code, out, _ = run(tmp_path / "model.keras")
    assert code == 0
    assert "0 errors, 1 warning, 0 notes\n\nwarning: hidden-softmax: hidden: a softmax of 20 units" in out
    assert "\n  fix: Use relu between layers" in out


def test_audits_a_file_with_an_unknown_optimizer(run, tmp_path):
    class Own(keras.optimizers.SGD):
        pass

    model = chain((8,), dense(20, "hidden", activation="softmax"), head())
    model.compile(Own(), "categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    assert "1 warning" in run(tmp_path / "model.keras")[1]


@pytest.mark.parametrize("name", ["vgg", "weights.h5", "missing.keras", "broken.keras", "empty.keras", "text.keras"])
def test_reports_in_a_line_what_cannot_be_read(run, tmp_path, name):
    (tmp_path / "broken.keras").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "text.keras").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "empty.keras", "w"):
        pass
    code, out, err = run(name if name == "vgg" else tmp_path / name)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert name in err


def test_reports_in_a_line_a_model_that_takes_text(run, tmp_path):
    keras.Sequential([keras.Input((), dtype="string"), layers.Hashing(10), layers.Embedding(10, 2)]).save(
        tmp_path / "text.keras"
    )
    code, _, err = run(tmp_path / "text.keras")
    assert code == 2
    assert "the model takes text" in err


def test_runs_no_code_of_a_file(tmp_path):
    """A Lambda layer, and a layer whose class is in a module beside the file: each would leave a trace."""
    trace = tmp_path / "trace"
    lambda_layer = layers.Lambda(eval(f"lambda x: (open({str(trace)!r}, 'w').close(), x)[1]"))
    keras.Sequential([keras.Input((4,)), lambda_layer, layers.Dense(2)]).save(tmp_path / "lambda.keras")
    trace.unlink()  # it was run to build the model
    (tmp_path / "evil.py").write_text(f"open({str(trace)!r}, 'w')\nclass Evil: pass\n")
    chain((4,), dense(2, "plain")).save(tmp_path / "plain.keras")
    with zipfile.ZipFile(tmp_path / "plain.keras") as plain, zipfile.ZipFile(tmp_path / "module.keras", "w") as archive:
        for name in plain.namelist():
            content = plain.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1] |= {"module": "evil", "class_name": "Evil", "registered_name": "Evil"}
                content = json.dumps(config).encode()
            archive.writestr(name, content)
    for name in ("lambda.keras", "module.keras"):
        path = tmp_path / name
        output = call(tmp_path, "python", "-m", "reprocnn", "audit", str(path), code=2, PYTHONPATH=str(ROOT))
        assert output.startswith(f"error: {path}: cannot be loaded without running its code")
        assert not trace.exists()


def test_help_needs_no_keras():
    listed = call(ROOT, "python", "-c", "import sys, reprocnn.audit.command; print(*sys.modules)")
    assert not {"keras", "tensorflow"} & set(listed.split())


def test_make_audits_the_networks_of_the_pipeline():
    recipe = (ROOT / "Makefile").read_text().split("\naudit:")[1].split("\n\n")[0]
    assert "mnist_cnn cifar_cnn" in recipe
