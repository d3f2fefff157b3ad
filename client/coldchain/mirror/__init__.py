"""A verified copy of the published tree that any web server, or a memory stick, serves: a mirror holds no key and adds no trust."""
