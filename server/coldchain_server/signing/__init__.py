"""Keys and signed roles: encrypted key files, the key ceremony, TUF metadata through python-tuf with a PyNaCl signer."""
