package sdk

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.temporal.io/sdk/client"
)

// killable is a server that keeps its data and its port over kills.
type killable struct {
	*stage
	port    int
	data    string
	process *exec.Cmd
}

func newKillable(s *stage) *killable {
	s.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	port := listener.Addr().(*net.TCPAddr).Port
	s.must(listener.Close())
	k := &killable{stage: s, port: port, data: filepath.Join(s.TempDir(), "data")}
	k.begin()
	s.Cleanup(k.kill)
	return k
}

func (k *killable) address() string { return fmt.Sprint("127.0.0.1:", k.port) }

// begin starts the server and waits until it answers.
func (k *killable) begin() {
	k.Helper()
	path, err := binary()
	k.must(err)
	k.process = exec.Command(path, "server", "start-dev", "--ip", "127.0.0.1", "--port", fmt.Sprint(k.port), "--headless",
		"--db-filename", k.data)
	k.must(k.process.Start())
	k.eventually("the server answers", func() bool {
		c, err := client.DialContext(k.Context, client.Options{HostPort: k.address(), Logger: silent{}})
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// kill is SIGKILL, as a crash does it.
func (k *killable) kill() {
	k.Helper()
	k.must(k.process.Process.Kill())
	var killed *exec.ExitError
	if err := k.process.Wait(); !errors.As(err, &killed) {
		k.Fatal(err)
	}
}

func TestWorkflowsGoOnWhileTheServerIsKilled(t *testing.T) {
	s := newStage(t)
	k := newKillable(s)
	own, err := client.DialContext(s.Context, client.Options{HostPort: k.address(), Logger: silent{}})
	s.must(err)
	defer own.Close()
	s.Client = own
	defer s.work(registerAll)()
	var long []client.WorkflowRun
	for n := range 5 {
		options := s.options()
		options.ID = fmt.Sprint(options.ID, "-", n)
		run, err := s.ExecuteWorkflow(s.Context, options, LongWay, 20)
		s.must(err)
		long = append(long, run)
	}
	counter, parent := s.options(), s.options()
	counter.ID, parent.ID = counter.ID+"-counter", parent.ID+"-parent"
	counted, err := s.ExecuteWorkflow(s.Context, counter, Counter)
	s.must(err)
	mother, err := s.ExecuteWorkflow(s.Context, parent, Parent)
	s.must(err)
	equal(t, s.update(counted, "set", 3), 0)
	for range 2 {
		time.Sleep(700 * time.Millisecond)
		k.kill()
		k.begin()
	}
	for _, run := range long {
		equal(t, result[int](s, run), 20*len("Hello, x!"))
	}
	equal(t, len(result[[]string](s, mother)), 5)
	equal(t, s.update(counted, "add", 2), 5)
	s.must(s.SignalWorkflow(s.Context, counted.GetID(), "", "close", nil))
	equal(t, result[int](s, counted), 5)
}
