package mainstay;

import io.temporal.activity.Activity;
import io.temporal.activity.ActivityInterface;
import io.temporal.activity.ActivityOptions;
import io.temporal.activity.LocalActivityOptions;
import io.temporal.common.RetryOptions;
import io.temporal.failure.ApplicationFailure;
import io.temporal.failure.CanceledFailure;
import io.temporal.failure.ChildWorkflowFailure;
import io.temporal.workflow.Async;
import io.temporal.workflow.CancellationScope;
import io.temporal.workflow.Promise;
import io.temporal.workflow.QueryMethod;
import io.temporal.workflow.SignalMethod;
import io.temporal.workflow.UpdateMethod;
import io.temporal.workflow.UpdateValidatorMethod;
import io.temporal.workflow.Workflow;
import io.temporal.workflow.WorkflowInterface;
import io.temporal.workflow.WorkflowMethod;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/** Workflows and activities as a user of the SDK would write them; they know nothing of the server. */
final class Programs {
  private Programs() {}

  @ActivityInterface
  public interface Activities {
    String greet(String name);

    int flaky(int failures);

    void refuse();

    String elsewhere();
  }

  public static final class ActivitiesImpl implements Activities {
    @Override
    public String greet(String name) {
      return "Hello, " + name + "!";
    }

    @Override
    public int flaky(int failures) {
      int attempt = Activity.getExecutionContext().getInfo().getAttempt();
      if (attempt <= failures) {
        throw new IllegalStateException("attempt " + attempt + " fails");
      }
      return attempt;
    }

    @Override
    public void refuse() {
      throw ApplicationFailure.newNonRetryableFailure("not today", "Refused");
    }

    @Override
    public String elsewhere() {
      Activity.getExecutionContext().doNotCompleteOnReturn();
      return null;
    }
  }

  static final RetryOptions QUICK =
      RetryOptions.newBuilder().setInitialInterval(Duration.ofMillis(100)).setBackoffCoefficient(1).build();

  private static Activities activities() {
    return Workflow.newActivityStub(
        Activities.class,
        ActivityOptions.newBuilder().setStartToCloseTimeout(Duration.ofSeconds(20)).setRetryOptions(QUICK).build());
  }

  @WorkflowInterface
  public interface Steps {
    @WorkflowMethod
    String run(int failures);
  }

  /** A timer, an activity that is retried, a local one, one that fails for good, a version marker. */
  public static final class StepsImpl implements Steps {
    @Override
    public String run(int failures) {
      Workflow.sleep(Duration.ofMillis(50));
      int attempt = activities().flaky(failures);
      LocalActivityOptions options =
          LocalActivityOptions.newBuilder().setStartToCloseTimeout(Duration.ofSeconds(5)).build();
      String said = Workflow.newLocalActivityStub(Activities.class, options).greet("local");
      int version = Workflow.getVersion("step", Workflow.DEFAULT_VERSION, 1);
      try {
        activities().refuse();
      } catch (Exception error) {
        Throwable cause = error.getCause();
        return said + " " + attempt + " " + version + " " + ((ApplicationFailure) cause).getType();
      }
      return "not refused";
    }
  }

  @WorkflowInterface
  public interface Basket {
    @WorkflowMethod
    List<String> run();

    @SignalMethod
    void add(String item);

    @SignalMethod
    void leave();

    @QueryMethod
    List<String> items();

    @UpdateMethod
    int put(String item);

    @UpdateValidatorMethod(updateName = "put")
    void checkPut(String item);
  }

  /** Gathers what signals and updates bring. */
  public static final class BasketImpl implements Basket {
    private final List<String> items = new ArrayList<>();
    private boolean open = true;

    @Override
    public List<String> run() {
      Workflow.await(() -> !open && Workflow.isEveryHandlerFinished());
      return items;
    }

    @Override
    public void add(String item) {
      items.add(item);
    }

    @Override
    public void leave() {
      open = false;
    }

    @Override
    public List<String> items() {
      return items;
    }

    @Override
    public int put(String item) {
      items.add(activities().greet(item));
      return items.size();
    }

    @Override
    public void checkPut(String item) {
      if (item.isEmpty()) {
        throw new IllegalArgumentException("nothing to put");
      }
    }
  }

  @WorkflowInterface
  public interface Parent {
    @WorkflowMethod
    List<String> run();
  }

  /** Children that complete, are signalled, and are cancelled. */
  public static final class ParentImpl implements Parent {
    @Override
    public List<String> run() {
      List<String> told = new ArrayList<>();
      told.add(Workflow.newChildWorkflowStub(Steps.class).run(1));
      Basket basket = Workflow.newChildWorkflowStub(Basket.class);
      Promise<List<String>> gathered = Async.function(basket::run);
      Workflow.getWorkflowExecution(basket).get();
      basket.add("from the parent");
      basket.leave();
      told.addAll(gathered.get());
      Waiting waiting = Workflow.newChildWorkflowStub(Waiting.class);
      List<Promise<String>> slept = new ArrayList<>();
      CancellationScope scope = Workflow.newCancellationScope(() -> slept.add(Async.function(waiting::run)));
      scope.run();
      Workflow.getWorkflowExecution(waiting).get();
      scope.cancel();
      try {
        told.add(slept.get(0).get());
      } catch (ChildWorkflowFailure error) {
        told.add(error.getCause() instanceof CanceledFailure ? "cancelled" : "failed");
      }
      return told;
    }
  }

  @WorkflowInterface
  public interface Waiting {
    @WorkflowMethod
    String run();
  }

  /** Waits for ever; cleans up when it is cancelled. */
  public static final class WaitingImpl implements Waiting {
    @Override
    public String run() {
      try {
        Workflow.sleep(Duration.ofHours(1));
        return "slept";
      } catch (CanceledFailure error) {
        Workflow.newDetachedCancellationScope(() -> activities().greet("the end")).run();
        throw error;
      }
    }
  }

  @WorkflowInterface
  public interface Countdown {
    @WorkflowMethod
    String run(int from);
  }

  public static final class CountdownImpl implements Countdown {
    @Override
    public String run(int from) {
      if (from > 0) {
        Workflow.continueAsNew(from - 1);
      }
      return "done";
    }
  }

  @WorkflowInterface
  public interface Elsewhere {
    @WorkflowMethod
    String run();
  }

  /** Waits for an activity that somebody else completes. */
  public static final class ElsewhereImpl implements Elsewhere {
    @Override
    public String run() {
      return activities().elsewhere();
    }
  }

  @WorkflowInterface
  public interface FailsTwice {
    @WorkflowMethod
    int run();
  }

  /** Fails until its third attempt. */
  public static final class FailsTwiceImpl implements FailsTwice {
    @Override
    public int run() {
      int attempt = Workflow.getInfo().getAttempt();
      if (attempt < 3) {
        throw ApplicationFailure.newFailure("attempt " + attempt, "Again");
      }
      return attempt;
    }
  }

  @WorkflowInterface
  public interface Patient {
    @WorkflowMethod
    int run();
  }

  /** Its activity fails once, and its second attempt would be an hour away. */
  public static final class PatientImpl implements Patient {
    @Override
    public int run() {
      RetryOptions slow = RetryOptions.newBuilder().setInitialInterval(Duration.ofHours(1)).build();
      ActivityOptions options =
          ActivityOptions.newBuilder().setStartToCloseTimeout(Duration.ofSeconds(20)).setRetryOptions(slow).build();
      return Workflow.newActivityStub(Activities.class, options).flaky(1);
    }
  }

  @WorkflowInterface
  public interface LongWay {
    @WorkflowMethod
    int run(int turns);
  }

  /** Many turns, for a server that is killed meanwhile. */
  public static final class LongWayImpl implements LongWay {
    @Override
    public int run(int turns) {
      int sum = 0;
      for (int turn = 0; turn < turns; turn++) {
        Workflow.sleep(Duration.ofMillis(50));
        sum += activities().greet("x").length();
      }
      return sum;
    }
  }
}
