"""What a recorded walk says of the time that passed in it, so that a walk is the same on slow and on fast machines.

A run that continues as new within a second of its start holds its next run back for the rest of that second. Whether a
recorded run did, and what the walk did until the hold ended, is no rule of the server but how fast a machine was on that
day, and everything after it depends on it: a held-back run has no workflow task to take. So a walk brings about what was
recorded: it waits until a run is too old for a hold; or it asks for a hold, longer than any that was recorded so that a slow
machine gets as far as the recorded one did, and waits for its end where a task was taken. (`close/` has the rule itself.)
When a walk is recorded, there is no recording yet, and time takes its course.
"""

HOLD_S = 1.0
"""How old a run must be so that its next run is not held back."""

STRETCHED_MS = 6_321
"""The hold that a walk asks for: a number that nothing else has. It reads as what is left of a second, as recorded."""


class Pace:
    def __init__(self, transcript=()):
        self._transcript = transcript
        self._events = {e["history"].split()[-1]: e["events"] for e in transcript if e.get("events")}

    def holds_next(self, run):
        """Whether the run after this one (R1, R2, ..) was held back; None if the recording does not say."""
        close = self._events.get(run, [{}])[-1]
        following = self._events.get(close.get("new_execution_run_id"))
        if close.get("type") != "WORKFLOW_EXECUTION_CONTINUED_AS_NEW" or not following:
            return None
        return "first_workflow_task_backoff" in following[0]

    def polled(self, position):
        """Whether the entry at this position of the transcript is a poll that found a workflow task."""
        entry = self._transcript[position] if position < len(self._transcript) else {}
        return entry.get("call") == "PollWorkflowTaskQueue" and "task_token" in str(entry.get("response"))
