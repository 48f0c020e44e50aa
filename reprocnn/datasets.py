"""What is known of each data set: its names, its format, its classes, its files, their digests, and who serves them.

Digests are of the files as published, for CIFAR-10 of the archive's members: an archive packed again is as good.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class File:
    """A published file."""

    name: str  # below data/raw
    size: int  # bytes
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A tar.gz that holds the files; one packed again has another size."""

    name: str
    size: int  # bytes, as published
    max_size: int  # bytes, packed and unpacked


@dataclass(frozen=True)
class Dataset:
    """A data set by its `name`: a section of params.yaml, a folder of data/prepared/, a prefix of the metrics."""

    name: str
    title: str
    sample_title: str  # of the stand-in of `make demo`
    noun: str  # what its images show
    reader: Literal["idx", "cifar"]  # the format, as splits/decode.py reads it
    class_names: tuple[str, ...]  # none where the files have them
    addresses: tuple[str, ...]
    files: tuple[File, ...]  # for idx: training images, their labels, test images, their labels
    archive: Archive | None = None


MNIST = Dataset(
    name="mnist",
    title="MNIST",
    sample_title="sample: digits",
    noun="digits",
    reader="idx",
    class_names=tuple("0123456789"),
    addresses=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    files=(
        File("train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
        File("train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
        File("t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
        File("t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
    ),
)

CIFAR = Dataset(
    name="cifar",
    title="CIFAR-10",
    sample_title="sample: shapes",
    noun="pictures",
    reader="cifar",
    class_names=(),
    addresses=("https://www.cs.toronto.edu/~kriz/",),
    files=tuple(
        File(f"cifar-10-batches-py/{name}", size, digest)
        for name, size, digest in (
            ("batches.meta", 158, "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb"),
            ("data_batch_1", 31035704, "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
            ("data_batch_2", 31035320, "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
            ("data_batch_3", 31035999, "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
            ("data_batch_4", 31035696, "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
            ("data_batch_5", 31035623, "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
            ("test_batch", 31035526, "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
        )
    ),
    archive=Archive("cifar-10-python.tar.gz", 170_498_071, 250_000_000),
)

DATASETS = (MNIST, CIFAR)


def by_name(name: str) -> Dataset:
    """Return the data set called `name`. Raises KeyError for an unknown one."""
    return {dataset.name: dataset for dataset in DATASETS}[name]
