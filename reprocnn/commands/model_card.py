"""The card of an exported network, from its results: what it is, how good, how to make it again, and its limits.

Its header is the metadata that model hubs read (Hugging Face's documentation, "Model Cards").
"""

from pathlib import Path
from typing import Any

import yaml

from reprocnn.core.errors import UserError
from reprocnn.core.files import sha256
from reprocnn.core.params import FILE, load
from reprocnn.datasets import Dataset
from reprocnn.report.readers import RESTORE, read_test
from reprocnn.report.results import SAMPLE, title
from reprocnn.repository import git

HUB_NAMES = {"mnist": "ylecun/mnist", "cifar": "uoft-cs/cifar10"}  # of the data sets, at Hugging Face
OPENED_BY = {
    "keras": 'keras.models.load_model("{file}")',
    "onnx": 'onnxruntime.InferenceSession("{file}")',
    "litert": 'ai_edge_litert.interpreter.Interpreter("{file}")',
    "openvino": 'openvino.Core().compile_model("{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})',
    "saved_model": 'tensorflow.saved_model.load("{file}")',
}


def model_card(dataset: Dataset, shape: tuple[int, ...], files: dict[str, str]) -> str:
    """Write the card of a network that takes images of `shape`, exported to `files`, by format.

    Raises UserError if the results are missing, or those of other weights than models/NAME has.
    """
    name = dataset.name
    metrics, details = read_test(name)
    if all(row["recall"] is None for row in details["classes"]):
        raise UserError(f"evaluation/{name}.json: classes: found no recall, expected one at least; {RESTORE}")
    if details["weights"] != sha256(Path("models") / name / "model.weights.h5"):
        raise UserError(
            f"evaluation/{name}.json: measured with other weights than those in models/{name}; "
            f"run `dvc repro evaluate_{name}`"
        )
    scores, (params, digest) = metrics["test"], _locked(name)
    header = yaml.safe_dump(_metadata(dataset, details["source"], scores, params, list(files)), sort_keys=False)
    return f"---\n{header}---\n\n{_text(dataset, details, scores, params, shape, files, digest)}"


def _metadata(
    dataset: Dataset, source: str, scores: dict[str, float], params: dict[str, Any], formats: list[str]
) -> dict[str, Any]:
    hub = HUB_NAMES.get(dataset.name) if source != SAMPLE else None
    metrics = [
        {"type": key, "name": key.replace("_", " "), "value": scores[key]}
        for key in ("accuracy", "top2_accuracy", "loss", "calibration_error")
    ]
    tested = {"name": title(dataset, source), "type": hub or source, "split": "test"}
    result = {"task": {"type": "image-classification"}, "dataset": tested, "metrics": metrics}
    return {
        "library_name": "keras",
        "license": "mit",
        "pipeline_tag": "image-classification",
        **({"datasets": [hub]} if hub else {}),
        "metrics": ["accuracy"],
        "tags": list(dict.fromkeys(["keras", *formats, "dvc"])),
        "model-index": [{"name": params[dataset.name]["network"], "results": [result]}],
    }


def _text(
    dataset: Dataset,
    details: dict[str, Any],
    scores: dict[str, float],
    params: dict[str, Any],
    shape: tuple[int, ...],
    files: dict[str, str],
    digest: str,
) -> str:
    name, test, classes = dataset.name, details["test"], details["classes"]
    shown = title(dataset, details["source"])
    images = {split: sum(counts) for split, counts in details["images"].items()}
    trained = f"{images['training']:,} for training, {images['validation']:,} for validation"
    if details["validation_images"] is None:
        trained = f"{images['training'] + images['validation']:,} for training"
    weakest = min((row for row in classes if row["recall"] is not None), key=lambda row: row["recall"])
    sample = "- It was trained on a small sample, to show that the pipeline works. Do not use it for anything else.\n"
    opened = "\n".join(f"| `{file}` | `{OPENED_BY[kind].format(file=file)}` |" for kind, file in files.items())
    versions = ", ".join(f"{library} {version}" for library, version in details["versions"].items())
    return f"""\
# {params[name]["network"]}, {shown}

A convolutional network with {details["parameters"]:,} parameters. It takes uint8 images as an array of shape
(images, {", ".join(map(str, shape))}) and normalizes them itself. It gives the probabilities of {len(classes)} classes:
{", ".join(row["class"] for row in classes)}.

| File | Opened by |
|---|---|
{opened}

## Data

{shown}: {trained}, {images["test"]:,} for testing. The test images were used for the results below alone.

## Results

| On {test["n"]:,} test images | |
|---|---|
| accuracy | {scores["accuracy"]:.2%}, 95 % interval {test["accuracy_low"]:.2%} to {test["accuracy_high"]:.2%} |
| errors | {scores["errors"]:,} |
| accuracy of the two best classes | {scores["top2_accuracy"]:.2%} |
| cross-entropy | {scores["loss"]:.4f} |
| expected calibration error | {scores["calibration_error"]:.4f} |
| accuracy with test-time augmentation | {scores["accuracy_tta"]:.2%}; the files give the plain prediction |

## How to reproduce

Check out {_commit()} and run `dvc repro evaluate_{name}`. The same versions on
the same processor give the same bytes.

- `model.weights.h5`: SHA-256 `{details["weights"]}`
- `models/{name}` in `dvc.lock`: MD5 `{digest}`
- trained on: {details["device"]["kind"]}, {details["device"]["name"]}, {details["device"]["threads"]} threads,
  {details["device"]["precision"]}
- versions: {versions}

Its params, as in `dvc.lock`:

```yaml
{yaml.safe_dump(params).strip()}
```

## Limits

- It gives one of the {len(classes)} classes to every image, even to one that shows none of them.
- The results hold for images like those of {shown}: same size, same kind of picture.
- The weakest class is {weakest["class"]}, with a recall of {weakest["recall"]:.2%}.
- The interval covers the choice of test images, not the seed: another seed gives another accuracy.
{sample if details["source"] == SAMPLE else ""}"""


def _commit() -> str:
    """Name the commit of the working tree, and say if files of it have changed since."""
    try:
        changed = ", with uncommitted changes," if git("status", "--porcelain", "-uno").strip() else ""
        return f"commit `{git('rev-parse', 'HEAD').strip()}`{changed}"
    except UserError:  # no repository, or none with a commit
        return "the repository"


def _locked(name: str) -> tuple[dict[str, Any], str]:
    """Read from dvc.lock with which params models/NAME was trained, and its digest. Raises UserError without them."""
    lock = load(Path("dvc.lock"))
    try:
        stage = lock["stages"][f"train_{name}"]
        digests = {out["path"]: out["md5"] for out in stage["outs"]}
        return stage["params"][FILE.name], digests[f"models/{name}"]
    except (KeyError, TypeError):
        raise UserError(
            f"dvc.lock: train_{name}: missing, or without its params or models/{name}; run `dvc repro train_{name}`"
        ) from None
