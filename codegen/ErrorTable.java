import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import org.apache.kafka.common.errors.ApiException;
import org.apache.kafka.common.protocol.Errors;

/** Prints Kafka's error codes as JSON: code, name, the exception's class and its superclasses up to ApiException. */
public final class ErrorTable {
    public static void main(String[] arguments) throws Exception {
        ObjectMapper json = new ObjectMapper();
        ArrayNode rows = json.createArrayNode();
        for (Errors error : Errors.values()) {
            if (error == Errors.NONE) {
                continue;
            }
            ObjectNode row = rows.addObject();
            row.put("code", error.code());
            row.put("name", error.name());
            ArrayNode classes = row.putArray("classes");
            for (Class<?> kind = error.exception().getClass(); kind != ApiException.class; kind = kind.getSuperclass()) {
                classes.add(kind.getSimpleName());
            }
            classes.add(ApiException.class.getSimpleName());
        }
        json.writerWithDefaultPrettyPrinter().writeValue(System.out, rows);
    }
}
