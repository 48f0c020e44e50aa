"""Raw files to arrays: decoding, splitting off the validation images, one-hot labels, normalization."""
