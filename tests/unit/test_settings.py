"""Where settings come from, which source wins, and what a wrong one says."""

from pathlib import Path

import pytest

from streamapp import settings
from streamapp.errors import ConfigError
from streamapp.settings import Settings, load_settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"STREAMAPP_{name.upper()}", raising=False)
    for name in ("STREAMAPP_CONFIG", "PORT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "config").mkdir()
    settings._warn_of.cache_clear()  # it warns once for a process
    return tmp_path


def write(text: str, path: str = "config/app.toml") -> None:
    Path(path).write_text(text, encoding="utf-8")


def test_defaults_without_any_source() -> None:
    settings = load_settings()
    assert settings.broker == "sqlite://"
    assert settings.datadir == Path("data")
    assert (settings.web_host, settings.web_port) == ("127.0.0.1", 6066)
    assert settings.commit_interval == 250
    assert settings.checkpoint_interval == 60_000
    assert settings.cache_size == 67_108_864


def test_flag_beats_environment_beats_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write('batch_max = 1\ncheckpoints_kept = 1\ncommit_interval = "1s"')
    monkeypatch.setenv("STREAMAPP_CHECKPOINTS_KEPT", "2")
    monkeypatch.setenv("STREAMAPP_COMMIT_INTERVAL", "2s")
    settings = load_settings(commit_interval="3s")
    assert settings.batch_max == 1
    assert settings.checkpoints_kept == 2
    assert settings.commit_interval == 3_000


def test_flag_of_none_was_not_given() -> None:
    write("web_port = 7000")
    assert load_settings(web_port=None).web_port == 7000


def test_port_of_the_platform_beats_the_file_only(monkeypatch: pytest.MonkeyPatch) -> None:
    write("web_port = 7000")
    monkeypatch.setenv("PORT", "7001")
    assert load_settings().web_port == 7001
    monkeypatch.setenv("STREAMAPP_WEB_PORT", "7002")
    assert load_settings().web_port == 7002


def test_other_file(monkeypatch: pytest.MonkeyPatch) -> None:
    write('cache_size = "1GiB"', "other.toml")
    monkeypatch.setenv("STREAMAPP_CONFIG", "other.toml")
    assert load_settings().cache_size == 1 << 30


def test_named_file_must_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_CONFIG", "missing.toml")
    with pytest.raises(ConfigError, match=r"STREAMAPP_CONFIG names missing\.toml"):
        load_settings()


def test_variables_of_an_orchestrator_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMAPP_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("STREAMAPP_PORT", "tcp://10.0.0.1:80")
    assert load_settings().web_port == 6066


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("CACHE_SIZ", "CACHE_SIZE"),
        ("COMIT_INTERVAL", "COMMIT_INTERVAL"),
        ("CHECKPOINT_KEPT", "CHECKPOINTS_KEPT"),
        ("BROKERS", "BROKER"),
        ("CONFIGS", "CONFIG"),
    ],
)
def test_variable_that_is_nearly_a_setting_is_warned_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str, meant: str
) -> None:
    monkeypatch.setenv(f"STREAMAPP_{variable}", "3")
    load_settings()
    load_settings()
    expected = f"STREAMAPP_{variable} is no setting. Did you mean STREAMAPP_{meant}?"
    assert caplog.messages == [expected]


@pytest.mark.parametrize(
    "variable",
    [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "PORT",
        "PORT_6066_TCP_ADDR",
        "TEST_SEED",
        "CRASH_AT",
        "CRASH_PLAN",
        "KAFKA_PASSWORD",
        "DATADIR",
        "web_port",
    ],
)
def test_other_variables_are_not_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, variable: str
) -> None:
    monkeypatch.setenv(f"STREAMAPP_{variable}", "3")
    load_settings()
    assert caplog.messages == []


def test_all_faults_at_once_each_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    write('comit_interval = "1s"\ncache_size = "much"\nfrobnicate = 1')
    monkeypatch.setenv("STREAMAPP_BATCH_MAX", "none")
    with pytest.raises(ConfigError) as caught:
        load_settings(commit_interval="0.5ms")
    text = str(caught.value)
    assert (
        "comit_interval (config/app.toml): no such setting; did you mean commit_interval?" in text
    )
    assert "frobnicate (config/app.toml): no such setting; known: broker, datadir" in text
    assert "cache_size (config/app.toml): 'much' is not a size" in text
    assert "batch_max (STREAMAPP_BATCH_MAX): " in text
    assert "commit_interval (--commit-interval): '0.5ms' is not a whole number" in text


def test_broken_file_names_file_and_line() -> None:
    write("broker = sqlite")
    with pytest.raises(ConfigError, match=r"config/app\.toml is not TOML: .*line 1"):
        load_settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().web_port = 1  # type: ignore[misc]
