"""A network drawn from its list of layers: what flows as blocks, downwards, with what each layer costs."""

import math
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from stages.lib.palette import INK, ORANGE, SILVER, SKY

COLOURS = {"Conv2D": SKY, "DepthwiseConv2D": SKY, "Dense": ORANGE}
NAMES = {
    "BatchNormalization": "batch norm", "Conv2D": "convolution", "Cropping2D": "cropping",
    "DepthwiseConv2D": "depthwise convolution", "Dense": "dense", "Dropout": "dropout", "Flatten": "flatten",
    "GlobalMaxPooling2D": "global max pooling", "GlobalAveragePooling2D": "global average pooling",
    "InputLayer": "image", "MaxPooling2D": "max pooling", "AveragePooling2D": "average pooling", "ReLU": "ReLU",
    "Rescaling": "normalization",
}  # fmt: skip
WIDTH, MIDDLE, TEXT = 3.7, 0.72, 1.42  # inches: of the figure, of the blocks' middle, where the text starts


def group(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The layers of architecture.describe, where one that keeps the shape and has one input joins the one before."""
    groups: list[dict[str, Any]] = []
    place: dict[str, int] = {}  # of a layer's group
    for row in rows:
        inputs = [place[name] for name in row["inputs"]]
        joins = groups and inputs == [len(groups) - 1] and row["shape"] == groups[-1]["shape"] and not row["flops"]
        if joins and groups[-1]["last"] == row["inputs"][0]:
            groups[-1]["then"].append(_words(row))
            groups[-1]["parameters"] += row["parameters"]
        else:
            groups.append(
                {
                    "kind": row["kind"],
                    "title": _words(row),
                    "then": [],
                    "shape": row["shape"],
                    "parameters": row["parameters"],
                    "flops": row["flops"],
                    "inputs": inputs,
                }
            )
        groups[-1]["last"] = row["name"]
        place[row["name"]] = len(groups) - 1
    return groups


def draw_sketch(rows: list[dict[str, Any]]) -> Figure:
    """A block's height goes with the side of the map, its width with the logarithm of the channels."""
    groups = group(rows)
    heights = [max(_block(one["shape"])[1], 0.17 * (2 + bool(one["then"]))) + 0.16 for one in groups]
    total = sum(heights) + 0.5
    figure = plt.figure(figsize=(WIDTH, total))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(total, 0))
    axes.set_axis_off()
    top = 0.1
    middles: list[tuple[float, float]] = []  # of the blocks so far, with their heights
    for one, height in zip(groups, heights, strict=True):
        middle = top + height / 2
        width, high = _block(one["shape"])
        colour = COLOURS.get(one["kind"], SILVER)
        axes.add_patch(
            Rectangle((MIDDLE - width / 2, middle - high / 2), width, high, facecolor=colour, edgecolor=INK, lw=0.7)
        )
        lines = [(one["title"], "bold"), (_costs(one), "normal"), (" → ".join(one["then"]), "normal")]
        lines = [line for line in lines if line[0]]
        for i, (line, weight) in enumerate(lines):
            where = middle + 0.16 * (i - (len(lines) - 1) / 2)
            axes.text(TEXT, where, line, va="center", fontsize=7, fontweight=weight, color=INK)
        for source in one["inputs"]:
            _arrow(axes, middles, source, len(middles), middle - high / 2, groups)
        middles.append((middle, high))
        top += height
    scale = "height of a block: side of the map; width: logarithm of its channels"
    axes.text(WIDTH / 2, total - 0.18, scale, ha="center", va="center", fontsize=6, color=INK)
    return figure


def _arrow(
    axes: Any, middles: list[tuple[float, float]], source: int, own: int, end: float, groups: list[dict[str, Any]]
) -> None:
    """Straight from the block above; a branch goes around by the left."""
    middle, high = middles[source]
    style: Any = {"arrowstyle": "-|>", "mutation_scale": 6, "color": INK, "lw": 0.8, "shrinkA": 0, "shrinkB": 0}
    if source == own - 1:
        axes.add_patch(FancyArrowPatch((MIDDLE, middle + high / 2), (MIDDLE, end), **style))
    else:
        left = MIDDLE - _block(groups[source]["shape"])[0] / 2, middle
        bent = "arc3,rad=0.5"
        axes.add_patch(FancyArrowPatch(left, (MIDDLE - 0.1, end), connectionstyle=bent, **style))


def _block(shape: list[int]) -> tuple[float, float]:
    """Width and height in inches; a vector is a thin one."""
    channels, side = shape[-1], shape[0] if len(shape) > 1 else 0
    return 0.13 * math.log2(1 + channels), 0.07 + 0.62 * min(side, 100) / 32


def _words(row: dict[str, Any]) -> str:
    name = NAMES.get(row["kind"], row["kind"])
    if row["kind"] == "Activation":
        return row["detail"]
    between = " " if row["detail"][:1].isdigit() else ", "
    return between.join(filter(None, [name, row["detail"]]))


def _costs(one: dict[str, Any]) -> str:
    parts = ["×".join(map(str, one["shape"]))]
    if one["parameters"]:
        parts.append(f"{one['parameters']:,} parameters")
    if one["flops"]:
        parts.append(f"{one['flops'] / 1e6:.1f} MFLOP" if one["flops"] >= 1e5 else f"{one['flops'] / 1e3:.1f} kFLOP")
    return ", ".join(parts)
