"""The agent's configuration: defaults, file, environment, and typos that are refused by name."""

from pathlib import Path

import msgspec
import pytest
from edgesdk_agent.config import AgentConfig, load_config
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import ConfigError


def write(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


def test_no_file_is_all_defaults() -> None:
    """Without a file and an environment every key has its documented default."""
    assert load_config(None, {}) == AgentConfig()


def test_file_and_environment(tmp_path: Path) -> None:
    """The environment overrides the file, in the types of the schema; lists are separated by commas."""
    path = write(tmp_path, 'root = "/x"\n[telemetry]\ninterval_seconds = 5\nwindow = 20\n')
    environment = {
        "EDGE_AGENT_CONFIG": str(path),
        "EDGE_AGENT_TELEMETRY_INTERVAL_SECONDS": "0.5",
        "EDGE_AGENT_RUNTIME_PACKAGES": "onnxruntime, ai-edge-litert",
        "EDGE_AGENT_STORE_APPS_UIDS": "1000,1001",
        "HOME": "/root",
    }
    config = load_config(None, environment)
    assert (config.root, config.telemetry.interval_seconds, config.telemetry.window) == ("/x", 0.5, 20)
    assert config.runtime.packages == ("onnxruntime", "ai-edge-litert")
    assert config.store.apps_uids == (1000, 1001)


@pytest.mark.parametrize(
    ("text", "key", "near"),
    [
        ("rot = 1", "rot", "root"),
        ("[telemetry]\nintervall_seconds = 5", "telemetry.intervall_seconds", "telemetry.interval_seconds"),
        ("[telemetri]\nwindow = 5", "telemetri", "telemetry"),
    ],
)
def test_unknown_key_is_refused_with_the_nearest(tmp_path: Path, text: str, key: str, near: str) -> None:
    """A typo is an error that names the key and the nearest known one."""
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text), {})
    assert caught.value.code == "config-unknown-key"
    assert repr(key) in caught.value.message
    assert repr(near) in caught.value.hint


def test_unknown_environment_key_is_refused() -> None:
    """A misspelt variable is refused like a misspelt key."""
    with pytest.raises(ConfigError) as caught:
        load_config(None, {"EDGE_AGENT_ROOTS": "/x"})
    assert caught.value.code == "config-unknown-key"
    assert "EDGE_AGENT_ROOT" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "root = ",
        "root = 5",
        "telemetry = 5",
        "[telemetry]\nwindow = 0",
        '[runtime]\ntflite_package = "tf"',
        "a = '\xff",
    ],
)
def test_bad_values_are_config_errors(tmp_path: Path, text: str) -> None:
    """Broken TOML and values outside their limits are `config-invalid` or name the key."""
    with pytest.raises(ConfigError):
        load_config(write(tmp_path, text), {})


def test_missing_named_file(tmp_path: Path) -> None:
    """A file that was asked for must exist; the default one need not."""
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.toml", {})
    assert caught.value.code == "file-missing"


@given(text=st.text(max_size=60))
def test_any_environment_value_is_a_config_or_a_config_error(text: str) -> None:
    """No value in the environment raises anything but `ConfigError`."""
    try:
        load_config(None, {"EDGE_AGENT_TELEMETRY_WINDOW": text})
    except ConfigError as error:
        assert error.code == "config-invalid"


def test_every_key_is_documented(repository_root: Path) -> None:
    """The README names each key with its section."""
    text = (repository_root / "agent" / "README.md").read_text()
    for field in msgspec.structs.fields(AgentConfig):
        value = getattr(AgentConfig(), field.name)
        keys = msgspec.structs.fields(value) if isinstance(value, msgspec.Struct) else ()
        for name in [f"{field.name}.{key.name}" for key in keys] or [field.name]:
            assert f"`{name}`" in text, name
