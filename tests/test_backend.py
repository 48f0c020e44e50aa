"""What the machine is taken to be, from what it says of itself."""

import builtins
import gc
import importlib
import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from reprocnn import backend
from reprocnn.core.errors import UserError

PROCESSOR = "processor\t: 0\nvendor_id\t: X\nmodel name\t: A Processor 3000\nflags\t\t: fpu avx512f{} sse\n"


@pytest.fixture
def cpuinfo(monkeypatch):
    """Lets /proc/cpuinfo say so; None: there is no such file."""
    monkeypatch.setattr(backend.tf.config.threading, "set_intra_op_parallelism_threads", lambda threads: None)
    monkeypatch.setattr(backend.tf.config, "set_visible_devices", lambda devices, kind: None)
    really = builtins.open

    def say(text: str | None) -> None:
        def fake(path, *arguments, **named):
            if path != "/proc/cpuinfo":
                return really(path, *arguments, **named)
            if text is None:
                raise FileNotFoundError(path)
            return io.StringIO(text)

        monkeypatch.setattr(builtins, "open", fake)

    return say


@pytest.mark.parametrize(
    ("flags", "precision", "instructions"),
    [
        ("", "float32", "avx512f"),
        (" avx512_bf16", "mixed_bfloat16", "avx512_bf16"),
        (" avx512_bf16 amx_bf16", "mixed_bfloat16", "amx_bf16"),
        (" xbf16", "float32", "avx512f"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_has_it(cpuinfo, flags, precision, instructions):
    cpuinfo(PROCESSOR.format(flags))
    found = backend.configure_device("cpu", 3, "auto")
    assert found == backend.Device("cpu", "A Processor 3000", 3, precision, instructions)
    assert str(found) == f"cpu, A Processor 3000, 3 threads, {precision}"


@pytest.mark.parametrize(
    ("cap", "precision", "instructions"),
    [
        ("avx512_core_amx", "mixed_bfloat16", "amx_bf16"),
        ("AVX512_CORE_BF16", "mixed_bfloat16", "avx512_bf16"),
        ("AVX512_CORE_FP16", "mixed_bfloat16", "avx512_bf16"),
        ("AVX512_CORE", "float32", "avx512f"),
        ("AVX512_CORE_VNNI", "float32", "avx512f"),
        ("avx2_vnni", "float32", "avx2"),
        ("AVX2_VNNI_2", "float32", "avx2"),
        ("AVX", "float32", ""),
        ("AVX2", "float32", "avx2"),
        ("SSE41", "float32", ""),
    ],
)
def test_what_onednn_may_not_use_is_not_there(cpuinfo, monkeypatch, cap, precision, instructions):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    cpuinfo(PROCESSOR.format(" avx2 avx512_bf16 amx_bf16"))
    found = backend.configure_device("cpu", 1, "auto")
    assert (found.precision, found.instructions) == (precision, instructions)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_precision_that_is_named_is_taken(cpuinfo, precision):
    for flags in ("", " avx512_bf16"):
        cpuinfo(PROCESSOR.format(flags))
        assert backend.configure_device("cpu", 0, precision).precision == precision


def test_without_cpuinfo_the_platform_names_the_processor(cpuinfo):
    cpuinfo(None)
    found = backend.configure_device("cpu", 1, "auto")
    assert found.precision == "float32"
    assert found.name


@pytest.mark.parametrize("threads", [0, 5])
def test_threads_are_those_asked_for_or_all_cores(cpuinfo, monkeypatch, threads):
    cpuinfo(PROCESSOR.format(""))
    asked: list[int] = []
    monkeypatch.setattr(backend.tf.config.threading, "set_intra_op_parallelism_threads", asked.append)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 3}, raising=False)
    assert backend.configure_device("cpu", threads).threads == (threads or 3)
    assert asked == [threads or 3]


@pytest.fixture
def gpus(cpuinfo, monkeypatch):
    """Lets TensorFlow see two GPUs of a compute capability; gives the calls that change its settings."""
    cpuinfo(PROCESSOR.format(" avx512_bf16"))
    calls: list[object] = []
    config = backend.tf.config
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: [f"{kind} 0", f"{kind} 1"])
    monkeypatch.setattr(config, "set_visible_devices", lambda devices, kind: calls.append((devices, kind)))
    monkeypatch.setattr(config.experimental, "enable_op_determinism", lambda: calls.append("determinism"))
    monkeypatch.setattr(config, "set_logical_device_configuration", lambda *given: calls.append(given))

    def see(major: int, minor: int) -> list[object]:
        details = {"device_name": "A Card", "compute_capability": (major, minor)}
        monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: details)
        return calls

    return see


@pytest.mark.parametrize(("capability", "precision"), [((8, 0), "mixed_bfloat16"), ((7, 5), "float32")])
def test_a_gpu_is_taken_with_determinism(gpus, capability, precision):
    calls = gpus(*capability)
    found = backend.configure_device("auto", 4, "auto")
    assert found == backend.Device("gpu", "A Card", 4, precision, "avx512_bf16")
    assert calls == [(["GPU 0"], "GPU"), "determinism"]
    assert backend.configure_device("gpu", 4, "auto", devices=2).count == 2
    assert calls[2] == (["GPU 0", "GPU 1"], "GPU")
    with pytest.raises(UserError, match="devices: found 3, but TensorFlow sees 2 GPUs"):
        backend.configure_device("auto", 4, devices=3)


def test_a_processor_that_is_asked_for_stands_in_for_several_devices(gpus):
    calls = gpus(8, 0)
    found = backend.configure_device("cpu", 4, devices=3)
    assert (found.kind, found.count, found.name, found.precision) == ("cpu", 3, "A Processor 3000", "float32")
    assert str(found) == "3 x cpu, A Processor 3000, 4 threads, float32"
    [hidden, (processor, parts)] = calls
    assert (hidden, processor, len(parts)) == (([], "GPU"), "CPU 0", 3)


def test_several_devices_are_counted():
    assert str(backend.Device("gpu", "A Card", 1, count=2)) == "2 x gpu, A Card, 1 threads, float32"
    assert str(backend.Device("gpu", "A Card", 1)) == "gpu, A Card, 1 threads, float32"


def test_one_device_is_tensorflows_default(monkeypatch):
    monkeypatch.setattr(backend.tf.distribute, "MirroredStrategy", list)
    assert backend.Device("gpu", "A Card", 1, count=2).strategy() == ["GPU:0", "GPU:1"]
    assert backend.Device("gpu", "A Card", 1).strategy() is backend.tf.distribute.get_strategy()


def test_keras_computes_with_tensorflow_unless_it_is_loaded_with_another_backend(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(backend=SimpleNamespace(backend=lambda: "jax")))
    assert backend._import_tensorflow() is None
    assert os.environ["KERAS_BACKEND"] == "jax"
    monkeypatch.setitem(sys.modules, "keras", backend.keras)
    assert backend._import_tensorflow() is backend.tf
    assert os.environ["KERAS_BACKEND"] == "tensorflow"


def test_only_a_command_of_the_project_changes_the_variables_of_its_process(monkeypatch):
    fixed = []
    monkeypatch.setattr(backend, "fix_environment", lambda: fixed.append("fixed"))
    for program, expected in ((False, []), (True, ["fixed"])):
        monkeypatch.setattr(backend.startup, "is_program", lambda program=program: program)
        backend._import_tensorflow()
        assert fixed == expected


@pytest.mark.parametrize("program", [True, False])
@pytest.mark.parametrize("collects", [True, False])
def test_a_program_loads_keras_as_if_what_it_does_not_use_were_not_installed(monkeypatch, program, collects):
    monkeypatch.setattr(backend, "OPTIONAL", ("colorsys", "json"))
    monkeypatch.setattr(backend, "fix_environment", lambda: None)
    monkeypatch.setattr(backend.startup, "is_program", lambda: program)
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    seen = []

    def load(name: str) -> None:
        seen.append((name, gc.isenabled(), "colorsys" in sys.modules, sys.modules["json"]))
        raise ImportError(name)

    monkeypatch.setattr(backend.importlib, "import_module", load)
    was = gc.isenabled()
    (gc.enable if collects else gc.disable)()
    try:
        with pytest.raises(ImportError, match="keras"):
            backend._import_tensorflow()
        assert gc.isenabled() == collects
    finally:
        (gc.enable if was else gc.disable)()
    assert seen == [("keras", False, program, json)]
    assert "colorsys" not in sys.modules


def test_a_stage_starts_without_the_optional_libraries_of_keras_and_can_load_them_later():
    """In a process of its own, in which nothing was loaded before."""
    code = """
import sys
from reprocnn.core import startup

def main():
    from reprocnn import backend
    import reprocnn.training.loop
    print(*(name for name in backend.OPTIONAL if name in sys.modules))
    import matplotlib, pandas, scipy, sklearn
    print("loaded")

startup.run(main)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\nloaded\n"


def test_the_record_of_a_machine(monkeypatch):
    for name in backend.recorded_environment():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    found = backend.record(backend.Device("cpu", "A", 2, "float32", "avx2", 3))
    assert found["device"] == {
        "kind": "cpu", "name": "A", "threads": 2, "precision": "float32", "instructions": "avx2", "count": 3,
    }  # fmt: skip
    assert found["settings"] == {
        "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "ONEDNN_MAX_CPU_ISA": "AVX2", "TF_ENABLE_ONEDNN_OPTS": "0",
    }  # fmt: skip
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    versions = {name: importlib.import_module(name).__version__ for name in ("h5py", "keras", "numpy", "tensorflow")}
    assert found["versions"] == versions
    peak, resident = found["peak_memory_bytes"], psutil.Process().memory_info().rss
    assert isinstance(peak, int)
    assert resident * 0.9 < peak < max(resident * 8, 2**34)
    monkeypatch.setattr(backend.resource, "getrusage", lambda _: SimpleNamespace(ru_maxrss=3))
    again = backend.record(backend.Device("cpu", "A", 2))
    assert again["peak_memory_bytes"] == (3 if sys.platform == "darwin" else 3072)  # Linux counts KiB


def test_a_gpu_that_is_not_there(cpuinfo):
    with pytest.raises(UserError, match="device: found gpu, but TensorFlow sees no GPU"):
        backend.configure_device("gpu", 0)


def test_several_gpus_compute_with_determinism_too(gpus):
    calls = gpus(8, 0)
    backend.configure_device("gpu", 4, devices=2)
    assert calls == [(["GPU 0", "GPU 1"], "GPU"), "determinism"]


def test_the_level_of_messages_that_a_person_sets_stays(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    backend._import_tensorflow()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"
