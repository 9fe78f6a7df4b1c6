"""The parts of the composition root: what stands under all features, then the features by name."""
