"""What the client makes of answers that are errors."""

from __future__ import annotations

import pytest

from bandwidth_kube import client
from unit.agent.apis import Answer, refusal, serving


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(409, "Conflict"), "409 Conflict: as the test wants"),
        (Answer(404, lines=[b"404 page not found\n"]), "404 404 page not found"),
        (Answer(502, lines=[b"<html>" + b"x" * 1000]), f"502 <html>{'x' * 194}"),
        (Answer(500, lines=[b""]), "500"),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_server(answer: Answer, said: str) -> None:
    """Of an answer that is no Status, such as that of a proxy, its beginning."""
    with serving(lambda _: answer) as api, pytest.raises(client.RefusedError) as refused:
        api.client.request("GET", "/things")
    assert str(refused.value) == said
