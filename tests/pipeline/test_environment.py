"""Variables and files of the user that Keras, TensorFlow and NumPy would read: they change no result unrecorded."""

import json

import pytest

from tests.support.commands import call, column

HOSTILE = {
    "KERAS_BACKEND": "jax",
    "KERAS_MAX_EPOCHS": "1",
    "KERAS_MAX_STEPS_PER_EPOCH": "1",
    "KERAS_NNX_ENABLED": "1",
    "TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_USE_DEEP_CONV2D": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_CORETYPE": "Nehalem",
}
CONFIG = {
    "floatx": "float16", "epsilon": 0.1, "backend": "torch", "image_data_format": "channels_first", "nnx_enabled": True,
}  # fmt: skip
MODEL = ("models/mnist/model.weights.h5", "models/mnist/model.json", "models/mnist/environment.json")


@pytest.mark.parametrize(
    ("variables", "config"),
    [
        pytest.param(HOSTILE, json.dumps(CONFIG), id="hostile", marks=pytest.mark.slow),
        pytest.param({}, json.dumps({"floatx": "float31"}), id="no such type", marks=pytest.mark.nightly),
        pytest.param({"HOME": "/nonexistent"}, "", id="no home", marks=pytest.mark.nightly),
    ],
)
def test_they_change_nothing(copy, tmp_path, variables, config):
    before = [(copy / path).read_bytes() for path in (*MODEL, "plots/mnist/history.csv")]
    metrics = (copy / "metrics/mnist.json").read_bytes()
    for path in (*MODEL, "plots/mnist/history.csv", "metrics/mnist.json"):
        (copy / path).unlink()
    keras = tmp_path / "home/.keras"
    keras.mkdir(parents=True)
    (keras / "keras.json").write_text(config)
    home = {"HOME": str(tmp_path / "home")} | variables
    printed = call(copy, "python", "-m", "stages.train_mnist", **home)
    assert [(copy / path).read_bytes() for path in (*MODEL, "plots/mnist/history.csv")] == before
    assert ("ignored, since params.yaml alone drives the results: KERAS_MAX_EPOCHS," in printed) == (
        variables is HOSTILE
    )
    call(copy, "python", "-m", "stages.evaluate_mnist", **home)
    assert (copy / "metrics/mnist.json").read_bytes() == metrics


def test_what_is_kept_is_recorded_and_trains_from_scratch(copy):
    (copy / "models/mnist/environment.json").unlink()
    places = copy / "runs/checkpoints"
    before = {place.name for place in places.glob("train_mnist-*")}
    printed = call(copy, "python", "-m", "stages.train_mnist", DNNL_MAX_CPU_ISA="AVX2")
    recorded = json.loads((copy / "models/mnist/environment.json").read_text())
    assert recorded["settings"] == {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert recorded["device"]["precision"] == "float32"
    assert len(column(copy / "plots/mnist/history.csv", "epoch")) == printed.count("train_mnist: epoch ")
    assert before.isdisjoint(place.name for place in places.glob("train_mnist-*"))
