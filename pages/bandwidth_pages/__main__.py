"""Builds the site: gathers the pages, has the generator make HTML of them, checks every link.

    python -m bandwidth_pages [--version 1.2] [--url https://…/]

Writes build/site, or with a version build/site/1.2 and the list of versions beside it; ends with 1 where a link leads
nowhere or a page loads something from another host.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from bandwidth_pages import checking, dialect, gather, navigation, polish, settings, versions

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"
ICON = "docs/images/icon.svg"


def write_sources(gathered: gather.Gathered) -> None:
    """Lay out what the generator reads, from nothing."""
    shutil.rmtree(WORK, ignore_errors=True)
    for name, text in gathered.texts.items():
        path = WORK / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dialect.rewritten(text))
    for name in {*gathered.copies, ICON}:
        path = WORK / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, path)
    for name in ("site.css", "site.js"):
        shutil.copyfile(Path(__file__).with_name(name), WORK / "docs" / name)


def main(arguments: list[str] | None = None) -> int:
    """Build and check; return the exit code."""
    parser = argparse.ArgumentParser(prog="bandwidth_pages", description="Build the documentation site.")
    parser.add_argument("--version", default="", help="build into a folder of this name, beside other versions")
    parser.add_argument("--url", default="", help="where the site will be; only the site map needs it")
    options = parser.parse_args(arguments)
    if options.version and not versions.FORM.fullmatch(options.version):
        parser.error(f"--version {options.version} is no version such as 1.2 or 1.2.0-rc1")
    began = time.monotonic()
    gathered = gather.gather(ROOT)
    write_sources(gathered)
    nav = navigation.navigation(gathered.texts)
    (WORK / "zensical.toml").write_text(settings.text(nav, url=options.url, versioned=bool(options.version)))
    words = [sys.executable, "-m", "zensical", "build", "--clean"]
    built = subprocess.run(words, cwd=WORK, check=False, env={**os.environ, "NO_COLOR": "1"})
    if built.returncode:
        return built.returncode
    target = SITE / options.version if options.version else SITE
    one_alone = not (SITE / versions.LIST).exists()
    shutil.rmtree(SITE if one_alone else target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(WORK / "site", target)
    for page in target.rglob("*.html"):
        page.write_text(polish.polished(page.read_text()))
    if options.version:
        versions.add(SITE, options.version)
    found = list(checking.problems(target))
    for line in found:
        print(line, file=sys.stderr)  # noqa: T201
    pages = sum(1 for _ in target.rglob("*.html"))
    print(f"{target.relative_to(ROOT)}: {pages} pages, {len(found)} broken links, {time.monotonic() - began:.0f} s")  # noqa: T201
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
