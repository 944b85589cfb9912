"""What a program serves over HTTP, as a browser in the same namespace sees it."""

from __future__ import annotations

import urllib.error
import urllib.request


def get(address: str, path: str) -> tuple[int, str]:
    """Return status and text, errors too. Raises OSError where nothing listens at HOST:PORT."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
