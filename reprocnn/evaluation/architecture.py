"""A network as a list of layers, with what each costs; for the sketch, which is drawn without Keras."""

from typing import Any

from reprocnn.backend import keras, layers
from reprocnn.evaluation.flops import flops


def describe(model: keras.Model) -> list[dict[str, Any]]:
    """Describe each layer, in the order in which data flows.

    A row has name, kind, inputs (names of layers), shape (without the batch), parameters, flops of one image, and
    detail (its sizes and settings). A multiplication and an addition are two operations; only convolutions and dense
    layers are counted.
    """
    rows = []
    for layer in model.layers:
        rows.append(
            {
                "name": layer.name,
                "kind": type(layer).__name__,
                "inputs": _inputs(model, layer),
                "shape": list(layer.output.shape[1:]),
                "parameters": layer.count_params(),
                "flops": flops(layer),
                "detail": _detail(layer),
            }
        )
    return rows


def _inputs(model: keras.Model, layer: layers.Layer) -> list[str]:
    """Name the layers of this model that feed `layer`; none feeds the first layer of a Sequential."""
    known = {id(one.output): one.name for one in model.layers if one is not layer}
    if isinstance(layer, layers.InputLayer):
        return []
    given = layer.input if isinstance(layer.input, list) else [layer.input]
    return [known[id(tensor)] for tensor in given if id(tensor) in known]


def _detail(layer: layers.Layer) -> str:
    parts = []
    if isinstance(layer, layers.Conv2D | layers.DepthwiseConv2D):
        parts.append("×".join(map(str, layer.kernel_size)))
        if max(layer.strides) > 1:
            parts.append(f"stride {max(layer.strides)}")
    if isinstance(layer, layers.MaxPooling2D | layers.AveragePooling2D):
        parts.append("×".join(map(str, layer.pool_size)))
    if isinstance(layer, layers.Cropping2D):
        (top, bottom), (left, right) = layer.cropping
        parts.append(" ".join(map(str, dict.fromkeys([top, bottom, left, right]))))
    if isinstance(layer, layers.Dropout):
        parts.append(f"{layer.rate:g}")
    activation = getattr(layer, "activation", None)
    if activation is not None and activation is not keras.activations.linear:
        parts.append(activation.__name__)
    if not layer.trainable and layer.count_params():
        parts.append("frozen")
    return ", ".join(parts)
