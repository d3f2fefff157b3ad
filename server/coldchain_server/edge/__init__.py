"""An edge: pulls what its regions need, verifies it with the client's own code, and serves it. It holds no key and needs none."""
