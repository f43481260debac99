"""Knows samples: rings in shared memory and the batched signal processing on them."""
