package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

const (
	startToClose = 5 * time.Second
	// busy is at most how long an activity runs: long enough that servers die while some do.
	busy = 300 * time.Millisecond
	// lost is the outcome of an only attempt that timed out.
	lost = "lost"
)

// Job is what one workflow is to do.
type Job struct {
	PausesS []float64 `json:"pauses_s"`
}

// Steps returns the outcome of each step: its value, or lost.
func Steps(ctx workflow.Context, job Job) ([]string, error) {
	var notes, ticks []string
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var text string
			workflow.GetSignalChannel(ctx, "note").Receive(ctx, &text)
			notes = append(notes, text)
		}
	})
	if err := workflow.SetUpdateHandler(ctx, "tick", func(_ workflow.Context, text string) (string, error) {
		ticks = append(ticks, text)
		return text, nil
	}); err != nil {
		return nil, err
	}
	outcomes := []string{}
	for step, pause := range job.PausesS {
		kind := steady
		if step%2 == 1 {
			kind = once
		}
		outcome, err := kind(ctx, step)
		if err != nil {
			return nil, err
		}
		outcomes = append(outcomes, outcome)
		if err := workflow.Sleep(ctx, time.Duration(pause*float64(time.Second))); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// steady is retried for ever.
func steady(ctx workflow.Context, step int) (string, error) {
	return perform(ctx, "steady", step, temporal.RetryPolicy{InitialInterval: 200 * time.Millisecond, BackoffCoefficient: 1})
}

// once has one attempt, and may be lost with a dying server.
func once(ctx workflow.Context, step int) (string, error) {
	outcome, err := perform(ctx, "once", step, temporal.RetryPolicy{MaximumAttempts: 1})
	var timeout *temporal.TimeoutError
	if errors.As(err, &timeout) {
		return lost, nil
	}
	return outcome, err
}

func perform(ctx workflow.Context, name string, step int, policy temporal.RetryPolicy) (string, error) {
	var outcome string
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: startToClose, RetryPolicy: &policy})
	err := workflow.ExecuteActivity(ctx, name, step).Get(ctx, &outcome)
	return outcome, err
}

// activities write each attempt into the judge's ledger before they go on.
type activities struct {
	ledger *os.File
}

// attempt is one line of the ledger, as `tests/python/kill/ledger.py` reads it.
type attempt struct {
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	ActivityID string `json:"activity_id"`
	Attempt    int32  `json:"attempt"`
	Once       bool   `json:"once"`
}

func openActivities(path string) (*activities, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	return &activities{ledger: file}, err
}

func (a *activities) register(w worker.Worker) {
	for name, isOnce := range map[string]bool{"steady": false, "once": true} {
		w.RegisterActivityWithOptions(func(ctx context.Context, step int) (string, error) {
			return a.perform(ctx, step, isOnce)
		}, activity.RegisterOptions{Name: name})
	}
}

func (a *activities) perform(ctx context.Context, step int, isOnce bool) (string, error) {
	info := activity.GetInfo(ctx)
	id := info.WorkflowExecution.ID
	line, err := json.Marshal(attempt{id, info.WorkflowExecution.RunID, info.ActivityID, info.Attempt, isOnce})
	if err != nil {
		return "", err
	}
	// One write to a file opened for appending, so that lines of many writers do not mix.
	if _, err := a.ledger.Write(append(line, '\n')); err != nil {
		return "", err
	}
	if err := a.ledger.Sync(); err != nil {
		return "", err
	}
	time.Sleep(rand.N(busy))
	return fmt.Sprintf("%s/%d", id, step), nil
}
