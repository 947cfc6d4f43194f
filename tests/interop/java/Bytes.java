package penstock.judge;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.NullNode;
import com.fasterxml.jackson.databind.node.TextNode;
import java.nio.ByteBuffer;
import java.util.HexFormat;

/** Bytes travel as hexadecimal text, absent ones as null. */
final class Bytes {
    static byte[] of(JsonNode hex) {
        return hex.isNull() || hex.isMissingNode() ? null : HexFormat.of().parseHex(hex.textValue());
    }

    static JsonNode hex(byte[] bytes) {
        return bytes == null ? NullNode.instance : TextNode.valueOf(HexFormat.of().formatHex(bytes));
    }

    static JsonNode hex(ByteBuffer buffer) {
        if (buffer == null) {
            return NullNode.instance;
        }
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return hex(bytes);
    }

    private Bytes() {}
}
