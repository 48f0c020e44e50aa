"""The pinned files, and the download of the real ones."""

import os
from pathlib import Path

import pytest

from reprocnn.datasets import CIFAR, DATASETS, MNIST
from reprocnn.sources import raw_files
from stages import download
from tests.sources.test_download import raw
from tests.support import mirror


def test_the_pinned_sizes_are_those_of_the_published_files():
    assert sum(file.size for file in MNIST.files) == 11_594_722
    assert len({file.sha256 for file in MNIST.files + CIFAR.files}) == 11
    assert [Path(file.name).name for file in CIFAR.files] == [
        "batches.meta", "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch",
    ]  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize("transport", ["folder", "http"])
def test_the_real_files(project, monkeypatch, transport):
    folder = Path(os.environ["DATASETS_MIRROR"])
    with mirror.serve(folder) as (address, _):
        monkeypatch.setenv("DATASETS_MIRROR", str(folder) if transport == "folder" else address)
        download.main()
    assert raw_files.missing() == []
    assert sorted(raw()) == sorted(file.name for dataset in DATASETS for file in dataset.files)
