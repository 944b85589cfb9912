"""The version of the plugin; the one of the package, which a test holds it to."""

from __future__ import annotations

VERSION = "0.1.0"
