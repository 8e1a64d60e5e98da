package sdk

import (
	"errors"
	"path/filepath"
	"testing"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
)

var colour = temporal.NewSearchAttributeKeyKeyword("Colour")

// The one-line change that puts this server under somebody's tests, with the options that people use.
func TestStartDevServerKeepsItsDataAndKnowsItsAttributes(t *testing.T) {
	s := newStage(t)
	options := testsuite.DevServerOptions{
		ClientOptions:    &client.Options{Namespace: "somewhere"},
		DBFilename:       filepath.Join(t.TempDir(), "data"),
		SearchAttributes: temporal.NewSearchAttributes(colour.ValueSet("")),
	}
	first, err := startServer(options)
	s.must(err)
	start := s.options()
	start.TypedSearchAttributes = temporal.NewSearchAttributes(colour.ValueSet("red"))
	run, err := first.Client().ExecuteWorkflow(s.Context, start, Greeting, "dev")
	if err == nil {
		err = first.Client().TerminateWorkflow(s.Context, run.GetID(), "", "kept")
	}
	s.must(errors.Join(err, first.Stop()))

	options.ClientOptions = &client.Options{Namespace: "somewhere"}
	second, err := startServer(options)
	s.must(err)
	defer func() { s.must(second.Stop()) }()
	s.eventually("the row is listed", func() bool {
		list, err := second.Client().ListWorkflow(s.Context, &workflowservice.ListWorkflowExecutionsRequest{Query: "Colour = 'red'"})
		s.must(err)
		return len(list.Executions) == 1 && list.Executions[0].Execution.RunId == run.GetRunID()
	})
	err = second.Client().GetWorkflow(s.Context, run.GetID(), "").Get(s.Context, nil)
	if !temporal.IsTerminatedError(err) {
		t.Error(err)
	}
}
