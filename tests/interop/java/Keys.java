package penstock.judge;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;
import org.apache.kafka.common.utils.Utils;

/** The partition of a key. */
final class Keys {
    static JsonNode murmur2(JsonNode arguments) {
        ArrayNode hashes = Judge.JSON.createArrayNode();
        arguments.path("keys").forEach(key -> hashes.add(Utils.murmur2(Bytes.of(key))));
        return hashes;
    }

    static JsonNode toPositive(JsonNode arguments) {
        ArrayNode numbers = Judge.JSON.createArrayNode();
        arguments.path("numbers").forEach(number -> numbers.add(Utils.toPositive(number.intValue())));
        return numbers;
    }

    static JsonNode partitionForKey(JsonNode arguments) {
        int count = arguments.path("partitions").intValue();
        ArrayNode partitions = Judge.JSON.createArrayNode();
        arguments.path("keys").forEach(key ->
                partitions.add(BuiltInPartitioner.partitionForKey(Bytes.of(key), count)));
        return partitions;
    }

    private Keys() {}
}
