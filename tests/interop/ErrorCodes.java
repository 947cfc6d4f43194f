import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.errors.RefreshRetriableException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.protocol.Errors;

/** Writes Kafka's table of error codes: [code, name, retriable, needs a refresh] for each. */
public final class ErrorCodes {
    public static void main(String[] arguments) throws IOException {
        List<Object[]> rows = new ArrayList<>();
        for (Errors error : Errors.values()) {
            Exception kind = error.exception();
            rows.add(new Object[] {
                error.code(), error.name(), kind instanceof RetriableException, kind instanceof RefreshRetriableException
            });
        }
        System.out.write(new ObjectMapper().writeValueAsBytes(rows));
        System.out.flush();
    }
}
