"""Measure what single changes to the CIFAR-10 recipe give: accuracy on the validation images, and operations.

Each is trained in a copy of the repository whose params or code it changes: at half the width and for eight epochs on
70 % of the training images, unless its name says otherwise. Add a row to benchmarks/results/levers.csv as soon as it is
known, so that an interrupted run resumes. Rows of other training code are measured again. Test images are not used.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.run import command, results
from benchmarks.run.copies import copy_with_data
from benchmarks.run.digests import current_digest
from benchmarks.run.seeds import total_flops
from reprocnn.core import params
from reprocnn.core.errors import UserError
from reprocnn.core.files import read_json, write_json, write_text
from reprocnn.repository import dvc

TABLE, MEASURED = results.FOLDER / "levers.csv", Path("runs/lever.json")
BUILD, WHITENING = "reprocnn/networks/build.py", "reprocnn/networks/whitening.py"
LOOP, MUON = "reprocnn/training/loop.py", "reprocnn/training/muon.py"
SCHEDULE = "reprocnn/training/schedule.py"
# Code to change: file, text that occurs once, what replaces it.
NO_BIAS = ((WHITENING, "    layer.kernel.trainable = False", "    layer.trainable = False"),)
# As PyTorch does: within 1 / sqrt(12), of the twelve values in a patch.
STARTS_RANDOM = 'name="whitening", bias_initializer=keras.initializers.RandomUniform(-0.289, 0.289))'
RANDOM_BIAS = ((BUILD, 'name="whitening")', STARTS_RANDOM),)
PYTORCH_SCALE = ((BUILD, '"he_uniform"', 'keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")'),)
SILU = ((BUILD, 'x = layers.Activation("gelu")(x)', 'x = layers.Activation("silu")(x)'),)
# As long a memory in images as airbench's, whose batches have 2,000: 0.6 and 0.85 to the power of 875 / 2,000.
MOMENTA = (
    (MUON, "    momentum: float = 0.6", "    momentum: float = 0.8"),
    (MUON, "sgd_momentum: float = 0.85", "sgd_momentum: float = 0.93"),
)
STATISTICS = ((BUILD, "BatchNormalization(momentum=0.6,", "BatchNormalization(momentum=0.8,"),)
# Of each image, in shares of a standard deviation of all pixels (63) and around their mean (121).
RESIZE = "    size = image_size(data.x.shape[1:3]"
JITTER = """\
    bright, contrast = rng.uniform(-1, 1, (2, len(x), 1, 1, 1)).astype("float32")
    x = np.clip((x - np.float32(121) + 0.14 * 63 * bright) * (1 + 0.13 * contrast) + 121, 0, 255).astype("uint8")
"""
# Every five steps, go back towards the average so far: airbench before Muon (arXiv 2404.00498, section 3.4).
LOOKAHEAD = """\
def after_step(model: Any, step: int, steps: int) -> None:
    if step % 5 == 0 or step == steps:
        now = model.get_weights()
        kept = 1.0 if step == steps else 0.95**5 * (step / steps) ** 3
        model.slow = [kept * a + (1 - kept) * b for a, b in zip(getattr(model, "slow", now), now)]
        model.set_weights(model.slow)


"""
# End with an average of the last steps, which the training itself does not see.
AVERAGE = """\
def after_step(model: Any, step: int, steps: int) -> None:
    if step > steps // 2:
        now = model.get_weights()
        model.slow = [0.95 * a + 0.05 * b for a, b in zip(getattr(model, "slow", now), now)]
    if step == steps:
        model.set_weights(model.slow)


"""
CALLBACKS = "callbacks=[watch, *callbacks]"
STEPS = "epoch * training.steps + batch + 1, recipe.epochs * training.steps"
STEP = f"lambda batch, logs: after_step(model, {STEPS})"
POOLED = "x = layers.MaxPooling2D(2, dtype=precision)(x) if index == 0 else x"
POOLED_EARLIER = (
    (BUILD, "for factor in (1, 4, 4):", "for factor, pooled in ((1, (0, 1)), (4, ()), (4, (0,))):"),
    (BUILD, POOLED, POOLED.replace("index == 0", "index in pooled")),
)
# Random parts of the image, as they move within a margin of 2 pixels; validation sees all of it.
CROPS = (
    (SCHEDULE, "    share = min(1,", "    full = tuple(side - 4 for side in full)\n    share = min(1,"),
    (LOOP, "return shrink(x, size", "return shrink(x[:, 2:-2, 2:-2], size"),
)
ACTIVATION = '            x = layers.Activation("gelu")(x)\n'
RESIDUAL = (
    (BUILD, "            x = convolution(x)\n", "            before = x\n            x = convolution(x)\n"),
    (BUILD, ACTIVATION, ACTIVATION + "            x = layers.Add()([x, before]) if index else x\n"),
)
# arXiv 1709.01507, at the end of each group.
SQUEEZE = """\
            if index:
                share = layers.GlobalAveragePooling2D(keepdims=True)(x)
                share = layers.Conv2D(max(16, factor * filters // 8), 1, activation="relu")(share)
                share = layers.Conv2D(factor * filters, 1, activation="sigmoid")(share)
                x = layers.Multiply()([x, layers.Rescaling(2.0)(share)])
"""
MAXIMUM = "layers.GlobalMaxPooling2D()(x)"
MEAN_TOO = ((BUILD, MAXIMUM, f"layers.Concatenate()([{MAXIMUM}, layers.GlobalAveragePooling2D()(x)])"),)
STRIDED = (
    (BUILD, "Conv2D(2 * 4 * shape[-1], 2,", "Conv2D(2 * 16 * shape[-1], 4, strides=2,"),
    (BUILD, POOLED, POOLED.replace("index == 0", "index == 0 and factor > 1")),
)
# Twice, sort out the images that the network so far finds easiest, and show the others again in their place.
HARDEST = """\
    if epoch in (recipe.epochs // 2, recipe.epochs * 3 // 4):
        size = image_size(data.x.shape[1:3], recipe.first_size, epoch, recipe.epochs)
        right = (training.model.predict(batches(shrink(data.x, size, threads), 1000), verbose=0) * data.y).sum(axis=1)
        training.model.hardest = np.argsort(-right)[round((1 - SHARE) * len(right)) :]
    if epoch >= recipe.epochs // 2:
        hardest = [rng.permutation(training.model.hardest) for _ in range(2)]
        chosen = rng.permutation(np.concatenate(hardest)[: len(chosen)])
"""

# Show half of the images whose loss is below the mean, with twice the weight, in as many steps as before. The last
# epoch shows all (arXiv 2303.04947).
INFOBATCH = """\
    weights = np.ones(len(chosen), "float32")
    if 0 < epoch < recipe.epochs - 1:
        size = image_size(data.x.shape[1:3], recipe.first_size, epoch, recipe.epochs)
        right = (training.model.predict(batches(shrink(data.x, size, threads), 1000), verbose=0) * data.y).sum(axis=1)
        loss = -np.log(right + 1e-7)
        easy = loss < loss.mean()
        kept = [rng.permutation(np.flatnonzero(~easy | (rng.random(len(easy)) < 0.5))) for _ in range(2)]
        chosen = np.concatenate(kept)[: len(chosen)]
        weights = np.where(easy, 2, 1).astype("float32")[chosen]
        weights /= weights.mean()
    training.model.weights_of_images = weights
"""
BEFORE_AUGMENTATION = "    mirrored = flips("
IMAGES_WEIGHTED = (
    (LOOP, BEFORE_AUGMENTATION, INFOBATCH + BEFORE_AUGMENTATION),
    (LOOP, "batches((x, y), recipe.batch_size)", "batches((x, y, model.weights_of_images), recipe.batch_size)"),
)
# Other steps of Muon.
STEP_OF_KERNELS = "step = orthogonalize(gradient + self.momentum * average)"
NORM = "size = ops.sqrt(ops.sum(ops.square(variable)))"
NORMED = "normed = variable * (float(variable.shape[-1]) ** 0.5 / (size + 1e-7))"
FILTERS_NORMED = (
    (MUON, NORM, NORM.replace("(variable)", "(variable), axis=(0, 1, 2), keepdims=True")),
    (MUON, NORMED, "normed = variable / (size + 1e-7)"),
)
# Each position of a kernel is a matrix of its own; the step is as long as before.
POSITIONS = """\
def orthogonalize(kernel: Any, steps: int = 3) -> Any:
    rows, columns = kernel.shape[2:]
    turn = (0, 2, 1)
    x = ops.reshape(kernel, (-1, rows, columns))
    x = ops.transpose(x, turn) if rows > columns else x
    x = x / (ops.sqrt(ops.sum(ops.square(x), axis=(1, 2), keepdims=True)) + 1e-7)
    for _ in range(steps):
        gram = ops.matmul(x, ops.transpose(x, turn))
        x = A * x + ops.matmul(B * gram + C * ops.matmul(gram, gram), x)
    x = ops.transpose(x, turn) if rows > columns else x
    return ops.reshape(x, kernel.shape) * (columns / min(rows, columns) / kernel.shape[0] / kernel.shape[1]) ** 0.5


"""
ORTHOGONALIZE = "def orthogonalize(kernel: Any, steps: int = 3) -> Any:\n"
BY_POSITION = ((MUON, ORTHOGONALIZE, POSITIONS + ORTHOGONALIZE.replace("orthogonalize", "of_the_whole")),)
# Coefficients that come as close to 1 as three iterations can (arXiv 2505.16932).
POLAR_EXPRESS = (
    (
        MUON,
        "for _ in range(steps):",
        "for A, B, C in ((8.287212, -23.595887, 17.300387), (4.107059, -2.947850, 0.544843), "
        "(3.948691, -2.908902, 0.551819)):",
    ),
)
MOMENTUM = 'self.momenta = self.add_optimizer_variables(variables, "momentum")'
# Each filter's step divided by its mean size over the last steps, the kernel's as long as before (arXiv 2510.05491).
NORMUON = (
    (
        MUON,
        MOMENTUM,
        f"""{MOMENTUM}
        self.seconds = [self.add_variable((v.shape[-1],), name="second", initializer="zeros") for v in variables]""",
    ),
    (
        MUON,
        STEP_OF_KERNELS,
        f"""{STEP_OF_KERNELS}
            second = self.seconds[self._get_variable_index(variable)]
            mean = 0.9 * second + 0.1 * ops.mean(ops.square(step), axis=(0, 1, 2))
            self.assign(second, mean)
            length = ops.sqrt(ops.sum(ops.square(step)))
            step = step / (ops.sqrt(mean) + 1e-10)
            step = step * (length / ops.sqrt(ops.sum(ops.square(step))))""",
    ),
)
SHORTER = (
    (MUON, "    momentum: float = 0.6", "    momentum: float = 0.45"),
    (MUON, "sgd_momentum: float = 0.85", "sgd_momentum: float = 0.75"),
    (MUON, "440.0", "733.0"),  # as long steps as with 0.85
    (MUON, "0.085", "0.142"),
)
# A constant learning rate; gradients at nine tenths of the mean and a tenth of the last weights (arXiv 2405.15682).
SCHEDULE_FREE = (
    (
        MUON,
        MOMENTUM,
        f"""{MOMENTUM}
        self.last = self.add_optimizer_variables(variables, "last")
        self.mean = self.add_optimizer_variables(variables, "mean")""",
    ),
    (
        MUON,
        "        if len(variable.shape) == 4:\n",
        """\
        index, first, seen = self._get_variable_index(variable), ops.equal(self.iterations, 0), variable
        variable, mean = (ops.where(first, seen, kept[index]) for kept in (self.last, self.mean))
        if len(variable.shape) == 4:
""",
    ),
    (MUON, "self.assign(variable, normed - learning_rate * step)", "last = normed - learning_rate * step"),
    (MUON, "self.assign(variable, kept - rate * (gradient", "last = (kept - rate * (gradient"),
    (
        MUON,
        "        self.assign(momentum, average)",
        """\
        self.assign(momentum, average)
        mean = mean + (last - mean) * (6 / (ops.cast(self.iterations, "float32") + 6))  # of the last sixth or so
        self.assign(self.last[index], last)
        self.assign(self.mean[index], mean)
        self.assign(seen, 0.1 * last + 0.9 * mean)""",
    ),
)


def hardest(share: float) -> tuple[tuple[str, str, str], ...]:
    """Train on this share of the images in the second half of the epochs, which have as many images as before."""
    return ((LOOP, BEFORE_AUGMENTATION, HARDEST.replace("SHARE", repr(share)) + BEFORE_AUGMENTATION),)


def rates(share: float) -> tuple[tuple[str, str, str], ...]:
    """Lower the rates of biases and head to a share of airbench's, which are for batches of 2,000 images."""
    return (MUON, "440.0", repr(440 * share)), (MUON, "0.085", repr(0.085 * share))


def widths(*factors: tuple[int, int]) -> tuple[tuple[str, str, str], ...]:
    """Give each convolution of the groups its own multiple of `filters`."""
    return (
        (BUILD, "for factor in (1, 4, 4):", f"for factors in {factors}:"),
        (BUILD, "                factor * filters,\n", "                factors[index] * filters,\n"),
    )


def frozen(epochs: int) -> tuple[tuple[str, str, str], ...]:
    """Train neither the whitening's bias nor the first group in the last epochs; its outputs need no gradients then."""
    before = "    if recipe.first_size < 1:\n"
    code = f"""\
    for layer in model.layers[:10] if epoch >= recipe.epochs - {epochs} else ():
        for variable in layer.trainable_variables:
            variable.trainable = False
"""
    return ((LOOP, before, code + before),)


def after_step(code: str) -> tuple[tuple[str, str, str], ...]:
    """Call the function `after_step`, which `code` defines, after each step."""
    callback = f"keras.callbacks.LambdaCallback(on_train_batch_end={STEP})"
    return (LOOP, CALLBACKS, f"callbacks=[watch, {callback}]"), (LOOP, "def run_epoch(\n", code + "def run_epoch(\n")


class Lever(NamedTuple):
    """One change of the recipe."""

    params: dict[str, Any]  # of the section cifar
    code: tuple[tuple[str, str, str], ...] = ()  # file, text that occurs once, what replaces it


# Airbench's decay for batches of 2,000, relative to its rates; the momentum that it goes through multiplies it.
DECAY = 0.01667 / (1 - 0.85)
AIRBENCH = {"normalization": "standardize", "weight_decay": DECAY * 0.4375}
BATCHES = {"batch_size": 2000, "lr_factor": 24.0, "weight_decay": DECAY}  # airbench's
FULL = {"filters": 64, "epochs": 9}  # at full width, for what may help there alone
LEVERS = {
    "none": Lever({}),
    "bias not trained": Lever({}, NO_BIAS),
    "rates x 0.4375": Lever({}, rates(0.4375)),
    "filters at PyTorch's scale": Lever({}, PYTORCH_SCALE),
    "airbench's details": Lever(AIRBENCH, NO_BIAS + PYTORCH_SCALE + rates(0.4375)),
    "airbench's details, batches of 1,400": Lever(
        AIRBENCH | {"batch_size": 1400, "lr_factor": 24.0, "weight_decay": DECAY * 0.7},
        NO_BIAS + PYTORCH_SCALE + rates(0.7),
    ),
    "weight_decay=0.06": Lever({"weight_decay": 0.06}),
    "batch_size=500 lr_factor=15": Lever({"batch_size": 500, "lr_factor": 15.0}),
    "label_smoothing=0.1": Lever({"label_smoothing": 0.1}),
    "lr_factor=24": Lever({"lr_factor": 24.0}),
    "first_size=0.5": Lever({"first_size": 0.5}),
    "first_size=1 epochs=6": Lever({"first_size": 1.0, "epochs": 6}),
    "momenta for batches of 875": Lever({}, MOMENTA),
    "batch norm's momentum 0.8": Lever({}, STATISTICS),
    "brightness and contrast": Lever({}, ((LOOP, RESIZE, JITTER + RESIZE),)),
    "whitening's bias starts random": Lever({}, RANDOM_BIAS),
    "frozen for 2 epochs": Lever({}, frozen(2)),
    "frozen for 4 epochs": Lever({}, frozen(4)),
    "trained on the hardest 70 %": Lever({}, hardest(0.7)),
    "trained on the hardest 85 %": Lever({}, hardest(0.85)),
    "InfoBatch": Lever({}, IMAGES_WEIGHTED),
    "warmup=0.1": Lever({"warmup": 0.1}),
    "Muon by position": Lever({}, BY_POSITION),
    "Muon with two iterations": Lever({}, ((MUON, "steps: int = 3", "steps: int = 2"),)),
    "Muon with Polar Express": Lever({}, POLAR_EXPRESS),
    "Muon without Nesterov": Lever({}, ((MUON, STEP_OF_KERNELS, "step = orthogonalize(average)"),)),
    "NorMuon": Lever({}, NORMUON),
    "each filter normalized": Lever({}, FILTERS_NORMED),
    "shorter momenta": Lever({}, SHORTER),
    "schedule-free": Lever({"lr_end": 1.0}, SCHEDULE_FREE),
    "schedule-free, lr_factor=5": Lever({"lr_end": 1.0, "lr_factor": 5.0}, SCHEDULE_FREE),
    "head's rate x 2": Lever({}, ((MUON, "0.085", "0.17"),)),
    "mean and maximum": Lever({}, MEAN_TOO),
    "residual": Lever({}, RESIDUAL),
    "squeeze and excitation": Lever({}, ((BUILD, ACTIVATION, ACTIVATION + SQUEEZE),)),
    "whitens 4x4 with stride 2": Lever({}, STRIDED),
    "crops of 28, first_size=0.7 epochs=9": Lever({"first_size": 0.7, "epochs": 9}, CROPS),
    "lookahead": Lever({}, after_step(LOOKAHEAD)),
    "weights averaged": Lever({}, after_step(AVERAGE)),
    "weights averaged, lr_end=0.2": Lever({"lr_end": 0.2}, after_step(AVERAGE)),
    "epochs=6": Lever({"epochs": 6}),
    "epochs=6, SiLU": Lever({"epochs": 6}, SILU),
    "filters=24 epochs=10": Lever({"filters": 24, "epochs": 10}),
    "filters=40 epochs=5": Lever({"filters": 40, "epochs": 5}),
    "depth=3 epochs=6": Lever({"depth": 3, "epochs": 6}),
    # Where the network spends its operations, all without that bias: a narrower second group, a wider third, pooling
    # earlier.
    "widths 1 1 2 4 4 4, filters=40 epochs=7": Lever(
        {"filters": 40, "epochs": 7}, NO_BIAS + widths((1, 1), (2, 4), (4, 4))
    ),
    "widths 1 1 2 4 8 8, epochs=7": Lever({"epochs": 7}, NO_BIAS + widths((1, 1), (2, 4), (8, 8))),
    "pooled earlier, filters=36": Lever({"filters": 36}, NO_BIAS + POOLED_EARLIER),
    "filters=64 epochs=9": Lever(FULL),
    "filters=64 epochs=9 weight_decay=0.06": Lever(FULL | {"weight_decay": 0.06}),
    "filters=64 epochs=9, decay 0.06, rate 14": Lever(FULL | {"weight_decay": 0.06, "lr_factor": 14.0}),
    "filters=64 epochs=9, decay 0.06, frozen": Lever(FULL | {"weight_decay": 0.06}, frozen(3)),
    "filters=64 epochs=9, decay 0.06, mean": Lever(FULL | {"weight_decay": 0.06}, MEAN_TOO),
    "filters=64 epochs=9 weight_decay=0.12": Lever(FULL | {"weight_decay": 0.12}),
    "filters=64 epochs=10 weight_decay=0.06": Lever(FULL | {"epochs": 10, "weight_decay": 0.06}),
    "filters=64 epochs=9, airbench's details": Lever(FULL | AIRBENCH, NO_BIAS + PYTORCH_SCALE + rates(0.4375)),
    "filters=64 epochs=9, all of airbench": Lever(FULL | AIRBENCH | BATCHES, NO_BIAS + PYTORCH_SCALE),
    "filters=48 epochs=16 weight_decay=0.06": Lever({"filters": 48, "epochs": 16, "weight_decay": 0.06}),
    "filters=80 epochs=6 weight_decay=0.06": Lever({"filters": 80, "epochs": 6, "weight_decay": 0.06}),
}


def main(arguments: list[str]) -> None:
    """Train what the table lacks, or with --here this folder's recipe."""
    parser = command.parser("levers", __doc__)
    parser.add_argument("n", metavar="N", nargs="?", type=int, default=1, help="seeds of each change (1)")
    parser.add_argument("--here", action="store_true", help="train the recipe of this folder; for the command itself")
    options = parser.parse_args(arguments)
    if options.here:
        measure()
        return
    training = current_digest("cifar")
    known = results.known(TABLE, "change", "seed", "training")
    for seed in range(options.n):
        for change, lever in LEVERS.items():
            if (change, str(seed), training) not in known:
                row = {"change": change, "seed": seed, **train(lever, seed), "date": results.today()}
                results.add(TABLE, [row | {"training": training}], keys=("change", "seed"), order=_order)


def train(lever: Lever, seed: int) -> dict[str, Any]:
    """Train with the change in a copy of the repository; give what `measure` wrote there."""
    values = {"filters": 32, "epochs": 8} | lever.params
    with copy_with_data({"seed": seed} | {f"cifar.{key}": value for key, value in values.items()}) as copy:
        for name, old, new in lever.code:
            text = (copy / name).read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise UserError(f"{name}: expected {old!r} once, found it {text.count(old)} times; correct LEVERS")
            write_text(copy / name, text.replace(old, new))
        dvc("repro", "prepare", cwd=copy)
        subprocess.run([sys.executable, "-m", "benchmarks", "levers", "--here"], cwd=copy, check=True)
        measured: dict[str, Any] = read_json(copy / MEASURED)
        return measured


def measure() -> None:
    """Train this folder's recipe of CIFAR-10 and judge it on the validation images, without and with TTA."""
    from reprocnn.backend import configure_device
    from reprocnn.evaluation import model_files, tta
    from reprocnn.images import arrays
    from reprocnn.training.loop import train

    run, recipe = params.read(params.Run), params.read(params.Recipe, "cifar")
    device = configure_device(run.device, run.threads, run.precision, run.devices)
    train("cifar", recipe, run.lr * recipe.lr_factor, run.seed, device)
    training = read_json(Path("runs/train_cifar.json"))
    val, model = arrays.load(Path("data/prepared/cifar/val")), model_files.load(Path("models/cifar"))
    plain = tta.predict(model, val.x)
    averaged = tta.predict_tta(model, val.x, recipe.flip, plain=plain)
    right = [float((views.argmax(axis=1) == val.y.argmax(axis=1)).mean()) for views in (plain, averaged)]
    write_json(
        MEASURED,
        {
            "val_accuracy": right[0],
            "val_accuracy_tta": right[1],
            "tflop": round(total_flops(Path(), "cifar") / 1e12, 2),
            "parameters": model.count_params(),
            "hardware": results.trained_on(training),
        },
    )


def _order(row: dict[str, str]) -> tuple[int, int]:
    names = [*LEVERS, row["change"]]  # a change that is no longer listed comes last
    return names.index(row["change"]), int(row["seed"])
