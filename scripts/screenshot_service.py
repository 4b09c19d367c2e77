"""Pictures of the web page of a running `luna serve`, taken in a headless Chromium, for docs/images/.

usage: screenshot_service.py URL OUT.png [--scan SCAN] [--wait CSS] [--after S] [--finding 1] [--dark]
       [--size 1440x900]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from chromium import Chromium

REPORT = "#report iframe"


def main() -> None:
    """Drop a scan if one is named, wait for what is to be seen, and save what is in view."""
    parser = argparse.ArgumentParser(description="Pictures of the page of luna serve.")
    parser.add_argument("url", help="of the server; with #ID of one of its jobs")
    parser.add_argument("out", type=Path)
    parser.add_argument("--scan", type=Path, help="a file or folder to drop")
    parser.add_argument("--wait", default="main", metavar="CSS", help="until this is there")
    parser.add_argument("--after", type=float, default=1.0, metavar="S", help="and so many seconds more")
    parser.add_argument("--finding", type=int, help="to select in the report, from 1")
    parser.add_argument("--size", default="1440x900", help="of the window, in CSS pixels")
    parser.add_argument("--dark", action="store_true", help="as for a reader who likes it dark")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with Chromium(width, height) as browser:
        if arguments.dark:
            features = [{"name": "prefers-color-scheme", "value": "dark"}]
            browser.call("Emulation.setEmulatedMedia", features=features)
        browser.go(arguments.url)
        if arguments.scan:
            browser.drop(arguments.scan.resolve())
        browser.wait(f"document.querySelector({json.dumps(arguments.wait)})?.checkVisibility() ?? false")
        if arguments.finding:
            select(browser, arguments.finding)
        time.sleep(arguments.after)  # it is drawn by then
        browser.screenshot(arguments.out)
        print("\n".join(browser.complaints))


def select(browser: Chromium, rank: int) -> None:
    """A finding in the report of the job in view."""
    browser.wait(f"document.querySelector({json.dumps(REPORT)}) !== null")
    with browser.inside_frame("report.html"):
        browser.wait("typeof isOpen !== 'undefined' && isOpen")
        browser.click(f"tr[data-finding='{rank - 1}']")


if __name__ == "__main__":
    main()
