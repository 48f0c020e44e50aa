import json

import numpy as np
import pytest

from reprocnn.core.errors import UserError
from reprocnn.images import arrays

X = np.arange(2 * 3 * 4 * 1, dtype=np.uint8).reshape(2, 3, 4, 1)
Y = np.eye(5, dtype=np.float32)[[3, 1]]


def write(folder, x=X, y=Y):
    np.save(folder / "x.npy", x)
    np.save(folder / "y.npy", y)
    return folder


def test_a_split_is_its_images_and_labels(tmp_path):
    x, y = arrays.load(write(tmp_path))
    assert np.array_equal(x, X)
    assert np.array_equal(y, Y)
    assert type(x) is type(y) is np.ndarray  # in memory, not mapped


@pytest.mark.parametrize(
    ("x", "y", "found"),
    [
        (X.astype("float32"), Y, "float32 (2, 3, 4, 1) and float32 (2, 5)"),
        (X[..., 0], Y, "uint8 (2, 3, 4) and float32 (2, 5)"),
        (X, Y.argmax(axis=1), "uint8 (2, 3, 4, 1) and int64 (2,)"),
        (X, Y[:1], "uint8 (2, 3, 4, 1) and float32 (1, 5)"),
    ],
)
def test_other_types_shapes_and_lengths(tmp_path, x, y, found):
    with pytest.raises(UserError) as error:
        arrays.load(write(tmp_path, x, y))
    assert str(error.value) == (
        f"{tmp_path}: expected x.npy uint8 (n, height, width, channels) and y.npy (n, classes), found {found}; "
        f"run `dvc repro -f prepare`"
    )


@pytest.mark.parametrize("name", ["x.npy", "y.npy"])
def test_missing_and_damaged_arrays(tmp_path, name):
    path = write(tmp_path) / name
    whole = path.read_bytes()
    path.unlink()
    with pytest.raises(UserError, match=rf"{name}: missing; run `dvc repro prepare`"):
        arrays.load(tmp_path)
    for damaged in (b"", b"not an array", whole[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"{name}: invalid NumPy array of numbers .*; run `dvc repro -f prepare`"):
            arrays.load(tmp_path)


def test_an_array_that_claims_more_than_its_file_has(tmp_path):
    path = write(tmp_path) / "x.npy"
    claim = {"descr": "|u1", "fortran_order": False, "shape": (1 << 50, 3, 4, 1)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, claim)
    with pytest.raises(UserError, match=r"x.npy: invalid NumPy array of numbers"):
        arrays.load(tmp_path)


def test_normalization_is_scale_and_offset(tmp_path):
    path = tmp_path / "normalization.json"
    with pytest.raises(UserError, match=r"normalization.json: missing; run `dvc repro`"):
        arrays.load_normalization(tmp_path)
    path.write_text(json.dumps({"offset": [-0.5, 1.5], "scale": [0.25, 0.125]}))
    assert arrays.load_normalization(tmp_path) == ([0.25, 0.125], [-0.5, 1.5])
    odd = (
        '{"scale": [1, "x"], "offset": [0, 0]}',
        '{"scale": [1], "offset": [0, 0]}',
        '{"scale": [NaN], "offset": [0]}',
    )
    for text in (
        '{"scale": [1]}',
        "[]",
        *odd,
        '{"scale": 1, "offset": 0}',
        f'{{"scale": [1{"0" * 400}], "offset": [0]}}',
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=r"found no scale and offset of finite numbers; run `dvc repro -f prepare`"):
            arrays.load_normalization(tmp_path)
    for text in ("", "{", f'{{"scale": [1{"0" * 5000}]}}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"normalization.json: invalid JSON"):
            arrays.load_normalization(tmp_path)
    path.write_text('{"scale": ["0.25"], "offset": ["1"]}')
    assert arrays.load_normalization(tmp_path) == ([0.25], [1.0])
