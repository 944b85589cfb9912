"""The order of the pages: groups for those who start, use, operate, look up, and build. Pure."""

from __future__ import annotations

from collections.abc import Iterable

HOME = "README.md"

# Pages that no group names are put behind those of the group whose folder they are in, "docs/" last.
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Start", ("docs/README.md", "docs/story.md", "docs/install.md", "docs/first-limit.md", "docs/find-the-client.md")),
    (
        "Use",
        (
            "docs/kubectl-cbl.md",
            "docs/fields.md",
            "docs/is-it-working.md",
            "docs/gitops.md",
            "docs/other-shapers.md",
        ),
    ),
    (
        "Operate",
        (
            "docs/environments.md",
            "docs/compatibility.md",
            "docs/metrics-and-alerts.md",
            "docs/security.md",
            "docs/sizing.md",
            "docs/scale.md",
            "docs/benchmarks.md",
            "docs/upgrade.md",
            "docs/uninstall.md",
        ),
    ),
    ("Reference", ("docs/reference/README.md",)),
    (
        "Design",
        (
            "ARCHITECTURE.md",
            "docs/where.md",
            "docs/dependencies.md",
            "CONTRIBUTING.md",
            "docs/releasing.md",
            "SECURITY.md",
            "CHANGELOG.md",
        ),
    ),
)
NOTES = "docs/design/"
FOLDERS = (("docs/reference/", "Reference"), ("docs/", "Use"))

Group = tuple[str, "list[str | Group]"]
"""A title, and the pages and groups below it."""


def navigation(pages: Iterable[str]) -> list[Group]:
    """Groups with their pages, of those that there are; what is shown of a source file is in none."""
    left = set(pages) - {HOME}
    groups: dict[str, list[str | Group]] = {title: [page for page in named if page in left] for title, named in GROUPS}
    left -= {page for named in groups.values() for page in named if isinstance(page, str)}
    notes = sorted(page for page in left if page.startswith(NOTES))
    if notes:
        notes.sort(key=lambda page: not page.endswith("/README.md"))  # the list of all is the page of the group
        groups["Design"].append(("Design notes", [*notes]))
    for page in sorted(left - set(notes)):
        for folder, title in FOLDERS:
            if page.startswith(folder):
                groups[title].append(page)
                break
    return [(title, found) for title, found in groups.items() if found]
