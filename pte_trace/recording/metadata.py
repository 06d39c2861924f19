"""What a recording says of itself: where, when, with what, and of what it was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from pte_trace.counted.snapshot import Kernel
from pte_trace.effort import Effort
from pte_trace.host.plan import Attachment, How

FORMAT = 1


@dataclass(frozen=True)
class Metadata:
    """What holds for the whole recording.

    ``options``: what was asked for, by the options' names. ``facts``: the host's, as `doctor
    --json` has them. ``pte_trace`` is the version that made it, ``interval_s`` in seconds.
    """

    started: datetime
    pte_trace: str
    kernel: Kernel
    hooks: Mapping[str, Attachment]
    effort: Effort
    interval_s: float
    command: tuple[str, ...] = ()
    split: bool = False
    needless: frozenset[str] = frozenset()
    options: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "recording": FORMAT,
            "pte_trace": self.pte_trace,
            "started": self.started.isoformat(),
            "kernel": asdict(self.kernel),
            "hooks": {name: _hook(attachment) for name, attachment in self.hooks.items()},
            "effort": asdict(self.effort),
            "interval_s": self.interval_s,
            "command": list(self.command),
            "split": self.split,
            "needless": sorted(self.needless),
            "options": dict(self.options),
            "facts": dict(self.facts),
        }


def _hook(attachment: Attachment) -> dict[str, Any]:
    return {
        "attached": attachment.function,
        "how": attachment.how.value,
        "parameters": list(attachment.parameters),
        "degraded": attachment.degraded,
    }


def from_document(document: Mapping[str, Any]) -> Metadata:
    """The inverse of `Metadata.document`."""
    return Metadata(
        started=datetime.fromisoformat(document["started"]),
        pte_trace=document["pte_trace"],
        kernel=Kernel(**document["kernel"]),
        hooks={
            name: Attachment(
                name,
                hook["attached"],
                How(hook["how"]),
                tuple(hook["parameters"]),
                hook["degraded"],
            )
            for name, hook in document["hooks"].items()
        },
        effort=Effort(**{**document["effort"], "stacks": int(document["effort"]["stacks"])}),
        interval_s=document["interval_s"],
        command=tuple(document["command"]),
        split=document["split"],
        needless=frozenset(document.get("needless", ())),
        options=document["options"],
        facts=document["facts"],
    )


def dumps(metadata: Metadata) -> bytes:
    return json.dumps(metadata.document()).encode()
