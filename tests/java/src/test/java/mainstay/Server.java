package mainstay;

import io.temporal.serviceclient.WorkflowServiceStubs;
import io.temporal.serviceclient.WorkflowServiceStubsOptions;
import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Comparator;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** A server process that keeps its data and its port over kills. */
final class Server implements AutoCloseable {
  private final int port;
  private final Path directory;
  private Process process;

  Server() throws Exception {
    try (ServerSocket socket = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      port = socket.getLocalPort();
    }
    directory = Files.createTempDirectory("mainstay-java-");
    start();
  }

  String address() {
    return "127.0.0.1:" + port;
  }

  /** MAINSTAY_BIN, or cargo's debug build in the cache that `cargo xtask` uses. */
  private static String binary() {
    String chosen = System.getenv("MAINSTAY_BIN");
    if (chosen != null) {
      return chosen;
    }
    String cache = System.getenv().getOrDefault("XDG_CACHE_HOME", System.getProperty("user.home") + "/.cache");
    String target = System.getenv().getOrDefault("CARGO_TARGET_DIR", cache + "/mainstay/target");
    return target + "/debug/mainstay";
  }

  void start() throws Exception {
    process =
        new ProcessBuilder(
                binary(), "server", "start-dev", "--ip", "127.0.0.1", "--port", Integer.toString(port), "--headless",
                "--db-filename", directory.resolve("data").toString())
            .redirectOutput(new File("/dev/null"))
            .redirectError(ProcessBuilder.Redirect.INHERIT)
            .start();
    WorkflowServiceStubsOptions options = WorkflowServiceStubsOptions.newBuilder().setTarget(address()).build();
    WorkflowServiceStubs stubs = WorkflowServiceStubs.newServiceStubs(options);
    try {
      stubs.connect(Duration.ofSeconds(30));
    } finally {
      stubs.shutdownNow();
    }
  }

  /** SIGKILL, as a crash does it. */
  void kill() throws InterruptedException {
    process.destroyForcibly();
    process.waitFor(10, TimeUnit.SECONDS);
  }

  @Override
  public void close() throws Exception {
    kill();
    try (Stream<Path> files = Files.walk(directory)) {
      files.sorted(Comparator.reverseOrder()).map(Path::toFile).forEach(File::delete);
    } catch (IOException gone) {
      // The system's temporary directory is not ours to keep clean.
    }
  }
}
