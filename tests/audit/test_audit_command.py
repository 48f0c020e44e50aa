"""`reprocnn audit`: exit codes, formats, and files that cannot be trusted."""

import io
import json
import zipfile

import h5py
import pytest

from reprocnn import backend
from reprocnn.audit import command
from reprocnn.audit.rules.base import Finding
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
    assert list(finding) == ["model", "code", "level", "layer", "message", "why", "fix"]
    assert (finding["code"], finding["level"], finding["layer"]) == ("logits-as-probabilities", "error", "head")


def test_what_can_be_read_is_judged_beside_what_cannot(run, tmp_path):
    model = chain((8,), head(activation=None))
    model.compile(loss="categorical_crossentropy")
    good, bad, worse = (tmp_path / name for name in ("good.keras", "bad.keras", "worse.txt"))
    model.save(good)
    code, out, err = run(bad, good, worse)
    assert code == 2
    assert out.startswith(f"audit: {good}: 1 error, ")
    first, second = err.splitlines()
    assert first == f"error: {bad}: missing, expected a .keras or .h5 file. Correct the path."
    assert second.startswith(f"error: {worse}: expected a file that ends in .keras or .h5")
    code, out, _ = run(good, bad, "--format", "json")
    assert (code, [finding["model"] for finding in json.loads(out)]) == (2, [str(good)])
    assert run(bad, "--format", "json")[:2] == (2, "")
    assert run(good)[0] == 1


def test_what_is_not_judged_is_said(run, tmp_path):
    model, path = chain((8,), head()), tmp_path / "model.keras"
    model.save(path)
    skipped = f"{path}: no loss and optimizer that Keras can load; the rules about them are skipped\n"
    assert run(path)[::2] == (0, skipped)
    model.compile("adam", lambda y, p: keras.ops.mean(p))
    model.save(path)
    assert run(path)[::2] == (0, skipped)


def test_an_optimizer_that_has_not_trained_is_no_warning(run, tmp_path, recwarn):
    model, path = chain((8,), head()), tmp_path / "model.keras"
    model.compile("adam", "categorical_crossentropy")
    model.save(path)
    assert run(path)[::2] == (0, "")
    assert not [one for one in recwarn if "Skipping variable loading" in str(one.message)]


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


def legacy(path, old="", new=""):
    """Change the configuration in an .h5 file."""
    with h5py.File(path, "r+") as file:
        config = file.attrs["model_config"]
        assert old in config
        file.attrs["model_config"] = config.replace(old, new)
    return path


def test_audits_an_h5_file_within_the_same_bounds(run, tmp_path):
    model = chain((8,), dense(7, "hidden", activation="softmax"), head(1))
    model.compile("adam", "categorical_crossentropy")
    path = tmp_path / "model.h5"
    model.save(path)
    code, out, _ = run(path)
    assert code == 1
    assert "error: single-output: head: a softmax of 1 unit" in out
    assert "10,000,000,001 parameters, more than" in run(legacy(path, '"units": 7', '"units": 1000000000'))[2]
    assert "cannot be loaded without running its code" in run(legacy(path, '"Dense"', '"NoSuchLayer"'))[2]
    model.save(path)
    with h5py.File(path, "r+") as file:
        file.create_dataset("more", shape=(10**6, 10**4), dtype="f4", chunks=(1000, 1000), compression="gzip")
    assert "10,000,0" in run(path)[2]
    with h5py.File(path, "w") as file:
        file.create_dataset("weights", data=[1.0])
    assert "no model_config: weights without a model" in run(path)[2]


def test_audits_a_model_that_takes_text(run, tmp_path):
    stack = [layers.Hashing(10), layers.Embedding(5, 2, name="table"), layers.LSTM(4), head()]
    keras.Sequential([keras.Input((3,), dtype="string"), *stack]).save(tmp_path / "text.keras")
    code, out, _ = run(tmp_path / "text.keras")
    assert code == 1
    assert "error: embedding-ids: table: a table of 5 for the 10 ids of hashing" in out


def rewritten(path, change):
    """Rewrite each member of an archive: `change` gets name and content."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(name, content))
    return path


@pytest.mark.parametrize(
    ("stack", "old", "new", "message"),
    [
        ([layers.Dense(7)], '"units": 7', '"units": 1000000000', "9,000,000,000 parameters, more than"),
        (
            [layers.Reshape((4, 2, 1)), layers.ZeroPadding2D(7), layers.GlobalAveragePooling2D(), layers.Dense(3)],
            "[7, 7]", "[100000, 100000]", "values for 8 images, more than the audit takes",
        ),
        ([layers.RepeatVector(77), layers.LSTM(4)], '"n": 77', '"n": 999999999', "values for 8 images, more than"),
    ],
)  # fmt: skip
def test_refuses_a_model_that_does_not_fit_into_memory_before_it_is_built(run, tmp_path, stack, old, new, message):
    model = keras.Sequential([keras.Input((8,)), *(type(one).from_config(one.get_config()) for one in stack)])
    model.save(tmp_path / "model.keras")

    def change(name, content):
        return content.replace(old.encode(), new.encode()) if name == "config.json" else content

    code, _, err = run(rewritten(tmp_path / "model.keras", change))
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("shape", "stored"), [((10**6, 10**4), "10,000,000,003"), ((1_000_500,), "1,000,503")], ids=["far", "some"]
)
def test_refuses_weights_that_unpack_to_far_more_than_the_file(run, tmp_path, shape, stored):
    chain((8,), head()).save(tmp_path / "model.keras")

    def inflate(name, content):
        if not name.endswith(".h5"):
            return content
        file = io.BytesIO(content)
        with h5py.File(file, "r+") as weights:
            (kernel,) = [path for path in paths(weights) if path.endswith("vars/0")]
            del weights[kernel]
            weights.create_dataset(kernel, shape=shape, dtype="f4", chunks=True, compression="gzip")
        return file.getvalue()

    code, _, err = run(rewritten(tmp_path / "model.keras", inflate))
    assert code == 2
    assert f"{stored} stored numbers for 27 parameters" in err


def test_refuses_an_archive_that_unpacks_to_gigabytes(run, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(200 * 2**20))
    code, _, err = run(tmp_path / "bomb.keras")
    assert code == 2
    assert "unpack to 209,715,202" in err


def paths(weights):
    found = []
    weights.visit(found.append)
    return found


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no config.json, so it has no model"),
        ({"config.json": "no JSON"}, "config.json does not describe a model"),
        ({"config.json": "[]"}, "config.json does not describe a model"),
        (
            {"config.json": '{"module": "keras.layers", "class_name": "Dense", "config": {"units": 1}}'},
            "expected a model",
        ),
    ],
)
def test_says_what_is_wrong_with_an_archive(run, tmp_path, files, message):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    code, _, err = run(tmp_path / "model.keras")
    assert code == 2
    assert message in err


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
    keras.Sequential([keras.Input((4,)), lambda_layer, layers.Dense(2)]).save(tmp_path / "lambda.h5")
    chain((4,), dense(2, "plain")).save(tmp_path / "module.h5")
    trace.unlink(missing_ok=True)
    legacy(tmp_path / "module.h5", '"class_name": "Dense"', '"class_name": "evil>Evil"')
    for name in ("lambda.keras", "module.keras", "lambda.h5", "module.h5"):
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


def test_audits_several_models_and_writes_sarif(run, tmp_path):
    for name in ("a", "b"):
        chain((8,), dense(20, "hidden", activation="softmax"), head(1)).save(tmp_path / f"{name}.keras")
    code, out, _ = run(tmp_path / "a.keras", tmp_path / "b.keras", "--format", "sarif")
    assert code == 1
    report = json.loads(out)
    assert (report["version"], list(report)) == ("2.1.0", ["$schema", "version", "runs"])
    (one,) = report["runs"]
    rules = one["tool"]["driver"]["rules"]
    places = []
    for result in one["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] == rules[result["ruleIndex"]]["defaultConfiguration"]["level"]
        (location,) = result["locations"]
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        places.append((uri[-7:], result["ruleId"], location["logicalLocations"][0]["name"]))
    assert places == [
        (f"{name}.keras", *found)
        for name in ("a", "b")
        for found in (("single-output", "head"), ("hidden-softmax", "hidden"))
    ]


def test_switches_rules_off_with_a_reason(run, tmp_path):
    path = tmp_path / "model.keras"
    chain((8,), dense(20, "hidden", activation="softmax"), head()).save(path)
    assert "0 warnings" in run(path, "--ignore", "hidden-softmax=a mixture of experts")[1]
    code, _, err = run(path, "--ignore", "hidden-softmax")
    assert (code, err) == (2, "error: ignore: hidden-softmax: expected a reason. Say why the finding does not apply.\n")
    for name, near in (("no-such", ""), ("hidden-softmx", ", such as hidden-softmax")):
        code, _, err = run(path, "--ignore", f"{name}=reason")
        assert code == 2
        assert f"ignore: {name}: expected the code of a rule{near}; `reprocnn audit --rules` lists them" in err


def test_colors_levels_on_a_terminal():
    finding = Finding("code", "error", "layer", "message", "why", "fix")
    assert "\x1b[1;31merror\x1b[0m: code: layer" in command.as_text("name", [finding], in_color=True)
    assert "\x1b" not in command.as_text("name", [finding])


def test_a_name_that_is_too_long_for_a_file_hides_no_finding_of_another(run, tmp_path):
    model = chain((8,), head(activation=None))
    model.compile(loss="categorical_crossentropy")
    model.save(tmp_path / "good.keras")
    code, out, err = run("a" * 300 + ".keras", tmp_path / "good.keras")
    assert (code, out.split(", ")[0]) == (2, f"audit: {tmp_path / 'good.keras'}: 1 error")
    assert "File name too long" in err
