"""Decode the raw files, split off the validation images, and choose the normalization.

Reads data/raw/. Writes data/prepared/NAME/ for each data set: {train,val,test}/x.npy uint8 (n, height, width,
channels), {train,val,test}/y.npy float32 one-hot (n, 10), classes.json, and normalization.json, which the network
applies as its first layer.
"""

from reprocnn.core.startup import run


def main() -> None:
    """Fill data/prepared/."""
    import json
    from pathlib import Path

    from reprocnn.core.files import write_json
    from reprocnn.core.params import Preparation, read
    from reprocnn.datasets import DATASETS
    from reprocnn.splits import decode, split
    from reprocnn.splits.normalize import normalize

    for dataset in DATASETS:
        params = read(Preparation, dataset.name)
        published, class_names = decode.read(dataset, Path("data/raw"))
        splits = split.split_off_validation(*published["train"], params.val_fraction, params.split_seed, dataset.name)
        normalization = normalize(splits["train"][0], params.normalization)
        splits["test"] = published["test"]

        folder = Path("data/prepared") / dataset.name
        for name, (x, labels) in splits.items():
            split.write(folder / name, x, split.to_one_hot(labels))
        write_json(folder / "normalization.json", normalization)
        write_json(folder / "classes.json", class_names)

        counts = ", ".join(f"{len(labels):,} {name}" for name, (_, labels) in splits.items())
        print(f"prepare: {dataset.name}: {counts}; {json.dumps(normalization['check'])}", flush=True)


if __name__ == "__main__":
    run(main)
