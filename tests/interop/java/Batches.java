package penstock.judge;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.ByteBuffer;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.internal.DefaultRecordBatch;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.MutableRecordBatch;
import org.apache.kafka.common.record.internal.Record;

/** Record batches as Kafka reads them. */
final class Batches {
    private static final int ATTRIBUTES_OFFSET = 21;

    /** data: [hex of batches back to back] to [{"batches", "size", "valid_bytes", "error"?}]. */
    static JsonNode decode(JsonNode arguments) {
        ArrayNode answers = Judge.JSON.createArrayNode();
        arguments.path("data").forEach(hex -> answers.add(decodeOne(Bytes.of(hex))));
        return answers;
    }

    private static ObjectNode decodeOne(byte[] bytes) {
        ObjectNode answer = Judge.JSON.createObjectNode();
        ArrayNode batches = answer.putArray("batches");
        answer.put("size", bytes.length);
        try {
            MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(bytes));
            int start = 0;
            for (MutableRecordBatch batch : records.batches()) {
                batches.add(describe(batch, bytes, start));
                start += batch.sizeInBytes();
            }
            answer.put("valid_bytes", start);
        } catch (RuntimeException error) { // the batches before the error stay in the answer
            answer.set("error", Judge.describe(error));
        }
        return answer;
    }

    private static ObjectNode describe(MutableRecordBatch batch, byte[] bytes, int start) {
        ObjectNode node = Judge.JSON.createObjectNode();
        node.put("base_offset", batch.baseOffset());
        node.put("last_offset", batch.lastOffset());
        node.put("size", batch.sizeInBytes());
        node.put("partition_leader_epoch", batch.partitionLeaderEpoch());
        node.put("magic", batch.magic());
        node.put("checksum", batch.checksum());
        node.put("compression", batch.compressionType().name);
        node.put("timestamp_type", batch.timestampType().name);
        node.put("max_timestamp", batch.maxTimestamp());
        node.put("producer_id", batch.producerId());
        node.put("producer_epoch", batch.producerEpoch());
        node.put("base_sequence", batch.baseSequence());
        node.put("last_sequence", batch.lastSequence());
        node.put("count", batch.countOrNull());
        node.put("transactional", batch.isTransactional());
        node.put("control", batch.isControlBatch());
        batch.deleteHorizonMs().ifPresent(time -> node.put("delete_horizon_ms", time));
        if (batch instanceof DefaultRecordBatch) {
            node.put("base_timestamp", ((DefaultRecordBatch) batch).baseTimestamp());
            node.put("attributes", ByteBuffer.wrap(bytes).getShort(start + ATTRIBUTES_OFFSET));
        }
        try {
            batch.ensureValid();
            node.put("valid", true);
            ArrayNode records = node.putArray("records");
            for (Record record : batch) {
                record.ensureValid();
                records.add(describe(record));
            }
        } catch (RuntimeException error) {
            node.put("valid", false);
            node.set("error", Judge.describe(error));
        }
        return node;
    }

    private static ObjectNode describe(Record record) {
        ObjectNode node = Judge.JSON.createObjectNode();
        node.put("offset", record.offset());
        node.put("sequence", record.sequence());
        node.put("timestamp", record.timestamp());
        node.set("key", Bytes.hex(record.key()));
        node.set("value", Bytes.hex(record.value()));
        node.set("headers", headers(record.headers()));
        return node;
    }

    static ArrayNode headers(Iterable<Header> headers) {
        ArrayNode list = Judge.JSON.createArrayNode();
        headers.forEach(header -> list.addArray().add(header.key()).add(Bytes.hex(header.value())));
        return list;
    }

    private static ArrayNode headers(Header[] headers) {
        return headers(java.util.List.of(headers));
    }

    private Batches() {}
}
