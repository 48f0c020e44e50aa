"""Fetch the published files from DATASETS_MIRROR or the public addresses, or write the embedded sample.

Writes data/raw/: MNIST's four .gz files and the seven members of cifar-10-batches-py/, each there only if it has the
digest of the published one. What is there and intact is not fetched again; what does not belong there is removed.
"""

from reprocnn.core.startup import run


def main() -> None:
    """Fill data/raw/."""
    from reprocnn.core.params import Source, read
    from reprocnn.sources import raw_files

    source = read(Source).source
    raw_files.check_declared()
    raw_files.replace_links()
    if source == "sample":
        raw_files.write_sample()
    else:
        raw_files.fetch_missing()
    raw_files.remove_unexpected()
    raw_files.check_complete()


if __name__ == "__main__":
    run(main)
