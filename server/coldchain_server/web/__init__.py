"""The origin over HTTP: the published tree and the pages of its health. No rule of the domain lives here."""
