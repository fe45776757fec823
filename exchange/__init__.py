"""The exchange: envelopes, policy, the node, the desk."""
