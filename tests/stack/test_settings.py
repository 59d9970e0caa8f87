"""Settings: where values come from, which wins, what is shown, how a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh_core import settings as module
from mesh_core.settings import MalformedSetting, Settings, load_settings


@pytest.fixture
def dotenv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / ".env"
    monkeypatch.setattr(module, "dotenv_files", lambda: (file,))
    return file


def test_every_setting_has_a_default() -> None:
    assert load_settings().catalog_modules == ("projections.northwind",)


def test_the_environment_is_read_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_CATALOG", "shop.orders, shop.people")
    assert load_settings().catalog_modules == ("shop.orders", "shop.people")
    monkeypatch.delenv("MESH_CATALOG")
    assert load_settings().catalog_modules == ("projections.northwind",)


def test_which_value_wins(dotenv: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dotenv.write_text("MESH_API_PORT=1001\nOTHER_PROGRAM=x\n")
    assert load_settings().api_port == 1001
    (tmp_path / "port").write_text("1002\n")
    monkeypatch.setenv("MESH_API_PORT_FILE", str(tmp_path / "port"))
    assert load_settings().api_port == 1002
    monkeypatch.setenv("MESH_API_PORT", "1003")
    assert load_settings().api_port == 1003
    assert load_settings(api_port=1004).api_port == 1004


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_DATABASE_URL", "")
    assert load_settings().database_url is None


def test_a_secret_comes_from_a_file_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text("postgresql://mesh:hunter2@db/mesh\n")
    monkeypatch.setenv("MESH_DATABASE_URL_FILE", str(tmp_path / "url"))
    settings = load_settings(kafka_sasl_password="hunter2")
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://mesh:hunter2@db/mesh"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in repr(settings.describe())


def test_every_setting_is_described() -> None:
    rows = load_settings().describe()
    assert {row.name for row in rows} == set(Settings.model_fields)
    assert all(row.description.endswith(".") for row in rows)
    assert {row.name for row in rows if row.secret} == {
        "auth_key",
        "cursor_key",
        "database_url",
        "kafka_sasl_password",
        "relay_outboxes",
    }


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("MESH_API_PORT", "eighty", "MESH_API_PORT is 'eighty': input should be a valid integer"),
        ("MESH_API_PORT", "70000", "MESH_API_PORT is '70000': input should be less than or equal to 65535"),
        ("MESH_KAFKA_DRIVER", "librdkafka", "'kafka-python' or 'confluent-kafka'"),
        (
            "MESH_LOG_LEVEL_FILE",
            "/nowhere",
            "MESH_LOG_LEVEL_FILE names /nowhere, which cannot be read: No such",
        ),
        ("MESH_KAFKA_SECURITY_PROTOCOL", "SASL_SSL", "needs MESH_KAFKA_SASL_USERNAME"),
        ("MESH_PAGE_LIMIT_MAX", "10", "MESH_PAGE_LIMIT_DEFAULT is more than MESH_PAGE_LIMIT_MAX"),
        ("MESH_PROJECTOR_BATCH_MIN", "90000", "MESH_PROJECTOR_BATCH_MIN is more than"),
    ],
)
def test_a_malformed_setting_is_one_readable_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(MalformedSetting) as caught:
        load_settings()
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy
    assert caught.value.exit_status == 2


def test_a_malformed_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_DATABASE_URL", "mysql://root:hunter2@db")
    with pytest.raises(
        MalformedSetting, match=r"MESH_DATABASE_URL: it should start with postgresql://"
    ) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_a_misspelt_argument_is_refused() -> None:
    with pytest.raises(MalformedSetting, match="there is no setting catalogue"):
        Settings(catalogue="shop")
