"""Assembling a published release again, from outside: what anyone may do who does not want to believe the publisher."""
