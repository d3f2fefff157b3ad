"""Feeds: where signatures come from. Sources are read within bounds, kept as snapshots, and every line is checked."""
