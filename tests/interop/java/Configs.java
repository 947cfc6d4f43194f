package penstock.judge;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.types.Password;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The producer's settings: their table, and Kafka's validation of a value or of a whole configuration. */
final class Configs {
    /** [{"name", "type", "default"?, "default_text"?, "importance", "validator", "display", "group", "internal"}]. */
    static JsonNode table(JsonNode arguments) {
        ArrayNode rows = Judge.JSON.createArrayNode();
        for (ConfigDef.ConfigKey key : new TreeMap<>(ProducerConfig.configDef().configKeys()).values()) {
            ObjectNode row = rows.addObject();
            row.put("name", key.name);
            row.put("type", key.type.name());
            row.put("importance", key.importance.name());
            row.put("validator", key.validator == null ? null : key.validator.toString());
            row.put("validator_class", key.validator == null ? null : key.validator.getClass().getName());
            row.put("display", key.displayName);
            row.put("group", key.group);
            row.put("internal", key.internalConfig);
            row.put("required", !key.hasDefault());
            if (key.hasDefault()) {
                row.set("default", plain(key.defaultValue));
                row.put("default_text", ConfigDef.convertToString(key.defaultValue, key.type));
            }
        }
        return rows;
    }

    /** items: [[name, value]] to [{"value"} or {"error"}]; each setting is validated alone. */
    static JsonNode parse(JsonNode arguments) {
        Map<String, ConfigDef.ConfigKey> keys = ProducerConfig.configDef().configKeys();
        ArrayNode answers = Judge.JSON.createArrayNode();
        for (JsonNode item : arguments.path("items")) {
            String name = item.path(0).textValue();
            try {
                ConfigDef.ConfigKey key = keys.get(name);
                if (key == null) {
                    throw new IllegalArgumentException("unknown name " + name);
                }
                // A definition of this one key: required values of other keys are not checked.
                Map<String, Object> parsed = new ConfigDef()
                        .define(key)
                        .parse(Collections.singletonMap(name, object(item.path(1))));
                ObjectNode answer = Judge.JSON.createObjectNode();
                answer.set("value", plain(parsed.get(name)));
                answers.add(answer);
            } catch (Exception error) {
                answers.add(Judge.failure(error));
            }
        }
        return answers;
    }

    /** configs: [{name: value}] to [{"values": {name: value after Java's post-processing}} or {"error"}]. */
    static JsonNode producerConfig(JsonNode arguments) {
        ArrayNode answers = Judge.JSON.createArrayNode();
        for (JsonNode config : arguments.path("configs")) {
            try {
                ObjectNode values = Judge.JSON.createObjectNode();
                new TreeMap<>(new ProducerConfig(producerMap(config)).values())
                        .forEach((name, value) -> values.set(name, plain(value)));
                ObjectNode answer = Judge.JSON.createObjectNode();
                answer.set("values", values);
                answers.add(answer);
            } catch (Exception error) {
                answers.add(Judge.failure(error));
            }
        }
        return answers;
    }

    /** configs: [{name: value}] to [{"opened": true} or {"error"}]: the checks that only KafkaProducer makes. */
    static JsonNode openProducer(JsonNode arguments) {
        ArrayNode answers = Judge.JSON.createArrayNode();
        for (JsonNode config : arguments.path("configs")) {
            try {
                new KafkaProducer<byte[], byte[]>(producerMap(config)).close(Duration.ZERO);
                answers.add(Judge.JSON.createObjectNode().put("opened", true));
            } catch (Exception error) {
                answers.add(Judge.failure(error));
            }
        }
        return answers;
    }

    /** A configuration for a producer of bytes; serializers are optional. */
    static Map<String, Object> producerMap(JsonNode config) throws JsonProcessingException {
        Map<String, Object> map = new HashMap<>();
        map.put(ProducerConfig.KEY_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class.getName());
        map.put(ProducerConfig.VALUE_SERIALIZER_CLASS_CONFIG, ByteArraySerializer.class.getName());
        for (Map.Entry<String, JsonNode> entry : config.properties()) {
            map.put(entry.getKey(), object(entry.getValue()));
        }
        return map;
    }

    static Object object(JsonNode value) throws JsonProcessingException {
        return Judge.JSON.treeToValue(value, Object.class);
    }

    private static JsonNode plain(Object value) {
        if (value instanceof Password) {
            return JsonNodeFactory.instance.textNode(((Password) value).value());
        } else if (value instanceof Class) {
            return JsonNodeFactory.instance.textNode(((Class<?>) value).getName());
        } else if (value instanceof List) {
            ArrayNode list = Judge.JSON.createArrayNode();
            ((List<?>) value).forEach(element -> list.add(plain(element)));
            return list;
        } else if (value instanceof Object[]) {
            return plain(Arrays.asList((Object[]) value));
        } else if (value == null || value instanceof Number || value instanceof Boolean || value instanceof String) {
            return Judge.JSON.valueToTree(value);
        }
        return JsonNodeFactory.instance.textNode(value.toString());
    }

    private Configs() {}
}
