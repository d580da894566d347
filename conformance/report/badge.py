"""An SVG badge: whether a run conforms, and how many checks say so."""

from html import escape

from conformance.run.results import Run

_LETTER = 6.6  # pixels, of 11 px sans-serif; `textLength` makes it so
_FONTS = "Verdana,DejaVu Sans,Geneva,sans-serif"
_COLOURS = {"conforms": "#0c634c", "fails": "#a82017", "cut short": "#6d4d00"}


def text(run: Run) -> str:
    """`badge.svg`: conforms, fails, or cut short, which is neither.

    >>> "nothing asked" in text(Run({}, (), {}))
    True
    """
    failed = sum(not record.conforms for record in run.records)
    if failed:
        kind, message = "fails", f"{failed} of {len(run.records)} fail"
    elif run.footer is None:
        kind, message = "cut short", f"cut short after {len(run.records)}"
    elif run.records:
        kind, message = "conforms", f"{len(run.records)} conform"
    else:
        kind, message = "cut short", "nothing asked"
    if failed and run.footer is None:
        message += ", cut short"
    return _drawn("conformance", message, _COLOURS[kind])


def _drawn(label: str, message: str, colour: str) -> str:
    left, right = (round(len(words) * _LETTER) + 12 for words in (label, message))
    title = escape(f"{label}: {message}")

    def words(told: str, middle: float, width: int) -> str:
        return (
            f'<text x="{middle}" y="14" textLength="{width - 12}" lengthAdjust="spacingAndGlyphs">'
            f"{escape(told)}</text>"
        )

    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20"'
    return "\n".join(
        [
            f'{head} role="img" aria-label="{title}">',
            f"<title>{title}</title>",
            f'<clipPath id="round"><rect width="{left + right}" height="20" rx="4"/></clipPath>',
            '<g clip-path="url(#round)">',
            f'<rect width="{left}" height="20" fill="#45433f"/>',
            f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/>',
            "</g>",
            f'<g fill="#fff" text-anchor="middle" font-size="11" font-family="{_FONTS}">',
            words(label, left / 2, left),
            words(message, left + right / 2, right),
            "</g>",
            "</svg>",
            "",
        ]
    )
