"""What a client can do to a connection."""

from __future__ import annotations

import socket
import struct

_AT_ONCE = struct.pack("ii", 1, 0)


def reset_at_close(client: socket.socket) -> None:
    """It ends by a reset, not by a farewell: SO_LINGER in socket(7)."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
