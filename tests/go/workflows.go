// Package sdk holds workflows and activities as a user of the Go SDK would write them. They know the SDK and nothing of the
// server; each shows one behaviour, and its test says what must come out.
package sdk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

var (
	oneAttempt = &temporal.RetryPolicy{MaximumAttempts: 1}
	quick      = &temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 1}
)

// Greet is the plain activity.
func Greet(_ context.Context, name string) (string, error) {
	return fmt.Sprintf("Hello, %s!", name), nil
}

// Flaky fails so many times and then returns the attempt that succeeded.
func Flaky(ctx context.Context, failures int) (int, error) {
	attempt := int(activity.GetInfo(ctx).Attempt)
	if attempt <= failures {
		return 0, fmt.Errorf("attempt %d fails", attempt)
	}
	return attempt, nil
}

// Refuse fails for good, with a type and details.
func Refuse(context.Context) error {
	return temporal.NewNonRetryableApplicationError("not today", "Refused", nil, map[string]int{"code": 7})
}

// ResumeFromHeartbeat goes on from what its last attempt reported and dies once in the middle; it returns where it began.
func ResumeFromHeartbeat(ctx context.Context, failAfter int) (int, error) {
	begin := 0
	if activity.HasHeartbeatDetails(ctx) {
		if err := activity.GetHeartbeatDetails(ctx, &begin); err != nil {
			return 0, err
		}
	}
	for done := begin; done < 10; done++ {
		activity.RecordHeartbeat(ctx, done+1)
		if done+1 == failAfter && activity.GetInfo(ctx).Attempt == 1 {
			return 0, errors.New("dies in the middle")
		}
	}
	return begin, nil
}

// Overrun works longer than it may, without heartbeats.
func Overrun(_ context.Context, d time.Duration) error {
	time.Sleep(d)
	return nil
}

// WaitForCancel heartbeats until the server tells it about a cancellation.
func WaitForCancel(ctx context.Context) (string, error) {
	for {
		select {
		case <-ctx.Done():
			return "cleaned up", nil
		case <-time.After(100 * time.Millisecond):
			activity.RecordHeartbeat(ctx)
		}
	}
}

// Elsewhere leaves its completion to somebody who knows its token.
func Elsewhere(context.Context) (string, error) {
	return "", activity.ErrResultPending
}

// Book refuses flights.
func Book(_ context.Context, what string) (string, error) {
	if what == "flight" {
		return "", temporal.NewNonRetryableApplicationError("no seats", "NoSeats", nil)
	}
	return what + "-booked", nil
}

// CancelBooking undoes Book.
func CancelBooking(_ context.Context, booking string) (string, error) {
	return booking + "-cancelled", nil
}

func within(ctx workflow.Context, d time.Duration) workflow.Context {
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: d, RetryPolicy: quick})
}

// Greeting runs one activity.
func Greeting(ctx workflow.Context, name string) (string, error) {
	var text string
	err := workflow.ExecuteActivity(within(ctx, 10*time.Second), Greet, name).Get(ctx, &text)
	return text, err
}

// Retries runs an activity that fails at first.
func Retries(ctx workflow.Context, failures int) (int, error) {
	var attempt int
	err := workflow.ExecuteActivity(within(ctx, 10*time.Second), Flaky, failures).Get(ctx, &attempt)
	return attempt, err
}

// Refused lets the failure of its activity be its own.
func Refused(ctx workflow.Context) error {
	return workflow.ExecuteActivity(within(ctx, 10*time.Second), Refuse).Get(ctx, nil)
}

// Timers runs two timers one after the other beside one that is cancelled; it returns the measured times.
func Timers(ctx workflow.Context) ([]time.Duration, error) {
	began := workflow.Now(ctx)
	late, cancel := workflow.WithCancel(ctx)
	workflow.NewTimer(late, time.Hour)
	var measured []time.Duration
	for _, d := range []time.Duration{500 * time.Millisecond, time.Second} {
		if err := workflow.Sleep(ctx, d); err != nil {
			return nil, err
		}
		measured = append(measured, workflow.Now(ctx).Sub(began))
	}
	cancel()
	return measured, nil
}

// Basket collects by the signal "add", shows by the query "content", and ends by the signal "close".
func Basket(ctx workflow.Context) ([]string, error) {
	items, closed := []string{}, false
	if err := workflow.SetQueryHandler(ctx, "content", func() ([]string, error) { return items, nil }); err != nil {
		return nil, err
	}
	if err := workflow.SetQueryHandler(ctx, "broken", func() (string, error) {
		return "", errors.New("this query always fails")
	}); err != nil {
		return nil, err
	}
	selector := workflow.NewSelector(ctx)
	selector.AddReceive(workflow.GetSignalChannel(ctx, "add"), func(c workflow.ReceiveChannel, _ bool) {
		var item string
		c.Receive(ctx, &item)
		items = append(items, item)
	})
	selector.AddReceive(workflow.GetSignalChannel(ctx, "close"), func(c workflow.ReceiveChannel, _ bool) {
		c.Receive(ctx, nil)
		closed = true
	})
	selector.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {})
	for !closed && ctx.Err() == nil {
		selector.Select(ctx)
	}
	return items, ctx.Err()
}

// CancelledActivity waits until its activity has cleaned up.
func CancelledActivity(ctx workflow.Context) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: time.Minute, HeartbeatTimeout: 5 * time.Second, WaitForCancellation: true})
	var text string
	err := workflow.ExecuteActivity(ctx, WaitForCancel).Get(ctx, &text)
	return text, err
}

// Countdown continues as new until nothing is left; it returns the run ids of the chain.
func Countdown(ctx workflow.Context, left int, runs []string) ([]string, error) {
	runs = append(runs, workflow.GetInfo(ctx).WorkflowExecution.RunID)
	if left > 0 {
		return nil, workflow.NewContinueAsNewError(ctx, Countdown, left-1, runs)
	}
	return runs, nil
}

// Saga books a journey and undoes what it booked, last first, when a step fails.
func Saga(ctx workflow.Context) ([]string, error) {
	ctx = within(ctx, 10*time.Second)
	var journal, booked []string
	for _, what := range []string{"hotel", "car", "flight"} {
		var booking string
		if err := workflow.ExecuteActivity(ctx, Book, what).Get(ctx, &booking); err != nil {
			var reason *temporal.ApplicationError
			if !errors.As(err, &reason) {
				return nil, err
			}
			journal = append(journal, reason.Message())
			break
		}
		journal, booked = append(journal, booking), append(booked, booking)
	}
	for i := len(booked) - 1; i >= 0; i-- {
		var undone string
		if err := workflow.ExecuteActivity(ctx, CancelBooking, booked[i]).Get(ctx, &undone); err != nil {
			return nil, err
		}
		journal = append(journal, undone)
	}
	return journal, nil
}

// Heartbeats runs an activity that has to resume.
func Heartbeats(ctx workflow.Context) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second, HeartbeatTimeout: 5 * time.Second, RetryPolicy: quick})
	var begin int
	err := workflow.ExecuteActivity(ctx, ResumeFromHeartbeat, 4).Get(ctx, &begin)
	return begin, err
}

// TimedOut returns the name of the time-out that its only attempt ran into.
func TimedOut(ctx workflow.Context, options workflow.ActivityOptions) (string, error) {
	options.RetryPolicy = oneAttempt
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), Overrun, 3*time.Second).Get(ctx, nil)
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		return timeout.TimeoutType().String(), nil
	}
	return "none", err
}

// AsyncCompletion waits for somebody else's answer.
func AsyncCompletion(ctx workflow.Context) (string, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Second, ActivityID: "elsewhere"})
	var text string
	err := workflow.ExecuteActivity(ctx, Elsewhere).Get(ctx, &text)
	return text, err
}

// LocalSteps records markers: a local activity, a side effect, a version.
func LocalSteps(ctx workflow.Context) ([]string, error) {
	local := workflow.WithLocalActivityOptions(ctx, workflow.LocalActivityOptions{StartToCloseTimeout: 10 * time.Second})
	var text, effect string
	if err := workflow.ExecuteLocalActivity(local, Greet, "marker").Get(ctx, &text); err != nil {
		return nil, err
	}
	encoded := workflow.SideEffect(ctx, func(workflow.Context) any { return "drawn" })
	if err := encoded.Get(&effect); err != nil {
		return nil, err
	}
	version := workflow.GetVersion(ctx, "later-change", workflow.DefaultVersion, 1)
	return []string{text, effect, fmt.Sprint(version)}, workflow.Sleep(ctx, 100*time.Millisecond)
}

// Counter is changed by the updates "set", answered at once, and "add", answered after an activity; neither takes a number below
// zero. It ends by the signal "close".
func Counter(ctx workflow.Context) (int, error) {
	count := 0
	options := workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, n int) error {
		if n < 0 {
			return temporal.NewApplicationError("below zero", "Negative")
		}
		return nil
	}}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, "set", func(_ workflow.Context, n int) (int, error) {
		before := count
		count = n
		return before, nil
	}, options); err != nil {
		return 0, err
	}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, "add", func(ctx workflow.Context, n int) (int, error) {
		if err := workflow.ExecuteActivity(within(ctx, 10*time.Second), Greet, "counter").Get(ctx, nil); err != nil {
			return 0, err
		}
		count += n
		return count, nil
	}, options); err != nil {
		return 0, err
	}
	workflow.GetSignalChannel(ctx, "close").Receive(ctx, nil)
	err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) })
	return count, err
}

// Parent has a child that completes, one that fails, one that it signals both as its child and as a stranger, and one that it
// cancels; it returns what it heard of them.
func Parent(ctx workflow.Context) ([]string, error) {
	var greeting string
	if err := workflow.ExecuteChildWorkflow(ctx, Greeting, "child").Get(ctx, &greeting); err != nil {
		return nil, err
	}
	told := []string{greeting}

	var child *temporal.ChildWorkflowExecutionError
	var refusal *temporal.ApplicationError
	err := workflow.ExecuteChildWorkflow(ctx, Refused).Get(ctx, nil)
	if !errors.As(err, &child) || !errors.As(err, &refusal) {
		return nil, err
	}
	told = append(told, child.WorkflowType(), refusal.Type())

	basket := workflow.ExecuteChildWorkflow(ctx, Basket)
	var execution workflow.Execution
	if err := basket.GetChildWorkflowExecution().Get(ctx, &execution); err != nil {
		return nil, err
	}
	if err := basket.SignalChildWorkflow(ctx, "add", "from the parent").Get(ctx, nil); err != nil {
		return nil, err
	}
	if err := workflow.SignalExternalWorkflow(ctx, execution.ID, "", "close", nil).Get(ctx, nil); err != nil {
		return nil, err
	}
	var items []string
	if err := basket.Get(ctx, &items); err != nil {
		return nil, err
	}
	told = append(told, items...)

	scope, cancel := workflow.WithCancel(ctx)
	cancelled := workflow.ExecuteChildWorkflow(scope, Basket)
	if err := cancelled.GetChildWorkflowExecution().Get(ctx, nil); err != nil {
		return nil, err
	}
	cancel()
	if err := cancelled.Get(ctx, nil); !temporal.IsCanceledError(err) {
		return nil, fmt.Errorf("a cancelled child gave %w", err)
	}
	return append(told, "cancelled"), nil
}

// Leaving ends as soon as its child runs; the policy says what becomes of the child.
func Leaving(ctx workflow.Context, childID string, policy enums.ParentClosePolicy) error {
	ctx = workflow.WithChildOptions(ctx, workflow.ChildWorkflowOptions{WorkflowID: childID, ParentClosePolicy: policy})
	return workflow.ExecuteChildWorkflow(ctx, Basket).GetChildWorkflowExecution().Get(ctx, nil)
}

// FailsTwice fails until its third attempt.
func FailsTwice(ctx workflow.Context) (int, error) {
	attempt := int(workflow.GetInfo(ctx).Attempt)
	if attempt < 3 {
		return 0, fmt.Errorf("attempt %d fails", attempt)
	}
	return attempt, nil
}

// Patient runs an activity that fails once and whose second attempt would be an hour away.
func Patient(ctx workflow.Context) (int, error) {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		ActivityID: "patient", StartToCloseTimeout: 10 * time.Second, RetryPolicy: &temporal.RetryPolicy{InitialInterval: time.Hour}})
	var attempt int
	err := workflow.ExecuteActivity(ctx, Flaky, 1).Get(ctx, &attempt)
	return attempt, err
}

// LongWay takes many turns, for a server that is killed meanwhile; it returns how many letters it was told.
func LongWay(ctx workflow.Context, turns int) (int, error) {
	letters := 0
	for range turns {
		if err := workflow.Sleep(ctx, 50*time.Millisecond); err != nil {
			return 0, err
		}
		var text string
		if err := workflow.ExecuteActivity(within(ctx, 10*time.Second), Greet, "x").Get(ctx, &text); err != nil {
			return 0, err
		}
		letters += len(text)
	}
	return letters, nil
}

// ChangingBefore is what is deployed first under the name "Changing": an activity, then a signal.
func ChangingBefore(ctx workflow.Context) (string, error) {
	var text string
	if err := workflow.ExecuteActivity(within(ctx, 10*time.Second), Greet, "first").Get(ctx, &text); err != nil {
		return "", err
	}
	workflow.GetSignalChannel(ctx, "proceed").Receive(ctx, nil)
	return text, nil
}

// ChangingBroken is the mistake: a timer where history has an activity.
func ChangingBroken(ctx workflow.Context) (string, error) {
	if err := workflow.Sleep(ctx, 100*time.Millisecond); err != nil {
		return "", err
	}
	workflow.GetSignalChannel(ctx, "proceed").Receive(ctx, nil)
	return "never seen", nil
}
