"""Settings: one file, one environment, every fault with its place and remedy."""

from pathlib import Path

import pytest

from healer.cli.reference import settings_rows
from healer.errors import ConfigError
from healer.settings import load


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "healer.yaml"
    path.write_text(text)
    return path


def test_defaults_bind_only_loopback() -> None:
    """Without any setting all three servers listen on this machine only."""
    settings = load(None, {})
    listeners = (settings.listen.webhook, settings.listen.api, settings.listen.health)
    assert all(listener.loopback for listener in listeners)
    assert len({listener.port for listener in listeners}) == 3


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    """A variable replaces the same key of the file and leaves its neighbours."""
    path = _file(tmp_path, "log: {level: debug, format: json}\nworker: {concurrency: 3}\n")
    settings = load(path, {"HEALER_LOG__LEVEL": "error", "HEALER_DRY_RUN": "true"})
    assert (settings.log.level, settings.log.format) == ("error", "json")
    assert settings.worker.concurrency == 3
    assert settings.dry_run


def test_lists_and_maps_come_from_the_environment() -> None:
    """A list is written as YAML and a named entry by its name in a variable."""
    settings = load(
        None,
        {
            "HEALER_PLAYBOOKS__PATHS": "[/a, /b]",
            "HEALER_SOURCES__MAIN__TOKEN_FILES": "[/run/token]",
            "HEALER_NOTIFIERS__CHAT": "{type: slack, url_file: /run/slack}",
        },
    )
    assert settings.playbooks.paths == (Path("/a"), Path("/b"))
    assert settings.sources["main"].token_files == (Path("/run/token"),)
    assert settings.notifiers["chat"].type == "slack"


@pytest.mark.parametrize(
    ("text", "needles"),
    [
        ("log: {level: loud}", ["healer.yaml: log.level", "'loud'"]),
        ("lgo: {level: info}", ["healer.yaml: lgo", "there is no setting lgo"]),
        ("store: {path: /x, uri: y}", ["store.uri", "there is no setting"]),
        ("store: {path: /x, url: 'postgresql://h/d'}", ["store: path and url exclude each other"]),
        ("store: {url: 'mysql://h/d'}", ["store.url", "no PostgreSQL URL"]),
        ("store: {url: 'postgresql://me:pw@h/d'}", ["store.url", "has a password", "url_file"]),
        ("store: {url: 'postgresql://h/d?password=pw'}", ["store.url", "has a password"]),
        ("store: {direct_url: 'postgresql://h/d'}", ["direct_url goes with url"]),
        ("log: {level: info, level: debug}", ["'level' is given twice"]),
        ("log: [", ["is not YAML"]),
        ("? [a, b]\n: 1", ["is not YAML"]),
        ("- a", ["must be a mapping"]),
        ("listen: {webhook: {host: 0.0.0.0}}", ["nobody has a credential", "bind 127.0.0.1"]),
        ("listen: {api: {host: '::'}}", ["nobody has a credential", "people.<name>.token_files"]),
        ("listen: {api: {host: healer.example}}", ["nobody has a credential"]),
        ("sources: {main: {burst: 3}}", ["sources.main", "needs token_files or client_names"]),
        ("sources: {main: {client_names: [am]}}", ["client_ca_file"]),
        ("sources: {'../x': {token_files: [/t]}}", ["sources.../x"]),
        ("kubernetes: {namespaces: []}", ["kubernetes.namespaces"]),
        ("kubernetes: {namespaces: ['*', a]}", ["stands alone"]),
        ("prometheus: {url: ftp://x}", ["prometheus.url"]),
        ("prometheus: {username: me}", ["password_file"]),
        ("notifiers: {chat: {type: pigeon}}", ["notifiers.chat"]),
        ("notifiers: {chat: {type: slack}}", ["url_file", "is required"]),
        ("limits: {body_bytes: 200000000}", ["limits", "inflight_bytes is below body_bytes"]),
    ],
)
def test_a_fault_names_place_and_remedy(tmp_path: Path, text: str, needles: list[str]) -> None:
    """Whatever is wrong in the file is one ConfigError with the file, the key and a remedy."""
    with pytest.raises(ConfigError) as caught:
        load(_file(tmp_path, text), {})
    for needle in ["healer.yaml", *needles]:
        assert needle in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "needles"),
    [
        ("HEALER_LOG__LEVEL", "loud", ["HEALER_LOG__LEVEL", "'loud'"]),
        ("HEALER_LOG__LOUDNESS", "1", ["HEALER_LOG__LOUDNESS", "there is no setting"]),
        ("HEALER_DRYRUN", "1", ["HEALER_DRYRUN", "there is no setting"]),
        ("HEALER_LOG__LEVEL", "[", ["HEALER_LOG__LEVEL", "is not YAML"]),
        ("HEALER_DRY_RUN__NOW", "1", ["HEALER_DRY_RUN__NOW", "dry_run is a value"]),
    ],
)
def test_a_wrong_variable_is_named(
    tmp_path: Path, variable: str, value: str, needles: list[str]
) -> None:
    """A variable that is no setting, or has a wrong value, is refused by its own name."""
    path = _file(tmp_path, "dry_run: false\n")
    with pytest.raises(ConfigError) as caught:
        load(path, {variable: value})
    for needle in needles:
        assert needle in str(caught.value)


@pytest.mark.parametrize(
    "variable",
    [
        "HEALER_SERVICE_HOST",
        "HEALER_PORT",
        "HEALER_PORT_8080_TCP_ADDR",
        "HEALER_WEBHOOK_SERVICE_PORT_HTTP",
        "HEALER_SERVER",
        "PATH",
    ],
)
def test_variables_of_others_are_left_alone(variable: str) -> None:
    """What Kubernetes puts into a pod beside a Service called healer is not taken for a setting."""
    assert load(None, {variable: "tcp://10.0.0.1:8080"}) == load(None, {})


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A settings file that is not there is a ConfigError with its path."""
    with pytest.raises(ConfigError, match="gone\\.yaml: cannot be read"):
        load(tmp_path / "gone.yaml", {})


def test_every_setting_is_documented_and_settable() -> None:
    """Every setting has a description, and its variable is understood by `load`."""
    rows = settings_rows()
    assert len(rows) > 70
    for row in rows:
        assert row.description.endswith("."), row.key
        variable = row.variable.replace("<NAME>", "X")
        try:
            load(None, {variable: "[]"})
        except ConfigError as error:
            assert "there is no setting" not in str(error)  # noqa: PT017 - refused is fine
