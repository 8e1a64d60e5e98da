package sdk

import (
	"testing"
	"time"

	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/temporal"
)

func TestAResetRunDoesItsWorkAgainWithTheSignalsThatCameSince(t *testing.T) {
	s := withWorker(t)
	first := s.start(Basket)
	s.eventually("the first workflow task is over", func() bool { return len(s.history(first)) == 4 })
	s.signal("add", "kept")
	s.eventually("the signal was seen", func() bool { return len(s.history(first)) == 8 })
	reset, err := s.ResetWorkflowExecution(s.Context, &workflowservice.ResetWorkflowExecutionRequest{
		Namespace:                 "default",
		WorkflowExecution:         &common.WorkflowExecution{WorkflowId: first.GetID(), RunId: first.GetRunID()},
		Reason:                    "again",
		RequestId:                 "reset-" + first.GetRunID(),
		WorkflowTaskFinishEventId: 4,
	})
	s.must(err)
	s.signal("close", nil)
	again := s.GetWorkflow(s.Context, first.GetID(), reset.RunId)
	equal(t, result[[]string](s, again), []string{"kept"})
	equal(t, s.count(first, enums.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED), 1)
}

func TestAFailedWorkflowIsRetried(t *testing.T) {
	s := withWorker(t)
	options := s.options()
	options.RetryPolicy = quick
	run, err := s.ExecuteWorkflow(s.Context, options, FailsTwice)
	s.must(err)
	equal(t, result[int](s, run), 3)
}

func TestACronWorkflowRunsAgainAndAgain(t *testing.T) {
	s := withWorker(t)
	options := s.options()
	options.CronSchedule = "@every 1s"
	run, err := s.ExecuteWorkflow(s.Context, options, Greeting, "cron")
	s.must(err)
	s.eventually("the next run began", func() bool {
		description, err := s.DescribeWorkflowExecution(s.Context, run.GetID(), "")
		s.must(err)
		return description.WorkflowExecutionInfo.Execution.RunId != run.GetRunID()
	})
	s.must(s.TerminateWorkflow(s.Context, run.GetID(), "", "enough"))
	err = s.GetWorkflow(s.Context, run.GetID(), "").Get(s.Context, nil)
	if !temporal.IsTerminatedError(err) {
		t.Fatal(err)
	}
}

func TestAStartMayBeDelayed(t *testing.T) {
	s := withWorker(t)
	options := s.options()
	options.StartDelay = time.Second
	began := time.Now()
	run, err := s.ExecuteWorkflow(s.Context, options, Greeting, "late")
	s.must(err)
	equal(t, result[string](s, run), "Hello, late!")
	if took := time.Since(began); took < time.Second || took > 5*time.Second {
		t.Fatal(took)
	}
}
