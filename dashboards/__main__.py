"""Write the JSON, or with --check say whether it is as it would be written."""

from __future__ import annotations

import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import fleet, machine
from dashboards.parts import FLEET, MACHINE

_HERE = Path(__file__).parent
_BUILDERS = {MACHINE: machine.build, FLEET: fleet.build}


def main() -> int:
    stale = []
    for name, build in _BUILDERS.items():
        path = _HERE / f"{name}.json"
        text = JSONEncoder(indent=2, sort_keys=True).encode(build().build()) + "\n"
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    for name in stale:
        print(f"dashboards/{name} is not what the program writes: run `make dashboards`.")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
