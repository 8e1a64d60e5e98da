// Steps does with the Go SDK what `tests/python/kill/load.py` does with Python's: five activities with a timer after each, signals and
// updates, under the same names and with the same values, so that one judge can hold both against the ledger.
//
//	steps work -address A -queue Q -ledger FILE    is a worker until its standard input ends
//	steps replay -address A                        replays the workflows whose ids its standard input lists; prints one line for each
//	                                               that does not replay
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "steps:", err)
		os.Exit(1)
	}
}

func run(words []string) error {
	flags := flag.NewFlagSet("steps", flag.ContinueOnError)
	address := flags.String("address", "", "HOST:PORT of the server")
	queue := flags.String("queue", "", "the worker's task queue")
	ledger := flags.String("ledger", "", "the file that gets a line for each attempt")
	if len(words) == 0 {
		return fmt.Errorf("say `work` or `replay`")
	}
	if err := flags.Parse(words[1:]); err != nil {
		return err
	}
	// What a dying server makes the SDK say would fill the screen; what is wrong with the work is an error here.
	quiet := sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	c, err := client.Dial(client.Options{HostPort: *address, Logger: quiet})
	if err != nil {
		return err
	}
	defer c.Close()
	switch words[0] {
	case "work":
		return work(c, *queue, *ledger)
	case "replay":
		return replay(c, quiet)
	default:
		return fmt.Errorf("%q is neither `work` nor `replay`", words[0])
	}
}

// work ends with its standard input, so that it never outlives who started it.
func work(c client.Client, queue, ledger string) error {
	activities, err := openActivities(ledger)
	if err != nil {
		return err
	}
	w := worker.New(c, queue, worker.Options{MaxConcurrentActivityExecutionSize: 32})
	w.RegisterWorkflow(Steps)
	activities.register(w)
	if err := w.Start(); err != nil {
		return err
	}
	fmt.Println("works")
	_, err = io.Copy(io.Discard, os.Stdin)
	w.Stop()
	return err
}

func replay(c client.Client, log sdklog.Logger) error {
	replayer := worker.NewWorkflowReplayer()
	replayer.RegisterWorkflow(Steps)
	ids := bufio.NewScanner(os.Stdin)
	for ids.Scan() {
		execution := workflow.Execution{ID: ids.Text()}
		if err := replayer.ReplayWorkflowExecution(context.Background(), c.WorkflowService(), log, "default", execution); err != nil {
			fmt.Printf("%s: does not replay: %v\n", ids.Text(), err)
		}
	}
	return ids.Err()
}
