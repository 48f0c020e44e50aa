"""The sketch of a network: what it lists, by hand, and what it draws."""

from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from reprocnn.backend import keras, layers
from reprocnn.evaluation import architecture
from reprocnn.report import sketch
from reprocnn.report.figures import style
from reprocnn.report.palette import ORANGE, SILVER, SKY


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
    with style():
        figure = sketch.draw_sketch(branched)
    renderer: Any = FigureCanvasAgg(figure).get_renderer()
    axes = figure.axes[0]
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    for i, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y0 >= 0
        assert box.y1 <= figure.bbox.y1
        assert not [other for other in boxes[i + 1 :] if box.overlaps(other)]
    arrows = [patch for patch in axes.patches if type(patch).__name__ == "FancyArrowPatch"]
    assert len(arrows) == 6  # five down, and the branch around


def test_sizes_of_blocks_by_hand():
    """The height grows with the side of the map, the width with the logarithm of the channels."""
    height = block([8]).height
    assert block([32, 16, 8]).height - height == pytest.approx(2 * (block([16, 32, 8]).height - height))
    assert block([64, 64, 8]).height - height == pytest.approx(4 * (block([16, 16, 8]).height - height))
    assert block([224, 224, 3]).height == block([100, 100, 3]).height > block([99, 99, 3]).height
    assert [block([8, 8, n]).width / block([8, 8, 1]).width for n in (3, 7, 255)] == pytest.approx([2, 3, 8])
    assert block([255]).width == block([8, 8, 255]).width


@pytest.mark.parametrize(
    ("parameters", "flops", "costs"),
    [
        (0, 0, "14×7×3"),
        (1234567, 0, "14×7×3, 1,234,567 parameters"),
        (0, 99_949, "14×7×3, 99.9 kFLOP"),
        (5, 100_000, "14×7×3, 5 parameters, 0.1 MFLOP"),
        (5, 12_340_000, "14×7×3, 5 parameters, 12.3 MFLOP"),
    ],
)
def test_costs_in_words(parameters, flops, costs):
    assert sketch.Block("Conv2D", "", [14, 7, 3], parameters, flops, inputs=[], last="").costs == costs


def test_long_lines_are_parted_and_numbers_keep_their_units():
    one = sketch.Block("Conv2D", "convolution 3×3", [7, 7, 256], 590_080, 57_802_752, inputs=[], last="")
    one.then += ["batch norm", "ReLU"]
    assert one.lines == ["convolution 3×3", "7×7×256, 590,080 parameters,", "57.8 MFLOP", "batch norm → ReLU"]


def test_the_widest_block_leaves_room_for_the_text():
    assert block([10**6]).width == block([10**7]).width < 2 * (sketch.TEXT - sketch.MIDDLE)
    assert sketch.MIDDLE - block([10**6]).width / 2 > 0


def test_each_block_stands_beside_its_text(branched):
    blocks = sketch.group(branched)
    axes = sketch.draw_sketch(branched).axes[0]
    squares: list[Any] = [patch for patch in axes.patches if type(patch).__name__ == "Rectangle"]
    arrows: list[Any] = [patch for patch in axes.patches if type(patch).__name__ == "FancyArrowPatch"]
    assert [(square.get_width(), square.get_height()) for square in squares] == [
        (pytest.approx(one.width), pytest.approx(one.height)) for one in blocks
    ]
    centres = [
        (square.get_x() + square.get_width() / 2, square.get_y() + square.get_height() / 2) for square in squares
    ]
    assert [x for x, _ in centres] == pytest.approx([sketch.MIDDLE] * len(blocks))
    middles = [y for _, y in centres]
    assert middles == sorted(middles)
    lines = [one.lines for one in blocks]
    assert [text.get_text() for text in axes.texts[:-1]] == [line for of_one in lines for line in of_one]
    places = [text.get_position()[1] for text in axes.texts[:-1]]
    for middle, of_one in zip(middles, lines, strict=True):
        own, places = places[: len(of_one)], places[len(of_one) :]
        assert own == sorted(own)
        assert sum(own) / len(own) == pytest.approx(middle)
    # From the bottom of a block to the top of the next one; the branch starts at the left of the stem.
    (add,) = [i for i, one in enumerate(blocks) if one.title == "Add"]
    ends = [(arrow._posA_posB[0][1], arrow._posA_posB[1][1]) for arrow in arrows]
    bottoms = [square.get_y() + square.get_height() for square in squares]
    tops = [square.get_y() for square in squares]
    expected = [(bottoms[i], tops[i + 1]) for i in range(len(blocks) - 1)]
    expected.append((middles[1], tops[add]))
    assert np.array(sorted(ends)) == pytest.approx(np.array(sorted(expected)))
    assert [to_hex(square.get_facecolor()) for square in squares] == [SILVER, SKY, SKY, SILVER, SILVER, ORANGE]


def test_a_layer_joins_only_the_one_it_follows_at_no_cost():
    def row(name: str, inputs: list[str], shape: list[int], flops: int = 0, detail: str = "") -> dict[str, Any]:
        return {"kind": "ReLU", "name": name, "shape": shape, "detail": detail, "parameters": 3, "flops": flops,
                "inputs": inputs}  # fmt: skip

    rows = [row("a", [], [4, 4, 2]), row("b", ["a"], [4, 4, 2], detail="fast"), row("c", ["a"], [4, 4, 2])]
    rows += [
        row("d", ["c"], [4, 4, 2], flops=1, detail="2×2"),
        row("d1", ["d"], [4, 4, 2]),
        row("d2", ["d1"], [4, 4, 2]),
        row("e", ["d2"], [8]),
        row("f", ["e", "b"], [8]),
    ]
    blocks = sketch.group(rows)
    assert [(one.title, one.then, one.inputs, one.parameters) for one in blocks] == [
        ("ReLU", ["ReLU, fast"], [], 6), ("ReLU", [], [0], 3), ("ReLU 2×2", ["ReLU", "ReLU"], [1], 9),
        ("ReLU", [], [2], 3), ("ReLU", [], [3, 0], 3),
    ]  # fmt: skip
