package sdk

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func TestAnActivityGivesItsResult(t *testing.T) {
	s := withWorker(t)
	run := s.start(Greeting, "Ada")
	equal(t, result[string](s, run), "Hello, Ada!")
	equal(t, len(s.history(run)), 11)
}

func TestAFailingActivityIsRetried(t *testing.T) {
	s := withWorker(t)
	run := s.start(Retries, 3)
	equal(t, result[int](s, run), 4)
	equal(t, s.count(run, enums.EVENT_TYPE_ACTIVITY_TASK_STARTED), 1)
}

func TestAFailureTravelsWhole(t *testing.T) {
	s := withWorker(t)
	err := s.start(Refused).Get(s.Context, nil)
	var activityError *temporal.ActivityError
	var cause *temporal.ApplicationError
	if !errors.As(err, &activityError) || !errors.As(err, &cause) {
		t.Fatal(err)
	}
	var details map[string]int
	s.must(cause.Details(&details))
	equal(t, []any{activityError.ActivityType().Name, cause.Message(), cause.Type(), cause.NonRetryable(), details["code"]},
		[]any{"Refuse", "not today", "Refused", true, 7})
}

func TestTimersFireLateNeverEarly(t *testing.T) {
	s := withWorker(t)
	run := s.start(Timers)
	measured := result[[]time.Duration](s, run)
	first, second := measured[0], measured[1]-measured[0]
	if first < 500*time.Millisecond || first > 3*time.Second || second < time.Second || second > 4*time.Second {
		t.Fatal(measured)
	}
	equal(t, s.count(run, enums.EVENT_TYPE_TIMER_FIRED), 2)
	equal(t, s.count(run, enums.EVENT_TYPE_TIMER_CANCELED), 1)
}

func TestSignalsArriveInOrderAndQueriesSeeThem(t *testing.T) {
	s := withWorker(t)
	run := s.start(Basket)
	var want []string
	for n := range 20 {
		want = append(want, fmt.Sprint("item-", n))
		s.signal("add", want[n])
	}
	content := func() (items []string) {
		value, err := s.QueryWorkflow(s.Context, run.GetID(), "", "content")
		s.must(err)
		s.must(value.Get(&items))
		return items
	}
	equal(t, content(), want)
	length := len(s.history(run))
	equal(t, content(), want)
	equal(t, len(s.history(run)), length)
	s.signal("close", nil)
	equal(t, result[[]string](s, run), want)
	equal(t, content(), want)
}

func TestAFailedQuerySaysWhy(t *testing.T) {
	s := withWorker(t)
	run := s.start(Basket)
	_, err := s.QueryWorkflow(s.Context, run.GetID(), "", "broken")
	var failed *serviceerror.QueryFailed
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "this query always fails") {
		t.Fatal(err)
	}
	s.must(s.TerminateWorkflow(s.Context, run.GetID(), "", "done"))
}

func TestSignalWithStartSignalsFirst(t *testing.T) {
	s := withWorker(t)
	for _, name := range []string{"one", "two"} {
		_, err := s.SignalWithStartWorkflow(s.Context, s.options().ID, "add", name, s.options(), Basket)
		s.must(err)
	}
	s.signal("close", nil)
	equal(t, result[[]string](s, s.GetWorkflow(s.Context, s.options().ID, "")), []string{"one", "two"})
}

func TestCancellingReachesTheActivity(t *testing.T) {
	s := withWorker(t)
	run := s.start(CancelledActivity)
	s.activity(run, "runs", func(a *workflowpb.PendingActivityInfo) bool { return a.LastHeartbeatTime != nil })
	s.must(s.CancelWorkflow(s.Context, run.GetID(), ""))
	equal(t, result[string](s, run), "cleaned up")
	equal(t, s.count(run, enums.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED), 1)
}

func TestACancelledWorkflowEndsAsCancelled(t *testing.T) {
	s := withWorker(t)
	run := s.start(Basket)
	s.must(s.CancelWorkflow(s.Context, run.GetID(), ""))
	if err := run.Get(s.Context, nil); !temporal.IsCanceledError(err) {
		t.Fatal(err)
	}
}

func TestTerminateGivesItsReason(t *testing.T) {
	s := withWorker(t)
	run := s.start(Basket)
	s.must(s.TerminateWorkflow(s.Context, run.GetID(), "", "enough"))
	if err := run.Get(s.Context, nil); !temporal.IsTerminatedError(err) {
		t.Fatal(err)
	}
	var notFound *serviceerror.NotFound
	if err := s.SignalWorkflow(s.Context, run.GetID(), "", "close", nil); !errors.As(err, &notFound) {
		t.Fatal(err)
	}
}

func TestContinueAsNewMakesAChainOfRuns(t *testing.T) {
	s := withWorker(t)
	run := s.start(Countdown, 3, []string{})
	first := run.GetRunID()
	runs := result[[]string](s, run)
	equal(t, []any{len(runs), runs[0]}, []any{4, first})
	err := s.GetWorkflow(s.Context, run.GetID(), first).GetWithOptions(s.Context, nil, client.WorkflowRunGetOptions{DisableFollowingRuns: true})
	var continued *workflow.ContinueAsNewError
	if !errors.As(err, &continued) {
		t.Fatal(err)
	}
}

func TestASagaUndoesInReverse(t *testing.T) {
	s := withWorker(t)
	equal(t, result[[]string](s, s.start(Saga)),
		[]string{"hotel-booked", "car-booked", "no seats", "car-booked-cancelled", "hotel-booked-cancelled"})
}

func TestHeartbeatDetailsReachTheNextAttempt(t *testing.T) {
	s := withWorker(t)
	equal(t, result[int](s, s.start(Heartbeats)), 4)
}

func TestActivityTimeOuts(t *testing.T) {
	half := 500 * time.Millisecond
	for want, options := range map[string]workflow.ActivityOptions{
		"StartToClose":    {StartToCloseTimeout: half},
		"Heartbeat":       {StartToCloseTimeout: 30 * time.Second, HeartbeatTimeout: half},
		"ScheduleToStart": {StartToCloseTimeout: 30 * time.Second, ScheduleToStartTimeout: half, TaskQueue: "nobody-polls-here"},
	} {
		t.Run(want, func(t *testing.T) {
			s := withWorker(t)
			equal(t, result[string](s, s.start(TimedOut, options)), want)
		})
	}
}

func TestAnActivityCanBeCompletedByItsID(t *testing.T) {
	s := withWorker(t)
	run := s.start(AsyncCompletion)
	s.activity(run, "runs", func(a *workflowpb.PendingActivityInfo) bool { return a.LastStartedTime != nil })
	s.must(s.RecordActivityHeartbeatByID(s.Context, "default", run.GetID(), "", "elsewhere", "still there"))
	s.must(s.CompleteActivityByID(s.Context, "default", run.GetID(), "", "elsewhere", "done by somebody else", nil))
	equal(t, result[string](s, run), "done by somebody else")
}

func TestMarkers(t *testing.T) {
	s := withWorker(t)
	run := s.start(LocalSteps)
	equal(t, result[[]string](s, run), []string{"Hello, marker!", "drawn", "1"})
	equal(t, s.count(run, enums.EVENT_TYPE_MARKER_RECORDED), 3)
}

func TestAnIDIsUsedByOneRunningWorkflow(t *testing.T) {
	s := withWorker(t)
	run := s.start(Basket)
	options := s.options()
	options.WorkflowExecutionErrorWhenAlreadyStarted = true
	_, err := s.ExecuteWorkflow(s.Context, options, Basket)
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if !errors.As(err, &running) {
		t.Fatal(err)
	}
	equal(t, running.RunId, run.GetRunID())
	s.signal("close", nil)
	s.must(run.Get(s.Context, nil))
	options.WorkflowIDReusePolicy = enums.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE
	if _, err := s.ExecuteWorkflow(s.Context, options, Basket); !errors.As(err, &running) {
		t.Fatal(err)
	}
}

func TestAWorkflowTimesOut(t *testing.T) {
	s := withWorker(t)
	options := s.options()
	options.WorkflowRunTimeout = time.Second
	run, err := s.ExecuteWorkflow(s.Context, options, Basket)
	s.must(err)
	if err := run.Get(s.Context, nil); !temporal.IsTimeoutError(err) {
		t.Fatal(err)
	}
}

func TestHistoriesReplay(t *testing.T) {
	s := withWorker(t)
	replayer := worker.NewWorkflowReplayer()
	for _, f := range programs {
		replayer.RegisterWorkflow(f)
	}
	for name, f := range map[string]any{"saga": Saga, "parent": Parent, "counter": Counter, "steps": LocalSteps} {
		options := s.options()
		options.ID += "-" + name
		run, err := s.ExecuteWorkflow(s.Context, options, f)
		s.must(err)
		if name == "counter" {
			s.update(run, "add", 2)
			s.must(s.SignalWorkflow(s.Context, run.GetID(), "", "close", nil))
		}
		s.must(run.Get(s.Context, nil))
		execution := workflow.Execution{ID: run.GetID(), RunID: run.GetRunID()}
		s.must(replayer.ReplayWorkflowExecution(s.Context, s.WorkflowService(), silent{}, "default", execution))
	}
}

func TestStartedWorkflowsAreListedAndCounted(t *testing.T) {
	s := withWorker(t)
	for n := range 3 {
		options := s.options()
		options.ID = fmt.Sprint(options.ID, "-", n)
		run, err := s.ExecuteWorkflow(s.Context, options, Greeting, "list")
		s.must(err)
		s.must(run.Get(s.Context, nil))
	}
	query := fmt.Sprintf("TaskQueue = '%s' AND ExecutionStatus = 'Completed'", s.queue)
	s.eventually("three are counted", func() bool {
		count, err := s.CountWorkflow(s.Context, &workflowservice.CountWorkflowExecutionsRequest{Query: query})
		s.must(err)
		return count.Count == 3
	})
	list, err := s.ListWorkflow(s.Context, &workflowservice.ListWorkflowExecutionsRequest{Query: query})
	s.must(err)
	equal(t, len(list.Executions), 3)
}
