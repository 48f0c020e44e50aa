"""The Keras programs of BenchDL4Real, rebuilt: a model with and without its fault, and rows of made-up data.

BenchDL4Real is in `dlfaults/HowRealAreThey` (Jahangirova et al., arXiv 2412.16336). Layers and compilation are as
there; images and volumes are smaller, and data is made up where the program reads a file. Left out are programs whose
fault is neither in the model nor in what `fit` gets.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from reprocnn.audit.api import audit
from reprocnn.backend import keras, layers
from reprocnn.core.errors import UserError

RNG = np.random.default_rng(0)
N = 64
Built = tuple[keras.Model, Any, Any]
PROGRAMS: dict[str, tuple[str, Callable[[bool], Built]]] = {}
# Keras refuses to build the first kind, and the fault of the second is in a call of predict.
REFUSED = ("38656566", "40331510", "42532386", "44472693", "50364194", "59840678", "60711423", "61550026")
PREDICTED = ("45499757", "49442963", "50336110", "52210472", "60127320")


def program(name: str, fault: str) -> Callable[[Callable[[bool], Built]], Callable[[bool], Built]]:
    """Register a program under its number at Stack Overflow, or in Defects4ML."""

    def add(build: Callable[[bool], Built]) -> Callable[[bool], Built]:
        PROGRAMS[name] = (fault, build)
        return build

    return add


def compiled(
    shape: tuple[int, ...], *stack: Any, loss: str = "categorical_crossentropy", optimizer: Any = "adam"
) -> Any:
    """Build and compile a sequential model."""
    model = keras.Sequential([keras.Input(shape), *stack])
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def numbers(classes: int, *shape: int) -> np.ndarray:
    """Make class numbers, every class among them."""
    return np.resize(np.arange(classes), (N, *shape))


def rows(classes: int, *shape: int) -> np.ndarray:
    """Make one-hot labels."""
    return np.eye(classes)[numbers(classes, *shape)]


def uniform(*shape: int) -> np.ndarray:
    """Make values between 0 and 1."""
    return RNG.random((N, *shape)).astype("float32")


def relu(*units: int) -> list[Any]:
    """Make Dense layers."""
    return [layers.Dense(one, activation="relu") for one in units]


def softmax(units: int) -> Any:
    """Make an output."""
    return layers.Dense(units, activation="softmax")


def conv(filters: int, size: int = 3, **options: Any) -> Any:
    """Make a convolution with relu."""
    return layers.Conv2D(filters, size, activation="relu", **options)


def pool() -> Any:
    """Make a pooling."""
    return layers.MaxPooling2D()


def labels(faulty: bool, classes: int) -> np.ndarray:
    """Make class numbers for the faulty program, one-hot labels for the other."""
    return numbers(classes) if faulty else rows(classes)


def flat(faulty: bool) -> list[Any]:
    """Leave Flatten out of the faulty program."""
    return [] if faulty else [layers.Flatten()]


@program("38584268", "no Flatten")
def _(faulty: bool) -> Built:
    stack = [conv(15, 7), pool(), conv(250, 5), *flat(faulty), layers.Dense(50)]
    return compiled((24, 24, 3), *stack), uniform(24, 24, 3), rows(50)


@program("46501505", "class numbers")
def _(faulty: bool) -> Built:
    stack = [conv(32, padding="same"), conv(64), pool(), layers.Flatten(), *relu(128), layers.Dropout(0.1), *relu(64)]
    model = compiled(
        (40, 24, 1), *stack, layers.Dropout(0.1), *relu(16), softmax(2), optimizer=keras.optimizers.SGD(0.01)
    )
    return model, uniform(40, 24, 1), labels(faulty, 2)


@program("46858890", "shape of x")
def _(faulty: bool) -> Built:
    x = np.arange(1.0, N + 1)[:, None] / 10
    return compiled((5 if faulty else 1,), layers.Dense(1), loss="mse", optimizer="rmsprop"), x, x


@program("49392972", "class numbers")
def _(faulty: bool) -> Built:
    stack = []
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        stack += [*(conv(filters // 8, padding="same") for _ in range(count)), pool()]
    model = compiled((64, 64, 3), *stack, layers.Flatten(), *relu(256, 256), softmax(3), optimizer="rmsprop")
    return model, uniform(64, 64, 3), labels(faulty, 3)


@program("51755160", "shape of y")
def _(faulty: bool) -> Built:
    model = compiled((1,), *relu(64, 32), layers.Dense(2, activation="sigmoid"), loss="binary_crossentropy",
                     optimizer="rmsprop")  # fmt: skip
    return model, uniform(1), labels(faulty, 2)


@program("51802524", "number of outputs")
def _(faulty: bool) -> Built:
    return compiled((4,), *relu(8), softmax(3 if faulty else 4)), uniform(4), rows(4)


@program("55093959", "class numbers")
def _(faulty: bool) -> Built:
    return compiled((8,), *relu(8, 128, 256, 512), softmax(14)), uniform(8), labels(faulty, 14)


@program("56190344", "shape of y")
def _(faulty: bool) -> Built:
    stack = [layers.Conv1D(64, 3, activation="relu"), layers.Conv1D(64, 3, activation="relu"), layers.Dropout(0.5)]
    stack += [layers.MaxPooling1D(), layers.Flatten(), *relu(100), softmax(8)]
    y = rows(8, 50)
    return compiled((50, 20), *stack), uniform(50, 20), y if faulty else y[:, -1]


@program("56479008", "class numbers")
def _(faulty: bool) -> Built:
    stack = []
    for filters in (64, 128, 256):
        stack += [conv(filters, 4, padding="same"), conv(filters, 4, strides=2, padding="same"), layers.Dropout(0.2)]
    model = compiled((32, 32, 1), *stack[:-1], layers.Flatten(), layers.Dropout(0.3), *relu(512), softmax(24))
    return model, uniform(32, 32, 1), labels(faulty, 24)


@program("58277932", "no Flatten")
def _(faulty: bool) -> Built:
    stack = [layers.Conv1D(1, 3, activation="relu"), *flat(faulty), layers.Dense(9), layers.Activation("softmax")]
    return compiled((150, 1), *stack), RNG.normal(size=(N, 150, 1)), rows(9)


@program("58398491", "one-hot labels")
def _(faulty: bool) -> Built:
    stack = [conv(32), pool(), conv(64), pool(), conv(128), pool(), layers.Flatten(), softmax(3)]
    y = rows(3) if faulty else numbers(3)
    return compiled((48, 48, 3), *stack, loss="sparse_categorical_crossentropy"), uniform(48, 48, 3), y


@program("59305008", "shape of x")
def _(faulty: bool) -> Built:
    return compiled((3 if faulty else 2,), *relu(10, 10), softmax(2)), RNG.normal(size=(N, 2)), rows(2)


@program("59619015", "output of one unit")
def _(faulty: bool) -> Built:
    stack = [conv(32), pool(), conv(64, 1), pool(), conv(128, 1), pool(), conv(256, 1), pool(), layers.Flatten()]
    stack += [*relu(256, 256), layers.Dropout(0.5)]
    last = [*relu(1), layers.Activation("softmax")] if faulty else [layers.Dense(2, activation="sigmoid")]
    return compiled((48, 48, 3), *stack, *last, loss="binary_crossentropy"), uniform(48, 48, 3), rows(2)


@program("60129234", "shape of y")
def _(faulty: bool) -> Built:
    stack = [layers.Conv3D(24, (7, 6, 6), strides=2, padding="same", activation="relu"), layers.MaxPooling3D(3, 2)]
    stack += [layers.Conv3D(24, 2, activation="relu"), layers.Dropout(0.1), layers.Flatten(), softmax(3)]
    return compiled((20, 24, 24, 1), *stack), uniform(20, 24, 24, 1), rows(3)[:, None] if faulty else rows(3)


@program("60226423", "shape of x")
def _(faulty: bool) -> Built:
    model = compiled((N if faulty else 10,), *relu(100, 500), softmax(2), loss="sparse_categorical_crossentropy")
    return model, uniform(10), numbers(2)


@program("60297871", "shape of x")
def _(faulty: bool) -> Built:
    start = {"kernel_initializer": "random_uniform", "activation": "relu"}
    stack = [layers.Dense(6, **start), layers.Dense(6, **start), layers.Dense(1, activation="sigmoid")]
    return compiled((11 if faulty else 1693,), *stack, loss="binary_crossentropy"), uniform(1693), numbers(2)


@program("62148508", "class numbers")
def _(faulty: bool) -> Built:
    stack = []
    for filters in (64, 128, 256):
        stack += [layers.Conv2D(filters, 5, padding="same"), layers.Conv2D(filters, 5), layers.BatchNormalization()]
        stack += [layers.MaxPooling2D(), layers.Activation("relu")]
    stack += [layers.Flatten(), layers.Dense(128), layers.BatchNormalization(), layers.Activation("relu")]
    return compiled((48, 48, 1), *stack, layers.Dropout(0.25), softmax(7)), uniform(48, 48, 1), labels(faulty, 7)


@program("62299824", "no Flatten")
def _(faulty: bool) -> Built:
    stack = [conv(32, 2), pool(), conv(32, 2), pool(), *flat(faulty), *relu(128), softmax(2)]
    return compiled((64, 64, 3), *stack), uniform(64, 64, 3), rows(2)


@program("62300118", "no Flatten")
def _(faulty: bool) -> Built:
    stack = [layers.Conv1D(512, 3), *flat(faulty), *relu(256), layers.Dropout(0.2), softmax(23)]
    return compiled((82, 1), *stack), uniform(82, 1), rows(23)


@program("62449191", "class numbers")
def _(faulty: bool) -> Built:
    x = np.round(255 * uniform(28, 28))
    return compiled((28, 28), layers.Flatten(), *relu(512), softmax(10), optimizer="rmsprop"), x, labels(faulty, 10)


@program("62643682", "number of outputs")
def _(faulty: bool) -> Built:
    stack = []
    for filters in (16, 16, 32):
        stack += [layers.Conv2D(filters, 3), layers.LeakyReLU(0.1), pool()]
    model = compiled((29, 29, 1), *stack, layers.Flatten(), *relu(64, 64), softmax(4 if faulty else 2))
    return model, uniform(29, 29, 1), rows(2)


@program("63205737", "shape of x")
def _(faulty: bool) -> Built:
    stack = [*relu(5), layers.Dense(1, activation="sigmoid")]
    return compiled((1 if faulty else 5000,), *stack, loss="binary_crossentropy"), uniform(5000), numbers(2)


@program("63279168", "shape of x")
def _(faulty: bool) -> Built:
    stack = [conv(16), pool(), conv(32), pool(), layers.Flatten(), *relu(64), softmax(10)]
    model = keras.Sequential(stack)
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    x = np.round(255 * uniform(28, 28))
    return model, x if faulty else x[..., None], rows(10)


@program("63732431", "shape of x")
def _(faulty: bool) -> Built:
    stack = []
    for filters, size in ((64, 3), (128, 5), (512, 3), (512, 3)):
        stack += [layers.Conv2D(filters // 8, size, padding="same"), layers.BatchNormalization()]
        stack += [layers.Activation("relu"), pool(), layers.Dropout(0.5)]
    inner = keras.Sequential([keras.Input((48, 48, 1)), *stack, layers.Flatten()])
    last = [layers.LSTM(2), layers.Dropout(0.2), layers.Dense(1, activation="sigmoid")]
    model = compiled((1, 48, 48, 1), layers.TimeDistributed(inner), *last, loss="binary_crossentropy")
    x = uniform(48, 48, 1)
    return model, x if faulty else x[:, None], numbers(2)


@program("63859629", "number of outputs")
def _(faulty: bool) -> Built:
    words = RNG.integers(0, 10, (N + 1, 6))
    stack = [layers.Embedding(64, 32), layers.GRU(128, return_sequences=True), layers.SimpleRNN(32)]
    return compiled((6,), *stack, softmax(100 if faulty else 6)), words[:-1], words[1:]


@program("56912176", "no Flatten")
def _(faulty: bool) -> Built:
    stack = [conv(64), pool(), conv(64), pool(), *flat(faulty), *relu(64), softmax(10)]
    return compiled((32, 32, 3), *stack), uniform(32, 32, 3), rows(10)


@program("48221692", "output activation")
def _(faulty: bool) -> Built:
    x = np.linspace(0, 1, N)[:, None]
    stack = [layers.Dense(5, activation="sigmoid"), layers.Dense(1, activation="sigmoid" if faulty else None)]
    return compiled((1,), *stack, loss="mse", optimizer="sgd"), x, 40 + 60 * x[:, 0]


@program("50079585", "two classes for three")
def _(faulty: bool) -> Built:
    stack = [conv(32), pool(), conv(32), pool(), conv(64), pool(), layers.Flatten(), *relu(64), layers.Dropout(0.5)]
    stack += [layers.Dense(1, activation="sigmoid") if faulty else softmax(3)]
    loss = "binary_crossentropy" if faulty else "categorical_crossentropy"
    model = compiled((64, 64, 3), *stack, loss=loss, optimizer="rmsprop")
    return model, uniform(64, 64, 3), labels(faulty, 3)


@program("024", "activation, learning rate")
def _(faulty: bool) -> Built:
    stack = [layers.Dense(50), layers.Dense(100), layers.Dense(30)] if faulty else [*relu(100), layers.Dense(30)]
    optimizer = keras.optimizers.Adam(0.1) if faulty else keras.optimizers.SGD(0.01, momentum=0.9, clipnorm=1.0)
    model = keras.Sequential([keras.Input((9216,)), *stack])
    model.compile(optimizer, "mse")
    return model, uniform(9216), RNG.uniform(-1, 1, (N, 30))


@program("027", "number of layers")
def _(faulty: bool) -> Built:
    units = (12, 8) if faulty else (12, 16, 24, 8)
    x = uniform(8) * np.array([6, 120, 70, 20, 80, 32, 1, 33])
    return (
        compiled((8,), *relu(*units), layers.Dense(1, activation="sigmoid"), loss="binary_crossentropy"),
        x,
        numbers(2),
    )


def digits(faulty: bool, optimizer: str = "adam") -> Built:
    """036, 054 and 081: digits with the channel first, in a network that has it last."""
    stack = [conv(32), conv(32), pool(), layers.Dropout(0.25), layers.Flatten(), *relu(128), layers.Dropout(0.5)]
    shape = (1, 28, 28) if faulty else (28, 28, 1)
    if faulty:
        stack = [conv(32, padding="same"), *stack[3:]]  # Keras refuses a pooling of one row
    return compiled(shape, *stack, softmax(10), optimizer=optimizer), uniform(*shape), rows(10)


program("036", "channels first")(digits)
program("081", "channels first")(lambda faulty: digits(faulty, "adadelta"))


@program("099", "activation, size")
def _(faulty: bool) -> Built:
    stack = [*relu(4), layers.Dense(3, activation="sigmoid")] if faulty else [*relu(16, 32), softmax(3)]
    return compiled((4,), *stack), uniform(4) * np.array([8, 4, 7, 2.5]), rows(3)


def says(build: Callable[[bool], Built], faulty: bool) -> set[str]:
    """Return the codes of errors and warnings, or that the audit refuses x as no rows of the model's input."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    model, x, y = build(faulty)
    try:
        return {one.code for one in audit(model, x=x, y=y) if one.level != "note"}
    except UserError:
        return {"refuses x"}


def section() -> list[str]:
    """Write the score as lines of a page."""
    table, found = [], 0
    for name, (fault, build) in PROGRAMS.items():
        faulty, repaired = says(build, True), says(build, False)
        found += bool(faulty - repaired)
        listed = [", ".join(sorted(codes)) or "nothing" for codes in (faulty - repaired, faulty & repaired)]
        table.append(f"| {name} | {fault} | {' | '.join(listed)} |")
    return [
        "## BenchDL4Real",
        "",
        f"The {len(table)} Keras programs of BenchDL4Real (`dlfaults/HowRealAreThey`) whose fault is in the model or",
        "in what `fit` gets, rebuilt. A fault counts as found if the audit says something that it does not say",
        f"of the repaired program: {found} of {len(table)}. Most of them stop `fit` at once as well, with an error of",
        "TensorFlow's; the audit names the argument or the layer. The rules were finished after their author had",
        "read these programs, and the comparison of x with the inputs was added because of them. Numbers of eight",
        "digits are Stack Overflow questions, those of three are of Defects4ML.",
        "",
        f"Left out: {len(REFUSED)} that Keras refuses to build ({', '.join(REFUSED[:4])},",
        f"{', '.join(REFUSED[4:])}), {len(PREDICTED)} whose fault is in a call of `predict`",
        f"({', '.join(PREDICTED)}), 054 (the same as 036), 068, 073, 098 and 48385830",
        "(D1, 48221692, D9 and D4), 022, which was not rebuilt, and those that use TensorFlow without Keras.",
        "",
        "| program | fault | found | found in the repaired program too |",
        "|---|---|---|---|",
        *table,
        "",
    ]
