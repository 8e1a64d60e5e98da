package mainstay;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.temporal.api.common.v1.WorkflowExecution;
import io.temporal.api.enums.v1.PendingActivityState;
import io.temporal.api.enums.v1.TaskQueueType;
import io.temporal.api.enums.v1.WorkflowIdConflictPolicy;
import io.temporal.api.taskqueue.v1.TaskQueue;
import io.temporal.api.workflowservice.v1.DescribeTaskQueueRequest;
import io.temporal.api.workflowservice.v1.DescribeTaskQueueResponse;
import io.temporal.api.workflowservice.v1.DescribeWorkflowExecutionRequest;
import io.temporal.api.workflowservice.v1.DescribeWorkflowExecutionResponse;
import io.temporal.api.workflowservice.v1.PauseActivityRequest;
import io.temporal.api.workflowservice.v1.ResetWorkflowExecutionRequest;
import io.temporal.api.workflowservice.v1.UnpauseActivityRequest;
import io.temporal.client.UpdateOptions;
import io.temporal.client.WithStartWorkflowOperation;
import io.temporal.client.WorkflowClient;
import io.temporal.client.WorkflowExecutionAlreadyStarted;
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
import java.util.Optional;
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
    Programs.CountdownImpl.class, Programs.LongWayImpl.class, Programs.ElsewhereImpl.class, Programs.FailsTwiceImpl.class,
    Programs.PatientImpl.class,
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

  private static WorkflowOptions.Builder options() {
    return WorkflowOptions.newBuilder().setTaskQueue(QUEUE).setWorkflowId("java-" + UUID.randomUUID());
  }

  private static <T> T stub(Class<T> kind) {
    return client.newWorkflowStub(kind, options().build());
  }

  private static DescribeWorkflowExecutionResponse describe(String id) {
    return stubs.blockingStub().describeWorkflowExecution(
        DescribeWorkflowExecutionRequest.newBuilder()
            .setNamespace("default")
            .setExecution(WorkflowExecution.newBuilder().setWorkflowId(id))
            .build());
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
  void aSignalStartsAWorkflowAndThenOnlySignalsIt() {
    WorkflowOptions options = options().build();
    WorkflowExecution first =
        client.newUntypedWorkflowStub("Basket", options).signalWithStart("add", new Object[] {"one"}, new Object[] {});
    WorkflowStub workflow = client.newUntypedWorkflowStub("Basket", options);
    assertEquals(first, workflow.signalWithStart("add", new Object[] {"two"}, new Object[] {}));
    workflow.signal("leave");
    assertEquals(List.of("one", "two"), workflow.getResult(List.class));
  }

  @Test
  void anUpdateStartsItsWorkflow() {
    WorkflowOptions options =
        options().setWorkflowIdConflictPolicy(WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING).build();
    Programs.Basket basket = client.newWorkflowStub(Programs.Basket.class, options);
    int count =
        WorkflowClient.executeUpdateWithStart(
            basket::put, "salt", UpdateOptions.<Integer>newBuilder().build(), new WithStartWorkflowOperation<>(basket::run));
    assertEquals(1, count);
    basket.leave();
    assertEquals(List.of("Hello, salt!"), WorkflowStub.fromTyped(basket).getResult(List.class));
  }

  @Test
  void aResetRunDoesItsWorkAgainWithTheSignalsThatCameSince() throws Exception {
    Programs.Basket basket = stub(Programs.Basket.class);
    WorkflowExecution first = WorkflowClient.start(basket::run);
    assertEquals(List.of(), basket.items(), "the first workflow task is over");
    basket.add("kept");
    while (basket.items().isEmpty()) {
      Thread.sleep(50);
    }
    stubs.blockingStub().resetWorkflowExecution(
        ResetWorkflowExecutionRequest.newBuilder()
            .setNamespace("default")
            .setWorkflowExecution(first)
            .setReason("again")
            .setRequestId(UUID.randomUUID().toString())
            .setWorkflowTaskFinishEventId(4)
            .build());
    WorkflowStub again = client.newUntypedWorkflowStub(first.getWorkflowId());
    again.signal("leave");
    assertEquals(List.of("kept"), again.getResult(List.class));
    WorkflowReplayer.replayWorkflowExecution(client.fetchHistory(first.getWorkflowId()), WORKFLOWS[0], tail());
  }

  @Test
  void retriesAndCron() throws Exception {
    WorkflowOptions retried = options().setRetryOptions(Programs.QUICK).build();
    assertEquals(3, client.newWorkflowStub(Programs.FailsTwice.class, retried).run());
    WorkflowOptions options = options().setCronSchedule("@every 1s").build();
    WorkflowStub cron = WorkflowStub.fromTyped(client.newWorkflowStub(Programs.Countdown.class, options));
    String first = cron.start(0).getRunId();
    while (describe(options.getWorkflowId()).getWorkflowExecutionInfo().getExecution().getRunId().equals(first)) {
      Thread.sleep(200);
    }
    client.newUntypedWorkflowStub(options.getWorkflowId()).terminate("enough");
  }

  @Test
  void anActivityIsCompletedFromOutside() throws Exception {
    Programs.Elsewhere elsewhere = stub(Programs.Elsewhere.class);
    WorkflowExecution execution = WorkflowClient.start(elsewhere::run);
    String id = execution.getWorkflowId();
    await(id, 1, PendingActivityState.PENDING_ACTIVITY_STATE_STARTED);
    client.newActivityCompletionClient()
        .complete(id, Optional.empty(), describe(id).getPendingActivities(0).getActivityId(), "from outside");
    assertEquals("from outside", WorkflowStub.fromTyped(elsewhere).getResult(String.class));
  }

  @Test
  void anActivityIsPausedBetweenItsAttempts() throws Exception {
    Programs.Patient patient = stub(Programs.Patient.class);
    WorkflowExecution execution = WorkflowClient.start(patient::run);
    String id = execution.getWorkflowId();
    await(id, 2, PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED);
    WorkflowExecution current = WorkflowExecution.newBuilder().setWorkflowId(id).build();
    stubs.blockingStub().pauseActivity(
        PauseActivityRequest.newBuilder()
            .setNamespace("default")
            .setExecution(current)
            .setType("Flaky")
            .setReason("look first")
            .build());
    await(id, 2, PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED);
    stubs.blockingStub().unpauseActivity(
        UnpauseActivityRequest.newBuilder().setNamespace("default").setExecution(current).setType("Flaky").build());
    assertEquals(2, WorkflowStub.fromTyped(patient).getResult(Integer.class));
  }

  /** Waits until the workflow's activity is in this state at this attempt. */
  private static void await(String id, int attempt, PendingActivityState state) throws Exception {
    while (describe(id).getPendingActivitiesList().stream()
        .noneMatch(activity -> activity.getAttempt() == attempt && activity.getState() == state)) {
      Thread.sleep(50);
    }
  }

  @Test
  void whatGoesTooFarIsRefusedByName() {
    WorkflowOptions options = options().build();
    Programs.Basket basket = client.newWorkflowStub(Programs.Basket.class, options);
    WorkflowClient.start(basket::run);
    Programs.Basket second = client.newWorkflowStub(Programs.Basket.class, options);
    assertThrows(WorkflowExecutionAlreadyStarted.class, () -> WorkflowClient.start(second::run));
    Exception tooLarge = assertThrows(Exception.class, () -> basket.add("x".repeat(2 << 20)));
    Throwable cause = tooLarge instanceof StatusRuntimeException ? tooLarge : tooLarge.getCause();
    Status status = assertInstanceOf(StatusRuntimeException.class, cause).getStatus();
    assertEquals(Status.Code.INVALID_ARGUMENT, status.getCode());
    basket.leave();
    assertEquals(List.of(), WorkflowStub.fromTyped(basket).getResult(List.class));
    assertThrows(WorkflowNotFoundException.class, () -> client.newUntypedWorkflowStub("nobody").signal("add", "x"));
  }

  @Test
  void aTaskQueueShowsWhoPollsIt() {
    assertEquals("done", stub(Programs.Countdown.class).run(0));
    DescribeTaskQueueResponse queue =
        stubs.blockingStub().describeTaskQueue(
            DescribeTaskQueueRequest.newBuilder()
                .setNamespace("default")
                .setTaskQueue(TaskQueue.newBuilder().setName(QUEUE))
                .setTaskQueueType(TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW)
                .build());
    assertEquals(1, queue.getPollersCount());
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
