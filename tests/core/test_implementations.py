import sys
from pathlib import Path

import pytest

import conformance
from conformance.core import implementations as registry
from conformance.core.outcomes import UsageError
from conformance.run.adapters import gather

HEAD = "import conformance\n"
GOOD = """
@conformance.implementation("channel_shuffle", framework="numpy")
def mine(x, groups):
    return x
"""


@pytest.fixture
def adapter(tmp_path):
    def written(text, name="mine.py"):
        (tmp_path / name).write_text(HEAD + text)
        return str(tmp_path / name)

    return written


def test_the_decorator_returns_the_function_unchanged():
    def mine(x, groups):
        return x

    decorated = conformance.implementation("channel_shuffle", framework="numpy")(mine)
    assert decorated is mine


def test_an_adapter_declares_what_it_decorates(adapter):
    (declared,) = registry.adapter(adapter(GOOD))
    assert (declared.id, declared.promise) == ("channel_shuffle/mine", "copy")
    assert registry.function_of(declared)(3, 1) == 3


def test_a_name_may_be_given(adapter):
    (declared,) = registry.adapter(adapter(GOOD.replace('"numpy"', '"numpy", name="other"')))
    assert declared.name == "other"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 / 0\n", "does not import: ZeroDivisionError: division by zero"),
        ("import nothing_like_it\n", "mine.py:2: does not import: ModuleNotFoundError"),
        ("\nraise SystemExit(3)\n", "mine.py:3: does not import: SystemExit: 3; what ends the pro"),
        ("from . import a\n", "no known parent package; from the folder that its package is in:"),
        ("x = (\n", "does not import: SyntaxError"),
        ("\n", "declares no implementation"),
        (GOOD + GOOD, "channel_shuffle/mine is declared already"),
        (GOOD.replace("channel_shuffle", "shuffle"), "unknown operation 'shuffle'"),
        (GOOD.replace('"numpy"', '"tensorflow"'), "unknown framework 'tensorflow'"),
        (GOOD.replace('"numpy"', '"numpy", promise="best"'), "unknown promise of channel_shuffle"),
        (GOOD.replace('"numpy"', '"numpy", layout="last"'), "unknown layout 'last'"),
        (
            GOOD.replace('"numpy"', '"numpy", micro_batches="mean"'),
            "micro_batches='mean' is for rank_mean, sample_mean, rank_sum; copy is said without it",
        ),
        (GOOD.replace('"numpy"', '"numpy", name="a b"'), "letters, digits and underscores"),
        (GOOD.replace('"numpy"', '"numpy", devices="two"'), "unknown devices 'two'; known: each"),
        (GOOD.replace('"numpy"', '"numpy", batch="all"'), "unknown batch 'all'; known: shard"),
        (GOOD.replace('"numpy"', '"numpy", spans="hosts"'), "unknown spans 'hosts'"),
        (
            GOOD.replace('"numpy"', '"numpy", clip="value"'),
            "unknown clip 'value'; known: none, norm",
        ),
        (
            GOOD.replace('"numpy"', '"numpy", clip="norm"'),
            "clip='norm' is asked of rank_mean alone",
        ),
        (GOOD.replace('"numpy"', '"numpy", needs="numpy 2"'), "is no requirement, as in 'torch>="),
        (GOOD.replace('"numpy"', '"numpy", needs=2'), "needs=2: one is meant, as in 'torch>=2.12'"),
        (GOOD.replace('"numpy"', '"numpy", dtypes=32'), "dtypes=32: one is meant, as in 'f32', or"),
        (GOOD.replace('"numpy"', '"numpy", ndim="4"'), "ndim='4': one is meant, as in 4, or sever"),
        (GOOD.replace('"numpy"', '"numpy", ndim=[4, None]'), "ndim=[4, None]: one is meant, as in"),
        (GOOD.replace('"numpy"', '"numpy", name=3'), "3: a name is letters, digits and undersco"),
        (GOOD.replace('"numpy"', '["numpy"]'), "unknown framework ['numpy']; known: torch, jax"),
        (GOOD.replace('"channel_shuffle"', "[]"), "unknown operation []; known: channel_shuffle"),
        (GOOD.replace('"numpy"', '"numpy", vjp=True'), "vjp=True is no function of (x, groups, co"),
        (GOOD.replace('"numpy"', '"numpy", ndims=4'), "argument 'ndims'; it takes operation, fram"),
        (GOOD.replace("x, groups", "groups, x"), "parameter 1 is 'groups' and must be 'x'"),
    ],
)
def test_a_bad_adapter_is_one_line_that_names_the_file(adapter, text, words):
    file = adapter(text)
    with pytest.raises(UsageError) as caught:
        registry.adapter(file)
    assert words in str(caught.value)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_true_of_an_implementation_is_in_its_declaration(adapter):
    words = 'needs=("numpy>=2", "einops"), devices="one", batch="whole", spans="process"'
    file = adapter(GOOD.replace('"numpy"', f'"numpy", {words}'))
    (ran,) = registry.adapter(file)
    assert ran.needs == ("numpy>=2", "einops")
    assert (ran.devices, ran.batch, ran.spans) == ("one", "whole", "process")
    assert registry.declared_in(Path(file)) == [ran]


def test_one_requirement_may_be_a_string(adapter):
    (declared,) = registry.adapter(adapter(GOOD.replace('"numpy"', '"numpy", needs="numpy>=2"')))
    assert declared.needs == ("numpy>=2",)


@pytest.mark.parametrize(
    ("words", "spans"),
    [("", "processes"), (', devices="one"', "process"), (', spans="process"', "process")],
)
def test_what_one_device_is_enough_for_stays_in_one_process(adapter, words, spans):
    (declared,) = registry.adapter(adapter(GOOD.replace('"numpy"', f'"numpy"{words}')))
    assert declared.spans == spans


def test_groups_by_keyword_only_are_handed_over_so(adapter):
    text = GOOD.replace("x, groups", "x, *, groups").replace("return x", "return x * groups")
    (declared,) = registry.adapter(adapter(text))
    assert registry.function_of(declared)(3, 2) == 6


def test_a_missing_adapter_is_named():
    with pytest.raises(UsageError, match=r"adapter nowhere\.py: no such file"):
        registry.adapter("nowhere.py")


@pytest.mark.parametrize("name", ["mine.ipynb", "mine", ".", "", "some/thing", "two words"])
def test_what_is_neither_a_file_of_python_nor_a_module_is_told(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    for file in ("mine", "mine.ipynb"):
        Path(file).touch()
    with pytest.raises(UsageError, match=f"adapter {name}: is neither a FILE"):
        registry.adapter(name)


def test_a_missing_module_is_named():
    with pytest.raises(UsageError, match=r"adapter no\.such\.module: does not import"):
        registry.adapter("no.such.module")


def test_a_module_may_be_an_adapter(adapter, monkeypatch):
    file = Path(adapter(GOOD, "some_module_of_mine.py"))
    monkeypatch.setattr(sys, "path", [str(file.parent), *sys.path])
    (declared,) = registry.adapter("some_module_of_mine")
    assert declared.origin == "some_module_of_mine"


def test_a_name_of_the_suite_cannot_be_taken(adapter):
    taken = registry.own()[0]
    file = adapter(GOOD.replace("mine", taken.name))
    with pytest.raises(UsageError, match=f"{taken.id} is declared already"):
        gather([file])


def test_what_is_read_from_the_source_is_what_running_it_declares():
    """Listing reads the syntax tree; here NumPy's files are run as well, and must say the same."""
    for declared in registry.own():
        if declared.framework == "numpy":
            (ran,) = registry.adapter(declared.origin)
            assert ran == declared


def test_a_file_holds_one_implementation_of_its_own_name():
    for declared in registry.own():
        assert Path(declared.origin).stem == declared.name
