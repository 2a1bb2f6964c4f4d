package example;

import com.fasterxml.jackson.databind.JsonNode;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestHeader;
import org.springframework.web.bind.annotation.RestController;

/** A backend behind the filter, with Spring Boot: WECOM_BACKEND_SECRET=… and --server.port=8080 */
@SpringBootApplication
@RestController
public class Backend {
    /** Serial number: the code that the user types. */
    private static final Map<String, String> CODES = Map.of("sn-1001", "123456", "sn-1002", "654321");
    /** In life, a table of the devices. */
    private final Set<String> bound = ConcurrentHashMap.newKeySet();
    /** In life, a table whose unique key is the idempotency-key. */
    private final Map<String, String> answers = new ConcurrentHashMap<>();

    private final String secret;

    Backend(@Value("${WECOM_BACKEND_SECRET:}") String secret) {
        if (secret.isEmpty()) {
            throw new IllegalStateException("WECOM_BACKEND_SECRET is not set");
        }
        this.secret = secret;
    }

    public static void main(String[] arguments) {
        SpringApplication.run(Backend.class, arguments);
    }

    @PostMapping({"/bind", "/events"})
    ResponseEntity<String> callback(
            @RequestHeader(name = "authorization", defaultValue = "") String authorization,
            @RequestHeader(name = "idempotency-key", defaultValue = "") String key,
            @RequestBody JsonNode message) {
        if (!MessageDigest.isEqual(bytes(authorization), bytes(secret))) {
            return ResponseEntity.status(401).body("{\"error\":\"not the filter\"}");
        }
        // Of several requests with one key, the first decides.
        String said = key.isEmpty() ? answer(message, key) : answers.computeIfAbsent(key, k -> answer(message, k));
        // An empty body counts as an answer only with its length.
        return ResponseEntity.ok().contentType(MediaType.APPLICATION_JSON).contentLength(bytes(said).length).body(said);
    }

    /** What to answer to a callback; an empty text says that it was taken. */
    private String answer(JsonNode message, String key) {
        String device = message.path("base_info").path("device_sn").asText();
        String type = message.at("/event/event_type").asText() + message.at("/command/command_type").asText();
        System.out.println("handled " + type + " " + key);
        switch (type) {
            case "bind":
                return "{\"errcode\":" + verdict(device, message.at("/event/verif_code").asText()) + "}";
            case "verify_device":
                return "{\"is_valid\":true,\"modelid\":\"2000000000000001\"}";
            case "user_scan":
                return "{\"online_status\":1}";
            case "unbind":
                bound.remove(device);
                return "";
            default:
                return "";
        }
    }

    /** The verdict on a bind: https://developer.work.weixin.qq.com/document/path/95987 has the codes. */
    private int verdict(String device, String code) {
        if (!CODES.containsKey(device)) {
            return 7;
        }
        if (!CODES.get(device).equals(code)) {
            return 6;
        }
        return bound.add(device) ? 0 : 2;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
