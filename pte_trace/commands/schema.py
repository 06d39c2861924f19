"""`pte-trace schema`: what the JSON document has, for programs."""

from __future__ import annotations

import json
import sys

import click

from pte_trace.views import schema as published


@click.command()
def schema() -> None:
    """Write the JSON Schema of the JSON document, that of this version.

    It is of what `run`, `top`, `explain` and `report` write with --format json, and of each line
    but the first of `record -o FILE.jsonl`. A later version may have more fields.

    \b
    Examples:
      pte-trace schema > schema.json
    """
    json.dump(published.schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
