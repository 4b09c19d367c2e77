"""Pictures of a report.html, taken in a headless Chromium, for docs/images/.

usage: screenshot_report.py REPORT_HTML OUT.png [--finding F1] [--size 1440x900] [--viewer] [--dark]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from chromium import Chromium


def main() -> None:
    """Open the page, select a finding if one is named, and save what is in view."""
    parser = argparse.ArgumentParser(description="Pictures of a report.html.")
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--finding", help="its id, such as F1")
    parser.add_argument("--size", default="1440x900", help="of the window, in CSS pixels")
    parser.add_argument("--scale", type=float, default=1.0, help="pixels of the picture per CSS pixel")
    parser.add_argument("--viewer", action="store_true", help="the viewer alone")
    parser.add_argument("--dark", action="store_true", help="as for a reader who likes it dark")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with Chromium(width, height) as browser:
        browser.resize(width, height, arguments.scale)
        if arguments.dark:
            features = [{"name": "prefers-color-scheme", "value": "dark"}]
            browser.call("Emulation.setEmulatedMedia", features=features)
        browser.open(arguments.report)
        browser.wait("isOpen || getComputedStyle(document.getElementById('start')).display !== 'none'")
        if arguments.finding:
            place = browser.evaluate(f"facts.findings.findIndex((f) => f.id === {arguments.finding!r})")
            browser.evaluate(f"select({place})")
        browser.evaluate("new Promise((done) => setTimeout(done, 800))")  # until it is drawn
        if arguments.viewer:
            browser.screenshot_of(arguments.out, "#viewer")
        else:
            browser.screenshot(arguments.out)
        print("\n".join(browser.complaints))


if __name__ == "__main__":
    main()
