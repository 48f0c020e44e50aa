"""Prepared data and settings that no training can use: a line, and no model."""

from pathlib import Path
from typing import Any

import pytest

from reprocnn.core.errors import UserError
from tests.support.training import run


def refused(**changes: Any) -> str:
    with pytest.raises(UserError) as error:
        run(**changes)
    assert not Path("models").exists()
    return str(error.value)


@pytest.mark.parametrize("network", ["mnist_cnn", "cifar_cnn", "assignment", "one_conv", "warmup"])
def test_images_too_small_for_the_network(prepared, network):
    prepared(8, (2, 2, 1))
    message = refused(network=network)
    assert f"params.yaml: mnist.network: {network} with kernel_size 3 cannot take images of (2, 2, 1)" in message
    assert "choose another network" in message
    assert len(message.splitlines()) == 1


def test_one_image_in_batches_of_one(prepared):
    prepared(1, (28, 28, 1))
    run(batch_size=1)
    assert Path("models/mnist/model.weights.h5").exists()
