package sdk

import (
	"errors"
	"testing"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
)

// update sends an update and waits for its outcome.
func (s *stage) update(run client.WorkflowRun, name string, n int) int {
	s.Helper()
	handle, err := s.UpdateWorkflow(s.Context, updating(run.GetID(), "", name, n))
	s.must(err)
	return outcome(s, handle)
}

func updating(workflowID, id, name string, n int) client.UpdateWorkflowOptions {
	return client.UpdateWorkflowOptions{WorkflowID: workflowID, UpdateID: id, UpdateName: name, Args: []any{n},
		WaitForStage: client.WorkflowUpdateStageCompleted}
}

func outcome(s *stage, handle client.WorkflowUpdateHandle) int {
	s.Helper()
	var value int
	s.must(handle.Get(s.Context, &value))
	return value
}

func TestAnUpdateIsAnsweredOnce(t *testing.T) {
	s := withWorker(t)
	run := s.start(Counter)
	for _, n := range []int{3, 9} {
		handle, err := s.UpdateWorkflow(s.Context, updating(run.GetID(), "first", "set", n))
		s.must(err)
		equal(t, outcome(s, handle), 0)
	}
	equal(t, s.update(run, "add", 4), 7)
	s.signal("close", nil)
	equal(t, result[int](s, run), 7)
	equal(t, s.count(run, enums.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED), 2)
	after := s.GetWorkflowUpdateHandle(client.GetWorkflowUpdateHandleOptions{WorkflowID: run.GetID(), UpdateID: "first"})
	equal(t, outcome(s, after), 0)
}

func TestARejectedUpdateLeavesNoTrace(t *testing.T) {
	s := withWorker(t)
	run := s.start(Counter)
	s.update(run, "set", 1)
	length := len(s.history(run))
	handle, err := s.UpdateWorkflow(s.Context, updating(run.GetID(), "", "set", -1))
	if err == nil {
		err = handle.Get(s.Context, nil)
	}
	var refusal *temporal.ApplicationError
	if !errors.As(err, &refusal) || refusal.Type() != "Negative" {
		t.Fatal(err)
	}
	equal(t, len(s.history(run)), length)
	s.must(s.TerminateWorkflow(s.Context, run.GetID(), "", "done"))
}

func TestUpdatesAtOnceHappenOneByOne(t *testing.T) {
	s := withWorker(t)
	run := s.start(Counter)
	var handles []client.WorkflowUpdateHandle
	for n := 1; n <= 5; n++ {
		options := updating(run.GetID(), "", "add", n)
		options.WaitForStage = client.WorkflowUpdateStageAccepted
		handle, err := s.UpdateWorkflow(s.Context, options)
		s.must(err)
		handles = append(handles, handle)
	}
	for _, handle := range handles {
		outcome(s, handle)
	}
	s.signal("close", nil)
	equal(t, result[int](s, run), 15)
}

func TestAnUpdateStartsItsWorkflow(t *testing.T) {
	s := withWorker(t)
	for n, want := range []int{0, 5} {
		options := s.options()
		options.WorkflowIDConflictPolicy = enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
		start := s.NewWithStartWorkflowOperation(options, Counter)
		handle, err := s.UpdateWithStartWorkflow(s.Context, client.UpdateWithStartWorkflowOptions{
			StartWorkflowOperation: start, UpdateOptions: updating("", "", "set", 5+n)})
		s.must(err)
		equal(t, outcome(s, handle), want)
	}
	s.signal("close", nil)
	equal(t, result[int](s, s.GetWorkflow(s.Context, s.options().ID, "")), 6)
}

func TestAnUpdateThatFailsToStartItsWorkflowSaysWhy(t *testing.T) {
	s := withWorker(t)
	run := s.start(Basket)
	options := s.options()
	options.WorkflowIDConflictPolicy = enums.WORKFLOW_ID_CONFLICT_POLICY_FAIL
	options.WorkflowExecutionErrorWhenAlreadyStarted = true
	_, err := s.UpdateWithStartWorkflow(s.Context, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: s.NewWithStartWorkflowOperation(options, Counter), UpdateOptions: updating("", "", "set", 1)})
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if !errors.As(err, &running) {
		t.Fatal(err)
	}
	equal(t, running.RunId, run.GetRunID())
	s.must(s.TerminateWorkflow(s.Context, run.GetID(), "", "done"))
}
