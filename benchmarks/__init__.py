"""Measuring ourselves and our peers on the same work: ``python -m benchmarks.run`` (``make bench``)."""
