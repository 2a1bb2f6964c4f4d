import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import me.chanjar.weixin.cp.config.impl.WxCpDefaultConfigImpl;
import me.chanjar.weixin.cp.util.crypto.WxCpCryptUtil;

import static java.nio.charset.StandardCharsets.UTF_8;

/**
 * Maven's com.github.binarywang:weixin-java-cp. It seals and opens any text; the JSON envelope is written and
 * read here.
 *
 * <p>tests/conformance/clients.rs says what is read and written.
 */
public final class Client {
    private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    private static String url;
    private static final List<JsonObject> accounts = new ArrayList<>();
    private static final List<WxCpCryptUtil> cryptos = new ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        JsonObject work = JsonParser.parseReader(new InputStreamReader(System.in, UTF_8)).getAsJsonObject();
        url = work.get("url").getAsString();
        for (JsonElement element : work.getAsJsonArray("accounts")) {
            JsonObject account = element.getAsJsonObject();
            WxCpDefaultConfigImpl configuration = new WxCpDefaultConfigImpl();
            configuration.setToken(account.get("token").getAsString());
            configuration.setAesKey(account.get("encodingAesKey").getAsString());
            configuration.setCorpId(account.get("receiveId").getAsString());
            accounts.add(account);
            cryptos.add(new WxCpCryptUtil(configuration));
        }

        var threads = Executors.newFixedThreadPool(4);
        List<Future<JsonObject>> pending = new ArrayList<>();
        for (JsonElement callback : work.getAsJsonArray("callbacks")) {
            pending.add(threads.submit(() -> send(callback.getAsJsonObject())));
        }
        threads.shutdown();
        JsonArray answers = new JsonArray();
        for (Future<JsonObject> answer : pending) {
            answers.add(answer.get());
        }
        JsonArray probes = new JsonArray();
        for (JsonElement probe : work.getAsJsonArray("probes")) {
            probes.add(probe(probe.getAsJsonObject()));
        }
        JsonObject result = new JsonObject();
        result.addProperty("version", version());
        result.add("answers", answers);
        result.add("probes", probes);
        PrintStream out = new PrintStream(System.out, false, UTF_8);
        out.print(new Gson().toJson(result));
        out.flush();
    }

    /** Seals and sends a callback, and opens the reply. */
    private static JsonObject send(JsonObject callback) {
        JsonObject answer = new JsonObject();
        try {
            int index = callback.get("account").getAsInt();
            JsonObject account = accounts.get(index);
            boolean isGet = callback.get("method").getAsString().equals("GET");
            var sealed = cryptos.get(index).encryptContext(callback.get("message").getAsString());
            String query = "msg_signature=" + sealed.getSignature()
                + "&timestamp=" + sealed.getTimeStamp() + "&nonce=" + sealed.getNonce();
            HttpRequest.Builder request = HttpRequest.newBuilder();
            if (isGet) {
                query += "&echostr=" + URLEncoder.encode(sealed.getEncrypt(), UTF_8);
            } else {
                JsonObject envelope = new JsonObject();
                envelope.add("tousername", account.get("receiveId"));
                envelope.addProperty("encrypt", sealed.getEncrypt());
                request.header("content-type", "application/json").POST(BodyPublishers.ofString(envelope.toString()));
            }
            request.uri(URI.create(url + account.get("path").getAsString() + "?" + query));
            HttpResponse<String> response = HTTP.send(request.build(), BodyHandlers.ofString());
            answer.addProperty("status", response.statusCode());
            if (isGet) {
                answer.addProperty("message", response.body());
                return answer;
            }
            JsonObject reply = JsonParser.parseString(response.body()).getAsJsonObject();
            if (!new ArrayList<>(reply.keySet()).equals(List.of("encrypt", "msgsignature", "timestamp", "nonce"))) {
                throw new IllegalStateException("the reply's members are " + reply.keySet());
            }
            // Checks the signature, but does not tell the receive id.
            answer.addProperty("message", cryptos.get(index).decryptContent(
                text(reply, "msgsignature"), text(reply, "timestamp"), text(reply, "nonce"), text(reply, "encrypt")));
        } catch (Exception error) {
            answer.addProperty("error", error.toString());
        }
        return answer;
    }

    /** Whether the library takes a message that is wrong in one way. */
    private static String probe(JsonObject probe) {
        boolean isUnsigned = text(probe, "name").equals("unsigned");
        String signature = isUnsigned ? "" : text(probe, "signature");
        try {
            cryptos.get(probe.get("account").getAsInt()).decryptContent(
                signature, text(probe, "timestamp"), text(probe, "nonce"), text(probe, "encrypt"));
            return "accepted";
        } catch (Exception error) {
            // The library wraps whatever it meets: what it met tells more.
            Throwable cause = error;
            while (cause.getCause() != null) {
                cause = cause.getCause();
            }
            return "refused (" + cause.getClass().getSimpleName() + ")";
        }
    }

    private static String text(JsonObject object, String member) {
        return object.get(member).getAsString();
    }

    private static String version() throws Exception {
        Properties properties = new Properties();
        try (var file = WxCpCryptUtil.class.getResourceAsStream(
                "/META-INF/maven/com.github.binarywang/weixin-java-cp/pom.properties")) {
            properties.load(file);
        }
        return properties.getProperty("version");
    }
}
