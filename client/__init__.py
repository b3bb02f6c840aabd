"""The client of a cluster. `lograft` (client/front) shows what applications use of it."""

import os

# Before gRPC is first imported: its C core would write a line to standard error whenever a broker goes away.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
