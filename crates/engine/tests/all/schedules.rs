//! Schedules under random commands, lost and repeated deliveries, and workflows that end in any way: rows stay consistent after each
//! step, tracked workflows never overlap, and once everything is delivered and closed nothing waits.

use crate::support;

use mainstay_api::log::command::Op;
use mainstay_api::record::{EntityMessage, MessageOutcome, RunRecord, ScheduleRecord};
use mainstay_api::temporal::common::v1::{WorkflowExecution, WorkflowType};
use mainstay_api::temporal::enums::v1::ScheduleOverlapPolicy as Overlap;
use mainstay_api::temporal::schedule::v1::{
    BackfillRequest, IntervalSpec, Schedule, ScheduleAction, SchedulePatch, SchedulePolicies, ScheduleSpec,
    ScheduleState, TriggerImmediatelyRequest, schedule_action::Action,
};
use mainstay_api::temporal::taskqueue::v1::TaskQueue;
use mainstay_api::temporal::workflow::v1::NewWorkflowExecutionInfo;
use mainstay_api::temporal::workflowservice::v1 as api;
use mainstay_base::RunId;
use mainstay_engine::schedule::entity_id;
use mainstay_engine::{EntityKey, Table};
use proptest::prelude::*;

use support::machine::{EPOCH_NS, Machine};
use support::rebuild;

const SECOND: i64 = 1_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    Create(Overlap, Option<i64>, bool),
    Trigger(Overlap),
    Backfill(Overlap),
    Pause(bool),
    Update(Overlap),
    Delete,
    Advance(i64),
    /// Delivers and acknowledges.
    Deliver,
    /// Delivers; the answers are lost.
    DeliverInVain,
    /// The oldest open workflow ends.
    Terminate,
    TimeOut,
}

fn policies() -> impl Strategy<Value = Overlap> {
    prop_oneof![
        Just(Overlap::Unspecified),
        Just(Overlap::Skip),
        Just(Overlap::BufferOne),
        Just(Overlap::BufferAll),
        Just(Overlap::CancelOther),
        Just(Overlap::TerminateOther),
        Just(Overlap::AllowAll),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => (policies(), proptest::option::of(0..4i64), any::<bool>()).prop_map(|(p, l, f)| Step::Create(p, l, f)),
        4 => policies().prop_map(Step::Trigger),
        1 => policies().prop_map(Step::Backfill),
        2 => any::<bool>().prop_map(Step::Pause),
        1 => policies().prop_map(Step::Update),
        1 => Just(Step::Delete),
        4 => (1..40i64).prop_map(Step::Advance),
        5 => Just(Step::Deliver),
        2 => Just(Step::DeliverInVain),
        3 => Just(Step::Terminate),
        1 => Just(Step::TimeOut),
    ];
    (policies(), proptest::collection::vec(step, 1..60)).prop_map(|(policy, mut steps)| {
        steps.insert(0, Step::Create(policy, None, false));
        steps
    })
}

fn definition(policy: Overlap, limit: Option<i64>, pauses: bool) -> Schedule {
    let interval = Some(prost_types::Duration { seconds: 10, nanos: 0 });
    let workflow = NewWorkflowExecutionInfo {
        workflow_id: "wf".into(),
        workflow_type: Some(WorkflowType { name: "T".into() }),
        task_queue: Some(TaskQueue { name: "tq".into(), ..TaskQueue::default() }),
        workflow_run_timeout: Some(prost_types::Duration { seconds: 45, nanos: 0 }),
        ..NewWorkflowExecutionInfo::default()
    };
    Schedule {
        spec: Some(ScheduleSpec { interval: vec![IntervalSpec { interval, phase: None }], ..ScheduleSpec::default() }),
        action: Some(ScheduleAction { action: Some(Action::StartWorkflow(workflow)) }),
        policies: Some(SchedulePolicies {
            overlap_policy: policy as i32,
            pause_on_failure: pauses,
            ..SchedulePolicies::default()
        }),
        state: Some(ScheduleState {
            limited_actions: limit.is_some(),
            remaining_actions: limit.unwrap_or(0),
            ..ScheduleState::default()
        }),
    }
}

struct World {
    machine: Machine,
    creates: u32,
}

impl World {
    fn schedule(&mut self, op: Op) {
        // A refusal (of a schedule that is gone, say) is as good an answer as any here.
        let _ = self.machine.apply(&entity_id("s"), op);
    }

    fn patch(&mut self, patch: SchedulePatch) {
        let request = api::PatchScheduleRequest { patch: Some(patch), ..api::PatchScheduleRequest::default() };
        self.schedule(Op::PatchSchedule(request));
    }

    fn record(&self) -> Option<ScheduleRecord> {
        self.machine.store.record(&Machine::entity(&entity_id("s")), Table::Schedule, None, &[])
    }

    fn open_runs(&self) -> Vec<(EntityKey, RunId)> {
        let store = &self.machine.store;
        let runs = store.rows.keys().flat_map(|entity| store.runs(entity).into_iter().map(move |run| (entity, run)));
        let open = runs.filter(|(entity, run)| {
            store.record::<RunRecord>(entity, Table::Run, Some(*run), &[]).is_some_and(|record| record.close_ns == 0)
        });
        open.map(|(entity, run)| (entity.clone(), run)).collect()
    }

    fn advance(&mut self, seconds: i64) {
        let until = self.machine.now_ns + seconds * SECOND;
        while let Some((due, rows)) = self.machine.next_due(until) {
            let (reply, _) = self.machine.fire(due, rows);
            reply.unwrap();
        }
        self.machine.now_ns = until;
    }

    fn deliver(&mut self, acknowledges: bool) -> bool {
        let messages: Vec<EntityMessage> = self.machine.outbox();
        if messages.is_empty() {
            return false;
        }
        let (outcomes, _): (Vec<MessageOutcome>, _) = self.machine.deliver(messages.clone(), acknowledges);
        if acknowledges {
            self.machine.acknowledge(&messages, &outcomes);
        }
        true
    }

    fn terminate_oldest(&mut self) -> bool {
        let Some((entity, run)) = self.open_runs().into_iter().next() else { return false };
        let execution = WorkflowExecution { workflow_id: entity.workflow_id.clone(), run_id: run.to_string() };
        let request = api::TerminateWorkflowExecutionRequest {
            workflow_execution: Some(execution),
            ..api::TerminateWorkflowExecutionRequest::default()
        };
        self.machine.apply(&entity.workflow_id, Op::Terminate(request)).0.unwrap();
        true
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Create(policy, limit, pauses) => {
                self.creates += 1;
                self.schedule(Op::CreateSchedule(api::CreateScheduleRequest {
                    schedule_id: "s".into(),
                    request_id: format!("create-{}", self.creates),
                    schedule: Some(definition(*policy, *limit, *pauses)),
                    ..api::CreateScheduleRequest::default()
                }));
            }
            Step::Trigger(policy) => self.patch(SchedulePatch {
                trigger_immediately: Some(TriggerImmediatelyRequest {
                    overlap_policy: *policy as i32,
                    ..TriggerImmediatelyRequest::default()
                }),
                ..SchedulePatch::default()
            }),
            Step::Backfill(policy) => {
                let at = |seconds: i64| Some(prost_types::Timestamp { seconds, nanos: 0 });
                let begin = EPOCH_NS / SECOND - 1_000;
                let request =
                    BackfillRequest { start_time: at(begin), end_time: at(begin + 60), overlap_policy: *policy as i32 };
                self.patch(SchedulePatch { backfill_request: vec![request], ..SchedulePatch::default() });
            }
            Step::Pause(true) => self.patch(SchedulePatch { pause: "p".into(), ..SchedulePatch::default() }),
            Step::Pause(false) => self.patch(SchedulePatch { unpause: "u".into(), ..SchedulePatch::default() }),
            Step::Update(policy) => self.schedule(Op::UpdateSchedule(api::UpdateScheduleRequest {
                schedule: Some(definition(*policy, None, false)),
                ..api::UpdateScheduleRequest::default()
            })),
            Step::Delete => self.schedule(Op::DeleteSchedule(api::DeleteScheduleRequest::default())),
            Step::Advance(seconds) => self.advance(*seconds),
            Step::Deliver => drop(self.deliver(true)),
            Step::DeliverInVain => drop(self.deliver(false)),
            Step::Terminate => drop(self.terminate_oldest()),
            Step::TimeOut => self.advance(50),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn schedules_stay_whole_and_come_to_rest(steps in steps()) {
        let mut world = World { machine: Machine::new(), creates: 0 };
        let mut counted = (0, 0, 0);
        for step in &steps {
            let before = world.record().map(|record| record.run_id);
            world.take(step);
            let problems = rebuild::check_all(&world.machine.store);
            prop_assert!(problems.is_empty(), "after {step:?}: {problems:?}");
            if let Some(record) = world.record() {
                let counts = (record.action_count, record.overlap_skipped, record.conflict_token);
                let grows = counts.0 >= counted.0 && counts.1 >= counted.1 && counts.2 >= counted.2;
                prop_assert!(grows || before.as_deref() != Some(record.run_id.as_str()), "a counter falls: {record:?}");
                counted = counts;
                prop_assert!(record.recent.len() <= 10 && record.recent.is_sorted_by_key(|action| action.number));
            }
        }
        // Nothing new by the clock; then everything that waits must be worked off.
        world.take(&Step::Pause(true));
        for _ in 0..200 {
            let delivered = world.deliver(true);
            let ended = world.terminate_oldest();
            world.advance(1);
            if !delivered && !ended {
                break;
            }
        }
        if let Some(record) = world.record().filter(|record| record.close_ns == 0) {
            prop_assert!(record.starting.is_empty() && record.running.is_empty(), "{record:?}");
            prop_assert!(record.buffered.is_empty() && record.backfills.is_empty(), "{record:?}");
        }
    }
}
