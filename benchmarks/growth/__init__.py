"""How costs grow with what there is: `python -m benchmarks growth`."""
