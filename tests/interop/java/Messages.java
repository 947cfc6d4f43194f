package penstock.judge;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.MessageUtil;

/** Protocol messages through Kafka's own codec. API key -1 means the request or response header. */
final class Messages {
    private static final short HEADER = -1;

    /** [{"api_key", "name", "lowest", "highest", "unstable", "request_header": [..], "response_header": [..]}]. */
    static JsonNode apiVersions(JsonNode arguments) {
        ArrayNode rows = Judge.JSON.createArrayNode();
        for (ApiMessageType type : ApiMessageType.values()) {
            ObjectNode row = rows.addObject();
            row.put("api_key", type.apiKey());
            row.put("name", type.name);
            row.put("lowest", type.lowestSupportedVersion());
            row.put("highest", type.highestSupportedVersion(true));
            row.put("unstable", type.latestVersionUnstable());
            ArrayNode request = row.putArray("request_header");
            ArrayNode response = row.putArray("response_header");
            for (short v = type.lowestSupportedVersion(); v <= type.highestSupportedVersion(true); v++) {
                request.add(type.requestHeaderVersion(v));
                response.add(type.responseHeaderVersion(v));
            }
        }
        return rows;
    }

    /** items: [[api key, version, is request, hex]] to [{"hex", "json", "left": bytes not read} or {"error"}]. */
    static JsonNode reencode(JsonNode arguments) {
        ArrayNode answers = Judge.JSON.createArrayNode();
        for (JsonNode item : arguments.path("items")) {
            short version = (short) item.path(1).intValue();
            try {
                ApiMessage message = create((short) item.path(0).intValue(), item.path(2).booleanValue());
                checkVersion(message, version);
                ByteBuffer buffer = ByteBuffer.wrap(Bytes.of(item.path(3)));
                message.read(new ByteBufferAccessor(buffer), version);
                ObjectNode answer = Judge.JSON.createObjectNode();
                answer.put("left", buffer.remaining());
                answer.set("hex", Bytes.hex(write(message, version)));
                answer.set("json", toJson(message, version));
                answers.add(answer);
            } catch (Exception error) {
                answers.add(Judge.failure(error));
            }
        }
        return answers;
    }

    /** items: [[api key, version, is request, JSON in Kafka's own form]] to [{"hex"} or {"error"}]. */
    static JsonNode encode(JsonNode arguments) {
        ArrayNode answers = Judge.JSON.createArrayNode();
        for (JsonNode item : arguments.path("items")) {
            short version = (short) item.path(1).intValue();
            try {
                ApiMessage message = create((short) item.path(0).intValue(), item.path(2).booleanValue());
                checkVersion(message, version);
                Method read = converter(message).getMethod("read", JsonNode.class, short.class);
                ApiMessage parsed = (ApiMessage) invoke(read, item.path(3), version);
                ObjectNode answer = Judge.JSON.createObjectNode();
                answer.set("hex", Bytes.hex(write(parsed, version)));
                answers.add(answer);
            } catch (Exception error) {
                answers.add(Judge.failure(error));
            }
        }
        return answers;
    }

    private static ApiMessage create(short apiKey, boolean isRequest) {
        if (apiKey == HEADER) {
            return isRequest ? new RequestHeaderData() : new ResponseHeaderData();
        }
        ApiMessageType type = ApiMessageType.fromApiKey(apiKey);
        return isRequest ? type.newRequest() : type.newResponse();
    }

    /** The generated readers accept any number as version; a typing error in a test must not pass as an answer. */
    private static void checkVersion(ApiMessage message, short version) {
        if (version < message.lowestSupportedVersion() || version > message.highestSupportedVersion()) {
            throw new IllegalArgumentException(message.getClass().getSimpleName() + " has the versions "
                    + message.lowestSupportedVersion() + " to " + message.highestSupportedVersion()
                    + ", not " + version);
        }
    }

    private static ByteBuffer write(ApiMessage message, short version) {
        return MessageUtil.toByteBufferAccessor(message, version).buffer();
    }

    private static JsonNode toJson(ApiMessage message, short version) throws Exception {
        Method write = converter(message).getMethod("write", message.getClass(), short.class);
        return (JsonNode) invoke(write, message, version);
    }

    private static Class<?> converter(ApiMessage message) throws ClassNotFoundException {
        return Class.forName(message.getClass().getName() + "JsonConverter");
    }

    private static Object invoke(Method method, Object... arguments) throws Exception {
        try {
            return method.invoke(null, arguments);
        } catch (InvocationTargetException error) {
            throw error.getCause() instanceof Exception ? (Exception) error.getCause() : error;
        }
    }

    private Messages() {}
}
