import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import parse_yaml

from stages.lib import params
from stages.lib.errors import UserError

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Rates:
    lr: float


@dataclass(frozen=True)
class View:
    seed: int
    lr: float | None
    cifar: Rates


@pytest.fixture
def replace(project):
    """Replaces the first match of a pattern in the project's params.yaml."""

    def edit(old: str, new: str) -> None:
        text, found = re.subn(old, new, Path("params.yaml").read_text(), count=1)
        assert found
        Path("params.yaml").write_text(text)

    return edit


def test_the_view_gets_its_values_and_no_others(replace):
    replace("lr: 0.2 ", "lr: 1 ")
    view = params.read(View)
    assert view == View(seed=0, lr=None, cifar=Rates(1.0))
    assert isinstance(view.cifar.lr, float)


@pytest.mark.parametrize(
    ("text", "value"), [("1e-05", 1e-5), ("1e-3", 1e-3), ("0.003", 0.003), (".5", 0.5), ("2E-2", 0.02)]
)
def test_numbers_as_dvc_writes_them(replace, text, value):
    replace("lr: null", f"lr: {text}")
    assert params.read(View).lr == value


@pytest.mark.parametrize(("text", "value"), [("010", 10), ("08", 8), ("1_000", 1000), ("-0", 0), ("+1", 1)])
def test_whole_numbers_as_dvc_reads_them(replace, text, value):
    """By YAML 1.1 010 would be 8, and dvc.lock would say 10. Found by test_fuzz.py."""
    replace("seed: 0", f"seed: {text}")
    assert params.read(View).seed == value == parse_yaml(f"seed: {text}", "params.yaml")["seed"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (r"epochs: \d+", "epochs: abc", ["mnist.epochs", '"abc"', "a whole number, at least 1"]),
        (r"epochs: \d+", "epochs: 0", ["mnist.epochs", "found 0", "at least 1"]),
        (r"epochs: \d+", "epochs: true", ["mnist.epochs", "found true"]),
        ("seed: 0", "seed: -1", ["seed", "found -1", "at least 0"]),
        ("train_on: train ", "train_on: both ", ["mnist.train_on", "one of train, train+val"]),
        ("seed: 0", "seed: 0.5", ["seed", "found 0.5", "a whole number"]),
        ("seed: 0", "seed: 1:30", ["seed", 'found "1:30"', "a whole number"]),
        ("seed: 0", "seed: 0x1F", ["seed", 'found "0x1F"', "a whole number"]),
        ("flip: false", "flip: off", ["mnist.flip", 'found "off"', "true or false"]),
        ("lr: null", "lr: 0", ["lr", "above 0"]),
        ("lr: null", "lr: .nan", ["not a finite number", "line"]),
        ("lr: null", "lrr: null", ["lrr: unknown key", "did you mean lr?", "lr: missing"]),
        ("  flip: false", "  flop: false", ["mnist.flop", "did you mean mnist.flip?", "mnist.flip: missing"]),
        ("network: mnist_cnn", "network: resnet", ["mnist.network", '"resnet"', "assignment, cifar_cnn, mnist_cnn"]),
        ("seed: 0", "seed: 0\nseed: 1", ["'seed' is there twice"]),
        ("seed: 0", "seed: &a 0", ["anchors"]),
        ("seed: 0", "seed: !!python/name:os.system 0", ["no plain YAML"]),
        ("mnist:", "- mnist:", ["no plain YAML"]),
    ],
)
def test_a_fault_is_told_with_key_value_and_what_is_allowed(replace, old, new, told):
    replace(old, new)
    with pytest.raises(UserError) as error:
        params.read(View)
    assert all(part in str(error.value) for part in ["params.yaml", *told]), str(error.value)


def test_all_faults_are_told_at_once(replace):
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
    ("content", "told"),
    [
        (b"seed: !!python/object/apply:os.mkdir [ran]", "tag"),
        (b"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "anchors"),
        (b"seed: 0\n" * 2, "twice"),
        (b"# \n" * 4_000_000, "over 100,000 bytes"),
        (b"seed: \0", "special characters"),
        (b"[" * 50_000, "recursion"),
        (b"? [a]\n: b", "plain word"),
        (b"seed: !!timestamp x", "no plain YAML"),
        (b"seed: \xff", "utf-8"),
        (b"- a\n- b", "expected keys with values"),
        (b"", "found null"),
    ],
)
def test_what_is_no_plain_yaml(project, content, told):
    Path("params.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        params.read(View)
    assert told in str(error.value)
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
