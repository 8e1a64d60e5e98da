package sdk

import (
	"errors"
	"strings"
	"testing"

	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// What operators do to running work, and what they are told when they ask for too much.

func TestAPausedActivityWaitsUntilItIsUnpaused(t *testing.T) {
	s := withWorker(t)
	run := s.start(Patient)
	is := func(state enums.PendingActivityState) func(*workflowpb.PendingActivityInfo) bool {
		return func(a *workflowpb.PendingActivityInfo) bool { return a.State == state && a.Attempt == 2 }
	}
	s.activity(run, "waits for its second attempt", is(enums.PENDING_ACTIVITY_STATE_SCHEDULED))
	execution := &common.WorkflowExecution{WorkflowId: run.GetID()}
	pause := &workflowservice.PauseActivityRequest{Namespace: "default", Execution: execution, Reason: "look first",
		Activity: &workflowservice.PauseActivityRequest_Id{Id: "patient"}}
	_, err := s.WorkflowService().PauseActivity(s.Context, pause)
	s.must(err)
	s.activity(run, "is paused", is(enums.PENDING_ACTIVITY_STATE_PAUSED))
	var precondition *serviceerror.FailedPrecondition
	if _, err := s.WorkflowService().PauseActivity(s.Context, pause); !errors.As(err, &precondition) {
		t.Fatal(err)
	}
	_, err = s.WorkflowService().UnpauseActivity(s.Context, &workflowservice.UnpauseActivityRequest{Namespace: "default",
		Execution: execution, Activity: &workflowservice.UnpauseActivityRequest_Id{Id: "patient"}})
	s.must(err)
	equal(t, result[int](s, run), 2)
}

func TestATaskQueueShowsWhoPollsIt(t *testing.T) {
	s := withWorker(t)
	equal(t, result[string](s, s.start(Greeting, "queue")), "Hello, queue!")
	for _, kind := range []enums.TaskQueueType{enums.TASK_QUEUE_TYPE_WORKFLOW, enums.TASK_QUEUE_TYPE_ACTIVITY} {
		queue, err := s.DescribeTaskQueue(s.Context, s.queue, kind)
		s.must(err)
		equal(t, len(queue.Pollers), 1)
	}
}

func TestAPayloadOverTheLimitIsRefused(t *testing.T) {
	s := newStage(t)
	_, err := s.ExecuteWorkflow(s.Context, s.options(), Greeting, strings.Repeat("x", 2<<20+1))
	var invalid *serviceerror.InvalidArgument
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), "exceeds limit") {
		t.Fatal(err)
	}
}

func TestAnUnknownNamespaceIsNamed(t *testing.T) {
	s := newStage(t)
	elsewhere, err := client.NewClientFromExisting(s.Client, client.Options{Namespace: "nowhere", Logger: silent{}})
	s.must(err)
	_, err = elsewhere.ExecuteWorkflow(s.Context, s.options(), Greeting, "nobody")
	var unknown *serviceerror.NamespaceNotFound
	if !errors.As(err, &unknown) {
		t.Fatal(err)
	}
	equal(t, unknown.Namespace, "nowhere")
}

func TestASignalToNobodyIsRefused(t *testing.T) {
	s := withWorker(t)
	err := s.SignalWorkflow(s.Context, s.options().ID, "", "add", "x")
	var notFound *serviceerror.NotFound
	if !errors.As(err, &notFound) {
		t.Fatal(err)
	}
}
