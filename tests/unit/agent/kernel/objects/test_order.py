"""The kinds of kernel object: every change is in the one registry of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from bandwidth_agent.kernel import objects


def below(kind: type[objects.Step]) -> Iterator[type[objects.Step]]:
    for each in kind.__subclasses__():
        yield each
        yield from below(each)


def test_every_change_has_its_place_in_the_order() -> None:
    """A change that a kind of object defines and the registry lacks would never be applied."""
    # A dataclass with slots is a second class of the same name; the first one is left over until it is collected.
    concrete = {kind.__qualname__ for kind in below(objects.Step) if not inspect.isabstract(kind)}
    assert concrete == {kind.__qualname__ for kind in objects.ORDER}


def test_whatever_adds_comes_before_whatever_removes() -> None:
    """So that nothing is taken away before what takes its place is there."""
    removing = [kind.removes for kind in objects.ORDER]
    assert removing == sorted(removing)
