package sdk

import (
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// A worker with incompatible code is reported in history and does no harm: the right code goes on where it was.
func TestANonDeterministicWorkerIsReportedAndAFixRecovers(t *testing.T) {
	s := newStage(t)
	deploy := func(f any) (stop func()) {
		return s.work(func(w worker.Worker) { w.RegisterWorkflowWithOptions(f, workflow.RegisterOptions{Name: "Changing"}) })
	}

	stop := deploy(ChangingBefore)
	options := s.options()
	options.WorkflowTaskTimeout = 2 * time.Second
	run, err := s.ExecuteWorkflow(s.Context, options, "Changing")
	s.must(err)
	s.eventually("the activity completes", func() bool {
		return s.count(run, enums.EVENT_TYPE_ACTIVITY_TASK_COMPLETED) == 1
	})
	stop()
	// The Go SDK keeps workflows cached when a worker stops; the next worker must replay.
	worker.PurgeStickyWorkflowCache()

	stop = deploy(ChangingBroken)
	s.signal("proceed", nil)
	var failures []*history.WorkflowTaskFailedEventAttributes
	failed := func() bool {
		failures = nil
		for _, event := range s.history(run) {
			if attributes := event.GetWorkflowTaskFailedEventAttributes(); attributes != nil {
				failures = append(failures, attributes)
			}
		}
		return len(failures) > 0
	}
	s.eventually("the worker's failure reaches history", failed)
	stop()
	equal(t, failures[0].Cause, enums.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR)
	worker.PurgeStickyWorkflowCache()

	defer deploy(ChangingBefore)()
	equal(t, result[string](s, run), "Hello, first!")
	failed()
	equal(t, len(failures), 1)
}
