import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import parse_yaml

from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import write_json

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Factor:
    lr_factor: float


@dataclass(frozen=True)
class View:
    seed: int
    lr: float


@pytest.fixture
def replace(project):
    """Replaces the first match of a pattern in the project's params.yaml."""

    def edit(old: str, new: str) -> None:
        text, found = re.subn(old, new, Path("params.yaml").read_text(), count=1)
        assert found
        Path("params.yaml").write_text(text)

    return edit


def test_the_view_gets_its_values_and_no_others(replace):
    replace("lr_factor: 20.0 ", "lr_factor: 1 ")
    assert params.read(View) == View(seed=0, lr=0.01)
    view = params.read(Factor, "cifar")
    assert view == Factor(1.0)
    assert isinstance(view.lr_factor, float)


def test_a_section_is_read_by_its_name(project):
    assert params.read(Factor, "mnist") == Factor(1.0)
    assert params.read(Factor, "cifar") == Factor(20.0)
    assert params.read(params.Recipe, "cifar").first_size == 0.6
    with pytest.raises(UserError, match="fashion: missing; add it"):
        params.read(Factor, "fashion")


def test_whole_numbers_are_integers_and_numbers_are_floats(replace):
    replace("seed: 0", "seed: 3.0")
    replace("lr: 0.01", "lr: 1")
    view = params.read(View)
    assert (type(view.seed), type(view.lr)) == (int, float)
    assert (view.seed, view.lr) == (3, 1.0)


def test_batches_that_devices_share_evenly(replace):
    replace("devices: 1", "devices: 5")
    replace("batch_size: 256", "batch_size: 255")
    assert params.read(Factor, "mnist") == Factor(1.0)
    replace("batch_size: 875", "batch_size: 876")
    for size in ("876", "876.0"):
        replace(r"batch_size: 87\S+", f"batch_size: {size}")
        with pytest.raises(
            UserError, match=rf"^params.yaml: cifar.batch_size: found {size}, expected a multiple of devices, 5;"
        ):
            params.read(Factor, "mnist")
    replace("devices: 5", "devices: 5.0")
    with pytest.raises(UserError, match=r"expected a multiple of devices, 5\.0;"):
        params.read(Factor, "mnist")


WORDS = "what params.schema.json says"


@pytest.mark.parametrize(
    ("schema", "faults"),
    [
        ({"properties": {"lr": {"const": 3}}}, [f"lr: found 0.2, expected {WORDS} (3 was expected)"]),
        ({"properties": {"lr": {"type": "number", "multipleOf": 0.3}}},
         [f"lr: found 0.2, expected {WORDS} (0.2 is not a multiple of 0.3)"]),
        ({"properties": {"lr": {"type": ["integer", "null"]}}},
         [f"lr: found 0.2, expected {WORDS} (0.2 is not of type 'integer', 'null')"]),
        ({"additionalProperties": False}, ["lr: unknown key; known: ", "threads: unknown key; known: "]),
        ({"additionalProperties": {"type": "integer"}}, ["lr: found 0.2, expected a whole number"]),
        ({"properties": {"lr": {}}, "patternProperties": {"^t": {}}, "additionalProperties": False}, []),
        ({"patternProperties": {"^t": {}}, "additionalProperties": False},
         [f'all of it: found {{"lr": 0.2, "threads": 1}}, expected {WORDS} '
          f"('lr' does not match any of the regexes: '^t')"]),
        ({"properties": {"lr": {"type": "number", "exclusiveMinimum": 0, "maximum": 0.1}}},
         ["lr: found 0.2, expected a number, above 0 and at most 0.1"]),
        (True, []),
        (False, [f'all of it: found {{"lr": 0.2, "threads": 1}}, expected {WORDS} (False schema does not allow '
                 f"{{'lr': 0.2, 'threads': 1}})"]),
    ],
)  # fmt: skip
def test_any_schema_can_describe_params(project, schema, faults):
    write_json(params.SCHEMA, schema)
    assert params.check({"lr": 0.2, "threads": 1}) == [
        fault if "unknown" in fault else f"{fault}; change it" for fault in faults
    ]


def test_a_schema_that_is_not_there_is_restored_from_git(project):
    params.SCHEMA.unlink()
    with pytest.raises(UserError, match=r"^params\.schema\.json: missing; restore it with git checkout$"):
        params.read(View)


def test_rules_of_this_project_are_for_its_own_schema(project):
    values = {"clip": math.inf, "devices": 2, "model": {"batch_size": 3}}
    write_json(params.SCHEMA, {})
    assert params.check(values) == []
    write_json(params.SCHEMA, {"title": "params.yaml"})
    assert params.check(values) == ["clip: found inf, expected a finite number; change it"]
    [line] = params.check({**values, "clip": 1})
    assert line.startswith("model.batch_size: found 3, expected a multiple of devices, 2")


@pytest.mark.parametrize("schema", [{"type": "objekt"}, {"$ref": "#/nowhere"}, {"properties": 3}, [], 3])
def test_a_schema_that_is_none_is_refused(project, schema):
    write_json(params.SCHEMA, schema)
    with pytest.raises(UserError, match=r"^params\.schema\.json: invalid \(.*\); restore it with git checkout$"):
        params.check({"lr": 0.2})


@pytest.mark.parametrize(("count", "shown"), [(5, 5), (6, 4)])
def test_at_most_five_faults_are_shown(replace, count, shown):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text("".join(f"key{i}: {i}\n" for i in range(count)) + text)
    with pytest.raises(UserError) as error:
        params.read(View)
    lines = str(error.value).splitlines()
    assert [line for line in lines if "unknown key" in line] == lines[:shown]
    assert lines[shown:] == ([] if shown == count else ["params.yaml: and 2 more faults"])


def test_limits_of_size_and_depth(tmp_path):
    path = tmp_path / "params.yaml"
    content = "a: " + "[" * 19 + "]" * 19 + "\n"
    path.write_text(content + "#" * (100_000 - len(content)))
    assert list(params.load(path)) == ["a"]
    path.write_text(content + "#" * (100_001 - len(content)))
    with pytest.raises(UserError, match="over 100,000 bytes"):
        params.load(path)
    with pytest.raises(ValueError, match="line 2: nested more than 20 deep"):
        params.parse("b: 1\na: " + "[" * 20 + "]" * 20)


def test_numbers_that_are_not_finite_are_refused_in_lists_too(project):
    assert params.check({"a": {"b": [1, -math.inf]}}) == ["a.b: found -inf, expected a finite number; change it"]


def test_what_dvc_takes_is_parsed():
    text = "base: &base {x: 1, y: 2}\nmore: {<<: *base, y: 3}\nnames: {0: cat, 1: dog}\nclip: .inf\nz: !!float 3"
    more = {"more": {"x": 1, "y": 3}, "names": {0: "cat", 1: "dog"}, "clip": math.inf, "z": 3.0}
    assert params.parse(text) == {"base": {"x": 1, "y": 2}} | more


def test_aliases_stand_for_a_hundred_thousand_values_at_most():
    text = f"a: &a [{', '.join('x' * 900)}]\nb: &b [{', '.join(['*a'] * 10)}]\nc: "
    assert len(params.parse(f"{text}[*b, *b, *b, *b, *b, *b, *b, *b, *b]")["c"]) == 9
    with pytest.raises(ValueError, match="c: aliases within aliases stand for too many values"):
        params.parse(f"{text}[*b, *b, *b, *b, *b, *b, *b, *b, *b, *b, *b]")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: missing; run from the top folder"):
        params.load(tmp_path / "nowhere.yaml")


def test_values_behind_dotted_keys():
    values = {"a": {"b": {"c": 3}}, "d": 4}
    assert (params.at(values, "a.b.c"), params.at(values, "d")) == (3, 4)
    for key, error in (("a.x", KeyError), ("d.e", TypeError)):
        with pytest.raises(error):
            params.at(values, key)


def test_long_values_are_cut():
    text = "x" * 70
    [fault] = params.check({**yaml.safe_load((ROOT / "params.yaml").read_text()), "seed": text})
    assert fault == f'seed: found "{"x" * 56}..., expected a whole number, at least 0 and at most 4294967295; change it'


def test_every_key_of_a_section_has_its_place_in_the_recipe():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    fields = {field.name for field in dataclasses.fields(params.Recipe)}
    assert fields == set(values["mnist"]) == set(values["cifar"])


@pytest.mark.parametrize(
    ("text", "value"), [("1e-05", 1e-5), ("1e-3", 1e-3), ("0.003", 0.003), (".5", 0.5), ("2E-2", 0.02)]
)
def test_numbers_as_dvc_writes_them(replace, text, value):
    replace("lr: 0.01", f"lr: {text}")
    assert params.read(View).lr == value


@pytest.mark.parametrize(("text", "value"), [
        ("010", 10), ("08", 8), ("1_000", 1000), ("-0", 0), ("+1", 1), ("0o10", 8), ("0x1F", 31), ("0b11", 3),
    ])  # fmt: skip
def test_whole_numbers_as_dvc_reads_them(replace, text, value):
    """By YAML 1.1 010 would be 8, and dvc.lock would say 10. Found by test_fuzz.py."""
    replace("seed: 0", f"seed: {text}")
    assert params.read(View).seed == value == parse_yaml(f"seed: {text}", "params.yaml")["seed"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"epochs: \d+", "epochs: abc", ["mnist.epochs", '"abc"', "a whole number, at least 1"]),
        (r"epochs: \d+", "epochs: 0", ["mnist.epochs", "found 0", "at least 1"]),
        (r"epochs: \d+", "epochs: true", ["mnist.epochs", "found true"]),
        ("seed: 0", "seed: -1", ["seed", "found -1", "at least 0"]),
        ("train_on: train ", "train_on: both ", ["mnist.train_on", "one of train, train+val"]),
        ("seed: 0", "seed: 0.5", ["seed", "found 0.5", "a whole number"]),
        ("seed: 0", "seed: 1:30", ["seed", 'found "1:30"', "a whole number"]),
        ("seed: 0", "seed: 2026-11-29", ["seed: found a date, which DVC does not take"]),
        ("seed: 0", "seed: 1_0.5", ["seed", "found 10.5", "a whole number"]),
        ("flip: false", "flip: off", ["mnist.flip", 'found "off"', "true or false"]),
        ("lr: 0.01", "lr: 0", ["lr", "above 0"]),
        ("lr: 0.01", "lr: null", ["lr", "found null", "a number, above 0"]),
        ("lr: 0.01", "lr: .nan", ["lr: found nan, expected a finite number"]),
        ("lr: 0.01", "lr: 1e400", ["lr: found inf, expected a finite number"]),
        ("lr: 0.01", "lrr: 0.01", ["lrr: unknown key", "did you mean lr?", "lr: missing"]),
        (
            "first_size: 1.0",
            "first_size: 0.6",
            ["mnist.first_size", "found 0.6", "only cifar_cnn takes images of several"],
        ),
        ("devices: 1", "devices: 2", ["cifar.batch_size", "found 875", "a multiple of devices, 2"]),
        ("network: cifar_cnn", "network: assignment", ["cifar.first_size", "expected 1, since only cifar_cnn"]),
        ("  flip: false", "  flop: false", ["mnist.flop", "did you mean mnist.flip?", "mnist.flip: missing"]),
        ("  tolerance: 0.01", "  tolerence: 0.01", ["gate.tolerence: unknown key", "did you mean gate.tolerance?"]),
        ("at_least: 0.99", "at_most: 0.99", ["targets.mnist.test.accuracy.at_most: unknown key", "at_least: missing"]),
        ("at_least: 0.99", "at_least: 0.99\n      loss: {at_least: 1, at_most: 2}", ["targets.mnist.test.loss: found"]),
        ("network: mnist_cnn", "network: resnet", ["mnist.network", '"resnet"', "assignment, cifar_cnn, mnist_cnn"]),
        ("seed: 0", "seed: 0\nseed: 1", ["duplicate key", "seed"]),
        (
            "seed: 0",
            "seed: !!python/name:os.system 0",
            ["invalid YAML", "could not determine a constructor for the tag"],
        ),
        ("mnist:", "- mnist:", ["invalid YAML"]),
    ],
)
def test_a_fault_is_reported_with_key_value_and_what_is_allowed(replace, old, new, message):
    replace(old, new)
    with pytest.raises(UserError) as error:
        params.read(View)
    assert all(part in str(error.value) for part in ["params.yaml", *message]), str(error.value)


def test_all_faults_are_reported_at_once(replace):
    replace(r"epochs: \d+", "epochs: -1")
    replace("seed: 0", "seed: x")
    with pytest.raises(UserError) as error:
        params.read(View)
    assert [line.split(":")[1].strip() for line in str(error.value).splitlines()] == ["mnist.epochs", "seed"]


def test_each_unknown_key_of_a_section_is_reported(replace):
    replace("  flip: false", "  zebra: 1\n  yak: 2\n  flip: false")
    with pytest.raises(UserError) as error:
        params.read(View)
    lines = str(error.value).splitlines()
    assert [line.partition("; ")[0] for line in lines] == [
        f"params.yaml: mnist.{key}: unknown key" for key in ("yak", "zebra")
    ]


def test_many_faults_are_five_lines(replace):
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text("".join(f"key{i}: {i}\n" for i in range(20)) + text)
    with pytest.raises(UserError) as error:
        params.read(View)
    lines = str(error.value).splitlines()
    assert len(lines) == 5
    assert lines[-1] == "params.yaml: and 16 more faults"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed: !!python/object/apply:os.mkdir [ran]", "tag"),
        (b"a: &a [*a]", "aliases within aliases"),
        (b"seed: 0\n" * 2, "duplicate key"),
        (b"# \n" * 4_000_000, "over 100,000 bytes"),
        (b"seed: \0", "control characters"),
        (b"seed: 0x" + b"f" * 4000, "seed: found a whole number of over 1024 bits"),
        (b"seed: 1" + b"0" * 4300, "integer string conversion"),
        (b"[" * 50_000, "nested more than 20 deep"),
        (b"a: " + b"[" * 49_000 + b"]" * 49_000, "nested"),
        (b"? [a]\n: b", "found a tuple, which DVC does not take"),
        (b"1: b", "1: unknown key"),
        (b"seed: !!timestamp x", "failed to construct timestamp"),
        (b"seed: \xff", "utf-8"),
        (b"- a\n- b", "expected keys with values"),
        (b"- {2020-01-01: b}", "found [{datetime.date(2020, 1, 1): 'b'}], expected keys with values"),
        (b'seed: !!int ""', "a value does not fit its tag (IndexError: string index out of range)"),
        (b'seed: !!bool ""', "a value does not fit its tag (KeyError: '')"),
        (b"", "found null"),
    ],
)
def test_invalid_yaml_is_refused_in_a_line(project, content, message):
    Path("params.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        params.read(View)
    assert message in str(error.value)
    assert str(error.value).startswith("params.yaml: ")
    assert len(str(error.value)) < 500
    assert Path("params.yaml").read_bytes() == content
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "change", [lambda text: b"\xef\xbb\xbf" + text, lambda text: text.replace(b"\n", b"\r\n")], ids=["BOM", "CRLF"]
)
def test_other_editors(project, change):
    path = Path("params.yaml")
    path.write_bytes(change(path.read_bytes()))
    assert params.read(View).seed == 0


# The last values that are taken, and the first ones that are not: below, lowest, highest, above.
BOUNDS = {
    "devices": (0, 1, 64, 65), "threads": (-1, 0, 1024, 1025), "seed": (-1, 0, 2**32 - 1, 2**32),
    "lr": (0, 1e-9, 10, 10.1), "gate.alpha": (-0.1, 0, 0.5, 0.51), "gate.tolerance": (-0.1, 0, 1e6, "1"),
    "cifar.val_fraction": (0.009, 0.01, 0.9, 0.91), "cifar.split_seed": (-1, 0, 2**32 - 1, 2**32),
    "cifar.filters": (0, 1, 1024, 1025), "cifar.depth": (0, 1, 100, 101), "cifar.kernel_size": (0, 1, 15, 16),
    "cifar.dropout": (-0.1, 0, 0.99, 1), "cifar.epochs": (0, 1, 10_000, 10_001),
    "cifar.batch_size": (0, 1, 100_000, 100_001), "cifar.lr_factor": (0, 1e-9, 1000, 1001),
    "cifar.warmup": (-0.1, 0, 0.9, 0.91), "cifar.lr_end": (-0.1, 0, 1, 1.1), "cifar.weight_decay": (-0.1, 0, 1, 1.1),
    "cifar.label_smoothing": (-0.1, 0, 0.9, 0.91), "cifar.first_size": (0.49, 0.5, 1, 1.1),
    "cifar.shift": (-1, 0, 8, 9), "cifar.rotation": (-1, 0, 180, 181), "cifar.zoom": (-0.1, 0, 1, 1.1),
    "cifar.shear": (-0.1, 0, 1, 1.1), "cifar.elastic": (-0.1, 0, 5, 5.1),
    "targets.mnist.test.accuracy.at_least": (-0.1, 0, 1, 1.1),
    "targets.mnist.test.accuracy.alpha": (-0.1, 0, 0.5, 0.51),
    "source": (0, "public", "sample", "none"), "device": (0, "auto", "gpu", "tpu"),
    "precision": (0, "float32", "mixed_bfloat16", "float16"), "cifar.normalization": (0, "center", "standardize", ""),
    "cifar.train_on": (0, "train", "train+val", "val"), "cifar.optimizer": (0, "adam", "muon", "sgd"),
    "cifar.fill_mode": (0, "constant", "reflect", "wrap"), "cifar.flip": (0, False, True, 1),
}  # fmt: skip


@pytest.mark.parametrize("key", BOUNDS)
def test_the_values_that_are_taken(key):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    above, _, name = key.rpartition(".")
    section = params.at(values, above) if above else values
    taken = []
    for value in BOUNDS[key]:
        section[name] = value
        values["cifar"]["batch_size"] = value if name == "batch_size" else values["devices"]
        values["mnist"]["batch_size"] = values["devices"]
        taken.append(params.check(values) == [])
    assert taken == [False, True, True, False]


def test_every_value_has_a_type_and_a_bound():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert params.check(values) == []
    for key in ("seed", "threads", "lr", "mnist", "cifar", "source", "device", "targets"):
        assert params.check({**values, key: "nonsense"}), key
