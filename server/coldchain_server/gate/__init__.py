"""The gate: what every release is tried on, in the bytes that will be served, before anything is logged or signed."""
