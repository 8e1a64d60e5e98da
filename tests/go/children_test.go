package sdk

import (
	"testing"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
)

func TestAParentHearsOfItsChildren(t *testing.T) {
	s := withWorker(t)
	run := s.start(Parent)
	equal(t, result[[]string](s, run), []string{"Hello, child!", "Refused", "Refused", "from the parent", "cancelled"})
	equal(t, s.count(run, enums.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED), 4)
	equal(t, s.count(run, enums.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED), 2)
}

func TestAParentThatEndsDecidesAboutItsChild(t *testing.T) {
	for name, policy := range map[string]enums.ParentClosePolicy{
		"terminated": enums.PARENT_CLOSE_POLICY_TERMINATE,
		"cancelled":  enums.PARENT_CLOSE_POLICY_REQUEST_CANCEL,
		"abandoned":  enums.PARENT_CLOSE_POLICY_ABANDON,
	} {
		t.Run(name, func(t *testing.T) {
			s := withWorker(t)
			child := s.options().ID + "-child"
			s.must(s.start(Leaving, child, policy).Get(s.Context, nil))
			if name == "abandoned" {
				s.must(s.SignalWorkflow(s.Context, child, "", "close", nil))
			}
			err := s.GetWorkflow(s.Context, child, "").Get(s.Context, nil)
			if want := map[string]bool{"terminated": temporal.IsTerminatedError(err), "cancelled": temporal.IsCanceledError(err),
				"abandoned": err == nil}; !want[name] {
				t.Fatal(err)
			}
		})
	}
}
