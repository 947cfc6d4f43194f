"""The configuration: names, values, support, and dependencies between settings.

Java judges parsing and rules in tests/interop/test_config_java.py; here is what Penstock adds.
"""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from penstock.config import (
    ConfigRow,
    Password,
    ProducerConfig,
    ProducerOptions,
    describe,
    foreign,
    parse_bootstrap_servers,
)
from penstock.config import support as setting_support
from penstock.config.own import ABOUT, ALL_SETTINGS, OUR_DEFAULTS, OWN_SETTINGS, PREFIX
from penstock.config.table import SETTINGS
from penstock.errors import ConfigError
from penstock.partitioner import RoundRobinPartitioner
from penstock.serialization import ListSerializer, StringSerializer

SERVERS = {"bootstrap.servers": "localhost:9092"}


def config(given: dict[str, Any] | None = None, /, **options: Any) -> ProducerConfig:
    return ProducerConfig({**SERVERS, **(given or {})}, **options)


def refusal(given: dict[str, Any] | None = None, /, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config(given, **options)
    return str(caught.value)


class TestNames:
    def test_every_setting_of_the_table_exists_with_its_default(self) -> None:
        made = config()
        assert len(SETTINGS) == 120
        assert list(made) == [setting.name for setting in ALL_SETTINGS] == sorted(made)
        assert len(made) == len(SETTINGS) + len(OWN_SETTINGS)
        assert made["linger.ms"] == 5
        assert made["retries"] == 2**31 - 1
        assert made["ssl.enabled.protocols"] == ("TLSv1.2", "TLSv1.3")

    def test_the_kernel_sizes_socket_buffers_unless_they_are_given(self) -> None:
        assert (config()["send.buffer.bytes"], config()["receive.buffer.bytes"]) == (-1, -1)
        # Kafka's own default, given, is a size like any other.
        given = config(send_buffer_bytes=131_072, receive_buffer_bytes=32_768).settings
        assert (given.send_buffer_bytes, given.receive_buffer_bytes) == (131_072, 32_768)
        assert config(send_buffer_bytes=-1).settings.send_buffer_bytes == -1

    def test_keywords_override_the_mapping(self) -> None:
        assert config({"linger.ms": 1, "batch.size": 2}, linger_ms=3)["linger.ms"] == 3

    def test_a_mapping_may_have_underscores_but_not_both_forms(self) -> None:
        assert config({"linger_ms": 1})["linger.ms"] == 1
        assert "given twice" in refusal({"linger_ms": 1, "linger.ms": 2})
        assert "given twice" in refusal({"linger.ms": 2, "linger_ms": 1})

    def test_none_as_the_default_equals_a_missing_setting(self) -> None:
        made = config(transactional_id=None, partitioner_class=None, key_serializer=None)
        assert set(made.given) == {"bootstrap.servers"}

    @pytest.mark.parametrize("name", ["linger.ms", "enable.idempotence", "client.id", "bootstrap.servers", "acks"])
    def test_none_is_refused_if_it_is_not_the_default(self, name: str) -> None:
        assert name in refusal({name: None})

    def test_a_name_that_is_not_text_is_refused(self) -> None:
        assert "must be a str" in refusal({5: 1})  # type: ignore[dict-item]

    @pytest.mark.parametrize(
        ("name", "advice"),
        [
            ("lingr.ms", "did you mean linger.ms?"),
            ("linger_mss", "did you mean linger_ms?"),
            ("bootstrap.server", "did you mean bootstrap.servers?"),
            ("request.timeout", "did you mean request.timeout.ms?"),
            ("penstock.batch.growth.max", "did you mean penstock.batch.growth.max.bytes?"),
            ("penstock_batch_growth_bytes", "did you mean penstock_batch_growth_max_bytes?"),
            ("x", "penstock config"),
            ("queue.buffering.max.ms", "linger.ms"),
            ("queue_buffering_max_ms", "linger.ms"),
            ("queue.buffering.max.kbytes", "buffer.memory, in bytes: multiply by 1024"),
            ("queue.buffering.max.messages", "buffer.memory"),
            ("batch.num.messages", "batch.size"),
            ("message.timeout.ms", "delivery.timeout.ms"),
            ("message.max.bytes", "max.request.size"),
            ("compression.codec", "compression.type"),
            ("request.required.acks", "acks"),
            ("partitioner", "partitioner.class"),
            ("on_delivery", "callback"),
            ("sasl.username", "sasl.jaas.config"),
            ("ssl.ca.location", "ssl.truststore"),
            ("statistics.interval.ms", "metrics()"),
            ("serializer.encoding", "StringSerializer"),
        ],
    )
    def test_an_unknown_name_gets_advice(self, name: str, advice: str) -> None:
        text = refusal({name: 1})
        assert repr(name) in text
        assert advice in text

    def test_advice_names_only_settings_that_exist(self) -> None:
        names = {setting.name for setting in ALL_SETTINGS}
        for name, advice in foreign.ELSEWHERE.items():
            assert name not in names
            if advice.startswith("use "):
                tokens = advice.removeprefix("use ").replace(":", " ").replace(";", " ").replace(",", " ").split()
                assert tokens[0].partition("=")[0] in names or tokens[0] == "the", name


class TestValues:
    def test_text_is_parsed_as_in_a_properties_file(self) -> None:
        made = config({"linger.ms": " 7 ", "enable.idempotence": "TRUE", "bootstrap.servers": "a:1 , b:2"})
        assert (made["linger.ms"], made["enable.idempotence"], made["bootstrap.servers"]) == (7, True, ("a:1", "b:2"))

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("linger.ms", 1.5),
            ("linger.ms", True),
            ("linger.ms", "1_0"),
            ("linger.ms", "5s"),
            ("linger.ms", -1),
            ("linger.ms", 2**63),
            ("batch.size", 2**31),
            ("batch.size", "9" * 5000),
            ("enable.idempotence", 1),
            ("enable.idempotence", "yes"),
            ("client.id", 5),
            ("acks", "2"),
            ("acks", 2),
            ("acks", True),
            ("client.dns.lookup", "default"),
            ("bootstrap.servers", 9092),
            ("bootstrap.servers", b"a:1"),
            ("bootstrap.servers", ["a:1", ""]),
            ("bootstrap.servers", []),
            ("metadata.max.idle.ms", 4999),
        ],
    )
    def test_values_of_the_wrong_type_or_out_of_range_are_refused_by_name_and_value(
        self, name: str, value: Any
    ) -> None:
        text = refusal({name: value})
        assert name in text
        assert repr(value) in text

    def test_a_repeated_list_item_counts_once(self) -> None:
        assert config({"bootstrap.servers": "a:1,b:2,a:1"})["bootstrap.servers"] == ("a:1", "b:2")

    def test_acks_may_be_a_number(self) -> None:
        assert config(acks=1).settings.acks == 1
        assert config(acks="all").settings.acks == -1
        assert config(acks=-1)["acks"] == "-1"

    def test_secrets_are_shown_nowhere(self) -> None:
        secret = "tea and biscuits"
        texts = [refusal({"ssl.key.password": secret}), refusal({"sasl.jaas.config": [secret]})]
        texts += [repr(Password(secret)), str(Password(secret)), f"{Password(secret)}"]
        assert not any(secret in text for text in texts)
        assert Password(secret).value == secret
        assert Password(secret) == Password(secret) != Password("other")
        assert hash(Password(secret)) == hash(Password(secret))

    def test_the_representation_shows_the_given_settings(self) -> None:
        assert repr(config(linger_ms="7")) == (
            "ProducerConfig({'bootstrap.servers': ('localhost:9092',), 'linger.ms': 7})"
        )


class TestSupport:
    def test_every_setting_has_an_entry_about_its_support(self) -> None:
        rows = list(describe())
        assert [row.name for row in rows] == [setting.name for setting in ALL_SETTINGS]
        assert all(row.note for row in rows if row.status != "working")

    def test_no_entry_is_about_a_setting_that_does_not_exist(self) -> None:
        assert set(setting_support._SUPPORT) <= {setting.name for setting in ALL_SETTINGS}

    def test_a_default_of_ours_is_shown_with_kafka_s(self) -> None:
        shown = {row.name: row.default for row in describe() if row.name in OUR_DEFAULTS}
        assert shown == {"receive.buffer.bytes": "kernel (Kafka: 32768)", "send.buffer.bytes": "kernel (Kafka: 131072)"}

    def test_defaults_without_effect_are_marked(self) -> None:
        assert {row.name for row in describe() if not row.default_honoured} == {
            "enable.metrics.push",
            "metric.reporters",
        }

    @pytest.mark.parametrize("row", [row for row in describe() if row.status == "planned"], ids=lambda row: row.name)
    def test_a_planned_setting_accepts_its_default(self, row: ConfigRow) -> None:
        default = next(setting.default for setting in SETTINGS if setting.name == row.name)
        config({row.name: default})

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("security.protocol", "SSL"),
            ("sasl.mechanism", "PLAIN"),
            ("ssl.truststore.location", "ca.pem"),
            ("ssl.engine.factory.class", "a.B"),
            ("transactional.id", "t"),
            ("transaction.timeout.ms", 1),
            ("config.providers", "file"),
        ],
    )
    def test_a_planned_setting_refuses_other_values(self, name: str, value: Any) -> None:
        assert f"{name} = {value!r} is not supported yet" in refusal({name: value})

    def test_the_case_of_a_default_matters_only_where_it_does_in_kafka(self) -> None:
        assert config(security_protocol="plaintext", metadata_recovery_strategy="NONE")

    def test_telemetry_may_be_switched_off(self) -> None:
        assert config(enable_metrics_push=False)["enable.metrics.push"] is False

    def test_a_setting_for_the_jvm_is_logged_once_with_the_reason(self, caplog: pytest.LogCaptureFixture) -> None:
        made = config({"metric.reporters": "com.example.Reporter"})
        ProducerConfig(made)
        assert [record.message for record in caplog.records] == [
            "metric.reporters does nothing here: there is no JMX here; read producer.metrics()"
        ]

    def test_options_are_typed_by_the_same_names(self) -> None:
        hints = get_type_hints(ProducerOptions)
        expected = {setting.name.replace(".", "_") for setting in ALL_SETTINGS}
        assert set(hints) == expected - {"key_serializer", "value_serializer"}
        assert hints["linger_ms"] is int


class TestOwnSettings:
    def test_names_have_our_prefix_which_kafka_s_do_not(self) -> None:
        assert all(setting.name.startswith(PREFIX) for setting in OWN_SETTINGS)
        assert not any(setting.name.startswith(PREFIX) for setting in SETTINGS)

    def test_each_is_described_by_the_listing(self) -> None:
        assert {row.name: row.about for row in describe() if row.about} == ABOUT
        assert set(ABOUT) == {setting.name for setting in OWN_SETTINGS}

    def test_growth_has_a_default_a_range_and_a_switch(self) -> None:
        assert config().settings.penstock_batch_growth_max_bytes == 1_000_000
        assert config(penstock_batch_growth_max_bytes=0).settings.penstock_batch_growth_max_bytes == 0
        assert config(batch_size=0).settings.penstock_batch_growth_max_bytes == 0, "each record in a batch of its own"
        assert config(batch_size=1).settings.penstock_batch_growth_max_bytes == 1_000_000
        assert config({"penstock.batch.growth.max.bytes": " 65536 "})["penstock.batch.growth.max.bytes"] == 65_536
        assert "at least 0" in refusal(penstock_batch_growth_max_bytes=-1)
        assert config().settings.penstock_batch_linger_bytes == 262_144
        assert config(batch_size=16_384).settings.penstock_batch_linger_bytes == 0, "a given size is sent at once"
        assert config(batch_size=16_384, penstock_batch_linger_bytes=7).settings.penstock_batch_linger_bytes == 7
        assert "32 bits" in refusal(penstock_batch_growth_max_bytes=2**31)


class TestClasses:
    @pytest.mark.parametrize(
        "given",
        [
            StringSerializer,
            "penstock.serialization.StringSerializer",
            "penstock.serialization:StringSerializer",
            " org.apache.kafka.common.serialization.StringSerializer ",
        ],
    )
    def test_a_class_may_be_named_in_several_ways(self, given: object) -> None:
        assert config(key_serializer=given).settings.key_serializer is StringSerializer

    def test_an_instance_is_used_unchanged(self) -> None:
        serializer = ListSerializer(StringSerializer())
        assert config(value_serializer=serializer)["value.serializer"] is serializer

    def test_java_s_partitioner_is_replaced_by_ours(self) -> None:
        made = config(partitioner_class="org.apache.kafka.clients.producer.RoundRobinPartitioner")
        assert made.settings.partitioner_class is RoundRobinPartitioner

    @pytest.mark.parametrize("java", sorted(foreign.JAVA_CLASSES))
    def test_every_java_class_with_a_counterpart_has_one(self, java: str) -> None:
        name = "partitioner.class" if "Partitioner" in java else "key.serializer"
        assert isinstance(config({name: java})[name], type)

    @pytest.mark.parametrize("java", sorted(foreign.JAVA_CLASSES_REFUSED))
    def test_common_java_classes_get_advice(self, java: str) -> None:
        assert foreign.JAVA_CLASSES_REFUSED[java] in refusal(value_serializer=java)

    def test_any_other_java_class_is_refused_with_the_reason(self) -> None:
        assert "looks like a Java class" in refusal(partitioner_class="com.example.MyPartitioner")

    @pytest.mark.parametrize(
        ("given", "text"),
        [
            ("nowhere.Serializer", "No module named 'nowhere'"),
            ("penstock.serialization.Nothing", "no attribute 'Nothing'"),
            ("StringSerializer", "needs its module"),
            ("", "needs its module"),
        ],
    )
    def test_a_name_that_cannot_be_imported_is_refused(self, given: str, text: str) -> None:
        assert text in refusal(key_serializer=given)

    def test_interceptors_may_be_names_or_objects(self) -> None:
        interceptor = object()
        assert config(interceptor_classes=[interceptor]).settings.interceptor_classes == (interceptor,)
        by_name = config(interceptor_classes="penstock.interceptor.ProducerInterceptor, penstock.errors.KafkaError")
        assert [it.__name__ for it in by_name.settings.interceptor_classes] == ["ProducerInterceptor", "KafkaError"]


class TestRules:
    def test_a_client_without_a_name_gets_a_number(self) -> None:
        first, second = (config().settings.client_id for _ in range(2))
        assert int(second.removeprefix("producer-")) == int(first.removeprefix("producer-")) + 1
        assert config(client_id="").settings.client_id == ""

    def test_a_copied_configuration_keeps_its_client_id_and_can_be_changed(self) -> None:
        made = config(linger_ms=3)
        assert dict(ProducerConfig(made)) == dict(made)
        changed = ProducerConfig(made, batch_size=1)
        assert (changed["linger.ms"], changed["batch.size"]) == (3, 1)

    @pytest.mark.parametrize("given", [{"acks": "1"}, {"acks": 0}, {"retries": 0}])
    def test_idempotence_by_default_is_disabled_by_conflicting_settings(
        self, given: dict[str, Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        assert config(given).settings.enable_idempotence is False
        assert "idempotence is off because of" in caplog.text

    @pytest.mark.parametrize("given", [{"acks": "1"}, {"acks": 0}, {"retries": 0}])
    def test_explicit_idempotence_refuses_conflicting_settings(self, given: dict[str, Any]) -> None:
        assert next(iter(given)) in refusal(given, enable_idempotence=True)
        assert config(given, enable_idempotence=False)

    def test_more_than_five_in_flight_need_idempotence_off(self) -> None:
        assert "at most" not in refusal(max_in_flight_requests_per_connection=6)
        assert "above 5" in refusal(max_in_flight_requests_per_connection=6, acks=1)
        assert config(max_in_flight_requests_per_connection=6, enable_idempotence=False)

    def test_a_delivery_timeout_that_was_given_must_leave_time_for_a_request(self) -> None:
        assert "delivery.timeout.ms = 30004" in refusal(delivery_timeout_ms=30004)
        assert config(delivery_timeout_ms=30005)

    def test_a_delivery_timeout_that_was_not_given_is_raised(self, caplog: pytest.LogCaptureFixture) -> None:
        assert config(request_timeout_ms=200_000, linger_ms=10).settings.delivery_timeout_ms == 200_010
        assert config(linger_ms=2**62).settings.delivery_timeout_ms == 2**31 - 1
        assert "raised to linger.ms + request.timeout.ms = 200010" in caplog.text

    def test_a_reconnect_backoff_alone_does_not_grow(self) -> None:
        assert config(reconnect_backoff_ms=7).settings.reconnect_backoff_max_ms == 7
        assert config(reconnect_backoff_ms=7, reconnect_backoff_max_ms=9).settings.reconnect_backoff_max_ms == 9

    def test_settings_are_typed_and_ready_for_use(self) -> None:
        settings = config(
            batch_size=0,
            linger_ms=2**40,
            metadata_recovery_strategy="NONE",
            buffer_memory_allocation_strategy="Incremental",
        ).settings
        assert (settings.batch_size, settings.linger_ms, settings.metadata_recovery_strategy) == (1, 2**31 - 1, "none")
        assert settings.buffer_memory_allocation_strategy == "incremental"

    def test_a_configuration_pickles(self) -> None:
        made = config(linger_ms=3)
        assert dict(pickle.loads(pickle.dumps(made))) == dict(made)


class TestBootstrapServers:
    def test_hosts_names_addresses_and_schemes(self) -> None:
        servers = ["localhost:9092", "127.0.0.1:1", "[::1]:2", "::1:3", "PLAINTEXT://kafka-1.example:65535", "a_b:0080"]
        assert parse_bootstrap_servers(servers) == [
            ("localhost", 9092),
            ("127.0.0.1", 1),
            ("::1", 2),
            ("::1", 3),
            ("kafka-1.example", 65535),
            ("a_b", 80),
        ]

    def test_addresses_are_normalised_in_the_settings(self) -> None:
        settings = config({"bootstrap.servers": "SSL://a:1,::1:2"}).settings
        assert settings.bootstrap_servers == ("a:1", "[::1]:2")
        assert settings.bootstrap_addresses == (("a", 1), ("::1", 2))

    @pytest.mark.parametrize(
        "server",
        [
            "localhost",
            "localhost:",
            ":9092",
            "a:b",
            "a:-1",
            "a:0",
            "a:65536",
            "a:99999999999999",
            "a b:1",
            "a:1/x",
            "ä:1",
            5,
        ],
    )
    def test_an_impossible_address_is_refused(self, server: Any) -> None:
        with pytest.raises(ConfigError, match=r"bootstrap\.servers") as caught:
            parse_bootstrap_servers([server])
        assert repr(server) in str(caught.value)

    def test_an_empty_list_of_addresses_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"bootstrap\.servers is missing"):
            ProducerConfig({})
        with pytest.raises(ConfigError, match=r"bootstrap\.servers is empty"):
            parse_bootstrap_servers([])


class TestProperties:
    def read(self, tmp_path: Path, text: str | bytes, **options: Any) -> ProducerConfig:
        path = tmp_path / "producer.properties"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return ProducerConfig.from_properties(path, **options)

    def test_a_file_of_a_java_producer(self, tmp_path: Path) -> None:
        made = self.read(
            tmp_path,
            """# a comment
            bootstrap.servers = a:1,\\
                                b:2
            ! another
            acks:all
            linger.ms 20
            penstock.batch.growth.max.bytes=7
            key.serializer=org.apache.kafka.common.serialization.StringSerializer
            """,
            linger_ms=30,
        )
        assert made.settings.bootstrap_servers == ("a:1", "b:2")
        assert (made["linger.ms"], made.settings.key_serializer) == (30, StringSerializer)
        assert made["penstock.batch.growth.max.bytes"] == 7

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "iso-8859-1"])
    def test_the_file_may_be_in_either_encoding(self, tmp_path: Path, encoding: str) -> None:
        made = self.read(tmp_path, "bootstrap.servers=a:1\nclient.id=Zürich \\u2192 \\ud83d\\ude80".encode(encoding))
        assert made["client.id"] == "Zürich → 🚀"

    def test_errors_name_the_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"producer\.properties: line 2: "):
            self.read(tmp_path, "bootstrap.servers=a:1\nclient.id=\\u12")
        with pytest.raises(ConfigError) as caught:
            self.read(tmp_path, "bootstrap.servers=a:1\nlinger=1")
        assert "producer.properties" in caught.value.__notes__[0]
        with pytest.raises(FileNotFoundError):
            ProducerConfig.from_properties(tmp_path / "absent")
