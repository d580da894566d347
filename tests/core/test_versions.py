from dataclasses import replace

import pytest
from packaging.version import Version

from conformance.core import versions
from conformance.core.checks import all_checks
from conformance.core.clauses import all_clauses
from conformance.core.implementations import own, own_folder
from conformance.core.outcomes import UsageError
from conformance.core.versions import Span
from conformance.run.known import read as read_known
from conformance.subjects import all_cases

CHECKS = all_checks(own(), all_cases(), ("cpu",))


@pytest.fixture
def here(monkeypatch):
    """Pretend that these versions are installed."""

    def pretend(**packages):
        found = {name: Version(version) for name, version in packages.items()}
        monkeypatch.setattr(versions, "installed", found.get)

    return pretend


@pytest.mark.parametrize(
    ("since", "until", "version", "outside"),
    [
        ("torch 2.12", "", "2.12.0", ""),
        ("torch 2.12", "", "2.11.9", "torch 2.11.9"),
        ("torch 2.12", "", "2.12.0rc1", "torch 2.12.0rc1"),
        ("", "torch 2.12.1", "2.12.1", ""),
        ("", "torch 2.12.1", "2.13.0", "torch 2.13.0"),
        ("jax 0.9", "", "2.0", ""),  # of a package that is not here nothing can be said
    ],
)
def test_both_ends_are_included(here, since, until, version, outside):
    here(torch=version)
    assert Span(since, until).outside == outside


def test_what_the_builder_added_is_no_later_version(monkeypatch):
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda _: "2.13.0+cu130")
    assert versions.installed.__wrapped__("torch") == Version("2.13.0")


def check(text):
    return next(one for one in CHECKS if one.id.startswith(text))


def test_what_an_older_version_lacks_is_said(here):
    here(jax="0.7.1", flax="0.12.8", torch="2.9.1")
    assert versions.refusal(check("gradient_mean/jax_pcast@")) == (
        "needs jax>=0.8.2; here is jax 0.7.1"
    )
    assert versions.refusal(check("gradient_mean/jax_jit_sharding@cpu:jax-without-x64-f64")) == (
        "jax has enable_x64 (since jax 0.8.0); here is jax 0.7.1"
    )
    assert versions.refusal(check("channel_shuffle/torch_module@")) == ""


@pytest.mark.parametrize(
    ("needs", "version", "refused"),
    [
        (("torch>=2.12",), "2.12.0", ""),
        (("torch>=2.12",), "2.13.0.dev20260101", ""),
        (("torch>=2.12",), "2.12.0rc1", "needs torch>=2.12; here is torch 2.12.0rc1"),
        (("torch>=2.12",), "2.11.9", "needs torch>=2.12; here is torch 2.11.9"),
        (("torch!=2.12.1,>=2",), "2.12.1", "needs torch!=2.12.1,>=2; here is torch 2.12.1"),
        (("einops", "torch<3"), "3.0", "needs torch<3; here is torch 3.0"),
        (("nothing_like_it>=1",), "2.12.0", ""),  # whoever imports it says so
    ],
)
def test_what_an_implementation_needs_is_held_to_what_is_installed(here, needs, version, refused):
    here(torch=version)
    needing = replace(check("channel_shuffle/torch_module@"), implementation=needing_of(needs))
    assert versions.refusal(needing) == refused


def needing_of(needs):
    return replace(check("channel_shuffle/torch_module@").implementation, needs=needs)


def test_a_clause_that_does_not_hold_yet_is_not_asked(here):
    here(jax="0.9.0")
    assert versions.refusal(check("gradient_mean/jax_pmap@cpu:jax-pmap-leading")) == (
        "J1 holds since jax 0.9.1; here is jax 0.9.0"
    )
    here(jax="0.9.1")
    assert versions.refusal(check("gradient_mean/jax_pmap@cpu:jax-pmap-leading")) == ""


def test_with_the_pinned_versions_everything_is_asked(here):
    here(jax="0.10.2", flax="0.12.8", torch="2.13.0")
    assert [one.id for one in CHECKS if versions.refusal(one)] == []


def test_every_entry_means_a_check():
    from fnmatch import fnmatchcase

    for need in versions.needs():
        for glob in need.checks:
            assert any(fnmatchcase(one.id, glob) for one in CHECKS), glob


def test_every_version_that_is_named_can_be_read():
    for clause in all_clauses():
        Span(clause.since, clause.until)
    for entry in read_known(own_folder() / "known.toml"):
        Span(entry.since, entry.until)


def test_a_difference_of_other_versions_is_not_known_here(tmp_path, monkeypatch):
    from conformance.run import plan

    whole = plan.make_plan(["channel_shuffle/numpy_reshape"]).known
    monkeypatch.setattr(
        plan, "read_known", lambda *_: (*whole, *(plan_entry(u) for u in ("torch 1.0", "")))
    )

    def plan_entry(until):
        return replace(whole[0], checks=("*",), until=until)

    assert len(plan.make_plan(["channel_shuffle/numpy_reshape"]).known) == len(whole) + 1


@pytest.mark.parametrize("text", ["0.8.2", "jax", "jax new", "jax 0.8 0.9"])
def test_an_end_that_names_no_version_is_refused(text):
    with pytest.raises(UsageError, match="is no package and version"):
        Span(since=text)


def test_a_file_of_another_form_is_named(tmp_path):
    file = tmp_path / "versions.toml"
    file.write_text('[[needs]]\nchecks = ["*"]\nwords = "x"\nwhen = "now"\n')
    with pytest.raises(UsageError, match=r"versions\.toml"):
        versions.read(file)
