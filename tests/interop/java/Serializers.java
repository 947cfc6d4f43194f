package penstock.judge;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.common.serialization.ListSerializer;
import org.apache.kafka.common.serialization.Serializer;

/** The bytes that Kafka's serializers write. */
final class Serializers {
    private static final String PACKAGE = "org.apache.kafka.common.serialization.";

    /** items: [{"serializer": "String", "value": ..., "encoding"?, "inner"?, "position"?}] to [{"hex"} or {"error"}]. */
    static JsonNode serialize(JsonNode arguments) {
        ArrayNode answers = Judge.JSON.createArrayNode();
        for (JsonNode item : arguments.path("items")) {
            try {
                ObjectNode answer = Judge.JSON.createObjectNode();
                answer.set("hex", Bytes.hex(serializeOne(item)));
                answers.add(answer);
            } catch (Exception error) {
                answers.add(Judge.failure(error));
            }
        }
        return answers;
    }

    private static byte[] serializeOne(JsonNode item) throws Exception {
        String kind = item.path("serializer").textValue();
        String inner = item.path("inner").textValue();
        try (Serializer<Object> serializer = create(kind, inner, item)) {
            return serializer.serialize("topic", value(kind, inner, item.path("value"), item));
        }
    }

    private static Serializer<Object> create(String kind, String inner, JsonNode item) throws Exception {
        Map<String, Object> config = new HashMap<>();
        if (item.hasNonNull("encoding")) {
            config.put("serializer.encoding", item.path("encoding").textValue());
        }
        Serializer<Object> serializer = kind.equals("List")
                ? cast(new ListSerializer<>(instantiate(inner)))
                : instantiate(kind);
        if (!kind.equals("List")) { // one with its inner serializer from the constructor refuses to be configured
            serializer.configure(config, false);
        }
        return serializer;
    }

    private static Serializer<Object> instantiate(String kind) throws Exception {
        return cast((Serializer<?>) Class.forName(PACKAGE + kind + "Serializer").getConstructor().newInstance());
    }

    @SuppressWarnings("unchecked")
    private static Serializer<Object> cast(Serializer<?> serializer) {
        return (Serializer<Object>) serializer;
    }

    private static Object value(String kind, String inner, JsonNode value, JsonNode item) {
        if (value.isNull()) {
            return null;
        }
        switch (kind) {
            case "String":
                return value.textValue();
            case "ByteArray":
                return Bytes.of(value);
            case "Bytes":
                return org.apache.kafka.common.utils.Bytes.wrap(Bytes.of(value));
            case "ByteBuffer":
                ByteBuffer buffer = ByteBuffer.wrap(Bytes.of(value));
                buffer.position(item.path("position").asInt(0));
                return buffer;
            case "Integer":
                return Math.toIntExact(value.longValue());
            case "Short":
                int number = Math.toIntExact(value.longValue());
                if ((short) number != number) {
                    throw new ArithmeticException("short overflow");
                }
                return (short) number;
            case "Long":
                return value.bigIntegerValue().longValueExact();
            case "Float": // as Java's text, which has a form for NaN and the infinities
                return (float) Double.parseDouble(value.asText());
            case "Double":
                return Double.parseDouble(value.asText());
            case "Boolean":
                return value.booleanValue();
            case "UUID":
                return UUID.fromString(value.textValue());
            case "List":
                List<Object> list = new ArrayList<>();
                value.forEach(element -> list.add(value(inner, null, element, item)));
                return list;
            default: // Void accepts only null and reports the error itself
                return value.asText();
        }
    }

    private Serializers() {}
}
