"""What a network's list of layers says, counted by hand."""

from reprocnn.backend import keras, layers
from reprocnn.evaluation.architecture import describe
from reprocnn.evaluation.flops import flops, training_flops


def branched() -> keras.Model:
    inputs = keras.Input((9, 7, 2), name="pixels")
    x = layers.Cropping2D(((0, 1), (2, 0)), name="crop")(inputs)  # (8, 5, 2)
    x = layers.Conv2D(6, (2, 3), strides=2, use_bias=False, activation="gelu", name="stem")(x)  # (4, 2, 6)
    same = layers.DepthwiseConv2D((3, 1), padding="same", depth_multiplier=1, name="depthwise")(x)
    x = layers.Add(name="sum")([x, same])
    x = layers.AveragePooling2D((2, 1), name="average")(x)  # (2, 2, 6)
    x = layers.Dense(5, name="each")(x)
    x = layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="head")(x))
    for name in ("stem", "average"):  # the latter has nothing to freeze
        model.get_layer(name).trainable = False
    return model


def test_layers_of_a_branched_network():
    rows = {row["name"]: row for row in describe(branched())}
    assert {name: row["inputs"] for name, row in rows.items()} == {
        "pixels": [], "crop": ["pixels"], "stem": ["crop"], "depthwise": ["stem"], "sum": ["stem", "depthwise"],
        "average": ["sum"], "each": ["average"], "mean": ["each"], "head": ["mean"],
    }  # fmt: skip
    assert {name: row["detail"] for name, row in rows.items()} == {
        "pixels": "", "crop": "0 1 2", "stem": "2×3, stride 2, gelu, frozen", "depthwise": "3×1", "sum": "",
        "average": "2×1", "each": "", "mean": "", "head": "softmax",
    }  # fmt: skip
    assert [row["shape"] for row in rows.values()] == [
        [9, 7, 2], [8, 5, 2], [4, 2, 6], [4, 2, 6], [4, 2, 6], [2, 2, 6], [2, 2, 5], [5], [3],
    ]  # fmt: skip
    assert [row["parameters"] for row in rows.values()] == [0, 0, 72, 18 + 6, 0, 0, 35, 0, 18]


def test_operations_of_a_branched_network():
    model = branched()
    counted = {layer.name: flops(layer) for layer in model.layers if flops(layer)}
    stem = 4 * 2 * 6 * (2 * 3 * 2)  # each value of the map from each value below the kernel
    assert counted == {"stem": 2 * stem, "depthwise": 2 * 8 * 6 * 3, "each": 2 * 4 * 6 * 5, "head": 2 * 5 * 3}
    assert training_flops(model) == 3 * (2 * stem + 288 + 240 + 30)


def test_layers_of_a_sequential_network():
    stack = [layers.Flatten(name="flat"), layers.Dropout(0.25, name="drop")]
    stack += [layers.Dense(2, activation="linear", name="head")]
    rows = describe(keras.Sequential([keras.Input((3, 2)), *stack]))
    assert [(row["name"], row["kind"], row["inputs"], row["detail"]) for row in rows] == [
        ("flat", "Flatten", [], ""),
        ("drop", "Dropout", ["flat"], "0.25"),
        ("head", "Dense", ["drop"], ""),
    ]


def test_a_dense_layer_of_a_sequence_is_counted_at_each_place():
    network = keras.Sequential([keras.Input((5, 3)), layers.Dense(4)])
    assert flops(network.layers[-1]) == 2 * 5 * 3 * 4


def test_a_stride_along_one_axis_is_named():
    network = keras.Sequential([keras.Input((6, 6, 1)), layers.Conv2D(2, (1, 3), strides=(1, 2), name="wide")])
    assert describe(network)[-1]["detail"] == "1×3, stride 2"
