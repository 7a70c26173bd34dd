"""Settings come from the environment once, and say which variable is wrong."""

from __future__ import annotations

import dataclasses

import pytest

from workbench.errors import OptionError
from workbench.settings import Settings


def test_defaults_need_no_environment():
    assert Settings.from_env({}) == Settings()
    assert Settings().offline is False


def test_every_field_is_documented():
    for field in dataclasses.fields(Settings):
        assert f"        {field.name}: " in Settings.__doc__


@pytest.mark.parametrize("name", ["WORKBENCH_OFFLINE", "HF_HUB_OFFLINE"])
@pytest.mark.parametrize(
    ("value", "offline"), [("1", True), ("True", True), ("0", False), ("", False)]
)
def test_either_variable_forbids_the_network(name, value, offline):
    assert Settings.from_env({name: value}).offline is offline


def test_values_are_read():
    env = {
        "WORKBENCH_DEVICE": "cuda:1",
        "WORKBENCH_DTYPE": "bfloat16",
        "WORKBENCH_MAX_PIXELS": "1_000",
    }
    expected = Settings(False, "cuda:1", "bfloat16", 1000)
    assert Settings.from_env(env) == expected


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"WORKBENCH_OFFLINE": "maybe"}, "WORKBENCH_OFFLINE must be 1 or 0, got 'maybe'"),
        ({"WORKBENCH_MAX_PIXELS": "many"}, "WORKBENCH_MAX_PIXELS must be a whole number"),
        ({"WORKBENCH_MAX_PIXELS": "0"}, "max_pixels must be a whole number of 1 or more, got 0"),
        ({"WORKBENCH_DEVICE": "tpu"}, "device must be one of auto, cpu"),
        ({"WORKBENCH_DTYPE": "int3"}, "dtype must be one of auto, float32"),
    ],
)
def test_wrong_values_are_named(env, message):
    with pytest.raises(OptionError, match=message):
        Settings.from_env(env)


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().offline = True
