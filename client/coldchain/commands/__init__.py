"""The commands of ``coldchain``, a file for each sort; :mod:`coldchain.cli` puts them together."""
