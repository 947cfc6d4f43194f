import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.StringReader;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;

/** Reads a JSON array of .properties texts from stdin; writes the entries of each as an object, null if malformed. */
public final class ReadProperties {
    public static void main(String[] arguments) throws IOException {
        ObjectMapper json = new ObjectMapper();
        List<Properties> answers = new ArrayList<>();
        for (String text : json.readValue(System.in, String[].class)) {
            Properties properties = new Properties();
            try {
                properties.load(new StringReader(text));
            } catch (IllegalArgumentException malformed) {
                properties = null;
            }
            answers.add(properties);
        }
        System.out.write(json.writeValueAsBytes(answers));
        System.out.flush();
    }
}
