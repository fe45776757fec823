"""The node: keeps envelopes for the missions it hosts; holds no key that opens them."""
