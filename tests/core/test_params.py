import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import parse_yaml

from reprocnn.core import params
from reprocnn.core.errors import UserError

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Factor:
    lr_factor: float


@dataclass(frozen=True)
class View:
    seed: int
    lr: float
    cifar: Factor


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
    view = params.read(View)
    assert view == View(seed=0, lr=0.01, cifar=Factor(1.0))
    assert isinstance(view.cifar.lr_factor, float)


def test_a_section_is_read_by_its_name(project):
    assert params.read(Factor, "mnist") == Factor(1.0)
    assert params.read(Factor, "cifar") == Factor(20.0)
    assert params.read(params.Recipe, "cifar").first_size == 0.6
    with pytest.raises(UserError, match="fashion: missing; add it"):
        params.read(Factor, "fashion")


def test_peak_learning_rates_are_exactly_the_recipes():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert values["lr"] * values["mnist"]["lr_factor"] == 0.01
    assert values["lr"] * values["cifar"]["lr_factor"] == 0.2


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
        ("seed: 0", "seed: 1_0.5", ["seed", "found 10.5", "a whole number"]),
        ("flip: false", "flip: off", ["mnist.flip", 'found "off"', "true or false"]),
        ("lr: 0.01", "lr: 0", ["lr", "above 0"]),
        ("lr: 0.01", "lr: null", ["lr", "found null", "a number, above 0"]),
        ("lr: 0.01", "lr: .nan", ["lr: nan is not a finite number"]),
        ("lr: 0.01", "lr: 1e400", ["lr: inf is not a finite number"]),
        ("lr: 0.01", "lrr: 0.01", ["lrr: unknown key", "did you mean lr?", "lr: missing"]),
        (
            "first_size: 1.0",
            "first_size: 0.6",
            ["mnist.first_size", "found 0.6", "only cifar_cnn takes images of several"],
        ),
        ("devices: 1", "devices: 2", ["cifar.batch_size", "found 875", "a multiple of devices, 2"]),
        ("network: cifar_cnn", "network: assignment", ["cifar.first_size", "expected 1, since only cifar_cnn"]),
        ("  flip: false", "  flop: false", ["mnist.flop", "did you mean mnist.flip?", "mnist.flip: missing"]),
        ("network: mnist_cnn", "network: resnet", ["mnist.network", '"resnet"', "assignment, cifar_cnn, mnist_cnn"]),
        ("seed: 0", "seed: 0\nseed: 1", ["duplicate key", "seed"]),
        ("seed: 0", "seed: &a 0", ["anchors"]),
        ("seed: 0", "seed: !!python/name:os.system 0", ["invalid YAML", "tags are not allowed"]),
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
        (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "anchors"),
        (b"seed: 0\n" * 2, "duplicate key"),
        (b"# \n" * 4_000_000, "over 100,000 bytes"),
        (b"seed: \0", "control characters"),
        (b"[" * 50_000, "nested more than 20 deep"),
        (b"a: " + b"[" * 49_000 + b"]" * 49_000, "nested"),
        (b"? [a]\n: b", "is not a word"),
        (b"1: b", "the key 1 is not a word"),
        (b"seed: !!timestamp x", "tags are not allowed"),
        (b"seed: \xff", "utf-8"),
        (b"- a\n- b", "expected keys with values"),
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


def test_every_value_has_a_type_and_a_bound():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert params.check(values) == []
    for key in ("seed", "threads", "lr", "mnist", "cifar", "source", "device", "targets"):
        assert params.check({**values, key: "nonsense"}), key
