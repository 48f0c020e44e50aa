"""The sketch of a network: what it lists, by hand, and what it draws."""

from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reprocnn.backend import keras, layers
from reprocnn.evaluation import architecture
from reprocnn.report import sketch


@pytest.fixture(scope="module")
def branched() -> list:
    keras.utils.clear_session()
    x = inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(x)
    y = layers.DepthwiseConv2D(5, padding="same", name="depthwise")(x)
    y = layers.BatchNormalization(name="norm")(y)
    x = layers.Add(name="add")([x, y])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return architecture.describe(keras.Model(inputs, layers.Dense(10, activation="softmax", name="head")(x)))


def block(shape: list[int]) -> sketch.Block:
    return sketch.Block("Conv2D", "convolution", shape, parameters=0, flops=0, inputs=[], last="")


def test_parameters_and_flops_by_hand(branched):
    rows = {row["name"]: row for row in branched}
    assert rows["stem"]["parameters"] == 3 * 3 * 3 * 8 + 8
    assert rows["stem"]["flops"] == 2 * 16 * 16 * 3 * 3 * 3 * 8
    assert rows["depthwise"]["flops"] == 2 * 16 * 16 * 5 * 5 * 8
    assert rows["head"]["flops"] == 2 * 8 * 10
    assert rows["add"]["flops"] == rows["norm"]["flops"] == 0
    assert rows["stem"]["shape"] == [16, 16, 8]
    assert rows["stem"]["detail"] == "3×3, relu"


def test_inputs_show_branches(branched):
    assert {row["name"]: row["inputs"] for row in branched if row["name"] in ("stem", "add", "head")} == {
        "stem": ["input_layer"],
        "add": ["stem", "norm"],
        "head": ["pool"],
    }


def test_cropping_details_are_its_pixels():
    model = keras.Sequential([keras.Input((20, 18, 3)), layers.Cropping2D(2), layers.Cropping2D((2, 1))])
    assert [row["detail"] for row in architecture.describe(model)] == ["2", "2 1"]


def test_strides_and_groups_count_in_flops():
    model = keras.Sequential([keras.Input((8, 8, 4)), layers.Conv2D(8, 3, strides=2, padding="same", groups=2)])
    (row,) = architecture.describe(model)
    assert row["flops"] == 2 * 4 * 4 * 3 * 3 * 2 * 8


def test_layers_that_keep_the_shape_join_the_one_before(branched):
    blocks = sketch.group(branched)
    assert [block.title for block in blocks] == [
        "image", "convolution 3×3, relu", "depthwise convolution 5×5", "Add", "global average pooling",
        "dense, softmax",
    ]  # fmt: skip
    assert blocks[2].then == ["batch norm"]
    assert blocks[2].parameters == 5 * 5 * 8 + 8 + 4 * 8
    assert blocks[3].inputs == [1, 2]


def test_text_and_blocks_stay_inside_and_apart(branched):
    figure = sketch.draw_sketch(branched)
    renderer: Any = FigureCanvasAgg(figure).get_renderer()
    axes = figure.axes[0]
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert not [other for other in boxes[i + 1 :] if box.overlaps(other)]
    arrows = [patch for patch in axes.patches if type(patch).__name__ == "FancyArrowPatch"]
    assert len(arrows) == 6  # five down, and the branch around


def test_a_larger_map_is_a_higher_block_and_more_channels_a_wider_one():
    assert block([32, 32, 8]).height > block([16, 16, 8]).height > block([8]).height
    assert block([8, 8, 64]).width > block([8, 8, 16]).width
