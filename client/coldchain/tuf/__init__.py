"""The Update Framework, client side: strict TUF 1.0, Ed25519 only, without any I/O.

``metadata`` reads one file, ``trusted_set`` says in which order files may be believed, ``refresh`` asks for them
one by one, ``poll`` says when that is needed. Nothing here opens a file or a connection, or looks at the clock.
"""
