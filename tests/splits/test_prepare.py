import gzip
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reprocnn.core.errors import UserError
from reprocnn.core.params import Preparation, read
from reprocnn.datasets import DATASETS
from reprocnn.images import arrays
from reprocnn.sources import sample
from reprocnn.splits import decode
from reprocnn.splits.normalize import normalize
from reprocnn.splits.split import split_off_validation, to_one_hot
from stages import prepare
from tests.conftest import ROOT


def test_the_sample_becomes_arrays(project):
    for dataset in DATASETS:
        sample.write(dataset, Path("data/raw"))
    prepare.main()
    mnist = {split: arrays.load(Path("data/prepared/mnist") / split) for split in ("train", "val", "test")}
    cifar = {split: arrays.load(Path("data/prepared/cifar") / split) for split in ("train", "val", "test")}
    assert [data.x.shape for data in mnist.values()] == [(1293, 28, 28, 1), (144, 28, 28, 1), (360, 28, 28, 1)]
    assert [data.x.shape for data in cifar.values()] == [(1400, 32, 32, 3), (600, 32, 32, 3), (500, 32, 32, 3)]
    for data in (*mnist.values(), *cifar.values()):
        assert data.x.dtype == np.uint8
        assert data.y.dtype == np.float32
        assert data.y.shape == (len(data.x), 10)
        assert (data.y.sum(axis=1) == 1).all()
        assert set(np.unique(data.y)) == {0, 1}
    images, labels = sample.digits()  # the test split is the last digits, in their order
    assert np.array_equal(mnist["test"].x[..., 0], images[1437:])
    assert np.array_equal(mnist["test"].y.argmax(axis=1), labels[1437:])
    assert cifar["train"].y.sum(axis=0) / 1400 == pytest.approx(cifar["val"].y.sum(axis=0) / 600, abs=0.002)
    scale, offset = arrays.load_normalization(Path("data/prepared/cifar"))
    assert scale == [1 / 255] * 3
    assert offset == [-0.5] * 3


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


def test_normalization_by_hand():
    x = np.array([0, 255, 255, 0], np.uint8).reshape(2, 2, 1, 1)  # mean 127.5, deviation 127.5
    center = normalize(x, "center")
    assert (center["scale"], center["offset"]) == ([1 / 255], [-0.5])
    assert center["check"] == {"min": -0.5, "max": 0.5, "mean": [0.0], "std": [0.5]}
    standard = normalize(x, "standardize")
    assert standard["scale"] == pytest.approx([1 / 127.5])
    assert standard["offset"] == pytest.approx([-1.0])
    assert standard["check"] == {"min": -1.0, "max": 1.0, "mean": [0.0], "std": [1.0]}


def test_normalization_of_each_channel_agrees_with_numpy():
    x = np.random.default_rng(0).integers(0, [[[50, 100, 256]]], (20, 4, 4, 3)).astype(np.uint8)
    chosen = normalize(x, "standardize")
    seen = x * np.array(chosen["scale"]) + np.array(chosen["offset"])
    assert seen.mean(axis=(0, 1, 2)) == pytest.approx(np.zeros(3), abs=1e-9)
    assert seen.std(axis=(0, 1, 2)) == pytest.approx(np.ones(3))


def test_a_channel_of_one_value_is_refused():
    with pytest.raises(UserError, match="a channel of one value"):
        normalize(np.zeros((2, 2, 2, 1), np.uint8), "center")


def test_one_hot_is_what_keras_gives():
    from reprocnn.backend import keras

    labels = np.array([3, 0, 9], np.uint8)
    assert np.array_equal(to_one_hot(labels, 10), keras.utils.to_categorical(labels, 10))


def test_idx_by_hand(tmp_path):
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, *range(6)])))
    assert decode.idx(path, 3).tolist() == [[[0, 1, 2], [3, 4, 5]]]
    for damaged in (gzip.compress(b"\0\0\x08\x03"), gzip.compress(bytes(30)), b"no gzip", path.read_bytes()[:-9]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"x\.gz.*dvc repro -f download"):
            decode.idx(path, 3)


def test_cifar_rows_are_planes_of_red_green_and_blue(tmp_path):
    row = np.zeros((1, 3072), np.uint8)
    row[0, 33], row[0, 1024 + 33], row[0, 2048 + 33] = 1, 2, 3  # second row, second column
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps({b"data": row, b"labels": [7]}, protocol=2))
    with pytest.raises(UserError, match=r"_codecs\.encode"):  # Python 3 pickles bytes so; CIFAR-10 does not
        decode.cifar_batch(path)
    path.write_bytes(pickle.dumps({b"data": row, b"labels": [7]}, protocol=3))
    x, labels = decode.cifar_batch(path)
    assert x.shape == (1, 32, 32, 3)
    assert x[0, 1, 1].tolist() == [1, 2, 3]
    assert x.sum() == 6
    assert labels.tolist() == [7]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_a_pickle_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("batch").write_bytes(pickle.dumps({b"data": Evil()}, protocol=3))
    with pytest.raises(UserError, match=r"posix\.mkdir"):
        decode.cifar_batch(Path("batch"))
    assert not Path("ran").exists()


def test_the_sample_is_the_same_each_time(tmp_path):
    for name in ("a", "b"):
        for dataset in DATASETS:
            sample.write(dataset, tmp_path / name)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 11
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


@pytest.mark.data
def test_the_real_data(project, monkeypatch):
    from stages import download

    download.main()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "stages.prepare"], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    assert usage.ru_utime + usage.ru_stime < 15
    assert usage.ru_maxrss < 1.5 * 2**20  # KiB
    for dataset, images in (("mnist", 60_000), ("cifar", 50_000)):
        fraction = read(Preparation, dataset).val_fraction
        folder = Path("data/prepared") / dataset
        train, val, test = (arrays.load(folder / split) for split in ("train", "val", "test"))
        assert (len(val.x), len(train.x), len(test.x)) == (fraction * images, (1 - fraction) * images, 10_000)
    assert test.y.argmax(axis=1)[:5].tolist() == [3, 8, 8, 0, 6]  # cat, ship, ship, airplane, frog
    assert test.y.sum(axis=0).tolist() == [1000] * 10
