package sdk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
)

// server is shared by all tests but those that start their own; each test has a task queue of its own.
var server *testsuite.DevServer

func TestMain(m *testing.M) {
	os.Exit(func() int {
		s, err := startServer(testsuite.DevServerOptions{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		server = s
		code := m.Run()
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "the server did not stop well:", err)
			return 1
		}
		return code
	}())
}

// startServer is what a user's test does, with ExistingPath as the only change.
func startServer(options testsuite.DevServerOptions) (*testsuite.DevServer, error) {
	path, err := binary()
	if err != nil {
		return nil, err
	}
	options.ExistingPath = path
	if options.ClientOptions == nil {
		options.ClientOptions = &client.Options{}
	}
	options.ClientOptions.Logger = silent{}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return testsuite.StartDevServer(ctx, options)
}

// binary finds the server: MAINSTAY_BIN, or cargo's debug build in the cache that `cargo xtask` uses.
func binary() (string, error) {
	path := os.Getenv("MAINSTAY_BIN")
	if path == "" {
		target := os.Getenv("CARGO_TARGET_DIR")
		if target == "" {
			cache := os.Getenv("XDG_CACHE_HOME")
			if cache == "" {
				cache = filepath.Join(os.Getenv("HOME"), ".cache")
			}
			target = filepath.Join(cache, "mainstay", "target")
		}
		path = filepath.Join(target, "debug", "mainstay")
	}
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("no server binary (build it, or set MAINSTAY_BIN): %w", err)
	}
	return path, nil
}

// silent drops the SDK's log; failures that tests provoke would fill the screen.
type silent struct{}

var _ sdklog.Logger = silent{}

func (silent) Debug(string, ...any) {}
func (silent) Info(string, ...any)  {}
func (silent) Warn(string, ...any)  {}
func (silent) Error(string, ...any) {}

// stage is one test's client, task queue and workflow id.
type stage struct {
	*testing.T
	context.Context
	client.Client
	queue string
}

// newStage gives a test its own names and a deadline, and no worker.
func newStage(t *testing.T) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return &stage{T: t, Context: ctx, Client: server.Client(), queue: fmt.Sprintf("%s-%d", t.Name(), time.Now().UnixNano())}
}

// withWorker adds a worker with all workflows and activities for as long as the test runs.
func withWorker(t *testing.T) *stage {
	t.Helper()
	s := newStage(t)
	t.Cleanup(s.work(registerAll))
	return s
}

// programs are the workflows of this package that any worker may run.
var programs = []any{Greeting, Retries, Refused, Timers, Basket, CancelledActivity, Countdown, Saga, Heartbeats, TimedOut,
	AsyncCompletion, LocalSteps, Counter, Parent, Leaving, FailsTwice, Patient, LongWay}

func registerAll(w worker.Worker) {
	for _, f := range programs {
		w.RegisterWorkflow(f)
	}
}

// work starts a worker with all activities; the returned function stops it.
func (s *stage) work(register func(worker.Worker)) (stop func()) {
	s.Helper()
	w := worker.New(s.Client, s.queue, worker.Options{})
	register(w)
	for _, f := range []any{Greet, Flaky, Refuse, ResumeFromHeartbeat, Overrun, WaitForCancel, Elsewhere, Book, CancelBooking} {
		w.RegisterActivity(f)
	}
	s.must(w.Start())
	return w.Stop
}

func (s *stage) options() client.StartWorkflowOptions {
	return client.StartWorkflowOptions{ID: "wf-" + s.queue, TaskQueue: s.queue}
}

// start starts a workflow under the test's id.
func (s *stage) start(workflow any, arguments ...any) client.WorkflowRun {
	s.Helper()
	run, err := s.ExecuteWorkflow(s.Context, s.options(), workflow, arguments...)
	s.must(err)
	return run
}

func (s *stage) signal(name string, argument any) {
	s.Helper()
	s.must(s.SignalWorkflow(s.Context, s.options().ID, "", name, argument))
}

func (s *stage) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// history reads a run's events and checks their numbering.
func (s *stage) history(run client.WorkflowRun) []*history.HistoryEvent {
	s.Helper()
	var events []*history.HistoryEvent
	all := s.GetWorkflowHistory(s.Context, run.GetID(), run.GetRunID(), false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for all.HasNext() {
		event, err := all.Next()
		s.must(err)
		events = append(events, event)
		if event.EventId != int64(len(events)) {
			s.Fatalf("event %d is the %dth", event.EventId, len(events))
		}
	}
	return events
}

// count says how many events of a type a run has.
func (s *stage) count(run client.WorkflowRun, kind enums.EventType) int {
	s.Helper()
	n := 0
	for _, event := range s.history(run) {
		if event.EventType == kind {
			n++
		}
	}
	return n
}

// eventually repeats a check until it holds.
func (s *stage) eventually(what string, check func() bool) {
	s.Helper()
	for end := time.Now().Add(20 * time.Second); !check(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatal("did not happen in time: " + what)
		}
	}
}

// activity waits until a run has one pending activity that is as it should be.
func (s *stage) activity(run client.WorkflowRun, what string, is func(*workflowpb.PendingActivityInfo) bool) {
	s.Helper()
	s.eventually("the activity "+what, func() bool {
		description, err := s.DescribeWorkflowExecution(s.Context, run.GetID(), "")
		s.must(err)
		return len(description.PendingActivities) == 1 && is(description.PendingActivities[0])
	})
}

// result reads a run's result.
func result[T any](s *stage, run client.WorkflowRun) T {
	s.Helper()
	var value T
	s.must(run.Get(s.Context, &value))
	return value
}

// equal compares by what is printed, which is enough for values from JSON.
func equal(t *testing.T, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		t.Fatalf("got %s, want %s", g, w)
	}
}
