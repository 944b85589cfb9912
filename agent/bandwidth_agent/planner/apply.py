"""Applies a list of changes in order; a failure stops only the changes that depend on it.

No hook redirects to a failed device, no entry leads to a failed class, no rule names a failed set; everything else is
applied. Each change knows what it depends on. Never decides what should exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bandwidth_agent.kernel import contract, objects


def apply(
    kernel: contract.Kernel,
    changes: Sequence[objects.Change],
    number: objects.ClassNumber,
    checkpoint: Callable[[objects.Change], None] | None = None,
) -> objects.Applied:
    """Apply the changes in the order given; `number` reads a class number back from a set entry.

    `checkpoint` is called before each change, for tests that end the process there.
    """
    applied = objects.Applied()
    for step in changes:
        reduced = step if applied.clean else step.without_broken(applied, number)
        if reduced != step:
            applied.cut.add(step.touches)
        if reduced is None:
            continue
        if checkpoint is not None:
            checkpoint(reduced)
        applied.note(kernel.apply_one(reduced))
    return applied
