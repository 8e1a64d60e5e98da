//! The power is cut again and again while proposals run: nothing acknowledged is lost, doubled or out of order.

use crate::common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use common::{Log, Power, Rows};
use mainstay_base::Prng;
use mainstay_consensus::{Config, Group};
use mainstay_runtime_tokio::TokioRuntime;
use mainstay_storage::{MemoryLog, MemoryState, StateStore};

const GROUPS: u8 = 3;
const PROPOSERS: u32 = 4;
const ROUNDS: u32 = 25;

/// What was acknowledged: by group and index.
type Acknowledged = Arc<Mutex<BTreeMap<(u8, u64), Bytes>>>;

#[derive(Default)]
struct Disks {
    log: Arc<MemoryLog>,
    state: Arc<MemoryState>,
}

async fn start(disks: &Disks, power: &Arc<Power>) -> Vec<Group<TokioRuntime, Rows>> {
    let store = Log { disk: disks.log.clone(), power: power.clone() };
    let log = mainstay_consensus::Log::<TokioRuntime>::start(Arc::new(store));
    let mut groups = Vec::new();
    for group in 0..GROUPS {
        let machine = Rows { group, disk: disks.state.clone(), power: power.clone() };
        let config = Config { keep_entries: 5, ..Config::default() };
        let started = Group::start(group.into(), 1, log.clone(), Arc::new(machine), config, None).await;
        groups.push(started.expect("a crash leaves what a group can start from"));
    }
    groups
}

/// Whether all that was acknowledged is there, and nothing twice.
fn check(groups: &[Group<TokioRuntime, Rows>], acknowledged: &Acknowledged) -> Result<(), String> {
    let acknowledged = acknowledged.lock().expect("not poisoned");
    for group in groups {
        let rows: BTreeMap<u64, Bytes> = group.machine().all().into_iter().collect();
        let mut seen = BTreeMap::new();
        for (index, data) in &rows {
            if let Some(before) = seen.insert(data.clone(), index) {
                return Err(format!("{data:?} happened at {before} and {index}"));
            }
        }
        let of_group = acknowledged.iter().filter(|((of, _), _)| *of == group.machine().group);
        for ((_, index), data) in of_group {
            if rows.get(index) != Some(data) {
                return Err(format!("{data:?} was acknowledged at {index}, where {:?} is", rows.get(index)));
            }
        }
    }
    Ok(())
}

/// Runs proposers until the power fails.
async fn work(groups: &[Group<TokioRuntime, Rows>], power: &Arc<Power>, round: u32, acknowledged: &Acknowledged) {
    let mut tasks = Vec::new();
    for group in groups {
        for proposer in 0..PROPOSERS {
            let (group, power, acknowledged) = (group.clone(), power.clone(), acknowledged.clone());
            tasks.push(tokio::spawn(async move {
                let mut last = 0;
                for count in 0.. {
                    let data = Bytes::from(format!("{round}.{proposer}.{count}"));
                    let Ok(index) = group.propose(data.clone()).await else { return };
                    if !power.is_on() {
                        return;
                    }
                    assert!(index > last, "a proposer's own commands keep their order");
                    last = index;
                    let key = (group.machine().group, index);
                    let before = acknowledged.lock().expect("not poisoned").insert(key, data);
                    assert_eq!(before, None, "one index was acknowledged twice");
                }
            }));
        }
    }
    for task in tasks {
        task.await.expect("a proposer does not panic");
    }
}

/// Flushes, compacts and lets the store flush by itself, at random.
async fn housekeeping(groups: &[Group<TokioRuntime, Rows>], disks: &Disks, power: &Power, random: &mut Prng) {
    while power.is_on() {
        match random.below(3) {
            0 => disks.state.flush_some(usize::try_from(random.below(20)).expect("small")),
            1 => disks.state.flush().expect("memory can be flushed"),
            _ => {
                let group = usize::try_from(random.below(GROUPS.into())).expect("small");
                groups[group].compact().await.expect("compacts");
            }
        }
        tokio::time::sleep(Duration::from_micros(random.below(800))).await;
    }
}

#[test]
fn nothing_acknowledged_is_lost() {
    let mut random = Prng::new(2026);
    let disks = Arc::<Disks>::default();
    let acknowledged = Acknowledged::default();
    for round in 0..ROUNDS {
        let power = Arc::<Power>::default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        let cut = {
            let (power, after) = (power.clone(), Duration::from_micros(random.below(60_000)));
            std::thread::spawn(move || {
                std::thread::sleep(after);
                power.cut();
            })
        };
        let mut own = Prng::new(random.next_u64().into());
        runtime.block_on(async {
            let groups = start(&disks, &power).await;
            let checked = check(&groups, &acknowledged);
            // Without power nothing more reached the disk, and so nothing is to be seen there.
            assert!(checked.is_ok() || !power.is_on(), "{checked:?}");
            let chores = housekeeping(&groups, &disks, &power, &mut own);
            tokio::join!(work(&groups, &power, round, &acknowledged), chores);
        });
        cut.join().expect("the cutter ends");
        drop(runtime);
        disks.log.crash_keeping(usize::try_from(random.below(3)).expect("small"));
        disks.state.crash_keeping(usize::try_from(random.below(50)).expect("small"));
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(async {
        let groups = start(&disks, &Arc::default()).await;
        assert_eq!(check(&groups, &acknowledged), Ok(()));
        assert!(groups.iter().all(|group| group.metrics().purged.is_some()), "the log was purged on the way");
    });
    let count = acknowledged.lock().expect("not poisoned").len();
    assert!(count > 100, "only {count} commands were acknowledged");
}
