"""Times of calendars over ten years in five zones, against the zone database of Python.

The expected times are found the other way round: every quarter of an hour of ten years is shown on the zone's clock, and counts if the
calendar has it. Where a clock goes back, one of the two passes counts: the second east of Greenwich, the first west of it.
"""

from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import WorkflowType
from temporalio.api.schedule.v1 import CalendarSpec, Schedule, ScheduleAction, ScheduleSpec
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (CreateScheduleRequest, DeleteScheduleRequest,
                                               ListScheduleMatchingTimesRequest)
from temporalio.client import Client

ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "America/Sao_Paulo"]
BEGIN, YEARS = 2016, 10
STEP = timedelta(minutes=15)

# Of hour and minute, day of the month, month, day of the week (0: Sunday): what the calendar's text says, and what it means.
CALENDARS = {
    "nightly": (dict(hour="2", minute="30"), lambda t: (t.hour, t.minute) == (2, 30)),
    "first_of_month": (dict(hour="0", minute="0", day_of_month="1"), lambda t: (t.hour, t.minute, t.day) == (0, 0, 1)),
    "weekdays": (dict(hour="1", minute="15", day_of_week="1-5"),
                 lambda t: (t.hour, t.minute) == (1, 15) and t.weekday() < 5),
    "leap_days": (dict(hour="23", minute="45", day_of_month="29", month="2"),
                  lambda t: (t.hour, t.minute, t.day, t.month) == (23, 45, 29, 2)),
    "sundays_in_march_and_october": (dict(hour="0-3", minute="0-45/15", day_of_week="0", month="3,10"),
                                     lambda t: t.hour <= 3 and t.weekday() == 6 and t.month in (3, 10)),
}


def clock(zone: ZoneInfo) -> list[tuple[datetime, datetime]]:
    """Every quarter of an hour, and what the zone's clock shows then, if that pass counts."""
    shown = []
    at = datetime(BEGIN, 1, 1, tzinfo=timezone.utc)
    end = datetime(BEGIN + YEARS, 1, 1, tzinfo=timezone.utc)
    while at < end:
        local = at.astimezone(zone)
        passes = [local.replace(fold=fold) for fold in (0, 1)]
        first, second = (p.astimezone(timezone.utc) for p in passes)
        if first == second or at == (second if passes[0].utcoffset() > timedelta(0) else first):
            shown.append((at, local))
        at += STEP
    return shown


@pytest.mark.parametrize("name", ZONES)
async def test_ten_years(client: Client, task_queue, name):
    shown = clock(ZoneInfo(name))
    service, namespace = client.workflow_service, client.namespace
    for calendar, (fields, means) in CALENDARS.items():
        schedule_id = f"{task_queue}-{calendar}"
        spec = ScheduleSpec(calendar=[CalendarSpec(**fields)], timezone_name=name)
        start = NewWorkflowExecutionInfo(workflow_id=schedule_id, workflow_type=WorkflowType(name="T"),
                                         task_queue=TaskQueue(name=task_queue))
        schedule = Schedule(spec=spec, action=ScheduleAction(start_workflow=start))
        await service.create_schedule(CreateScheduleRequest(
            namespace=namespace, schedule_id=schedule_id, schedule=schedule, request_id=schedule_id))
        found = []
        for year in range(BEGIN, BEGIN + YEARS):
            ends = [datetime(year, 1, 1, tzinfo=timezone.utc),
                    datetime(year + 1, 1, 1, tzinfo=timezone.utc) - timedelta(seconds=1)]
            start, end = (Timestamp(seconds=int(t.timestamp())) for t in ends)
            answer = await service.list_schedule_matching_times(ListScheduleMatchingTimesRequest(
                namespace=namespace, schedule_id=schedule_id, start_time=start, end_time=end))
            found += [t.ToDatetime(timezone.utc) for t in answer.start_time]
        assert found == [at for at, local in shown if means(local)], calendar
        await service.delete_schedule(DeleteScheduleRequest(namespace=namespace, schedule_id=schedule_id))
