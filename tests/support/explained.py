"""A recipe and the layers of a network, as the report explains them."""

from reprocnn.core.params import Recipe

RECIPE = Recipe(
    val_fraction=0.1, split_seed=0, normalization="standardize", train_on="train", network="mnist_cnn", filters=16,
    depth=2, kernel_size=3, epochs=18, batch_size=256, optimizer="adam", lr_factor=1.0, warmup=0.2,
    lr_end=0.0, dropout=0.2, weight_decay=0.0, label_smoothing=0.0, shift=2, rotation=15.0, zoom=0.15, shear=0.2,
    elastic=0.7, fill_mode="constant", flip=False, first_size=1.0,
)  # fmt: skip


def layer(kind: str, shape: list[int], detail: str = "", name: str = "") -> dict[str, object]:
    return {"kind": kind, "name": name, "shape": shape, "detail": detail, "parameters": 0, "flops": 0, "inputs": []}


LAYERS = [
    layer("InputLayer", [28, 28, 1]),
    layer("Rescaling", [28, 28, 1]),
    layer("Cropping2D", [28, 28, 1], "1"),
    layer("Conv2D", [14, 14, 16], "5×5, stride 2"),
    layer("BatchNormalization", [14, 14, 16]),
    layer("ReLU", [14, 14, 16]),
    layer("Conv2D", [14, 14, 32], "3×3"),
    layer("MaxPooling2D", [7, 7, 32], "2×2"),
    layer("Conv2D", [7, 7, 64], "3×3"),
    layer("Flatten", [576]),
    layer("Dropout", [576], "0.2"),
    layer("Dense", [10], "softmax"),
]
