"""Finds out whether the tool that manages this installation started `retire`; in doubt it did not. Writes nothing."""

from __future__ import annotations

import threading
import time

from bandwidth_kube import client
from bandwidth_operator.retire.hook_tool import SERVICE_ACCOUNT, Tool, managed_by, refusal

LOOK_SECONDS = 1.0  # between two attempts to see it


def lacking(api: client.Client, namespace: str, tool: Tool, until: float) -> str:
    """Return why this is not shown to be a hook of the tool that manages the installation; "" if it is.

    Repeats failed requests until there is an answer, or until `until` by the monotonic clock.
    """
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{SERVICE_ACCOUNT}"
    pause = threading.Event()
    while True:
        try:
            return "" if managed_by(tool, api.request("GET", path)) else refusal(tool)
        except client.ApiError as error:
            permanent = isinstance(error, client.RefusedError) and not error.temporary
            if permanent or time.monotonic() >= until:
                return f"it cannot be seen whether {tool.value} manages this: {error}"
        pause.wait(LOOK_SECONDS)
