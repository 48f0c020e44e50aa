"""The pinned files, and the download of the real ones."""

import hashlib
import os
from pathlib import Path

import pytest
import yaml

from reprocnn import datasets
from reprocnn.datasets import CIFAR, DATASETS, MNIST
from reprocnn.sources import raw_files
from stages import download
from tests.support import mirror
from tests.support.commands import ROOT
from tests.support.mirror import raw


def test_the_pinned_sizes_are_those_of_the_published_files():
    assert sum(file.size for file in MNIST.files) == 11_594_722
    [out] = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]["download"]["outs"]
    files = MNIST.files + CIFAR.files
    assert (out["nfiles"], out["size"]) == (len(files), sum(file.size for file in files))
    assert [Path(file.name).name for file in files] == [
        "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz", "batches.meta", "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4",
        "data_batch_5", "test_batch",
    ]  # fmt: skip
    assert CIFAR.archive
    assert (CIFAR.archive.name, CIFAR.archive.size) == ("cifar-10-python.tar.gz", 170_498_071)
    assert (
        CIFAR.archive.size < sum(file.size for file in CIFAR.files) < CIFAR.archive.max_size - 1_000_000 < 300_000_000
    )
    assert MNIST.archive is None


def test_the_pinned_digests_are_those_of_the_published_files():
    listed = "".join(f"{file.sha256}  {file.name}\n" for dataset in DATASETS for file in dataset.files)
    # What `sha256sum` prints of the published files, in this order, has this digest itself.
    assert hashlib.sha256(listed.encode()).hexdigest() == (
        "e0c635dc2c9566f3a9320300e466893ee97cd5b71056cc3a988fb43fa596a477"
    )


def test_each_data_set_has_its_name_its_classes_and_its_addresses():
    assert datasets.by_name("mnist") is MNIST
    assert datasets.by_name("cifar") is CIFAR
    with pytest.raises(KeyError):
        datasets.by_name("fashion")
    assert [(one.name, one.title, one.sample_title, one.noun, one.reader, one.class_names) for one in DATASETS] == [
        ("mnist", "MNIST", "sample: digits", "digits", "idx", ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")),
        ("cifar", "CIFAR-10", "sample: shapes", "pictures", "cifar", ()),
    ]
    assert [address for one in DATASETS for address in one.addresses] == [
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://www.cs.toronto.edu/~kriz/",
    ]


@pytest.mark.data
@pytest.mark.parametrize("transport", ["folder", "http"])
def test_the_real_files(project, monkeypatch, transport):
    folder = Path(os.environ["DATASETS_MIRROR"])
    with mirror.serve(folder) as (address, _):
        monkeypatch.setenv("DATASETS_MIRROR", str(folder) if transport == "folder" else address)
        download.main()
    assert raw_files.missing() == []
    assert sorted(raw()) == sorted(file.name for dataset in DATASETS for file in dataset.files)
