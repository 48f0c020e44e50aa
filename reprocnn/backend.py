"""Keras and TensorFlow, where they compute, and what of the environment they see.

Import both from here: it is the only module that loads them.
"""

import gc
import importlib
import os
import platform
import resource
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from reprocnn.core import startup
from reprocnn.core.errors import UserError

# Environment variables that these libraries read while they are loaded. Each is set, dropped or recorded.
# Set: TensorFlow; a home below which there is no keras.json with another float type or image format; an allocator
# that keeps the memory of a step for the next, since Linux takes long to clear new gigabytes in each.
SET = {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": os.devnull, "TF_CPU_ALLOCATOR_USE_BFC": "true"}
# Set unless the user has: oneDNN's kernels also on processors without AVX-512, where TensorFlow takes Eigen's.
DEFAULTS = {"TF_ENABLE_ONEDNN_OPTS": "1"}
# Dropped: whatever begins like this, but for the next three. NumPy's BLAS has its thread counts and kernels here.
PREFIXES = (
    "KERAS_", "TF_", "XLA_", "ONEDNN_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_OVERRIDE",
    "OMP_", "MKL_", "OPENBLAS_", "GOTO_", "BLIS_", "NPY_",
)  # fmt: skip
# Kept: messages and memory, which change no bit.
HARMLESS = ("TF_CPP_", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR", "ONEDNN_VERBOSE")
# Kept: Terraform's, which have TensorFlow's prefix.
FOREIGN = ("TF_CLI_", "TF_VAR_", "TF_TOKEN_", "TF_LOG", "TF_INPUT", "TF_IN_AUTOMATION", "TF_WORKSPACE", "TF_DATA_DIR")
# Kept and recorded with the model: what a person may need though it may change bits.
RECORDED = ("ONEDNN_", "TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_OVERRIDE")

# Libraries that Keras and TensorFlow load where they are installed, for features that no stage or command uses.
OPTIONAL = ("jax", "matplotlib", "pandas", "scipy", "sklearn")


def fix_environment() -> None:
    """Set and drop variables of this process, and name the dropped ones on stderr."""
    for name in [name for name in os.environ if name.startswith("DNNL_")]:  # the old name of ONEDNN_, which goes first
        os.environ.setdefault(f"ONEDNN_{name.removeprefix('DNNL_')}", os.environ.pop(name))
    kept = (*SET, *HARMLESS, *FOREIGN, *RECORDED)
    dropped = sorted(name for name in os.environ if name.startswith(PREFIXES) and not name.startswith(kept))
    if dropped:
        for name in dropped:
            del os.environ[name]
        names = ", ".join(dropped)  # without their values, which may be secrets of another program
        print(f"ignored, since params.yaml alone drives the results: {names}", file=sys.stderr, flush=True)
    os.environ |= DEFAULTS | os.environ | SET


def recorded_environment() -> dict[str, str]:
    """Return the variables with which other bits may come out, by name."""
    names = sorted(name for name in os.environ if name.startswith(RECORDED) and not name.startswith(HARMLESS))
    return {name: os.environ[name] for name in names if os.environ[name] != DEFAULTS.get(name)}


def _import_tensorflow() -> Any:
    """Import TensorFlow and Keras without `OPTIONAL`, and without what their libraries write to stderr meanwhile.

    Give None where Keras is loaded already with another backend, which then stands.
    """
    if "keras" in sys.modules and sys.modules["keras"].backend.backend() != "tensorflow":
        return None
    hidden: list[str] = []
    if startup.is_program():  # else the process is another program's, which may want what its user has set
        fix_environment()
        hidden = [name for name in OPTIONAL if name not in sys.modules]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    collects = gc.isenabled()
    gc.disable()  # a tenth of the seconds: the modules stay anyway
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # import then says that it is not installed
    try:
        importlib.import_module("keras")
        return importlib.import_module("tensorflow")
    finally:
        for name in hidden:
            del sys.modules[name]
        if collects:
            gc.enable()
        os.dup2(stderr, 2)
        os.close(stderr)


tf = _import_tensorflow()

import keras  # noqa: E402  # after TensorFlow, which then is quiet
from keras import layers, ops  # noqa: E402

__all__ = ["Device", "configure_device", "keras", "layers", "ops", "record", "tf"]

# The instruction sets for which oneDNN has kernels of their own, the widest first; the first two compute in bfloat16.
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
# How many of them a value of ONEDNN_MAX_CPU_ISA rules out (oneDNN's documentation, "CPU Dispatcher Control").
CAPS = {"SSE41": 4, "AVX": 4, "AVX2": 3, "AVX2_VNNI": 3, "AVX2_VNNI_2": 3, "AVX512_CORE": 2, "AVX512_CORE_VNNI": 2} | {
    "AVX512_CORE_BF16": 1,
    "AVX512_CORE_FP16": 1,
}


@dataclass(frozen=True)
class Device:
    """What computes a training; any other value of a field gives other bits."""

    kind: str  # cpu or gpu
    name: str
    threads: int  # of one operation
    precision: str = "float32"  # of the convolutions, a Keras dtype policy
    instructions: str = ""  # the widest instruction set that oneDNN may use
    count: int = 1  # devices that share each batch

    def __str__(self) -> str:
        several = f"{self.count} x " if self.count > 1 else ""
        return f"{several}{self.kind}, {self.name}, {self.threads} threads, {self.precision}"

    def strategy(self) -> Any:
        """Return the tf.distribute strategy in whose scope to compile and train; for one device the default."""
        if self.count == 1:
            return tf.distribute.get_strategy()
        return tf.distribute.MirroredStrategy([f"{self.kind.upper()}:{index}" for index in range(self.count)])


def configure_device(kind: str, threads: int, precision: str = "float32", devices: int = 1) -> Device:
    """Fix the device (`auto` takes a GPU if there is one) and the threads (0: all cores) of this process.

    `precision` is passed on to the networks; `auto` means mixed_bfloat16 where the device computes in bfloat16. Without
    GPUs, each of several `devices` is the processor again: slower, for rehearsal. Raises UserError for a missing GPU.
    """
    gpus = tf.config.list_physical_devices("GPU") if kind != "cpu" else []
    if kind == "gpu" and not gpus:
        raise UserError(
            "params.yaml: device: found gpu, but TensorFlow sees no GPU here; "
            "set auto or cpu, or install its CUDA libraries with `make repro GPU=1`"
        )
    if gpus and len(gpus) < devices:
        raise UserError(
            f"params.yaml: devices: found {devices}, but TensorFlow sees {len(gpus)} GPUs here; set at most that many"
        )
    tf.config.set_visible_devices(gpus[:devices], "GPU")
    if devices > 1 and not gpus:
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * devices)
    threads = threads or _cores()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    if gpus:
        # On a CPU these networks give the same bits without it; on a GPU they do not.
        tf.config.experimental.enable_op_determinism()
    flags = _cpuinfo("flags").split()
    allowed = INSTRUCTIONS[CAPS.get(os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper(), 0) :]
    instructions = next((name for name in allowed if name in flags), "")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    if precision == "auto":
        fast = details.get("compute_capability", (0, 0)) >= (8, 0) if gpus else instructions in INSTRUCTIONS[:2]
        precision = "mixed_bfloat16" if fast else "float32"
    name = details.get("device_name", "GPU") if gpus else _cpuinfo("model name") or platform.machine()
    return Device("gpu" if gpus else "cpu", name, threads, precision, instructions, devices)


def record(device: Device) -> dict[str, object]:
    """Describe the machine for runs/STAGE.json, with the process's peak memory so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {
        "device": asdict(device),
        "settings": recorded_environment(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("h5py", "keras", "numpy", "tensorflow")},
        "peak_memory_bytes": peak,
    }


def _cores() -> int:
    """Count the cores that this process may use, where the system says (Linux), else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpuinfo(key: str) -> str:
    """Look up what Linux reports of the first processor; empty elsewhere."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.partition(":")[2].strip() for line in file if line.partition("\t")[0] == key)
    except (OSError, StopIteration):
        return ""
