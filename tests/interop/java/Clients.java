package penstock.judge;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Kafka's producer and consumer as clients. */
final class Clients {
    private static final Duration POLL = Duration.ofMillis(100);

    /** bootstrap, config, records: [{topic, partition?, timestamp?, key, value, headers}] to [{metadata} or {"error"}]. */
    static JsonNode produce(JsonNode arguments) throws Exception {
        Map<String, Object> config = Configs.producerMap(arguments.path("config"));
        config.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments.path("bootstrap").textValue());
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        Map<Integer, Exception> refused = new HashMap<>();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config)) {
            for (JsonNode record : arguments.path("records")) {
                try {
                    sent.add(producer.send(producerRecord(record)));
                } catch (RuntimeException error) {
                    refused.put(sent.size(), error);
                    sent.add(null);
                }
            }
            producer.flush();
        }
        ArrayNode answers = Judge.JSON.createArrayNode();
        for (int i = 0; i < sent.size(); i++) {
            answers.add(sent.get(i) == null ? Judge.failure(refused.get(i)) : outcome(sent.get(i)));
        }
        return answers;
    }

    private static ProducerRecord<byte[], byte[]> producerRecord(JsonNode record) {
        List<Header> headers = new ArrayList<>();
        record.path("headers").forEach(pair ->
                headers.add(new RecordHeader(pair.path(0).textValue(), Bytes.of(pair.path(1)))));
        return new ProducerRecord<>(
                record.path("topic").textValue(),
                record.hasNonNull("partition") ? record.path("partition").intValue() : null,
                record.hasNonNull("timestamp") ? record.path("timestamp").longValue() : null,
                Bytes.of(record.path("key")),
                Bytes.of(record.path("value")),
                headers);
    }

    private static ObjectNode outcome(Future<RecordMetadata> future) throws InterruptedException {
        try {
            RecordMetadata metadata = future.get();
            ObjectNode node = Judge.JSON.createObjectNode();
            node.put("topic", metadata.topic());
            node.put("partition", metadata.partition());
            node.put("offset", metadata.offset());
            node.put("timestamp", metadata.timestamp());
            node.put("serialized_key_size", metadata.serializedKeySize());
            node.put("serialized_value_size", metadata.serializedValueSize());
            return node;
        } catch (ExecutionException error) {
            return Judge.failure(error.getCause());
        }
    }

    /**
     * bootstrap, topic, partitions (null: all), expected, timeout_ms, config to {"records", "complete"}.
     *
     * <p>Reads until there were as many records as expected and the end of every partition is reached, so that both
     * superfluous and missing records are found.
     */
    static JsonNode consume(JsonNode arguments) throws Exception {
        long deadline = System.nanoTime() + arguments.path("timeout_ms").longValue() * 1_000_000L;
        long expected = arguments.path("expected").asLong(0);
        ObjectNode answer = Judge.JSON.createObjectNode();
        ArrayNode records = answer.putArray("records");
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(consumerMap(arguments))) {
            List<TopicPartition> partitions = partitions(consumer, arguments);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            boolean complete = false;
            while (!complete && System.nanoTime() < deadline) {
                consumer.poll(POLL).forEach(record -> records.add(describe(record)));
                complete = records.size() >= expected && atTheEnd(consumer, partitions);
            }
            answer.put("complete", complete);
        }
        return answer;
    }

    private static Map<String, Object> consumerMap(JsonNode arguments) throws Exception {
        Map<String, Object> config = new HashMap<>();
        // How long the broker may delay an empty answer, and with it the request for the end offset.
        config.put(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG, (int) POLL.toMillis());
        config.put(ConsumerConfig.KEY_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class.getName());
        config.put(ConsumerConfig.VALUE_DESERIALIZER_CLASS_CONFIG, ByteArrayDeserializer.class.getName());
        for (Map.Entry<String, JsonNode> entry : arguments.path("config").properties()) {
            config.put(entry.getKey(), Configs.object(entry.getValue()));
        }
        config.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments.path("bootstrap").textValue());
        return config;
    }

    private static List<TopicPartition> partitions(KafkaConsumer<?, ?> consumer, JsonNode arguments) {
        String topic = arguments.path("topic").textValue();
        List<TopicPartition> partitions = new ArrayList<>();
        if (arguments.hasNonNull("partitions")) {
            arguments.path("partitions").forEach(number ->
                    partitions.add(new TopicPartition(topic, number.intValue())));
        } else {
            consumer.partitionsFor(topic).forEach(info -> partitions.add(new TopicPartition(topic, info.partition())));
        }
        return partitions;
    }

    private static boolean atTheEnd(KafkaConsumer<?, ?> consumer, List<TopicPartition> partitions) {
        return consumer.endOffsets(partitions).entrySet().stream()
                .allMatch(end -> consumer.position(end.getKey()) >= end.getValue());
    }

    private static ObjectNode describe(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode node = Judge.JSON.createObjectNode();
        node.put("partition", record.partition());
        node.put("offset", record.offset());
        node.put("timestamp", record.timestamp());
        node.put("timestamp_type", record.timestampType().name);
        node.set("key", Bytes.hex(record.key()));
        node.set("value", Bytes.hex(record.value()));
        node.set("headers", Batches.headers(record.headers()));
        return node;
    }

    private Clients() {}
}
