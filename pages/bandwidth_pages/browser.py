"""Looks at the finished site in a browser: errors, requests to other hosts, accessibility, search, colours.

    python -m bandwidth_pages.browser [FOLDER]

Serves the folder (build/site, or that of one version in there) on loopback, and opens its pages with the browser that
CHROMIUM names, Debian's by default. Leaves pictures in build/site-screens. Ends with 1 and one line for each thing that
is wrong.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright import sync_api

from bandwidth_pages import server, versions

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"
SCREENS = ROOT / "build" / "site-screens"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")

Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, Scheme] = ("light", "dark")
WIDTHS = (1280, 400)
VIEWS = tuple(itertools.product(SCHEMES, WIDTHS))
# Short ones that show all that there is: pictures, tables, code of several kinds, lists. In every view.
THOROUGHLY = ("", "docs/first-limit/", "docs/story/")
SEARCHED = "ttlSeconds"  # which the page of all fields has
PATIENCE_MS = 60_000  # for a machine that has other work
# The theme's search keeps its results where scripts do not reach.
OPEN_SHADOWS = """
const attach = Element.prototype.attachShadow;
Element.prototype.attachShadow = function (options) { return attach.call(this, {...options, mode: "open"}); };
"""


@dataclasses.dataclass(slots=True)
class Findings:
    """What is wrong, one line each."""

    lines: list[str] = dataclasses.field(default_factory=list)

    def add(self, where: str, what: str) -> None:
        line = f"{where}: {what}"
        if line not in self.lines:
            self.lines.append(line)
            print(line, file=sys.stderr)  # noqa: T201


def pages(site: Path) -> list[str]:
    """The pages for users, as addresses relative to the site: none that shows a source file or a decision."""
    found = sorted(f"{path.parent.relative_to(site)}/" for path in (site / "docs").rglob("index.html"))
    return [each for each in found if not each.startswith("docs/design/")]


def watched(browser: sync_api.Browser, scheme: Scheme, width: int, address: str, findings: Findings) -> sync_api.Page:
    """A page that reports errors and requests to any other host."""
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    page.set_default_timeout(PATIENCE_MS)

    def said(message: sync_api.ConsoleMessage) -> None:
        if message.type in ("error", "warning"):  # what a browser has to say of a page of ours is for us to mend
            findings.add(page.url, f"console: {message.text}")

    def answered(response: sync_api.Response) -> None:
        if response.status >= 400:
            findings.add(page.url, f"{response.url}: {response.status}")

    def asked(request: sync_api.Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            findings.add(page.url, f"asks another host: {request.url}")

    page.on("console", said)
    page.on("pageerror", lambda error: findings.add(page.url, f"error: {error}"))
    page.on("request", asked)
    page.on("response", answered)
    return page


def accessible(page: sync_api.Page, where: str, findings: Findings, *, part: str | None = None) -> None:
    """Every rule of axe holds, on the whole page or in a part of it."""
    result: dict[str, Any] = Axe().run(page, context=part).response
    for violation in result["violations"]:
        nodes = violation["nodes"]
        findings.add(where, f"axe {violation['id']} ({len(nodes)}): {violation['help']}; {nodes[0]['html'][:160]}")
    if not result["passes"]:
        findings.add(where, "axe looked at nothing")


def fits(page: sync_api.Page, where: str, findings: Findings) -> None:
    """Nobody has to scroll a page sideways, and every picture is there."""
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth + 1"):
        findings.add(where, "is wider than the window")
    lost = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
    for source in page.evaluate(lost):
        findings.add(where, f"picture is not shown: {source}")


def searching(page: sync_api.Page, address: str, findings: Findings) -> None:
    """A word that is typed leads to the page that has it."""
    page.add_init_script(OPEN_SHADOWS)
    page.goto(f"{address}/")
    hit = page.locator("a[href*='docs/fields/']", has_text=f"spec.{SEARCHED}").first
    box = page.locator("input[aria-label='Search'][aria-autocomplete]")
    try:
        box.wait_for(state="attached")  # from then on the keys are heard
        page.keyboard.press("Control+k")
        box.fill(SEARCHED)
        hit.wait_for()
        page.screenshot(path=SCREENS / "search.png")
        hit.click()
        page.wait_for_url("**/docs/fields/**")
    except sync_api.TimeoutError as error:
        findings.add("search", f"{SEARCHED} does not lead to the page that describes it: {error.message}")


def darkness(page: sync_api.Page, address: str, findings: Findings) -> None:
    """The button changes the colours, and the choice is kept on the next page."""
    page.goto(f"{address}/")
    shade = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(shade)
    page.locator("label[title='Switch to dark mode']").click()
    page.wait_for_function(f"{shade} !== '{before}'")
    chosen = page.evaluate(shade)
    page.goto(f"{address}/docs/install/")
    if page.evaluate(shade) != chosen:
        findings.add("dark mode", "is forgotten on the next page")


def choosing(page: sync_api.Page, address: str, findings: Findings) -> None:
    """A reader sees which version this is, and all others."""
    page.goto(f"{address}/")
    shown = page.locator(".md-version__current")
    shown.wait_for()
    if shown.inner_text().strip() != address.rpartition("/")[2]:
        findings.add("versions", f"{address} says that it is {shown.inner_text()}")
    if not page.locator(".md-version__link").count():
        findings.add("versions", "none is listed")


def views(site: Path) -> Iterator[tuple[Scheme, int, list[str]]]:
    """Of each view the pages to look at: those of THOROUGHLY in all, each other one in one of them."""
    others = [each for each in pages(site) if each not in THOROUGHLY]
    for number, (scheme, width) in enumerate(VIEWS):
        yield scheme, width, [*THOROUGHLY, *others[number :: len(VIEWS)]]


def main(arguments: list[str]) -> int:
    """Look at everything; return the exit code."""
    site = Path(arguments[0]).resolve() if arguments else SITE
    # The pages of a version look for the list of all versions beside their folder.
    versioned = (site.parent / versions.LIST).exists()
    SCREENS.mkdir(parents=True, exist_ok=True)
    findings, began, seen = Findings(), time.monotonic(), 0
    with server.serving(site.parent if versioned else site) as host, sync_api.sync_playwright() as playwright:
        address = f"{host}/{site.name}" if versioned else host
        # Its sandbox needs user namespaces, which root in a container has not; the pages are our own.
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        for scheme, width, names in views(site):
            page = watched(browser, scheme, width, host, findings)
            for name in names:
                where = f"{name or 'home'} ({scheme}, {width})"
                page.goto(f"{address}/{name}")
                # What is around the text is the same everywhere.
                accessible(page, where, findings, part=None if name in THOROUGHLY else "article")
                fits(page, where, findings)
                if name in THOROUGHLY:
                    picture = f"{name.strip('/').replace('/', '-') or 'home'}-{scheme}-{width}.png"
                    page.screenshot(path=SCREENS / picture)
                seen += 1
            page.context.close()
        for look in (searching, darkness, *((choosing,) if versioned else ())):
            look(watched(browser, "light", WIDTHS[0], host, findings), address, findings)
        browser.close()
    took = f"{time.monotonic() - began:.0f} s"
    print(f"{seen} views of pages, {len(findings.lines)} findings, {took}; pictures: {SCREENS}")  # noqa: T201
    return 1 if findings.lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
