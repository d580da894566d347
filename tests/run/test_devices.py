"""Devices by name, and what a call says of those that are not here."""

import pytest

from conformance.core.checks import Check, Pattern, all_checks, parted
from conformance.core.formats import Bits
from conformance.core.outcomes import UsageError
from conformance.frameworks import Description
from conformance.run.devices import DEVICES, NOWHERE, Machine, named
from conformance.run.plan import make_plan

FULL = Bits(24, 24)
MISSING = {"cuda": "torch 9.9 is built without CUDA", "tpu": "no tpu", "mps": "no mps"}
CPU = Description({"torch": "9.9"}, {"cpu": "a CPU"}, {}, MISSING, {"cpu": {"f32": Bits(24, 24)}})
TWO = Description(
    {"jax": "9.9"},
    {"cpu:0": "cpu", "cpu:1": "cpu", "cuda:0": "a GPU", "cuda:1": "another"},
    {},
    {"tpu": "no tpu"},
    {"cpu": {"f32": FULL}, "cuda:0": {"f32": FULL}, "cuda:1": {"f32": Bits(11, 24)}},
)
MACHINE = Machine({"torch": CPU, "jax": TWO})


def test_all_is_one_of_every_kind():
    assert named(["all"]) == DEVICES
    assert named(["cuda:1", "cuda:1", "cpu"]) == ("cuda:1", "cpu")


@pytest.mark.parametrize(
    "name", ["quantum", "cuda:", "cuda:x", "cuda:-1", "cpu:1", "CPU", "", "al"]
)
def test_a_name_that_no_device_has_is_refused_with_those_that_there_are(name):
    with pytest.raises(UsageError, match=r"unknown device .*; known: cpu, cuda, tpu, mps, all"):
        named([name])


def test_a_device_that_one_framework_has_is_enough():
    MACHINE.require("cuda")
    MACHINE.require("cuda:1")
    assert MACHINE.lacks("jax", "cuda") == MACHINE.lacks("jax", "cpu") == ""
    assert MACHINE.lacks("torch", "cuda") == "torch 9.9 is built without CUDA"
    assert MACHINE.lacks("jax", "cuda:2") == "jax sees 2 cuda devices: there is no cuda:2"


def test_a_device_that_nobody_has_is_told_with_what_there_is_and_why():
    with pytest.raises(UsageError) as told:
        Machine({"torch": CPU}).require("cuda")
    assert str(told.value) == (
        "no device cuda here; there is cpu (torch); torch 9.9 is built without CUDA"
    )
    with pytest.raises(UsageError, match=r"there is cpu \(torch, jax\), cuda:0 \(jax\), cuda:1"):
        MACHINE.require("cuda:7")


def test_the_least_precise_of_several_devices_counts():
    assert MACHINE.matmul_bits("jax", "cuda", "f32") == Bits(11, 24)
    assert MACHINE.matmul_bits("jax", "cuda:0", "f32") == FULL
    assert MACHINE.matmul_bits("jax", "cpu", "f32") == FULL
    assert MACHINE.matmul_bits("jax", "cuda", "i32") is None


def test_where_nothing_is_known_nothing_is_lacking():
    assert NOWHERE.lacks("torch", "cuda") == ""
    assert NOWHERE.matmul_bits("torch", "cuda", "f32") is None


def test_a_device_with_its_number_goes_through_an_id_and_back():
    plan = make_plan(["channel_shuffle/numpy_reshape"], ["cuda:1"])
    check: Check = plan.checks[0]
    assert parted(check.id) == ("channel_shuffle/numpy_reshape", "cuda:1", check.case.name)
    assert Pattern.parse(check.id).takes(check.implementation, check.case, "cuda:1")
    assert not Pattern.parse(check.id).takes(check.implementation, check.case, "cuda:0")
    assert all_checks([check.implementation], [check.case], ["cuda:1"]) == [check]


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tpu"])
def test_a_pattern_that_names_a_device_needs_no_device_beside_it(device):
    plan = make_plan([f"channel_shuffle/numpy_reshape@{device}:grid-c6-g2"])
    assert [check.device for check in plan.checks] == [device]
    assert plan.required == ("cpu", device)


def test_what_all_brings_is_not_required():
    plan = make_plan(["channel_shuffle/numpy_reshape"], ["all", "cuda"])
    assert plan.devices == DEVICES
    assert plan.required == ("cuda",)
