"""Small models with every kind of coupled channels, and the proof for them."""

import keras
import numpy as np

from keras_squeeze.shrinking import choose_channels, mask_channels, shrink
from keras_squeeze.shrinking.latency import sample_batch

L = keras.layers


class RandomCriterion:
    """Scores that differ from kernel to kernel, equal for equal seeds."""

    def __init__(self, seed=0):
        self._rng = np.random.default_rng(seed)

    def scores(self, kernel, **statistics):
        return self._rng.random(kernel.shape)


def enliven(model, seed=0):
    """Gives every vector of weights values that no initializer makes.

    Moving statistics are near those of a batch, so that no channel is dead.
    """
    rng = np.random.default_rng(seed)
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, L.BatchNormalization)
    ]
    for variable in model.trainable_variables:
        if len(variable.shape) == 1:
            positive = variable.name in ("gamma", "variable")
            low, high = (0.5, 1.5) if positive else (-0.3, 0.3)
            variable.assign(rng.uniform(low, high, variable.shape))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        model(sample_batch(model, 8, seed=1), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
        noise = rng.normal(0, 0.2, mean.shape) * np.sqrt(variance)
        norm.moving_mean.assign(mean + noise)
        norm.moving_variance.assign(
            variance * rng.uniform(0.7, 1.3, mean.shape)
        )
    return model


def outputs(model, batch):
    return [np.asarray(y) for y in keras.tree.flatten(model(batch))]


def difference(first, second, batch):
    """The largest difference of outputs, relative to the largest output."""
    pairs = zip(outputs(first, batch), outputs(second, batch), strict=True)
    return max(
        float(np.abs(a - b).max() / (np.abs(a).max() + 1e-9)) for a, b in pairs
    )


def prove(model, sparsity=0.3, seed=0):
    """Shrinks a model by random channels and compares it with the masked."""
    enliven(model)
    channels = choose_channels(model, sparsity, RandomCriterion(seed))
    smaller, report = shrink(model, channels=channels)
    masked = mask_channels(model, channels)
    batch = sample_batch(model, 3)
    assert difference(masked, smaller, batch) < 1e-5
    assert difference(model, masked, batch) > 1e-3
    assert report.totals["parameters_after"] == smaller.count_params()
    return smaller, report, channels


def residual():
    inputs = keras.Input((12, 12, 3))
    x = L.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = L.ReLU()(L.BatchNormalization()(x))
    y = L.Conv2D(16, 3, padding="same", name="a")(x)
    y = L.ReLU()(L.BatchNormalization(scale=False)(y))
    y = L.Conv2D(16, 3, padding="same", name="b")(y)
    x = L.Add()([x, L.BatchNormalization()(y)])
    left = L.Conv2D(8, 1, name="left")(x)
    right = L.DepthwiseConv2D(3, padding="same")(x)
    x = L.Concatenate()([left, right])
    x = L.BatchNormalization(center=False)(x)
    x = L.Flatten()(L.MaxPooling2D(4)(x))
    x = L.Dense(24, activation="relu", name="hidden")(x)
    return keras.Model(inputs, L.Dense(10, name="logits")(x))


def convolutions_2d():
    inputs = keras.Input((12, 12, 3))
    x = L.Conv2D(8, 3)(inputs)
    x = L.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = L.SeparableConv2D(10, 3, depth_multiplier=2, activation="relu")(x)
    x = L.Conv2DTranspose(9, 3, strides=2, padding="same")(x)
    x = L.PReLU(alpha_initializer="uniform")(L.PReLU(shared_axes=[1, 2])(x))
    x = L.UpSampling2D()(L.Cropping2D(1)(L.ZeroPadding2D(2)(x)))
    x = L.GlobalAveragePooling2D()(L.AveragePooling2D(2, padding="same")(x))
    x = L.EinsumDense("ab,bc->ac", 12, bias_axes="c", activation="relu")(x)
    return keras.Model(inputs, L.EinsumDense("ab,bc->ac", 3)(x))


def convolutions_1d():
    inputs = keras.Input((20, 4))
    x = L.Conv1D(12, 3, padding="causal", activation="relu")(inputs)
    x = L.GroupNormalization(4)(x)
    x = L.GroupNormalization(-1)(
        L.DepthwiseConv1D(3)(L.SeparableConv1D(8, 3)(x))
    )
    x = L.LeakyReLU()(L.Conv1D(12, 3, groups=4)(L.Conv1D(8, 3)(x)))
    x = L.Cropping1D(1)(L.UpSampling1D(2)(L.ZeroPadding1D(1)(x)))
    x = L.AveragePooling1D(2)(L.Conv1DTranspose(6, 3)(x))
    x = L.Flatten()(L.Permute((2, 1))(x))
    return keras.Model(inputs, L.Dense(3, activation="softmax")(x))


def convolutions_3d():
    inputs = keras.Input((6, 6, 6, 2))
    x = L.MaxPooling3D()(L.Conv3D(6, 3, padding="same")(inputs))
    x = L.Conv3DTranspose(5, 2)(L.Conv3D(5, 2)(x))
    return keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling3D()(x)))


def squeeze_and_excite():
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(16, 3, activation="relu")(inputs)
    gate = L.Reshape((1, 1, 16))(L.GlobalAveragePooling2D()(x))
    gate = L.Dense(16, activation="sigmoid")(
        L.Dense(6, activation="relu")(gate)
    )
    x = L.Multiply()([x, gate])
    gate = L.Conv2D(5, 1)(L.GlobalAveragePooling2D(keepdims=True)(x))
    x = x * L.Conv2D(16, 1, activation="hard_sigmoid")(gate)
    x = keras.ops.relu(x * 0.5)
    x = L.GlobalMaxPooling1D()(L.Reshape((-1, 16))(x))
    return keras.Model(inputs, L.Dense(2)(x))


def bias_takes_constants():
    inputs = keras.Input((6, 6, 3))
    x = L.Conv2D(10, 3, activation="sigmoid")(inputs)
    x = L.Conv2D(8, 3, use_bias=False, activation="softplus")(x)
    x = L.Conv2D(8, 1, activation="sigmoid")(x)
    return keras.Model(inputs, L.Dense(2)(L.Flatten()(x)))


def nested():
    sequential = keras.Sequential(
        [keras.Input((6,)), L.Dense(5, activation="relu"), L.Dense(6)],
        name="twice",
    )
    a, b = keras.Input((4, 4, 8)), keras.Input((4, 4, 8))
    x = L.Conv2D(7, 2, name="conv")(L.Concatenate()([a, b]))
    inner = keras.Model([a, b], [x, L.GlobalAveragePooling2D()(x)], name="in")
    inputs = {
        name: keras.Input((6, 6, size), name=name)
        for name, size in (("one", 3), ("two", 2))
    }
    x, pooled = inner([L.Conv2D(8, 3)(i) for i in inputs.values()])
    x = sequential(sequential(L.Dense(6)(L.Flatten()(x))))
    return keras.Model(inputs, {"a": L.Dense(2)(x), "b": L.Dense(3)(pooled)})


def attention():
    inputs = keras.Input((7,), dtype="int32")
    x = L.Embedding(20, 8, embeddings_initializer="normal")(inputs)
    x = x + L.MultiHeadAttention(4, 6, value_dim=5)(x, x)
    x = L.MultiHeadAttention(3, 4)(L.Dense(6)(x), x, use_causal_mask=True)
    return keras.Model(inputs, L.Dense(3)(x))


def transformer():
    inputs = keras.Input((7, 8))
    x = L.Dense(16)(inputs)
    y = L.LayerNormalization()(x)
    x = x + L.MultiHeadAttention(4, 4, use_bias=False, name="attend")(y, y)
    y = L.Dense(32, activation="gelu", name="inside")(L.LayerNormalization()(x))
    x = x + L.Dense(16)(y)
    return keras.Model(inputs, L.Dense(3)(L.GlobalAveragePooling1D()(x)))


def recurrent():
    inputs = keras.Input((5, 4))
    x = L.Bidirectional(L.GRU(6, return_sequences=True))(inputs)
    x = L.Bidirectional(L.LSTM(5, return_sequences=True), merge_mode="sum")(x)
    x = L.GRU(6, return_sequences=True, reset_after=False)(x)
    x = L.TimeDistributed(L.Dense(8, activation="relu"))(x)
    x = L.SimpleRNN(6)(L.LSTM(7, return_sequences=True)(x))
    return keras.Model(inputs, L.Dense(3)(x))


def time_distributed():
    inputs = keras.Input((3, 8, 8, 2))
    x = L.TimeDistributed(L.Conv2D(8, 3, activation="relu"))(inputs)
    x = L.TimeDistributed(L.BatchNormalization())(x)
    x = L.TimeDistributed(L.Flatten())(x)
    return keras.Model(inputs, L.Dense(2)(L.Dense(6)(x)))


def shared():
    layer = L.Dense(8, activation="relu", name="shared")
    inputs = keras.Input((5,))
    x = L.Dense(8, name="first")(inputs)
    x = L.Average()([layer(layer(x)), x])
    return keras.Model(inputs, L.Dense(4)(L.Maximum()([x, L.Dense(8)(x)])))


def sequential():
    return keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            L.Rescaling(2.0),
            L.Conv2D(8, 3, activation="relu", name="first"),
            L.BatchNormalization(),
            L.SpatialDropout2D(0.2),
            L.Conv2D(16, 3, strides=2, name="second"),
            L.Dropout(0.3),
            L.Flatten(),
            L.Dense(16, activation="relu", name="third"),
            L.Dense(4, name="last"),
        ]
    )


ALL = (
    residual,
    convolutions_1d,
    convolutions_2d,
    convolutions_3d,
    squeeze_and_excite,
    bias_takes_constants,
    nested,
    attention,
    transformer,
    recurrent,
    time_distributed,
    shared,
    sequential,
)
