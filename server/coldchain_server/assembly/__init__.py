"""Assembly: canonical bundles per region. Standard library and :mod:`coldchain.bundle` only, so that anybody can rebuild."""
