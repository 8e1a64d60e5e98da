"""What a reset leaves behind: updates that it brought back, and children of the run that made way."""
from conformance import commands as c, scenario
from conformance.wire import Run


def reset(w, run, event_id=4, may_fail=False, **kw):
    r = w.call("ResetWorkflowExecution", workflow_execution=run, reason="r", workflow_task_finish_event_id=event_id,
               may_fail=may_fail, **kw)
    if hasattr(r, "run_id"):
        w.norm.run(r.run_id, run.workflow_id)
        return Run(run.workflow_id, r.run_id)


def named(message, id):
    message.id = id
    return message


def with_accepted_update(w):
    """A run whose update was accepted and not completed, and who waits for that."""
    run = w.start()
    w.turn()
    p = w.begin_update(run)
    task = w.poll_workflow()
    w.complete(task, c.protocol_message("a"), messages=[named(c.accept(task.messages[0]), "a")])
    return run, p


def with_update_brought_back(w):
    """A run that a reset began with an accepted update of the one before."""
    run, p = with_accepted_update(w)
    new = reset(w, run)
    w.settle(p)
    return new


def refused(w, run):
    """A call about a run that is refused by what the run holds."""
    w.call("RespondActivityTaskCompletedById", may_fail=True, workflow_id=run.workflow_id, activity_id="none")


def passed_over_and_waits_again(act):
    def body(w):
        run = with_update_brought_back(w)
        task = w.poll_workflow()
        act(w, run)
        w.complete(task)
        w.history(run)
    return body


@scenario
def update_passed_over(w):
    """A worker that says nothing of an update that a reset brought back has passed it over."""
    passed_over_and_waits_again(lambda w, run: None)(w)


@scenario
def update_waits_after_refusal(w):
    """After a refused call such an update waits again: the completion is followed by a task."""
    passed_over_and_waits_again(refused)(w)


@scenario
def update_waits_after_refused_reset(w):
    """So it is after a reset that was refused."""
    passed_over_and_waits_again(lambda w, run: reset(w, run, event_id=77, may_fail=True))(w)


@scenario
def update_waits_after_refused_termination(w):
    """So it is after a termination of another chain."""
    other = "00000000-0000-4000-8000-000000000001"
    passed_over_and_waits_again(lambda w, run: w.call(
        "TerminateWorkflowExecution", may_fail=True, first_execution_run_id=other,
        workflow_execution={"workflow_id": run.workflow_id}))(w)


@scenario
def update_waits_after_it_was_passed_over(w):
    """It comes back though a worker has passed it over before."""
    run = with_update_brought_back(w)
    w.turn()
    w.signal(run)
    task = w.poll_workflow()
    refused(w, run)
    w.complete(task)
    w.history(run)


@scenario
def update_waits_after_bad_commands(w):
    """A bad command makes it wait again, which is seen if no other task starts in between."""
    run = with_update_brought_back(w)
    w.complete(w.poll_workflow(), c.cancel_timer("none"), may_fail=True)
    task = w.poll_workflow()
    w.complete(task, c.cancel_timer("none"), may_fail=True)
    w.complete(task)
    w.history(run)


@scenario
def update_and_failed_task(w):
    """A task that its worker fails passes it over, also after a refused call."""
    run = with_update_brought_back(w)
    task = w.poll_workflow()
    refused(w, run)
    w.fail_task(task)
    w.turn()
    w.history(run)


@scenario
def update_nothing_to_say(w):
    """A worker that wants the next task at once is told that there is nothing to say in it."""
    run = with_update_brought_back(w)
    task = w.poll_workflow()
    refused(w, run)
    w.complete(task, return_new_workflow_task=True, may_fail=True)
    w.signal(run)
    w.turn()
    w.history(run)


@scenario
def update_and_heartbeat(w):
    """With a heartbeat the worker gets its next task as ever."""
    run = with_update_brought_back(w)
    task = w.poll_workflow()
    refused(w, run)
    w.complete(task, return_new_workflow_task=True, force_create_new_workflow_task=True)
    w.history(run)


@scenario
def only_signals_are_applied_again(w):
    """With the old reapply type for signals, updates are left out."""
    run, p = with_accepted_update(w)
    w.signal(run, "s", 1)
    reset(w, run, reset_reapply_type="SIGNAL")
    w.settle(p)


@scenario
def child_is_started_again(w):
    """A child that the run before started lives on, and another of its id cannot be started."""
    run = w.start()
    w.turn(c.start_child(w.id("child"), task_queue=w.id("other")))
    w.await_event(run, "CHILD_WORKFLOW_EXECUTION_STARTED")
    new = reset(w, run)
    w.turn(c.start_child(w.id("child"), task_queue=w.id("other")))
    w.await_event(new, "START_CHILD_WORKFLOW_EXECUTION_FAILED")
    w.turn()


@scenario
def child_outlives_the_new_run(w):
    """A child that a reset run took over is not its own: it lives on when that run ends."""
    run = w.start()
    w.turn(c.start_child(w.id("child"), task_queue=w.id("other")))
    w.await_event(run, "CHILD_WORKFLOW_EXECUTION_STARTED")
    w.turn()
    new = reset(w, run, event_id=9)
    w.terminate(new)
    w.sleep(0.5)
    w.history(w.current("child"))
