"""The callback: what it prints and stops before the first epoch, and what it sees in the first ones."""

import numpy as np
import pytest

from reprocnn.audit.callback import Audit
from reprocnn.backend import keras, layers, tf
from reprocnn.core.errors import UserError
from tests.support.small_models import chain, dense, head

X, Y = np.random.default_rng(0).normal(size=(16, 8)).astype("float32"), np.arange(16) % 3


def fit(model, callback, epochs=1, optimizer="adam", loss="sparse_categorical_crossentropy"):
    model.compile(optimizer, loss)
    return model.fit(X, Y, epochs=epochs, verbose=0, callbacks=[callback])


def test_stops_before_the_first_epoch(capsys):
    model = chain((8,), head(activation=None))
    before = model.get_weights()
    with pytest.raises(UserError, match="logits-as-probabilities: head: linear outputs"):
        fit(model, Audit())
    assert all(map(np.array_equal, before, model.get_weights()))
    assert "1 error, 0 warnings" in capsys.readouterr().err
    assert fit(model, Audit(stop=False)).epoch == [0]
    assert fit(model, Audit(ignore={"logits-as-probabilities": "known"})).epoch == [0]


def test_says_nothing_of_a_sound_network_and_changes_no_training(capsys):
    histories = []
    for callbacks in ([], [Audit(x=X, y=Y, num_classes=3, watch=2)]):
        keras.utils.set_random_seed(0)
        model = chain((8,), dense(16, "hidden", activation="relu"), layers.BatchNormalization(), head())
        model.compile("adam", "sparse_categorical_crossentropy")
        histories.append(model.fit(X, Y, epochs=3, verbose=0, callbacks=callbacks).history["loss"])
    assert histories[0] == histories[1]
    assert capsys.readouterr().err == ""


class Kill(keras.callbacks.Callback):
    """Lets units of the hidden layer give nothing but zeros."""

    def __init__(self, units=16):
        super().__init__()
        self.units = units

    def on_epoch_begin(self, epoch, logs=None):
        self.model.get_layer("hidden").bias.assign(np.where(np.arange(16) < self.units, -100, 0))


def test_sees_dead_units_and_a_loss_that_does_not_move(capsys):
    model = chain((8,), dense(16, "hidden", activation="relu"), head(use_bias=False))
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[Kill(), Audit(watch=2, x=X)])
    err = capsys.readouterr().err
    assert "epoch 1: hidden: 100% of its units are zero for all rows" in err
    assert "epoch 2: the loss has not moved in 2 epochs: 1.099, 1.099" in err
    assert "epoch 3" not in err


@pytest.mark.parametrize(("loss", "moved"), [(0.9991, False), (1.0009, False), (0.9989, True), (1.0011, True)])
def test_a_loss_has_moved_by_more_than_a_thousandth(capsys, loss, moved):
    model = chain((8,), head())
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = Audit(watch=2, x=X)
    callback.set_model(model)
    for epoch, one in enumerate((1.0, loss)):
        callback.on_epoch_end(epoch, {"loss": one})
    assert ("epoch 2: the loss has not moved in 2 epochs" in capsys.readouterr().err) is not moved


@pytest.mark.parametrize("made", [lambda data: data, iter])
def test_takes_a_data_set_as_audit_does(capsys, made):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    model = chain((8,), dense(16, "hidden", activation="relu"), head())
    model.compile("adam", "sparse_categorical_crossentropy")
    assert model.fit(data, epochs=2, verbose=0, callbacks=[Audit(x=made(data), watch=2)]).epoch == [0, 1]
    assert capsys.readouterr().err == ""


def test_sees_a_vanished_gradient_beside_biases(capsys):
    model = chain((8,), dense(16, "hidden", activation="relu"), layers.Rescaling(1e-12), dense(16, "wide"), head())
    fit(model, Audit(stop=False, watch=1, x=X))
    assert "epoch 1: hidden: its gradient is" in capsys.readouterr().err


def test_sees_a_vanished_gradient_beside_a_bias_of_two_axes(capsys):
    hidden = layers.EinsumDense("bc,cde->bde", (2, 3), bias_axes="de", name="hidden")
    model = chain((8,), hidden, layers.Flatten(), layers.Rescaling(1e-12), dense(16, "wide"), head())
    fit(model, Audit(stop=False, watch=1, x=X))
    assert "epoch 1: hidden: its gradient is" in capsys.readouterr().err


def test_a_weight_that_is_still_near_zero_is_no_measure(capsys):
    model = chain((8,), dense(16, "hidden", activation="relu"), layers.LayerNormalization(), head())
    model.compile(keras.optimizers.Adam(1e-9), "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0, callbacks=[Audit(watch=1, x=X)])
    assert "vanished" not in capsys.readouterr().err


def test_sees_that_almost_all_units_are_dead(capsys):
    model = chain((8,), dense(16, "hidden", activation="relu"), head())
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0, callbacks=[Kill(15), Audit(watch=1, x=X)])
    assert "epoch 1: hidden: 94% of its units are zero" in capsys.readouterr().err


def test_sees_a_loss_that_is_not_finite(capsys):
    class Spoil(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.get_layer("head").bias.assign([np.nan] * 3)

    model = chain((8,), dense(16, "hidden", activation="relu"), head())
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0, callbacks=[Spoil(), Audit(watch=1)])
    assert "epoch 1: the loss is nan: lower the learning rate" in capsys.readouterr().err


def test_says_nothing_where_a_quarter_of_the_units_lives(capsys):
    model = chain((8,), dense(16, "hidden", activation="relu"), head())
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0, callbacks=[Kill(12), Audit(watch=1, x=X)])
    assert "of its units are zero" not in capsys.readouterr().err


@pytest.mark.parametrize(("scale", "said"), [(1e-4, False), (1e-9, True)])
def test_a_gradient_that_is_small_has_not_vanished(capsys, scale, said):
    inputs = keras.Input((8,))
    parts = [layers.Rescaling(scale)(dense(16, "hidden")(inputs)), dense(16, "beside")(inputs)]
    fit(keras.Model(inputs, head()(layers.Add()(parts))), Audit(stop=False, watch=1, x=X))
    assert ("hidden: its gradient is" in capsys.readouterr().err) is said


@pytest.mark.parametrize("loss", [np.inf, -np.inf, np.nan])
def test_an_infinite_loss_is_not_finite_either(capsys, loss):
    model = chain((8,), head())
    model.compile("sgd", "sparse_categorical_crossentropy")
    callback = Audit(watch=1, x=X)
    callback.set_model(model)
    callback.on_epoch_end(0, {"loss": loss})
    assert f"epoch 1: the loss is {loss}: lower the learning rate" in capsys.readouterr().err
