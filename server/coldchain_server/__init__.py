"""Coldchain's publishing side: assembles, signs and serves signature bundles from the neutral region."""
