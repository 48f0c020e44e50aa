"""What the machine is taken to be, from what it says of itself."""

import builtins
import io

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
        ("AVX512_CORE", "float32", "avx512f"),
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


def test_a_gpu_that_is_not_there(cpuinfo):
    with pytest.raises(UserError, match="device: found gpu, but TensorFlow sees no GPU"):
        backend.configure_device("gpu", 0)
