package mainstay;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.temporal.client.WorkflowClient;
import io.temporal.client.WorkflowFailedException;
import io.temporal.client.WorkflowNotFoundException;
import io.temporal.client.WorkflowOptions;
import io.temporal.client.WorkflowStub;
import io.temporal.client.WorkflowUpdateException;
import io.temporal.failure.CanceledFailure;
import io.temporal.failure.TerminatedFailure;
import io.temporal.serviceclient.WorkflowServiceStubs;
import io.temporal.serviceclient.WorkflowServiceStubsOptions;
import io.temporal.testing.WorkflowReplayer;
import io.temporal.worker.Worker;
import io.temporal.worker.WorkerFactory;
import java.util.ArrayList;
import java.util.List;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Workflows of the Java SDK against a server of their own. */
@Timeout(value = 180, unit = TimeUnit.SECONDS)
class SuiteTest {
  private static final String QUEUE = "java";
  private static final Class<?>[] WORKFLOWS = {
    Programs.StepsImpl.class, Programs.BasketImpl.class, Programs.ParentImpl.class, Programs.WaitingImpl.class,
    Programs.CountdownImpl.class, Programs.LongWayImpl.class,
  };

  private static Server server;
  private static WorkflowServiceStubs stubs;
  private static WorkflowClient client;
  private static WorkerFactory factory;

  @BeforeAll
  static void start() throws Exception {
    server = new Server();
    stubs =
        WorkflowServiceStubs.newServiceStubs(
            WorkflowServiceStubsOptions.newBuilder().setTarget(server.address()).build());
    client = WorkflowClient.newInstance(stubs);
    factory = WorkerFactory.newInstance(client);
    Worker worker = factory.newWorker(QUEUE);
    worker.registerWorkflowImplementationTypes(WORKFLOWS);
    worker.registerActivitiesImplementations(new Programs.ActivitiesImpl());
    factory.start();
  }

  @AfterAll
  static void stop() throws Exception {
    factory.shutdownNow();
    factory.awaitTermination(20, TimeUnit.SECONDS);
    stubs.shutdownNow();
    server.close();
  }

  private static <T> T stub(Class<T> kind) {
    String id = "java-" + UUID.randomUUID();
    return client.newWorkflowStub(kind, WorkflowOptions.newBuilder().setTaskQueue(QUEUE).setWorkflowId(id).build());
  }

  @Test
  void activitiesTimersAndMarkers() {
    assertEquals("Hello, local! 3 1 Refused", stub(Programs.Steps.class).run(2));
  }

  @Test
  void signalsQueriesAndUpdates() {
    Programs.Basket basket = stub(Programs.Basket.class);
    WorkflowClient.start(basket::run);
    basket.add("bread");
    assertEquals(List.of("bread"), basket.items());
    assertEquals(2, basket.put("salt"));
    assertThrows(WorkflowUpdateException.class, () -> basket.put(""));
    basket.leave();
    List<?> kept = WorkflowStub.fromTyped(basket).getResult(List.class);
    assertEquals(List.of("bread", "Hello, salt!"), kept);
    assertThrows(WorkflowNotFoundException.class, () -> basket.add("late"));
  }

  @Test
  void children() {
    List<String> told = stub(Programs.Parent.class).run();
    assertEquals(List.of("Hello, local! 2 1 Refused", "from the parent", "cancelled"), told);
  }

  @Test
  void cancelAndTerminate() {
    WorkflowStub cancelled = WorkflowStub.fromTyped(stub(Programs.Waiting.class));
    cancelled.start();
    cancelled.cancel();
    WorkflowFailedException error =
        assertThrows(WorkflowFailedException.class, () -> cancelled.getResult(String.class));
    assertInstanceOf(CanceledFailure.class, error.getCause());
    WorkflowStub terminated = WorkflowStub.fromTyped(stub(Programs.Waiting.class));
    terminated.start();
    terminated.terminate("enough");
    error = assertThrows(WorkflowFailedException.class, () -> terminated.getResult(String.class));
    assertInstanceOf(TerminatedFailure.class, error.getCause());
  }

  @Test
  void continueAsNew() {
    assertEquals("done", stub(Programs.Countdown.class).run(2));
  }

  @Test
  void historiesReplay() throws Exception {
    for (Object typed : new Object[] {stub(Programs.Steps.class), stub(Programs.Parent.class)}) {
      WorkflowStub workflow = WorkflowStub.fromTyped(typed);
      Object[] arguments = typed instanceof Programs.Steps ? new Object[] {1} : new Object[] {};
      workflow.start(arguments);
      workflow.getResult(Object.class);
      WorkflowReplayer.replayWorkflowExecution(
          client.fetchHistory(workflow.getExecution().getWorkflowId()), WORKFLOWS[0], tail());
    }
  }

  private static Class<?>[] tail() {
    return java.util.Arrays.copyOfRange(WORKFLOWS, 1, WORKFLOWS.length);
  }

  @Test
  void workflowsGoOnWhileTheServerIsKilled() throws Exception {
    List<WorkflowStub> running = new ArrayList<>();
    for (int at = 0; at < 5; at++) {
      WorkflowStub workflow = WorkflowStub.fromTyped(stub(Programs.LongWay.class));
      workflow.start(20);
      running.add(workflow);
    }
    for (int kills = 0; kills < 2; kills++) {
      Thread.sleep(700);
      server.kill();
      server.start();
    }
    for (WorkflowStub workflow : running) {
      assertEquals(20 * "Hello, x!".length(), workflow.getResult(Integer.class));
    }
  }
}
