import contextlib
import dataclasses
import gzip
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import StratifiedShuffleSplit

from reprocnn.core.errors import UserError
from reprocnn.core.params import Preparation, read
from reprocnn.datasets import CIFAR, DATASETS, by_name
from reprocnn.images import arrays
from reprocnn.sources import sample
from reprocnn.splits import decode
from reprocnn.splits import normalize as normalization
from reprocnn.splits.normalize import normalize
from reprocnn.splits.split import split_off_validation, to_one_hot
from stages import prepare
from tests.support.commands import ROOT

CIFAR_NAMES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]
REMEDY = "run `dvc repro -f download`, or correct the file and reprocnn/datasets.py"


@pytest.fixture
def small_raw(project):
    """Small files in data/raw, and what they hold: images and labels, by data set and split."""
    rng = np.random.default_rng(3)
    folder = Path("data/raw/cifar-10-batches-py")
    folder.mkdir(parents=True)
    held = {}
    for split, start, n in (("train", "train", 150), ("test", "t10k", 21)):
        x, labels = rng.integers(0, 1 + rng.integers(1, 256, (n, 1, 1)), (n, 5, 4), np.uint8), labels_of(n, rng)
        held["mnist", split] = x[..., None], labels
        for kind, array in (("images-idx3", x), ("labels-idx1", labels)):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            Path(f"data/raw/{start}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    names = [f"data_batch_{number}" for number in range(1, 6)]
    parts = []
    for n, name in zip((40, 41, 42, 43, 44, 22), (*names, "test_batch"), strict=True):
        x, labels = rng.integers(0, 256, (n, 3, 32, 32), np.uint8), labels_of(n, rng)
        x[:, 1] //= 2
        x[:, 2] //= 3
        (folder / name).write_bytes(pickle.dumps({b"data": x.reshape(n, -1), b"labels": labels.tolist()}, protocol=3))
        parts.append((np.stack([x[:, channel] for channel in range(3)], axis=-1), labels))
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": b"b a d c f e h g j i".split()}))
    held["cifar", "test"] = parts.pop()
    held["cifar", "train"] = np.concatenate([x for x, _ in parts]), np.concatenate([labels for _, labels in parts])
    return held


def labels_of(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return shuffled labels in which each next class is rarer."""
    labels = np.concatenate([np.arange(10), np.arange(10), rng.geometric(0.3, n) % 10])[:n].astype(np.uint8)
    rng.shuffle(labels)
    return labels


def test_every_array_and_number_of_the_stage(small_raw, capsys):
    recipes = {"mnist": (0.25, 3, "standardize"), "cifar": (0.4, 5, "standardize")}
    text = Path("params.yaml").read_text()
    for old, new in (
        ("val_fraction: 0.1 ", "val_fraction: 0.25 "), ("split_seed: 0 ", "split_seed: 3 "),
        ("val_fraction: 0.3 ", "val_fraction: 0.4 "), ("split_seed: 0\n", "split_seed: 5\n"),
        ("normalization: center", "normalization: standardize"),
    ):  # fmt: skip
        text = text.replace(old, new)
    Path("params.yaml").write_text(text)
    prepare.main()
    printed = capsys.readouterr().out.splitlines()
    for line, (name, (fraction, seed, method)) in zip(printed, recipes.items(), strict=True):
        x, labels = small_raw[name, "train"]
        splitter = StratifiedShuffleSplit(1, test_size=fraction, random_state=seed)
        [(train, val)] = splitter.split(x, labels)
        expected = {"train": (x[train], labels[train]), "val": (x[val], labels[val]), "test": small_raw[name, "test"]}
        folder = Path("data/prepared") / name
        for split, (images, classes) in expected.items():
            assert np.array_equal(np.load(folder / split / "x.npy"), images)
            one_hot = np.array([[float(label == k) for k in range(10)] for label in classes], np.float32)
            assert np.array_equal(np.load(folder / split / "y.npy"), one_hot)
        mean, std = (f(x[train].astype(float), axis=(0, 1, 2)) for f in (np.mean, np.std))
        found = json.loads((folder / "normalization.json").read_text())
        assert found["method"] == method
        assert found["scale"] == pytest.approx((1 / std).tolist(), rel=1e-9)
        assert found["offset"] == pytest.approx((-mean / std).tolist(), rel=1e-9)
        seen = (x[train] - mean) / std
        assert (found["check"]["min"], found["check"]["max"]) == pytest.approx((seen.min(), seen.max()))
        names = list("0123456789") if name == "mnist" else list("badcfehgji")
        assert json.loads((folder / "classes.json").read_text()) == names
        counts = f"{len(train)} train, {len(val)} val, {len(small_raw[name, 'test'][0])} test"
        assert line == f"prepare: {name}: {counts}; {json.dumps(found['check'])}"


def test_split_is_stratified_disjoint_and_follows_its_seed():
    x = np.arange(1000, dtype=np.uint8).reshape(1000, 1, 1, 1)
    identity = np.arange(1000).reshape(1000, 1, 1, 1)
    labels = np.repeat(np.arange(10), 100)
    first = split_off_validation(identity, labels, 0.3, 0, "mnist")
    assert len(first["train"][0]) == 700
    assert np.bincount(first["val"][1]).tolist() == [30] * 10
    assert sorted(np.concatenate([first["train"][0], first["val"][0]]).ravel()) == list(range(1000))
    assert np.array_equal(split_off_validation(identity, labels, 0.3, 0, "mnist")["val"][0], first["val"][0])
    assert not np.array_equal(split_off_validation(identity, labels, 0.3, 1, "mnist")["val"][0], first["val"][0])
    with pytest.raises(UserError, match="class 9 with 1"):
        split_off_validation(x[:901], labels[:901], 0.3, 0, "mnist")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([3], "found 0.3 of 1 images, class 0 with 0"),
        ([label for label in range(10) for _ in range(9) if label != 4], "of 81 images, class 4 with 0"),
        (list(range(10)) * 2, "found 0.3 of 20 images, class 0 with 2"),
    ],
    ids=["one image", "an empty class", "too few for one of each in both"],
)
def test_a_split_that_cannot_be(labels, message):
    with pytest.raises(UserError) as error:
        split_off_validation(np.zeros((len(labels), 2, 2, 1), np.uint8), np.array(labels), 0.3, 0, "mnist")
    assert message in str(error.value)
    assert str(error.value).startswith("params.yaml: mnist.val_fraction: ")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("fraction", [0.1, 0.9])
def test_a_rare_class_that_one_of_the_splits_would_lack(fraction):
    labels = np.append(np.arange(1435) % 9, [9, 9])
    with pytest.raises(
        UserError, match=rf"^params\.yaml: mnist\.val_fraction: found {fraction} .* class 9 with 2; exp"
    ):
        split_off_validation(np.zeros((1437, 1, 1, 1), np.uint8), labels, fraction, 0, "mnist")
    splits = split_off_validation(np.zeros((1437, 1, 1, 1), np.uint8), labels, 0.5, 0, "mnist")
    assert all(set(part) == set(range(10)) for _, part in splits.values())


@pytest.mark.parametrize(("fraction", "n"), [(0.3, 31), (0.66666667, 31), (0.75, 40), (0.8, 50)])
def test_the_fewest_images_of_a_split(fraction, n):
    for count in (n - 1, n):
        x, labels = np.zeros((count, 1, 1, 1), np.uint8), np.arange(count) % 10
        if count < n:
            with pytest.raises(UserError, match=f"found {fraction} of {count} images"):
                split_off_validation(x, labels, fraction, 0, "mnist")
        else:
            splits = split_off_validation(x, labels, fraction, 0, "mnist")
            assert all(set(part) == set(range(10)) for _, part in splits.values())


def test_normalization_by_hand():
    x = np.array([0, 255, 255, 0], np.uint8).reshape(2, 2, 1, 1)  # mean 127.5, deviation 127.5
    center = normalize(x, "center")
    assert (center["scale"], center["offset"]) == ([1 / 255], [-0.5])
    assert center["check"] == {"min": -0.5, "max": 0.5, "mean": [0.0], "std": [0.5]}
    standard = normalize(x, "standardize")
    assert standard["scale"] == pytest.approx([1 / 127.5])
    assert standard["offset"] == pytest.approx([-1.0])
    assert standard["check"] == {"min": -1.0, "max": 1.0, "mean": [0.0], "std": [1.0]}


def test_normalization_of_values_that_are_not_symmetric():
    x = np.array([10, 10, 10, 50], np.uint8).reshape(1, 1, 4, 1)  # mean 20, deviation the root of 300
    assert normalize(x, "center")["check"] == {
        "min": pytest.approx(10 / 255 - 0.5), "max": pytest.approx(50 / 255 - 0.5),
        "mean": [-0.421569], "std": [0.067924],
    }  # fmt: skip
    standard, unit = normalize(x, "standardize"), 300**-0.5
    low, high = pytest.approx(-10 * unit), pytest.approx(30 * unit)
    assert standard == {
        "method": "standardize", "scale": [pytest.approx(unit)], "offset": [pytest.approx(-20 * unit)],
        "check": {"min": low, "max": high, "mean": [0.0], "std": [1.0]},
    }  # fmt: skip
    assert '"mean": [0.0]' in json.dumps(standard)  # not -0.0


def test_a_normalization_that_does_not_come_out_is_refused(monkeypatch):
    x = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 2), np.uint8)
    monkeypatch.setattr(normalization, "CLOSE", -1.0)
    assert normalize(x, "center")["method"] == "center"
    message = (
        r"params\.yaml: normalization: standardize gives values from -\d\.\d+ to \d\.\d+, mean \[.* set another one"
    )
    with pytest.raises(UserError, match=message):
        normalize(x, "standardize")


@pytest.mark.parametrize(
    ("mean", "std", "message"), [(-2e-6, 1, "set another"), (0, 0.999998, "set another"), (-1e-7, 1.0000001, "")]
)
def test_mean_and_deviation_come_out_to_a_millionth(monkeypatch, mean, std, message):
    results = iter([([3.0, 4.0], [1.0, 2.0]), ([0.0, mean], [1.0, std])])
    monkeypatch.setattr(normalization, "_moments", lambda *_: tuple(map(np.array, next(results))))
    refused = pytest.raises(UserError, match=message) if message else contextlib.nullcontext()
    with refused:
        normalize(np.array([0, 50, 9, 255], np.uint8).reshape(1, 2, 1, 2), "standardize")


def test_normalization_of_each_channel_agrees_with_numpy():
    x = np.random.default_rng(0).integers(0, [[[50, 100, 256]]], (20, 4, 4, 3)).astype(np.uint8)
    chosen = normalize(x, "standardize")
    seen = x * np.array(chosen["scale"]) + np.array(chosen["offset"])
    assert seen.mean(axis=(0, 1, 2)) == pytest.approx(np.zeros(3), abs=1e-9)
    assert seen.std(axis=(0, 1, 2)) == pytest.approx(np.ones(3))


def test_a_channel_of_one_value_is_refused():
    x = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 3), np.uint8)
    x[..., 2] = 7
    for method in ("center", "standardize"):
        with pytest.raises(UserError, match="a channel of one value"):
            normalize(x, method)


def test_one_hot_is_what_keras_gives():
    from reprocnn.backend import keras

    labels = np.array([3, 0, 9], np.uint8)
    for classes in (10, 12):
        assert np.array_equal(to_one_hot(labels, classes), keras.utils.to_categorical(labels, classes))
    assert to_one_hot(labels).shape == (3, 10)


IDX = bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, *range(6)])


def test_idx_by_hand(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(IDX))
    assert decode.idx(path, 3).tolist() == [[[0, 1, 2], [3, 4, 5]]]
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 1, 2, *range(256), 7, 8])))
    assert decode.idx(path, 1).tolist() == [*range(256), 7, 8]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"\0\0\x08\x03"), "expected a header of 16 bytes, found 4"),
        (gzip.compress(IDX[:9]), "expected a header of 16 bytes, found 9"),
        (gzip.compress(IDX[:15]), "expected a header of 16 bytes, found 15"),
        (gzip.compress(bytes(30)), "expected an IDX file of bytes with 3 axes, found the start 00000000"),
        (gzip.compress(b"\x01" + IDX[1:]), "found the start 01000803"),
        (gzip.compress(b"\0\x01" + IDX[2:]), "found the start 00010803"),
        (gzip.compress(IDX[:2] + b"\x09" + IDX[3:]), "found the start 00000903"),
        (gzip.compress(IDX[:3] + b"\x01" + IDX[4:]), "found the start 00000801"),
        (gzip.compress(IDX[:-1]), "expected 6 bytes for [1, 2, 3], found 5"),
        (gzip.compress(IDX + b"\0"), "expected 6 bytes for [1, 2, 3], found 7"),
        (gzip.compress(IDX[:7] + b"\0" + IDX[8:16]), "expected positive sizes, found [0, 2, 3]"),
        (gzip.compress(IDX[:8] + b"\xff" * 8), "expected positive sizes, found [1, -1, -1]"),
        (gzip.compress(IDX)[:-9], "invalid or incomplete gzip file"),
        (b"no gzip", "invalid or incomplete gzip file"),
        (gzip.compress(IDX)[:12] + b"\xff" * 20, "invalid or incomplete gzip file"),
        (gzip.compress(IDX)[:-8] + bytes(8), "invalid or incomplete gzip file"),
    ],
    ids=[
        "no sizes",
        "cut in a size",
        "cut in the last size",
        "zeros",
        "another first byte",
        "another second byte",
        "another type",
        "other axes",
        "too short",
        "too long",
        "no image",
        "negative sizes",
        "cut",
        "no gzip",
        "damaged",
        "wrong sum",
    ],
)
def test_a_damaged_idx_file(tmp_path, content, message):
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        decode.idx(path, 3)
    assert message in str(error.value)
    assert str(error.value).endswith(f"; {REMEDY}")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
@pytest.mark.parametrize("reader", [lambda path: decode.idx(path, 3), decode.cifar_batch, decode.cifar_class_names])
def test_a_file_that_cannot_be_read_is_named(tmp_path, reader):
    path = tmp_path / "x"
    path.symlink_to("/proc/self/mem")
    with pytest.raises(UserError) as error:
        reader(path)
    assert str(error.value) == f"{path}: cannot be read (Input/output error); {REMEDY}"


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(IDX))
    assert decode.MAX_BYTES > 60_000 * 28 * 28 + 16
    monkeypatch.setattr(decode, "MAX_BYTES", len(IDX))
    assert decode.idx(path, 3).size == 6
    monkeypatch.setattr(decode, "MAX_BYTES", len(IDX) - 1)
    with pytest.raises(UserError, match="expected an IDX file"):
        decode.idx(path, 3)


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ([3, 9], ""),
        ([3, 10], "expected labels from 0 to 9, found 3 to 10"),
        ([3, 9, 0], "expected a label for each of the 2 images, found 3"),
    ],
)
def test_labels_belong_to_the_images(tmp_path, labels, fault):
    images, path = tmp_path / "images.gz", tmp_path / "labels.gz"
    images.write_bytes(gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3, *range(12)])))
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, len(labels), *labels])))
    if fault:
        with pytest.raises(UserError, match=rf"labels\.gz: {fault}; "):
            decode.idx_pair(images, path)
    else:
        x, y = decode.idx_pair(images, path)
        assert (x.shape, y.tolist()) == ((2, 2, 3, 1), labels)


def test_cifar_rows_are_planes_of_red_green_and_blue(tmp_path):
    rows = np.zeros((2, 3072), np.uint8)
    rows[1, 32 * 2 + 5] = 1  # of red the third row, sixth column
    rows[1, 1024 + 32 * 7 + 30] = 2
    rows[1, 2048 + 31] = 3
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": rows, b"labels": [7, 4]}, protocol=2))
    with pytest.raises(UserError, match=r"_codecs\.encode"):  # Python 3 pickles bytes so; CIFAR-10 does not
        decode.cifar_batch(path)
    path.write_bytes(pickle.dumps({b"data": rows, b"labels": [7, 4]}, protocol=3))
    x, labels = decode.cifar_batch(path)
    assert x.shape == (2, 32, 32, 3)
    assert np.argwhere(x).tolist() == [[1, 0, 31, 2], [1, 2, 5, 0], [1, 7, 30, 1]]
    assert x[x > 0].tolist() == [3, 1, 2]
    assert (labels.tolist(), str(labels.dtype)) == ([7, 4], "uint8")


LAUGHS: list[Any] = [0] * 100  # a hundred bytes or so, and a billion labels
for _ in range(4):
    LAUGHS = [LAUGHS] * 100


@pytest.mark.parametrize(
    ("data", "labels", "found"),
    [
        (np.zeros((2, 3071), np.uint8), [0, 9], r"uint8 \(2, 3071\), 2 labels"),
        (np.zeros((2, 3072), np.uint8), [0, 9, 1], r"uint8 \(2, 3072\), 3 labels"),
        (np.zeros((2, 3072), np.uint8), [0, 10], "labels from 0 to 10"),
        (np.zeros((2, 3072), np.uint8), [-1, 9], "labels from -1 to 9"),
        (np.zeros((2, 3072), np.uint8), [0.5, 9], "2 labels float64"),
        (np.zeros((2, 3072), np.uint8), [[0], [9]], "labels in labels"),
        (np.zeros((2, 3072), np.uint8), LAUGHS, "labels in labels"),
        (np.zeros((0, 3072), np.uint8), [], "0 labels"),
        (None, [0, 9], "NoneType"),
    ],
)
def test_a_cifar_batch_of_other_content(tmp_path, data, labels, found):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": data, b"labels": labels}, protocol=3))
    message = rf"batch: expected data uint8 \(n, 3072\) and n labels from 0 to 9, found .*{found}"
    with pytest.raises(UserError, match=message):
        decode.cifar_batch(path)
    with pytest.raises(UserError, match="batch: expected ten label_names"):
        decode.cifar_class_names(path)


@pytest.mark.parametrize("count", [0, 9, 11])
def test_classes_are_ten(tmp_path, count):
    path = tmp_path / "batches.meta"
    path.write_bytes(pickle.dumps({b"label_names": [b"a"] * count}, protocol=3))
    with pytest.raises(UserError, match=f"batches.meta: expected ten label_names, found {count}"):
        decode.cifar_class_names(path)


@pytest.mark.parametrize("content", [np.zeros((2, 3072), np.uint8), [b"data"], "data", None, 3, (1, 2)])
def test_a_pickle_of_something_else_than_a_dict(tmp_path, content):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(content, protocol=3))
    for decoder in (decode.cifar_batch, decode.cifar_class_names):
        with pytest.raises(UserError) as error:
            decoder(path)
        found = "Array" if isinstance(content, np.ndarray) else type(content).__name__
        assert str(error.value) == f"{path}: expected a pickled dict, found {found}; {REMEDY}"


@pytest.mark.parametrize("name", ["train-labels-idx1-ubyte.gz", "cifar-10-batches-py/batches.meta"])
@pytest.mark.parametrize("found", ["a folder", "none"])
def test_a_raw_file_that_is_not_there_is_named(small_raw, name, found):
    path = Path("data/raw") / name
    path.unlink()
    if found == "a folder":
        path.mkdir()
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("val_fraction: 0.1 ", "val_fraction: 0.3 "))  # of few images
    with pytest.raises(UserError) as error:
        prepare.main()
    assert str(error.value) == f"{path}: expected a file, found {found}; {REMEDY}"


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("mnist", {"reader": "ids"}, "reader: found 'ids', expected 'idx' or 'cifar'"),
        (
            "mnist",
            {"reader": "cifar"},
            f"files: found none named {', '.join(CIFAR_NAMES)}",
        ),
        ("cifar", {"files": CIFAR.files[:-1]}, "files: found none named test_batch"),
        (
            "cifar",
            {"reader": "idx"},
            "files: found 7, expected 4: training images",
        ),
        ("mnist", {"class_names": ("a", "b")}, "class_names: found 2, expected 10, in the order of the labels"),
    ],
)
def test_an_entry_that_no_reader_can_follow_is_named(small_raw, name, change, fault):
    with pytest.raises(UserError) as error:
        decode.read(dataclasses.replace(by_name(name), **change), Path("data/raw"))
    assert str(error.value).startswith(f"reprocnn/datasets.py: {name}: {fault}")
    assert str(error.value).endswith("; correct it there")


def test_training_and_test_images_have_one_shape(small_raw):
    path = Path("data/raw/t10k-images-idx3-ubyte.gz")
    labels = gzip.decompress(Path("data/raw/t10k-labels-idx1-ubyte.gz").read_bytes())[8:]
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (len(labels), 4, 6))
    path.write_bytes(gzip.compress(header + bytes(24 * len(labels))))
    with pytest.raises(UserError) as error:
        decode.read(by_name("mnist"), Path("data/raw"))
    assert str(error.value) == (
        f"{path}: expected images (5, 4, 1), as in train-images-idx3-ubyte.gz, found (4, 6, 1); {REMEDY}"
    )


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


class Rebuilt:
    def __init__(self, *given: Any) -> None:
        self.given = given

    def __reduce__(self):
        return np.zeros(1).__reduce__()[0], self.given


def test_a_pickle_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("batch").write_bytes(pickle.dumps({b"data": Evil()}, protocol=3))
    with pytest.raises(UserError, match=r"posix\.mkdir"):
        decode.cifar_batch(Path("batch"))
    assert not Path("ran").exists()
    for given in ((np.ndarray, (10**12,), b"b"), (np.dtype, (0,), b"b")):  # as large as it claims, or no array
        Path("batch").write_bytes(pickle.dumps({b"data": Rebuilt(*given), b"labels": []}, protocol=3))
        with pytest.raises(UserError, match="batch: expected data uint8"):
            decode.cifar_batch(Path("batch"))


@pytest.mark.parametrize("kind", ["int16", ">u4", "object", "U3"])
def test_a_pickle_with_an_array_of_other_than_bytes(tmp_path, kind):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": np.zeros((2, 3072), kind), b"labels": [0, 9]}, protocol=3))
    with pytest.raises(UserError, match=r"batch: found a pickle of other things than numbers, or damage .*expected u1"):
        decode.cifar_batch(path)


def test_an_array_stored_column_by_column_is_refused(tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": np.zeros((2, 3072), np.uint8, "F"), b"labels": [0, 9]}, protocol=3))
    with pytest.raises(UserError, match="row by row"):
        decode.cifar_batch(path)


def test_any_byte_of_a_pickle_may_be_wrong(tmp_path):
    """None crashes the interpreter, which a state of NumPy's own dtype would; what is left is an error or a batch."""
    good, path, refused = (
        pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [3]}, protocol=3),
        tmp_path / "b",
        0,
    )
    places = [place for place in range(len(good)) if not 400 < place < 2800]
    for place in places:
        for byte in {good[place] ^ 1, ord("M"), ord("(")} - {good[place]}:
            path.write_bytes(good[:place] + bytes([byte]) + good[place + 1 :])
            try:
                decode.cifar_batch(path)
            except UserError:
                refused += 1
    assert refused > len(places) / 2


def test_the_sample_becomes_the_same_arrays_each_time(project):
    for dataset in DATASETS:
        sample.write(dataset, Path("data/raw"))
    assert {path.read_bytes()[4:8] for path in Path("data/raw").glob("*.gz")} == {bytes(4)}  # no date
    prepare.main()
    for name, sizes, (images, labels) in (
        ("mnist", (1293, 144, 360), sample.digits()),
        ("cifar", (1400, 600, 500), sample.shapes(2500, np.random.default_rng(0))),
    ):
        splits = [arrays.load(Path("data/prepared") / name / split) for split in ("train", "val", "test")]
        assert tuple(len(data.x) for data in splits) == sizes
        images = images.reshape(len(images), *splits[0].x.shape[1:])
        # The test split is the last images in their order; of the others each is there once.
        assert np.array_equal(splits[2].x, images[-sizes[2] :])
        assert np.array_equal(splits[2].y.argmax(axis=1), labels[-sizes[2] :])
        kept = [(x.tobytes(), y.argmax()) for data in splits[:2] for x, y in zip(*data, strict=True)]
        assert sorted(kept) == sorted(
            (x.tobytes(), label) for x, label in zip(images, labels[: -sizes[2]], strict=False)
        )
        for data in splits:
            assert (str(data.x.dtype), str(data.y.dtype), data.y.shape) == ("uint8", "float32", (len(data.x), 10))
        shares = [data.y.mean(axis=0) for data in splits]
        assert shares[0] == pytest.approx(shares[1], abs=0.005)
    scale, offset = arrays.load_normalization(Path("data/prepared/cifar"))
    assert (scale, offset) == ([1 / 255] * 3, [-0.5] * 3)


@pytest.mark.data
def test_the_real_data(project, monkeypatch):
    from stages import download

    download.main()
    # ru_maxrss of a child may be that of the process that started it, this one; VmHWM is the child's own.
    code = "from stages import prepare; prepare.main(); print(open('/proc/self/status').read())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert int(kilobytes) < 1.5 * 2**20
    for dataset, images in (("mnist", 60_000), ("cifar", 50_000)):
        fraction = read(Preparation, dataset).val_fraction
        folder = Path("data/prepared") / dataset
        train, val, test = (arrays.load(folder / split) for split in ("train", "val", "test"))
        assert (len(val.x), len(train.x), len(test.x)) == (fraction * images, (1 - fraction) * images, 10_000)
    assert test.y.argmax(axis=1)[:5].tolist() == [3, 8, 8, 0, 6]  # cat, ship, ship, airplane, frog
    assert test.y.sum(axis=0).tolist() == [1000] * 10
