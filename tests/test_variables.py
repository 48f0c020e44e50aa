import os
from unittest import mock

import pytest

from reprocnn import backend
from tests.support.warm import server


@pytest.fixture
def variables():
    """Sets the only variables of the environment."""

    def give(**values: str) -> None:
        os.environ.clear()
        os.environ.update(values)

    with mock.patch.dict(os.environ):
        yield give


def test_what_would_change_the_bits_is_dropped_with_a_line(variables, capsys):
    variables(
        KERAS_MAX_EPOCHS="1", KERAS_MAX_STEPS_PER_EPOCH="1", KERAS_NNX_ENABLED="1", KERAS_TORCH_DEVICE="cuda",
        TF_XLA_FLAGS="--tf_xla_auto_jit=2", TF_NUM_INTRAOP_THREADS="1", TF_DETERMINISTIC_OPS="1",
        OMP_NUM_THREADS="1", OPENBLAS_CORETYPE="Nehalem", NPY_DISABLE_CPU_FEATURES="AVX2", PATH="/bin", LANG="C",
        BLIS_NUM_THREADS="1", GOTO_NUM_THREADS="1", MKL_NUM_THREADS="1",
    )  # fmt: skip
    backend.fix_environment()
    assert dict(os.environ) == {
        "PATH": "/bin", "LANG": "C", "KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull,
        "TF_CPU_ALLOCATOR_USE_BFC": "true", "TF_ENABLE_ONEDNN_OPTS": "1",
    }  # fmt: skip
    assert backend.recorded_environment() == {}
    printed = capsys.readouterr().err
    assert printed == (
        "ignored, since params.yaml alone drives the results: BLIS_NUM_THREADS, GOTO_NUM_THREADS, KERAS_MAX_EPOCHS, "
        "KERAS_MAX_STEPS_PER_EPOCH, KERAS_NNX_ENABLED, KERAS_TORCH_DEVICE, MKL_NUM_THREADS, NPY_DISABLE_CPU_FEATURES, "
        "OMP_NUM_THREADS, OPENBLAS_CORETYPE, TF_DETERMINISTIC_OPS, TF_NUM_INTRAOP_THREADS, TF_XLA_FLAGS\n"
    )


def test_another_backend_or_home_of_keras_is_replaced(variables, capsys):
    variables(KERAS_BACKEND="jax", KERAS_HOME="/somewhere")
    backend.fix_environment()
    assert dict(os.environ) == backend.SET | backend.DEFAULTS
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2"), ("ONEDNN_DEFAULT_FPMATH_MODE", "BF16"), ("ONEDNN_CPU_ISA_HINTS", "PREFER_YMM"),
        ("TF_ENABLE_ONEDNN_OPTS", "0"), ("XLA_FLAGS", "--xla_gpu_cuda_data_dir=/cuda"), ("NVIDIA_TF32_OVERRIDE", "0"),
        ("CUBLAS_WORKSPACE_CONFIG", ":4096:8"),
    ],
)  # fmt: skip
def test_what_a_person_may_need_is_kept_and_recorded(variables, capsys, name, value):
    variables(**{name: value})
    backend.fix_environment()
    assert backend.recorded_environment() == {name: value}
    assert capsys.readouterr().err == ""


def test_messages_memory_and_terraform_change_no_bit(variables, capsys):
    harmless = {
        "TF_CPP_MIN_LOG_LEVEL": "0", "TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_GPU_ALLOCATOR": "cuda_malloc_async",
        "ONEDNN_VERBOSE": "1", "TF_CLI_CONFIG_FILE": "/a/.terraformrc", "TF_VAR_password": "secret",
    }  # fmt: skip
    variables(**harmless)
    backend.fix_environment()
    assert dict(os.environ) == harmless | backend.SET | backend.DEFAULTS
    assert backend.recorded_environment() == {}
    assert capsys.readouterr().err == ""


def test_what_is_set_anyway_is_not_recorded(variables):
    """A person's value that is the default gives the same bits."""
    variables(TF_ENABLE_ONEDNN_OPTS="1", TF_CPU_ALLOCATOR_USE_BFC="false")
    backend.fix_environment()
    assert dict(os.environ) == backend.SET | backend.DEFAULTS
    assert backend.recorded_environment() == {}


def test_the_tests_load_tensorflow_with_what_the_project_sets():
    own = {"KERAS_HOME": os.devnull}
    assert server.VARIABLES | own == backend.SET | backend.DEFAULTS


@pytest.mark.parametrize(("given", "value"), [({}, "AVX2"), ({"ONEDNN_MAX_CPU_ISA": "AVX"}, "AVX")])
def test_the_old_prefix_of_onednn_counts_where_the_new_one_is_not_set(variables, given, value):
    variables(DNNL_MAX_CPU_ISA="AVX2", **given)
    backend.fix_environment()
    assert "DNNL_MAX_CPU_ISA" not in os.environ
    assert backend.recorded_environment() == {"ONEDNN_MAX_CPU_ISA": value}


def test_what_begins_like_the_flags_of_xla_is_dropped(variables, capsys):
    variables(XLA_PARANOID="1", XLA_FLAGS="--a")
    backend.fix_environment()
    assert "XLA_PARANOID" not in os.environ
    assert backend.recorded_environment() == {"XLA_FLAGS": "--a"}
    assert capsys.readouterr().err.endswith(": XLA_PARANOID\n")


def test_cudnns_settings_are_kept_and_recorded(variables, capsys):
    variables(CUDNN_FRONTEND_LOG_LEVEL="1")
    backend.fix_environment()
    assert backend.recorded_environment() == {"CUDNN_FRONTEND_LOG_LEVEL": "1"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name", ["TF_TOKEN_a", "TF_LOG", "TF_INPUT", "TF_IN_AUTOMATION", "TF_WORKSPACE", "TF_DATA_DIR"]
)
def test_variables_of_terraform_stay(variables, capsys, name):
    variables(**{name: "1"})
    backend.fix_environment()
    assert os.environ[name] == "1"
    assert backend.recorded_environment() == {}
    assert capsys.readouterr().err == ""
