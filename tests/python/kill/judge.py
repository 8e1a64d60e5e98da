"""Compares what clients were told, what histories say and what the ledger saw. Every breach becomes one sentence."""

import json
from collections import Counter

from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHistory
from temporalio.service import RPCError
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from .ledger import Attempt
from .load import LOST, Book, Steps, expected

ENDS_OF_ACTIVITIES = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED: "activity_task_completed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED: "activity_task_failed_event_attributes",
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT: "activity_task_timed_out_event_attributes",
}


def of_results(book: Book) -> list[str]:
    """Every acknowledged start has a result, and the right one."""
    breaches = list(book.broken)
    for workflow_id, steps in book.started.items():
        result = book.results.get(workflow_id)
        if result is None:
            breaches.append(f"{workflow_id}: acknowledged, and without a result")
            continue
        for step, outcome in enumerate(result):
            if outcome != expected(workflow_id, step) and not (outcome == LOST and step % 2):
                breaches.append(f"{workflow_id}: step {step} gave {outcome!r}")
        if len(result) != steps:
            breaches.append(f"{workflow_id}: {len(result)} outcomes of {steps}")
    return breaches


def of_ledger(ran: Counter) -> list[str]:
    """No attempt ran twice, and none of an activity that has one attempt had a second."""
    breaches = [f"{attempt}: ran {times} times" for attempt, times in ran.items() if times > 1]
    breaches += [f"{attempt}: an attempt too many" for attempt in ran if attempt.once and attempt.attempt != 1]
    return breaches


def of_history(workflow_id: str, history: WorkflowHistory, ran: Counter, book: Book) -> list[str]:
    """One history is gap-free, its parts belong together, and it says what clients were told and the ledger saw."""
    events = list(history.events)
    breaches = []
    if [e.event_id for e in events] != list(range(1, len(events) + 1)):
        breaches.append(f"event ids {[e.event_id for e in events]}")
    if not events or events[0].event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
        return [f"{workflow_id}: history does not begin with a start"]
    if events[-1].event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
        breaches.append(f"ends with {EventType.Name(events[-1].event_type)}")
    breaches += activities(workflow_id, events, ran) + timers(events) + signals(workflow_id, events, book)
    breaches += updates(workflow_id, events, book)
    for e in events:
        cause = e.workflow_task_failed_event_attributes.cause
        if cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_NON_DETERMINISTIC_ERROR:
            breaches.append(f"event {e.event_id}: a worker saw history change")
    return [f"{workflow_id}: {breach}" for breach in breaches]


def activities(workflow_id: str, events: list, ran: Counter) -> list[str]:
    """Each scheduled activity ends once; what completed did run, in the attempt that history names."""
    breaches = []
    run_id = events[0].workflow_execution_started_event_attributes.original_execution_run_id
    by_id = {e.event_id: e for e in events}
    ends = Counter()
    for e in events:
        if e.event_type not in ENDS_OF_ACTIVITIES:
            continue
        end = getattr(e, ENDS_OF_ACTIVITIES[e.event_type])
        ends[end.scheduled_event_id] += 1
        if e.event_type != EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
            continue
        scheduled = by_id[end.scheduled_event_id].activity_task_scheduled_event_attributes
        started = by_id[end.started_event_id].activity_task_started_event_attributes
        key = Attempt(workflow_id, run_id, scheduled.activity_id, started.attempt, scheduled.activity_type.name == "once")
        if not ran[key]:
            breaches.append(f"event {e.event_id}: completed, and the ledger has no {key}")
    for e in events:
        if e.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED and ends[e.event_id] != 1:
            breaches.append(f"event {e.event_id}: an activity that ended {ends[e.event_id]} times")
    return breaches


def timers(events: list) -> list[str]:
    """Each timer fires once, and not early."""
    breaches = []
    fired: dict[int, list] = {}
    for e in events:
        if e.event_type == EventType.EVENT_TYPE_TIMER_FIRED:
            fired.setdefault(e.timer_fired_event_attributes.started_event_id, []).append(e)
    for e in events:
        if e.event_type != EventType.EVENT_TYPE_TIMER_STARTED:
            continue
        mine = fired.get(e.event_id, [])
        due = e.event_time.ToNanoseconds() + e.timer_started_event_attributes.start_to_fire_timeout.ToNanoseconds()
        if len(mine) != 1:
            breaches.append(f"event {e.event_id}: a timer that fired {len(mine)} times")
        elif mine[0].event_time.ToNanoseconds() < due:
            breaches.append(f"event {mine[0].event_id}: {(due - mine[0].event_time.ToNanoseconds()) / 1e6} ms early")
    return breaches


def signals(workflow_id: str, events: list, book: Book) -> list[str]:
    """Acknowledged signals are there once, unanswered ones at most once, and no others."""
    seen = Counter(json.loads(e.workflow_execution_signaled_event_attributes.input.payloads[0].data) for e in events
                   if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
    told, maybe = book.signalled.get(workflow_id, []), book.maybe_signalled.get(workflow_id, [])
    breaches = [f"acknowledged signal {text!r} is lost" for text in told if not seen[text]]
    breaches += [f"signal {text!r} is there {times} times" for text, times in seen.items() if times > 1]
    breaches += [f"signal {text!r} comes from nowhere" for text in seen if text not in told and text not in maybe]
    return breaches


def updates(workflow_id: str, events: list, book: Book) -> list[str]:
    """Answered updates are there once, accepted and completed; no other is there twice."""
    accepted = Counter(e.workflow_execution_update_accepted_event_attributes.accepted_request.meta.update_id for e in events
                       if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED)
    completed = Counter(e.workflow_execution_update_completed_event_attributes.meta.update_id for e in events
                        if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED)
    breaches = [f"update {text!r} is there {times} times" for text, times in (accepted + completed).items() if times > 2]
    breaches += [f"answered update {text!r} is lost" for text in book.updated.get(workflow_id, [])
                 if (accepted[text], completed[text]) != (1, 1)]
    return breaches


async def of_server(client: Client, book: Book, ran: Counter, replays: bool = True) -> list[str]:
    """Reads every history from the server, judges it, and replays it in the SDK, unless another SDK made it."""
    breaches = []
    replayer = Replayer(workflows=[Steps], workflow_runner=UnsandboxedWorkflowRunner())
    for workflow_id in book.started:
        try:
            handle = client.get_workflow_handle(workflow_id)
            status = (await handle.describe()).status
            history = await handle.fetch_history()
        except RPCError as error:
            breaches.append(f"{workflow_id}: {error!r}")
            continue
        if status != WorkflowExecutionStatus.COMPLETED:
            breaches.append(f"{workflow_id}: is {status}")
            continue
        breaches += of_history(workflow_id, history, ran, book)
        if not replays:
            continue
        replay = await replayer.replay_workflow(history, raise_on_replay_failure=False)
        if replay.replay_failure:
            breaches.append(f"{workflow_id}: does not replay: {replay.replay_failure}")
    return breaches
