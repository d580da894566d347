"""An SVG badge: whether a run conforms, and how many checks say so."""

from html import escape

from conformance.report.summary import Summary

_LETTER = 6.6  # Pixels of a letter of 11 px sans-serif; `textLength` makes it so.
_FONTS = "Verdana,DejaVu Sans,Geneva,sans-serif"
_COLOURS = {
    "conforms": "#0c634c",
    "fails": "#a82017",
    "cut short": "#6d4d00",
    "nothing tested": "#6d4d00",
    "a part": "#6d4d00",
}


def text(summary: Summary) -> str:
    """Draws `badge.svg`: conforms, fails, or cut short, which is neither."""
    failed, is_whole = summary.failed, summary.run.footer is not None
    kind: str = "fails" if failed else summary.kind
    if failed:
        message = f"{failed} of {summary.total} fail" + ("" if is_whole else ", cut short")
    elif not is_whole:
        message = f"cut short after {summary.total}"
    elif summary.run.untested:
        message = "nothing tested" if summary.total else "nothing asked"
    elif summary.run.last_failed:
        message, kind = f"{summary.total} of what failed conform", "a part"
    else:
        quick = ", quick" if summary.run.quick else ""
        message = f"{summary.total - summary.not_tested} conform{quick}"
    return _drawn("conformance", message, _COLOURS[kind])


def _drawn(label: str, message: str, colour: str) -> str:
    left, right = (round(len(words) * _LETTER) + 12 for words in (label, message))
    title = escape(f"{label}: {message}")

    def written(words: str, middle: float, width: int) -> str:
        return (
            f'<text x="{middle}" y="14" textLength="{width - 12}" lengthAdjust="spacingAndGlyphs">'
            f"{escape(words)}</text>"
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
            written(label, left / 2, left),
            written(message, left + right / 2, right),
            "</g>",
            "</svg>",
            "",
        ]
    )
