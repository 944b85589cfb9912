"""The peers of real connections."""

from __future__ import annotations

import socket

import pytest

from bandwidth_kube import client, connection
from bandwidth_kube.transport import peers


def test_a_connection_notes_its_peer() -> None:
    """What a request really connected to is a peer, whatever the name of the server is."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://localhost:{server.getsockname()[1]}"
        api = client.Client(connection.Connection(lambda *, renew: connection.Access(address)), "test")
        with pytest.raises(client.ApiError):
            api.request("GET", "/", timeout_seconds=0.2)
        api.close()
    assert peers.latest() & {"127.0.0.1", "::1"}
