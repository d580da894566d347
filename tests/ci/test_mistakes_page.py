"""The page about known mistakes says what the code says."""

import pytest

from ci.mistakes_page import PAGE, appearances, section
from conformance.subjects import catalogue
from tests.gradient_mean.test_kills import kills
from tests.wrong.forms import forms

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_gradient_section_is_as_it_would_be_written():
    shown = appearances(kills(), "gradient_mean")
    written = section("gradient_mean", kills(), shown) == TEXT[TEXT.index("## Gradient averages") :]
    assert written, "docs/mistakes.md is out of date: python -m ci.mistakes_page"


@pytest.mark.parametrize("mistake", catalogue(), ids=lambda mistake: mistake.name)
def test_each_mistake_stands_there_with_what_to_write_instead_and_its_forms(mistake):
    own = TEXT.partition(f"\n### {mistake.name}\n")[2].partition("\n### ")[0]
    assert f"**Instead.** {mistake.advice}" in own
    for form in forms():
        if form.mistake == mistake.name:
            assert f"def {form.implementation.name}(" in own
