"""What a key asks to be done outside of the screen, as values, and the one place that does it.

`perform` calls the source; the answer goes back into the view by `keys.answered`.
"""

from __future__ import annotations

from typing import NamedTuple

from bandwidth_api.plan import Prefix
from bandwidth_sight.draft import Draft
from bandwidth_sight.source import Preview, Source, SourceError
from bandwidth_sight.view import Form, Purpose


class Quit(NamedTuple):
    pass


class Suspend(NamedTuple):
    pass


class Begin(NamedTuple):
    """May a limit be made for this client?"""

    client: Prefix
    purpose: Purpose


class Prepare(NamedTuple):
    """What would this limit change?"""

    draft: Draft
    form: Form


class Apply(NamedTuple):
    preview: Preview


class Write(NamedTuple):
    preview: Preview
    path: str  # "": the usual place


class Resolve(NamedTuple):
    client: Prefix


Effect = Quit | Suspend | Begin | Prepare | Apply | Write | Resolve
Asked = Begin | Prepare | Apply | Write | Resolve


class Answer(NamedTuple):
    """What became of an effect."""

    text: str = ""
    preview: Preview | None = None
    failed: bool = False


def waiting(effect: Effect) -> str:
    """Return what is shown while it is being done."""
    match effect:
        case Prepare():
            return "working out what would change …"
        case Apply():
            return "making the limit …"
        case Resolve():
            return "asking for the name …"
    return "…"


def perform(effect: Asked, source: Source) -> Answer:
    """Do what was asked, and return what became of it; never raises SourceError."""
    try:
        match effect:
            case Begin(client=client):
                refusal = source.refusal(client)
                return Answer(refusal, failed=bool(refusal))
            case Prepare(draft=draft):
                return Answer(preview=source.preview(draft))
            case Apply(preview=preview):
                return Answer(source.apply(preview))
            case Write(preview=preview, path=path):
                return Answer(f"written: {source.write_yaml(preview, path)}")
            case Resolve(client=client):
                return Answer(source.name_of(client))
    except SourceError as error:
        return Answer(str(error), failed=True)
