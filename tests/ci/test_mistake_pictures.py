"""The pictures of docs/mistakes.md: whole SVG, in which what is wrong is marked."""

from xml.etree import ElementTree

import numpy as np

from ci.mistake_pictures import permutations, weights
from conformance.core.questions import GradientQuestion

SVG = "{http://www.w3.org/2000/svg}"


def marked(picture):
    return [text.text for text in ElementTree.fromstring(picture).iter(f"{SVG}text")].count("✗")


def test_channels_that_stand_wrong_are_marked():
    right = (0, 2, 4, 1, 3, 5)
    assert marked(permutations(right, (0, 3, 1, 4, 2, 5), 2)) == 4
    assert marked(permutations(right, right, 2)) == 0


def test_every_sample_has_a_bar_for_what_is_right_and_one_for_what_was_given():
    question = GradientQuestion("spectrometer", ((2, 1),))
    right, given = np.array([0.25, 0.25, 0.5]), np.array([0.25, np.inf, 0.0])
    root = ElementTree.fromstring(weights(question, right, given))
    bars = list(root.iter(f"{SVG}rect"))
    assert len(bars) == 6
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights[0] == heights[1] == heights[3] == heights[5] / 2 > 0
    assert heights[2] == heights[4] == 0, "what is infinite has no height"
    assert bars[2].attrib["fill"] != bars[0].attrib["fill"]
