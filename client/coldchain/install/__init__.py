"""What an endpoint keeps on its disk: the trusted metadata, the installed versions, and the switch between them."""
