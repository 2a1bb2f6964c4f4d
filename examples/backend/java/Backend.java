package example;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.http.MediaType;
import org.springframework.http.ResponseEntity;
import org.springframework.util.DigestUtils;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestHeader;
import org.springframework.web.bind.annotation.RestController;

/** A backend behind the filter, with Spring Boot: WECOM_BACKEND_SECRET=… and --server.port=8080 */
@SpringBootApplication
@RestController
public class Backend {
    private static final ObjectMapper JSON = new ObjectMapper();
    /** Serial number: the code that the user types. */
    private static final Map<String, String> CODES = Map.of("sn-1001", "123456", "sn-1002", "654321");
    /** In life, a table of the devices. */
    private final Set<String> bound = ConcurrentHashMap.newKeySet();
    /** Only ever grows. In life, a table with a unique key on both ids, whose rows go after dedup.ttl_seconds. */
    private final Map<List<String>, String> answers = new ConcurrentHashMap<>();

    private final String secret;

    Backend(@Value("${WECOM_BACKEND_SECRET:}") String secret) {
        if (secret.isEmpty()) {
            throw new IllegalStateException("WECOM_BACKEND_SECRET is not set");
        }
        this.secret = secret;
    }

    public static void main(String[] arguments) {
        SpringApplication backend = new SpringApplication(Backend.class);
        backend.setDefaultProperties(Map.of(
                // Or a private one: nobody but the filter may reach it.
                "server.address", "127.0.0.1",
                // Longer than Envoy keeps an idle connection, or it could send on one that ends.
                "server.tomcat.keep-alive-timeout", "2h"));
        backend.run(arguments);
    }

    @PostMapping({"/bind", "/events"})
    ResponseEntity<String> callback(
            @RequestHeader(name = "authorization", defaultValue = "") String authorization,
            @RequestHeader(name = "x-wecom-event", defaultValue = "") String event,
            @RequestHeader(name = "x-wecom-receive-id", defaultValue = "") String receiveId,
            @RequestHeader(name = "idempotency-key", defaultValue = "") String key,
            InputStream body) throws IOException {
        if (!MessageDigest.isEqual(bytes(authorization), bytes(secret))) {
            return ResponseEntity.status(401).body("{\"error\":\"not the filter\"}");
        }
        JsonNode message;
        try {
            message = JSON.readTree(body);
        } catch (JsonProcessingException error) { // whose text quotes the message: not for the log
            return ResponseEntity.badRequest().body("{\"error\":\"not a callback\"}");
        }
        // Of several requests with one key the first decides, and the others wait for it.
        String said = key.isEmpty()
                ? answer(event, message, key)
                : answers.computeIfAbsent(List.of(receiveId, key), first -> answer(event, message, key));
        if (said == null) {
            return ResponseEntity.status(501).body("{\"error\":\"not a type that is known\"}");
        }
        // An empty body counts as an answer only with its length.
        return ResponseEntity.ok().contentType(MediaType.APPLICATION_JSON).contentLength(bytes(said).length).body(said);
    }

    /** What to answer to a callback: an empty text says that it was taken, null that its type is not known. */
    private String answer(String event, JsonNode message, String key) {
        String device = message.at("/base_info/device_sn").asText();
        String said = switch (event) {
            case "bind" -> "{\"errcode\":" + verdict(device, message.at("/event/verif_code").asText()) + "}";
            case "verify_device" -> validity(message.at("/event/device_sn_md5").asText());
            case "user_scan" -> "{\"online_status\":" + (CODES.containsKey(device) ? 1 : 2) + "}";
            case "unbind" -> {
                bound.remove(device);
                yield "";
            }
            case "contact_change", "model_ticket", "update_firmware", "fetch_device_status", "enter_page", "exit_page" -> "";
            case "remote_open_door", "delete_bio_info", "printer_job_submit", "printer_job_trans", "printer_job_del" -> "";
            default -> null;
        };
        System.out.println((said == null ? "unknown " : "handled ") + event + " " + key);
        return said;
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

    private static String validity(String md5) {
        boolean isOurs = CODES.keySet().stream().anyMatch(sn -> DigestUtils.md5DigestAsHex(bytes(sn)).equalsIgnoreCase(md5));
        return isOurs ? "{\"is_valid\":true,\"modelid\":\"2000000000000001\"}" : "{\"is_valid\":false}";
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
