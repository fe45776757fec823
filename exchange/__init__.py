"""The exchange: envelopes, policy, the node, the desk."""

import os

# gRPC writes to stderr what strangers send, as it came: a terminal would obey it, and a disk would fill. What matters is told
# by the node itself. Set before anything imports gRPC; whoever debugs it sets it to another value.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
