"""The pipeline's stages; started by an interpreter that cannot run them, each says so in a line."""

# Kept to syntax that old interpreters parse, so that they reach the message.
import importlib.util
import os
import sys

# Both are read when TensorFlow and Keras are imported. A jax in ~/.keras/keras.json would give other bits.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Who started this process, taken before the slow imports: a training stops when that one is gone.
PARENT = os.getppid()

_NEEDED = "h5py jsonschema keras matplotlib numpy pandas psutil requests scipy sklearn tabulate tqdm yaml".split()

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        "error: this is Python %d.%d (%s), expected 3.11 to 3.13; run `make repro PYTHON=python3.13`, or activate"
        " an environment of such a Python" % (sys.version_info[0], sys.version_info[1], sys.executable)
    )
_missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
if _missing:
    sys.exit(
        "error: %s lacks %s; run `. .venv/bin/activate` if you have made it with make, else `pip install -e .`"
        % (sys.executable, ", ".join(_missing))
    )

import psutil  # noqa: E402

# dvc runs a stage in a shell. Some shells put the stage in their own place; others (dash) wait for it, and stay when
# dvc is killed: then it is their parent that is gone.
GRANDPARENT = None
try:
    _parent = psutil.Process(PARENT)
    if _parent.name() in ("sh", "bash", "dash", "fish", "ksh", "zsh"):
        GRANDPARENT = _parent.ppid()
except psutil.Error:
    pass  # gone already, or not ours to look at
