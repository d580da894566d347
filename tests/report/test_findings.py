from conformance.report.findings import findings
from tests.report.records import record


def failing(*fits, answer="1", status="fail"):
    return record("a", "-".join(fits), answer, status, fits=fits)


def finding(*records):
    (one,) = findings(records)
    return one


def test_a_name_that_fits_every_wrong_answer_is_given_with_what_was_done():
    one = finding(failing("inverse-groups"), failing("inverse-groups", "applied-twice"))
    assert one.mistake == "inverse-groups"
    assert one.sentence == (
        "channel_shuffle/a@cpu fails 2 of 2 checks; all are consistent with inverse-groups: "
        "shuffled with C/g groups where g were asked for"
    )


def test_what_no_single_check_names_all_of_them_together_can():
    one = finding(
        failing("inverse-groups", "applied-twice"), failing("inverse-groups", "no-transpose")
    )
    assert one.mistake == "inverse-groups"


def test_one_answer_that_fits_no_mistake_takes_the_name_away():
    one = finding(failing("inverse-groups"), failing("inverse-groups"), failing())
    assert one.mistake is None
    assert one.sentence.endswith("no one mistake fits all of their 3 answers: inverse-groups 2")


def test_mistakes_that_contradict_each_other_are_counted():
    one = finding(failing("inverse-groups"), failing("no-transpose"))
    assert one.mistake is None
    assert one.sentence.endswith("of their 2 answers: inverse-groups 1, no-transpose 1")


def test_two_mistakes_that_explain_everything_together_are_named():
    one = finding(*[failing("inverse-groups")] * 4, failing("no-transpose", "applied-twice"))
    assert one.mistake is None
    assert one.sentence.endswith(
        "each of 5 answers is consistent with inverse-groups (4) or with no-transpose (1)"
    )
    assert finding(*[failing("inverse-groups")] * 4, failing()).pair == ()


def test_what_cannot_be_told_apart_is_said_so():
    both = ("inverse-groups", "applied-twice")
    one = finding(failing(*both), failing(*both))
    assert one.mistake is None
    assert one.sentence.endswith("all are consistent with inverse-groups and with applied-twice")


def test_what_raised_says_nothing_of_a_mistake_and_is_counted():
    one = finding(failing("no-transpose"), failing(answer=None, status="error"))
    assert one.mistake == "no-transpose"
    assert "fails 2 of 2 checks; the one answer among them is consistent with no-tr" in one.sentence


def test_nothing_but_errors_has_no_reading():
    one = finding(failing(answer=None, status="crash"))
    assert one.sentence == "channel_shuffle/a@cpu fails 1 of 1 checks, none of them with an answer"


def test_each_implementation_has_its_own_sentence():
    owners = [
        one.owner for one in findings([failing(), record("b", "x", "1"), failing("no-transpose")])
    ]
    assert owners == ["channel_shuffle/a@cpu"]


def asked(case, status="exact"):
    return record("a", case, None if status == "error" else "1", status)


def test_code_for_images_alone_is_told_how_to_say_so():
    one = finding(asked("grid-c1-g1", "error"), asked("documentation-example"))
    assert one.sentence.endswith(
        "fails 1 of 2 checks, none of them with an answer; its answers are all to inputs of 4 "
        "dimensions, its errors to others: if it is for such inputs alone, declare ndim=4"
    )


def test_what_also_raises_on_images_is_not_excused_by_their_dimensions():
    images = ["documentation-example", "identity-probe-f32-c12-g3"]
    both = finding(asked("grid-c1-g1", "error"), asked(images[0]), asked(images[1], "error"))
    assert not both.ndim
    assert not finding(asked("grid-c1-g1", "error")).ndim  # Nothing was answered.
    assert not finding(asked("of-another-version", "error"), asked(images[0])).ndim
    wrong = finding(asked("grid-c1-g1", "fail"), asked(images[0]))
    assert not wrong.ndim
