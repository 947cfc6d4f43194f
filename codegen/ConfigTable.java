import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.TreeMap;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigException;

/** Prints the producer's configuration definition as JSON: names, types, defaults, importance, validators; no prose. */
public final class ConfigTable {
    public static void main(String[] arguments) throws Exception {
        ObjectMapper json = new ObjectMapper();
        ArrayNode rows = json.createArrayNode();
        for (ConfigDef.ConfigKey key : new TreeMap<>(ProducerConfig.configDef().configKeys()).values()) {
            ObjectNode row = rows.addObject();
            row.put("name", key.name);
            row.put("type", key.type.name());
            row.put("importance", key.importance.name());
            row.put("internal", key.internalConfig);
            row.put("required", !key.hasDefault());
            Object value = key.hasDefault() ? key.defaultValue : null;
            row.set("default", json.valueToTree(value instanceof Class ? ((Class<?>) value).getName() : value));
            if (key.validator != null) {
                row.put("validator", key.validator.getClass().getSimpleName());
                row.put("validator_text", key.validator.toString());
                if (key.validator instanceof ConfigDef.ValidList) { // its text does not say what it allows
                    row.put("allows_null", accepts(key, null));
                    row.put("allows_empty", accepts(key, Collections.emptyList()));
                    row.put("allows_duplicates", accepts(key, Arrays.asList("a", "a")));
                    row.put("allows_empty_entry", accepts(key, List.of("")));
                }
            }
        }
        json.writerWithDefaultPrettyPrinter().writeValue(System.out, rows);
    }

    private static boolean accepts(ConfigDef.ConfigKey key, Object value) {
        try {
            key.validator.ensureValid(key.name, value);
            return true;
        } catch (ConfigException refused) {
            return false;
        }
    }
}
