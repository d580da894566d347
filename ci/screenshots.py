"""Takes the pictures of the report's page for docs/, in a headless Chromium.

python ci/screenshots.py GREEN WRONG    the report folders of a run that conforms, and of one with
                                        examples/wrong_shuffle.py and examples/wrong_gradient.py
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

DOCS = Path(__file__).resolve().parents[1] / "docs"
CHECK = "#channel_shuffle/wrong_inverse@cpu:identity-probe-f32-c12-g3"
HEIGHTS = {1280: 1560, 400: 1800}
# Text and flat areas need no more colours.
COLOURS = 256


def take(browser: Browser, folder: Path, name: str, scheme: str, width: int, address: str) -> None:
    """Takes a picture of the page from its top."""
    context = browser.new_context(
        viewport={"width": width, "height": HEIGHTS[width]}, color_scheme=scheme
    )
    page = context.new_page()
    page.goto(f"{(folder / 'index.html').absolute().as_uri()}{address}")
    page.wait_for_selector("html[data-ready]")
    picture = Image.open(io.BytesIO(page.screenshot()))
    context.close()
    file = DOCS / f"report-{name}-{scheme}-{width}.png"
    picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.name}: {file.stat().st_size // 1000} kB")


def main() -> None:
    """Takes every picture, or prints how to call this script."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    green, wrong = map(Path, sys.argv[1:])
    with sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for scheme in ("light", "dark"):
            for width in HEIGHTS:
                take(browser, green, "conforms", scheme, width, "")
                take(browser, wrong, "fails", scheme, width, "")
                take(browser, wrong, "check", scheme, width, CHECK)
        browser.close()


if __name__ == "__main__":
    main()
