package penstock.judge;

import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.TreeMap;

/**
 * Apache Kafka's own code as a judge of ours: one request per line on stdin, one answer per line on stdout, both JSON.
 *
 * <p>{"id": 1, "command": "murmur2", "arguments": {...}} is answered by {"id": 1, "result": ...} or by {"id": 1,
 * "error": {"type": class, "message": text}}. Commands are vectorised; where one item of many may fail, the failure is
 * that item's answer. The end of stdin ends the process, so that a judge never outlives the tests.
 */
public final class Judge {
    static final ObjectMapper JSON = new ObjectMapper().disable(JsonGenerator.Feature.AUTO_CLOSE_TARGET);

    /** A command: arguments to result. An exception becomes the answer. */
    interface Command {
        JsonNode answer(JsonNode arguments) throws Exception;
    }

    private static final Map<String, Command> COMMANDS = new TreeMap<>();

    static {
        COMMANDS.put("murmur2", Keys::murmur2);
        COMMANDS.put("to_positive", Keys::toPositive);
        COMMANDS.put("partition_for_key", Keys::partitionForKey);
        COMMANDS.put("serialize", Serializers::serialize);
        COMMANDS.put("decode_batches", Batches::decode);
        COMMANDS.put("config_table", Configs::table);
        COMMANDS.put("config_parse", Configs::parse);
        COMMANDS.put("producer_config", Configs::producerConfig);
        COMMANDS.put("open_producer", Configs::openProducer);
        COMMANDS.put("api_versions", Messages::apiVersions);
        COMMANDS.put("reencode", Messages::reencode);
        COMMANDS.put("encode", Messages::encode);
        COMMANDS.put("produce", Clients::produce);
        COMMANDS.put("consume", Clients::consume);
    }

    public static void main(String[] arguments) throws Exception {
        OutputStream answers = new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 1 << 16);
        System.setOut(System.err); // a library that prints must not write between the answers
        BufferedReader questions = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = questions.readLine(); line != null; line = questions.readLine()) {
            // Directly into the pipe: as a String beside its tree, a large answer would need twice the memory.
            JSON.writeValue(answers, judge(line));
            answers.write('\n');
            answers.flush();
        }
        System.exit(0); // client threads of a failed command must not keep the process alive
    }

    private static ObjectNode judge(String line) {
        ObjectNode answer = JSON.createObjectNode();
        try {
            JsonNode question = JSON.readTree(line);
            answer.set("id", question.path("id"));
            String name = question.path("command").asText();
            Command command = COMMANDS.get(name);
            if (command == null) {
                throw new IllegalArgumentException("unknown command '" + name + "', known: " + COMMANDS.keySet());
            }
            answer.set("result", command.answer(question.path("arguments")));
        } catch (Throwable error) { // an OutOfMemoryError or a missing class is an answer, too
            answer.set("error", describe(error));
        }
        return answer;
    }

    /** An exception as {"type", "message", "cause"?}. */
    static ObjectNode describe(Throwable error) {
        ObjectNode node = JSON.createObjectNode();
        node.put("type", error.getClass().getName());
        node.put("message", String.valueOf(error.getMessage()));
        if (error.getCause() != null && error.getCause() != error) {
            node.set("cause", describe(error.getCause()));
        }
        return node;
    }

    static ObjectNode failure(Throwable error) {
        ObjectNode node = JSON.createObjectNode();
        node.set("error", describe(error));
        return node;
    }

    private Judge() {}
}
