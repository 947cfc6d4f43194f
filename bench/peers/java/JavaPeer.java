// The Java client as a contestant: one JSON task in (first argument), one JSON measurement out.
//
// Warmed up in the same process before anything is timed: without compiled hot paths, a JVM's figures do not show the client.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.internals.AppInfoParser;

public class JavaPeer {
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    private final KafkaProducer<byte[], byte[]> producer;
    private final String topic;
    private final byte[][] values;
    private final byte[][] keys;
    private final LongAdder delivered = new LongAdder();
    private final Callback onDelivery = (metadata, error) -> {
        if (error == null) {
            delivered.increment();
        }
    };

    private JavaPeer(JsonNode task, Properties settings) {
        producer = new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
        topic = task.get("topic").asText();
        values = valuesOf(task);
        keys = new byte[task.path("keys").asInt(0)][];
        for (int number = 0; number < keys.length; number++) {
            keys[number] = String.format("key-%08d", number).getBytes();
        }
    }

    private void send(long count) {
        for (long number = 0; number < count; number++) {
            byte[] key = keys.length == 0 ? null : keys[(int) (number % keys.length)];
            producer.send(new ProducerRecord<>(topic, key, values[(int) (number % values.length)]), onDelivery);
        }
    }

    /** A thousand values in rotation; random ones cannot be compressed. */
    private static byte[][] valuesOf(JsonNode task) {
        boolean isRandom = task.path("corpus").asText("").equals("random");
        Random random = new Random(4);
        byte[][] made = new byte[isRandom ? 1000 : 1][task.get("size").asInt()];
        for (byte[] value : made) {
            if (isRandom) {
                random.nextBytes(value);
            } else {
                Arrays.fill(value, (byte) 'x');
            }
        }
        return made;
    }

    /** Sends for some seconds; returns how many records. */
    private long sendFor(double seconds, int chunk) {
        long end = System.nanoTime() + (long) (seconds * 1e9), count = 0;
        do {
            send(chunk);
            count += chunk;
        } while (System.nanoTime() < end);
        return count;
    }

    public static void main(String[] arguments) throws Exception {
        ObjectMapper mapper = new ObjectMapper();
        JsonNode task = mapper.readTree(arguments[0]);
        Map<String, Object> shown = new LinkedHashMap<>();
        if (!task.path("defaults").asBoolean(false)) {
            shown.put("acks", "all");
            shown.put("enable.idempotence", true);
            shown.put("linger.ms", task.path("linger_ms").asInt(5));
            // Java's own tuning advice (batch.size, buffer.memory): larger than the 16 KiB and 32 MiB of the defaults.
            shown.put("batch.size", 262_144);
            shown.put("buffer.memory", 64L << 20);
            shown.put("compression.type", "none");
        }
        task.path("java").fields().forEachRemaining(own -> shown.put(own.getKey(), own.getValue().asText()));
        Properties settings = new Properties();
        shown.forEach((name, setting) -> settings.put(name, setting.toString()));
        settings.put("bootstrap.servers", task.get("bootstrap").asText());

        JavaPeer peer = new JavaPeer(task, settings);
        peer.sendFor(task.path("warm_up_s").asDouble(5), 1_000);
        peer.producer.flush();
        peer.delivered.reset();

        long cpu = SYSTEM.getProcessCpuTime();
        long began = System.nanoTime();
        long count = task.path("count").asLong();
        if (task.has("seconds")) {
            count = peer.sendFor(task.get("seconds").asDouble(), 1_000);
        } else {
            peer.send(count);
        }
        peer.producer.flush();
        double seconds = (System.nanoTime() - began) / 1e9;
        double cpuSeconds = (SYSTEM.getProcessCpuTime() - cpu) / 1e9;
        long delivered = peer.delivered.sum();
        peer.producer.close();

        shown.put("java", System.getProperty("java.version"));
        Map<String, Object> measured = new LinkedHashMap<>();
        measured.put("version", AppInfoParser.getVersion());
        measured.put("settings", shown);
        measured.put("count", count);
        measured.put("seconds", seconds);
        measured.put("cpu_seconds", cpuSeconds);
        measured.put("failures", count - delivered);
        System.out.println(mapper.writeValueAsString(measured));
    }
}
