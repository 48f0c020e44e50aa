import pytest

from reprocnn.backend import keras


@pytest.fixture(autouse=True)
def same_weights_and_names():
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
