"""The commands of ``coldchain-server``, a group to a module."""
