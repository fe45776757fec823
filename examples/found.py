"""Found kr and nl with two nodes and five desks, without the rest of the demo: python examples/found.py DIRECTORY."""

import sys
from pathlib import Path

from exchange.demo.found import NODES, found

founded = found(Path(sys.argv[1]), title="Exchange founded by hand")
print("lineage", founded.lineage.hex())
for party in NODES:
    print("node", founded.node(party))
for directory in sorted(path.parent for path in founded.directory.glob("*/desk.toml")):
    print("desk", directory)
