"""Kafka's settings from a settings file: taken over, fetched from where secrets are kept, and never shown."""

from __future__ import annotations

import pytest

from conf.settings import SettingsError, load_settings
from pipelines.stream.kafka.client_settings import client_settings


def settings_of(folder, text: str):
    (folder / "settings.yaml").write_text(text)
    return load_settings(str(folder / "settings.yaml"))


def test_values_come_from_the_file_from_variables_and_from_other_files(tmp_path):
    (tmp_path / "password").write_text("hunter2\n")
    settings = settings_of(
        tmp_path,
        "kafka:\n  security.protocol: SASL_SSL\n  kafka.max.poll.records: 500\n  sasl.mechanism: ${MECHANISM}\n"
        f'  sasl.jaas.config: \'user="${{WHO}}" password="${{file:{tmp_path}/password}}";\'\n',
    )
    assert client_settings(settings, {"MECHANISM": "PLAIN", "WHO": "me"}) == {
        "security.protocol": "SASL_SSL",
        "max.poll.records": "500",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": 'user="me" password="hunter2";',
    }
    assert "SASL" not in repr(settings)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sasl.jaas.config: hunter2 ${NOT_THERE}", "sasl.jaas.config: the environment variable NOT_THERE is not set"),
        ("ssl.key: hunter2 ${file:/no/such/file}", "ssl.key: the file /no/such/file cannot be read"),
        ("ssl.key: hunter2 ${not a name}", "write a reference as"),
        ("sasl.jaas.config: [hunter2]", "sasl.jaas.config: must be one text"),
        ("auto.offset.reset: hunter2", "auto.offset.reset: is decided by the source"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_by_key_and_never_by_value(tmp_path, line, said):
    with pytest.raises(SettingsError, match=said) as refused:
        client_settings(settings_of(tmp_path, f"kafka:\n  {line}\n"), {})
    assert "hunter2" not in str(refused.value)


def test_true_and_false_are_settings_too(tmp_path):
    assert not settings_of(tmp_path, "kafka_fail_on_data_loss: false\n").kafka_fail_on_data_loss
    with pytest.raises(SettingsError, match="kafka_fail_on_data_loss: must be true or false"):
        settings_of(tmp_path, "kafka_fail_on_data_loss: 1\n")
    with pytest.raises(SettingsError, match="kafka: must be a mapping"):
        settings_of(tmp_path, "kafka: PLAIN\n")
