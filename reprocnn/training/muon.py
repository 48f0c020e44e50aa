"""The optimizer of the CIFAR-10 network: Muon for convolution kernels, Nesterov momentum for the rest."""

from typing import Any

from reprocnn.backend import keras, ops

# Coefficients of Jordan's quintic iteration: fast towards 1, then to within about 0.3 of it.
A, B, C = 3.4445, -4.7750, 2.0315


class Muon(keras.optimizers.Optimizer):
    """Step along the orthogonal matrix nearest to the momentum of each convolution kernel.

    Kernels are normalized again before each step, so that the learning rate is relative to their size; biases and dense
    kernels take Nesterov momentum at `bias_rate` and `head_rate` times the learning rate. `weight_decay` is the
    fraction that biases and dense kernels lose in a step at a learning rate of 1. As in cifar10-airbench's Muon variant
    (Keller Jordan 2024, kellerjordan.github.io/posts/muon). Keras' own Muon leaves convolution kernels out.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: float = 0.6,
        sgd_momentum: float = 0.85,
        bias_rate: float = 440.0,
        head_rate: float = 0.085,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name="muon")
        self.momentum, self.sgd_momentum = momentum, sgd_momentum
        self.bias_rate, self.head_rate, self.decay = bias_rate, head_rate, weight_decay

    def build(self, variables: list[Any]) -> None:
        """Create a momentum per variable."""
        if self.built:
            return
        super().build(variables)
        self.momenta = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable in place."""
        momentum = self.momenta[self._get_variable_index(variable)]
        if len(variable.shape) == 4:
            average = self.momentum * momentum + gradient
            step = orthogonalize(gradient + self.momentum * average)
            # Norm sqrt(filters), that of a kernel with orthonormal filters.
            size = ops.sqrt(ops.sum(ops.square(variable)))
            normed = variable * (float(variable.shape[-1]) ** 0.5 / (size + 1e-7))
            self.assign(variable, normed - learning_rate * step)
        else:
            rate = learning_rate * (self.bias_rate if len(variable.shape) == 1 else self.head_rate)
            average = self.sgd_momentum * momentum + gradient
            kept = variable * (1 - self.decay * learning_rate)
            self.assign(variable, kept - rate * (gradient + self.sgd_momentum * average))
        self.assign(momentum, average)


def orthogonalize(kernel: Any, steps: int = 3) -> Any:
    """Move a kernel's singular values to about 1, keeping its singular vectors, by Newton-Schulz iterations.

    The kernel (height, width, in, out) counts as a matrix (height * width * in, out).
    """
    rows, columns = kernel.shape[0] * kernel.shape[1] * kernel.shape[2], kernel.shape[3]
    x = ops.reshape(kernel, (rows, columns))
    x = ops.transpose(x) if rows > columns else x  # the smaller side first: the product below is its square
    x = x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7)
    for _ in range(steps):
        gram = ops.matmul(x, ops.transpose(x))
        x = A * x + ops.matmul(B * gram + C * ops.matmul(gram, gram), x)
    x = ops.transpose(x) if rows > columns else x
    return ops.reshape(x, kernel.shape)
