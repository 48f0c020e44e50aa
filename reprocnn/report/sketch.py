"""A network drawn from its list of layers: the data between them as blocks, downwards, with what each layer costs."""

import math
import re
import textwrap
from dataclasses import dataclass, field
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from reprocnn.report.figures import WIDTH
from reprocnn.report.palette import INK, ORANGE, SILVER, SKY

COLOURS = {"Conv2D": SKY, "DepthwiseConv2D": SKY, "Dense": ORANGE}
NAMES = {
    "BatchNormalization": "batch norm", "Conv2D": "convolution", "Cropping2D": "cropping",
    "DepthwiseConv2D": "depthwise convolution", "Dense": "dense", "Dropout": "dropout", "Flatten": "flatten",
    "GlobalMaxPooling2D": "global max pooling", "GlobalAveragePooling2D": "global average pooling",
    "InputLayer": "image", "MaxPooling2D": "max pooling", "AveragePooling2D": "average pooling", "ReLU": "ReLU",
    "Rescaling": "normalization",
}  # fmt: skip
# Inches: middle of the blocks, start of the text, between its lines.
MIDDLE, TEXT, LINE = 0.62, 1.22, 0.16
LETTERS = 33  # of a line


@dataclass
class Block:
    """A layer, and those after it that keep its shape."""

    kind: str
    title: str
    shape: list[int]  # of its output
    parameters: int
    flops: int
    inputs: list[int]  # numbers of blocks
    last: str  # name of its last layer
    then: list[str] = field(default_factory=list)  # titles of the layers after the first

    @property
    def width(self) -> float:
        """Return the drawn width in inches."""
        return min(0.11 * math.log2(1 + self.shape[-1]), 2 * (TEXT - MIDDLE) - 0.05)

    @property
    def height(self) -> float:
        """Return the drawn height in inches, that of a vector being small."""
        side = self.shape[0] if len(self.shape) > 1 else 0
        return 0.07 + 0.62 * min(side, 100) / 32

    @property
    def costs(self) -> str:
        """Write shape, parameters and operations."""
        parts = ["×".join(map(str, self.shape))]
        if self.parameters:
            parts.append(f"{self.parameters:,} parameters")
        if self.flops >= 1e5:
            parts.append(f"{self.flops / 1e6:.1f} MFLOP")
        elif self.flops:
            parts.append(f"{self.flops / 1e3:.1f} kFLOP")
        return ", ".join(parts)

    @property
    def lines(self) -> list[str]:
        """Write what stands beside it: title, costs, the layers that follow; a number stays with its unit."""
        texts = [self.title, self.costs, " → ".join(self.then)]
        joined = [re.sub(r"(?<=\d) (?=\w)", "\u00a0", text) for text in texts]
        return [line.replace("\u00a0", " ") for text in joined for line in textwrap.wrap(text, LETTERS)]


def group(rows: list[dict[str, Any]]) -> list[Block]:
    """Group the layers that evaluation.architecture lists: one that keeps the shape at no cost joins its only input."""
    blocks: list[Block] = []
    block_of: dict[str, int] = {}  # by name of a layer
    for row in rows:
        inputs = [block_of[name] for name in row["inputs"]]
        if blocks and _joins(row, blocks[-1]):
            blocks[-1].then.append(_words(row))
            blocks[-1].parameters += row["parameters"]
            blocks[-1].last = row["name"]
        else:
            costs = row["parameters"], row["flops"]
            blocks.append(Block(row["kind"], _words(row), row["shape"], *costs, inputs, last=row["name"]))
        block_of[row["name"]] = len(blocks) - 1
    return blocks


def draw_sketch(rows: list[dict[str, Any]]) -> Figure:
    """Draw the layers that evaluation.architecture lists; the last line of the figure gives the scale."""
    blocks = group(rows)
    heights = [max(block.height, 0.17 * len(block.lines)) + 0.16 for block in blocks]
    total = sum(heights) + 0.55
    figure = Figure(figsize=(WIDTH, total))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(total, 0))
    axes.set_axis_off()
    top = 0.1
    middles: list[float] = []  # of the blocks so far
    for block, height in zip(blocks, heights, strict=True):
        middles.append(top + height / 2)
        _draw_block(axes, block, middles[-1])
        for source in block.inputs:
            _draw_arrow(axes, blocks, middles, source)
        top += height
    scale = "height of a block: side of the map\nwidth: logarithm of its channels"
    axes.text(WIDTH / 2, total - 0.2, scale, ha="center", va="center", color=INK)
    return figure


def _joins(row: dict[str, Any], block: Block) -> bool:
    return row["inputs"] == [block.last] and row["shape"] == block.shape and not row["flops"]


def _draw_block(axes: Axes, block: Block, middle: float) -> None:
    corner = MIDDLE - block.width / 2, middle - block.height / 2
    colour = COLOURS.get(block.kind, SILVER)
    axes.add_patch(Rectangle(corner, block.width, block.height, facecolor=colour, edgecolor=INK, lw=0.7))
    for i, line in enumerate(block.lines):
        y = middle + LINE * (i - (len(block.lines) - 1) / 2)
        axes.text(TEXT, y, line, va="center", fontweight="normal" if i else "bold", color=INK)


def _draw_arrow(axes: Axes, blocks: list[Block], middles: list[float], source: int) -> None:
    """Draw from block `source` to the last of `middles`: straight from the one above, a branch around on the left."""
    style: Any = {"arrowstyle": "-|>", "mutation_scale": 6, "color": INK, "lw": 0.8, "shrinkA": 0, "shrinkB": 0}
    target = len(middles) - 1
    end = middles[target] - blocks[target].height / 2
    if source == target - 1:
        start = MIDDLE, middles[source] + blocks[source].height / 2
        axes.add_patch(FancyArrowPatch(start, (MIDDLE, end), **style))
    else:
        start = MIDDLE - blocks[source].width / 2, middles[source]
        axes.add_patch(FancyArrowPatch(start, (MIDDLE - 0.1, end), connectionstyle="arc3,rad=0.5", **style))


def _words(row: dict[str, Any]) -> str:
    name, detail = NAMES.get(row["kind"], row["kind"]), row["detail"]
    if row["kind"] == "Activation":
        return detail
    if not detail:
        return name
    return f"{name} {detail}" if detail[0].isdigit() else f"{name}, {detail}"
