"""The pinned files, and the download of the real ones."""

import os
from pathlib import Path

import pytest

from stages import download
from stages.lib import published
from tests import mirror
from tests.test_download import raw


def test_the_pinned_sizes_are_those_of_the_published_files():
    assert sum(file.size for file in published.MNIST) == 11_594_722
    assert len({file.sha256 for file in published.MNIST + published.CIFAR.members}) == 11
    assert [Path(name).name for name in published.NAMES[4:]] == [
        "batches.meta", "data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch",
    ]  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize("transport", ["folder", "http"])
def test_the_real_files(project, monkeypatch, transport):
    folder = Path(os.environ["DATASETS_MIRROR"])
    with mirror.serve(folder) as (address, _):
        monkeypatch.setenv("DATASETS_MIRROR", str(folder) if transport == "folder" else address)
        download.main()
    assert download.missing() == []
    assert sorted(raw()) == sorted(published.NAMES)
