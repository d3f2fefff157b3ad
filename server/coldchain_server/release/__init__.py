"""Releases: built, approved by a second key, published in the order readers need, rolled out by region."""
