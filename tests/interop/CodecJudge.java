// Reads requests from stdin and answers them with the Java client's own generated codec, until stdin ends.
//
// Request:  int32 size; int8 kind (0 request, 1 response, 2 request header, 3 response header); int16 API key;
//           int16 version to read (-1: the message as its constructor leaves it); int16 version to write; bytes.
// Answer:   int32 size; int8 status (0 read, described and written; 1 read, but the version cannot carry the message;
//           2 not read); int32 size of the written bytes; these bytes; then JSON, or the error's text.

import com.fasterxml.jackson.databind.JsonNode;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.MessageUtil;

public class CodecJudge {
    private static final byte WRITTEN = 0;
    private static final byte NOT_WRITTEN = 1;
    private static final byte NOT_READ = 2;

    public static void main(String[] arguments) throws IOException {
        DataInputStream questions = new DataInputStream(System.in);
        DataOutputStream answers = new DataOutputStream(System.out);
        System.setOut(new PrintStream(System.err));
        while (true) {
            byte[] question;
            try {
                question = new byte[questions.readInt()];
            } catch (EOFException end) {
                return;
            }
            questions.readFully(question);
            answer(ByteBuffer.wrap(question), answers);
            answers.flush();
        }
    }

    private static void answer(ByteBuffer question, DataOutputStream answers) throws IOException {
        ApiMessage message = create(question.get(), question.getShort());
        short readVersion = question.getShort();
        short writeVersion = question.getShort();
        try {
            if (readVersion >= 0) {
                message.read(new ByteBufferAccessor(question), readVersion);
                if (question.hasRemaining()) {
                    throw new IllegalArgumentException(question.remaining() + " bytes are left over");
                }
            }
        } catch (RuntimeException error) {
            send(answers, NOT_READ, new byte[0], error.toString());
            return;
        }
        try {
            ByteBuffer written = MessageUtil.toByteBufferAccessor(message, writeVersion).buffer();
            byte[] bytes = new byte[written.remaining()];
            written.get(bytes);
            send(answers, WRITTEN, bytes, describe(message, writeVersion));
        } catch (RuntimeException error) {
            // A version that cannot encode a value: UnsupportedVersionException, or NullPointerException for null.
            send(answers, NOT_WRITTEN, new byte[0], error.toString());
        }
    }

    private static ApiMessage create(byte kind, short apiKey) {
        return switch (kind) {
            case 0 -> ApiMessageType.fromApiKey(apiKey).newRequest();
            case 1 -> ApiMessageType.fromApiKey(apiKey).newResponse();
            case 2 -> new RequestHeaderData();
            default -> new ResponseHeaderData();
        };
    }

    private static String describe(ApiMessage message, short version) {
        try {
            Class<?> converter = Class.forName(message.getClass().getName() + "JsonConverter");
            // false: of records, whose description is only as complete as they are valid, include only the size.
            Object json = converter.getMethod("write", message.getClass(), short.class, boolean.class)
                .invoke(null, message, version, false);
            return ((JsonNode) json).toString();
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException(error);
        }
    }

    private static void send(DataOutputStream answers, byte status, byte[] bytes, String text) throws IOException {
        byte[] encoded = text.getBytes(StandardCharsets.UTF_8);
        answers.writeInt(5 + bytes.length + encoded.length);
        answers.writeByte(status);
        answers.writeInt(bytes.length);
        answers.write(bytes);
        answers.write(encoded);
    }
}
