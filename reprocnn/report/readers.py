"""The files that training and evaluation wrote, read and checked, so that the report can rely on what is in them."""

from __future__ import annotations

import sys
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json

if TYPE_CHECKING:  # slow to import, and the table that ends a run does without them
    import numpy as np
    import pandas as pd

RESTORE = "restore it with git checkout, or run `dvc repro`"
RESTORE_KEPT = "delete it, then run `dvc checkout` or `dvc repro`"  # by DVC
MAX_BYTES = 100_000_000  # of all pictures, unpacked; a fraction of one is usual


def _keys(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties, "expected": "keys with values"}


def _list(items: Any, least: int = 1, most: int = 1000) -> dict[str, Any]:
    expected = f"a list of {least} to {most}"
    return {"type": "array", "items": items, "minItems": least, "maxItems": most, "expected": expected}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"], "expected": f"{schema['expected']}, or null"}


def _detail(kind: str, pattern: str, expected: str) -> dict[str, Any]:
    then = {"properties": {"detail": {"pattern": pattern, "expected": expected}}}
    return {"if": {"properties": {"kind": {"const": kind}}}, "then": then}


NUMBER = {"type": "number", "expected": "a finite number"}
SHARE = {"type": "number", "minimum": 0, "maximum": 1, "expected": "a number from 0 to 1"}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**53, "expected": "a whole number, not negative"}
SIZE = {"type": "integer", "minimum": 1, "maximum": 2**53, "expected": "a whole number above 0"}
# No control characters, halves of a character, or dollars, between which matplotlib reads formulas.
TEXT = {"type": "string", "pattern": r"\A[^\x00-\x1f$\ud800-\udfff]{0,100}\Z", "expected": "a short text"}

METRICS = _keys(
    test=_keys(
        accuracy=SHARE, accuracy_tta=SHARE, errors=COUNT, top2_accuracy=SHARE, loss=NUMBER, calibration_error=SHARE
    ),
)
DETAILS = _keys(
    source={"enum": ["public", "sample"], "expected": "public or sample"},
    test=_keys(n=SIZE, accuracy_low=SHARE, accuracy_high=SHARE),
    classes=_list(
        _keys(**{"class": TEXT}, precision=_or_null(SHARE), recall=_or_null(SHARE), n=COUNT), least=2, most=100
    ),
    reliability=_list(_keys(n=SIZE, confidence=SHARE, accuracy=SHARE)),
    parameters=COUNT,
    validation_images=_or_null(SIZE),
    weights=TEXT,
    device=_keys(kind=TEXT, name=TEXT, threads=SIZE, precision=TEXT),
    versions={"type": "object", "additionalProperties": TEXT, "expected": "a version by library"},
    images=_keys(training=_list(SIZE), validation=_list(COUNT), test=_list(COUNT)),
    normalization=_keys(
        method={"enum": ["center", "standardize"], "expected": "center or standardize"},
        check=_keys(min=NUMBER, max=NUMBER, mean=_list(NUMBER), std=_list(NUMBER)),
    ),
    block_shapes=_list(_list(SIZE, least=3, most=3), least=0),
    layers=_list(
        {
            **_keys(
                name=TEXT, kind=TEXT, inputs=_list(TEXT, least=0), shape=_list(SIZE), parameters=COUNT, flops=COUNT,
                detail=TEXT,
            ),
            "allOf": [
                _detail("Dropout", r"\A[0-9]+(\.[0-9]+)?(e-[0-9]+)?\Z", "its rate"),
                _detail("Conv2D", r"\A[0-9]+×[0-9]+(, stride [0-9]{1,3})?(, \w+)*\Z", "a kernel, as in 3×3, stride 2"),
            ],
        }
    ),
)  # fmt: skip


def _is_number(_: Any, value: Any) -> bool:
    """Return whether it is a number that fits a float: JSON has whole ones of any length, and Python's reader NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_whole(_: Any, value: Any) -> bool:
    return _is_number(_, value) and value == int(value)


Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator,
    type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"number": _is_number, "integer": _is_whole}
    ),
)


def read_metrics(name: str) -> dict[str, Any]:
    """Read metrics/NAME.json. Raises UserError with a line for each key that is not as the evaluation writes it."""
    metrics: dict[str, Any] = _read(Path("metrics") / f"{name}.json", _keys(**{name: METRICS}))[name]
    return metrics


def read_details(name: str) -> dict[str, Any]:
    """Read evaluation/NAME.json, as `read_metrics` does."""
    path = Path("evaluation") / f"{name}.json"
    details: dict[str, Any] = _read(path, DETAILS)
    classes, known = len(details["classes"]), set()
    for split, counts in details["images"].items():
        if len(counts) != classes:
            raise _fault(path, f"images.{split}", f"{len(counts)} classes", str(classes))
    for number, layer in enumerate(details["layers"]):
        unknown = [name for name in layer["inputs"] if name not in known]
        if unknown:
            raise _fault(path, f"layers.{number}.inputs", unknown[0], "names of layers above")
        known.add(layer["name"])
    return details


def read_test(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read both. Raises UserError if they are not of the same test, such as files of two data sets."""
    metrics, details = read_metrics(name), read_details(name)
    accuracy, low, high = metrics["test"]["accuracy"], *(details["test"][f"accuracy_{end}"] for end in ("low", "high"))
    if not low <= accuracy <= high:
        found, expected = f"{low:.2%} to {high:.2%}", f"the interval of {accuracy:.2%} in metrics/{name}.json"
        raise _fault(Path("evaluation") / f"{name}.json", "test", found, expected)
    return metrics, details


def read_history(name: str, epochs: int) -> pd.DataFrame:
    """Read plots/NAME/history.csv, a row for each epoch. Raises UserError, naming a column that is not right."""
    path = Path("plots") / name / "history.csv"
    columns = ("loss", "accuracy", "val_loss", "val_accuracy", "lr")
    table = _read_table(path, ("epoch", *columns), epochs, f"{name}.epochs of params.yaml")
    if table["epoch"].tolist() != list(range(1, epochs + 1)):
        raise _fault(path, "epoch", "other numbers", f"1 to {epochs}")
    for column in columns:
        values = table[column]
        if column.startswith("val_") and table[["val_loss", "val_accuracy"]].isna().all(axis=None):
            continue  # those images were trained on too
        _check_numbers(path, values, 1 if "accuracy" in column else sys.float_info.max)
    return table


def read_predictions(name: str, n: int, classes: int) -> pd.DataFrame:
    """Read plots/NAME/predictions.csv, a row for each test image, as `read_history` does."""
    path = Path("plots") / name / "predictions.csv"
    table = _read_table(path, ("index", "y_true", "y_pred", "confidence"), n, f"test.n of evaluation/{name}.json")
    if table["index"].tolist() != list(range(n)):
        raise _fault(path, "index", "other numbers", f"0 to {n - 1} in this order")
    for column in ("y_true", "y_pred"):
        if table[column].dtype.kind not in "iu":
            raise _fault(path, column, "other values", f"classes from 0 to {classes - 1}, whole numbers")
        _check_numbers(path, table[column], classes - 1)
    _check_numbers(path, table["confidence"], 1)
    return table


def read_images(name: str, n: int, classes: int, blocks: list[list[int]]) -> dict[str, np.ndarray]:
    """Read evaluation/NAME.npz: pictures of `classes` classes, and of maps for each of the `blocks`.

    Raises UserError, naming an array that is not right.
    """
    import numpy as np

    path = Path("evaluation") / f"{name}.npz"
    _check_exists(path)
    try:
        with zipfile.ZipFile(path) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"{size:,} bytes, expected at most {MAX_BYTES:,}")
        with np.load(path, allow_pickle=False) as arrays:
            images = dict(arrays)
    except Exception as error:  # zipfile and NumPy have a dozen kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: invalid NumPy archive ({reason or type(error).__name__}); {RESTORE_KEPT}") from None

    shapes: dict[str, tuple[int | None, ...]] = {
        "index": (None,),
        "x": (None, None, None, None),
        "examples": (classes, None, None, None),
        "variations": (None, classes, None, None, None),
        "filters": (None, None, None, None),
        **{f"maps_{i}": (classes, *shape[:2]) for i, shape in enumerate(blocks)},
    }
    for key, shape in shapes.items():
        array = images.get(key)
        if array is None:
            raise UserError(f"{path}: {key}: missing; {RESTORE_KEPT}")
        kind = np.int64 if key == "index" else np.uint8
        if array.dtype != kind or not _fits(array.shape, shape):
            sizes = ", ".join("any" if size is None else str(size) for size in shape)
            raise UserError(
                f"{path}: {key}: found {array.dtype} {array.shape}, expected {np.dtype(kind)} ({sizes}); {RESTORE_KEPT}"
            )
    index = images["index"]
    if len(index) != len(images["x"]) or not ((index >= 0) & (index < n)).all():
        raise UserError(f"{path}: index: expected the number of a test image for each of x; {RESTORE_KEPT}")
    return images


def _read(path: Path, schema: dict[str, Any]) -> Any:
    values = read_json(path)
    faults = sorted(Validator(schema).iter_errors(values), key=lambda error: list(map(str, error.absolute_path)))
    lines = []
    for error in faults[:3]:
        where = ".".join(map(str, error.absolute_path))
        if error.validator == "required":
            key = next(key for key in error.validator_value if key not in error.instance)
            lines.append(f"{path}: {f'{where}.{key}'.removeprefix('.')}: missing; {RESTORE}")
        else:
            lines.append(str(_fault(path, where, repr(error.instance)[:60], error.schema["expected"])))
    if lines:
        raise UserError("\n".join(lines))
    return values


def _read_table(path: Path, columns: tuple[str, ...], rows: int, source: str) -> pd.DataFrame:
    import pandas as pd

    _check_exists(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            table = pd.read_csv(path, index_col=False, low_memory=False)
    except (ValueError, MemoryError, OverflowError, pd.errors.ParserWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: invalid CSV ({reason or type(error).__name__}); {RESTORE}") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise UserError(f"{path}: {missing[0]}: missing column; {RESTORE}")
    if len(table) != rows:
        raise UserError(f"{path}: found {len(table):,} rows, expected {rows:,}, the {source}; {RESTORE}")
    return table


def _check_numbers(path: Path, values: pd.Series, high: float) -> None:
    if values.dtype.kind not in "iuf":
        raise _fault(path, str(values.name), "other values", f"numbers from 0 to {high:g}")
    wrong = values[~values.between(0, high)]
    if len(wrong):
        row = int(wrong.index[0])
        raise _fault(path, f"{values.name}: row {row}", str(wrong.iloc[0]), f"a number from 0 to {high:g}")


def _fits(found: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Return whether a shape is the expected one, None for any size; pictures are grey or in colour, and not empty."""
    if len(found) != len(expected) or any(b not in (a, None) for a, b in zip(found, expected, strict=True)):
        return False
    return len(found) < 4 or (found[-1] in (1, 3) and 0 not in found[1:])


def _check_exists(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path}: missing; run `dvc repro`")


def _fault(path: Path, where: str, found: str, expected: str) -> UserError:
    return UserError(f"{path}: {f'{where}: ' if where else ''}found {found}, expected {expected}; {RESTORE}")
