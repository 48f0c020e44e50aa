"""Find design flaws of a built Keras model: what was seen, why it hurts, how to fix it."""
