//! A node's way into its cluster: its listener for other nodes, its identity, the forming of a new cluster, the node itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mainstay_api::peer::Founding;
use mainstay_api::record::MemberRecord;
use mainstay_consensus::Peers;
use mainstay_node::{Clustering, Config, Forming, Node, REPLICAS, Service, Stores};
use mainstay_runtime::{AsyncRuntime, Instant, Runtime};
use mainstay_runtime_tokio::TokioRuntime;

use crate::Failure;
use crate::data_directory::{DataDirectory, Founder, Identity};
use crate::settings::ClusterSettings;

type Form = Arc<Forming<TokioRuntime>>;

/// A node whose twin may just be dying is refused for so long before it gives up.
const TWIN_PATIENCE: Duration = Duration::from_secs(5);
/// How often the log is told what is wrong with the cluster.
const CHECK_EVERY: Duration = Duration::from_secs(15);
const GREET_EVERY: Duration = Duration::from_millis(500);
/// A member that was not heard of for so long is greeted at the addresses that this node was told.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// A node id that no other node has: random, and small enough for JSON.
pub fn new_node_id() -> u64 {
    (TokioRuntime::random() as u64 >> 11).max(1)
}

/// Starts the node as part of its cluster; founds the cluster with the others if there is none yet.
pub async fn start(
    settings: &ClusterSettings,
    address: String,
    data: &DataDirectory,
    stores: Stores,
    config: Config,
) -> Result<(Node<TokioRuntime>, Form), Failure> {
    let listener = TokioRuntime::bind(settings.peer_listen).await;
    let listener =
        listener.map_err(|error| format!("cannot listen on {} for other nodes: {error}", settings.peer_listen))?;
    let bound = TokioRuntime::local_address(&listener).map_err(|error| error.to_string())?;
    let peer_address = match &settings.advertise {
        Some((host, port)) => format!("{host}:{}", port.unwrap_or(bound.port())),
        None => bound.to_string(),
    };
    let identity = data.identity().clone();
    let member = MemberRecord {
        node_id: identity.node_id,
        name: settings.name.clone(),
        peer_address,
        address,
        incarnation: (TokioRuntime::random() as u64).max(1),
        alive: true,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..MemberRecord::default()
    };
    let peers = Peers::<TokioRuntime>::new(identity.node_id, identity.cluster_id.clone());
    let keep = data.keeper();
    let known = identity.clone();
    let keep = Box::new(move |founding: &Founding| keep(&founded(&known, founding)));
    let agreed = (!identity.cluster_id.is_empty()).then(|| founding_of(&identity));
    let new = Founding { shards: identity.shards, replicas: identity.replicas, ..Founding::default() };
    let forming = Forming::open(peers.clone(), member.clone(), (settings.expect, new), agreed.clone(), keep);
    peers.serve(listener);
    let founding = match agreed {
        Some(founding) => {
            greet_patiently(&forming, &settings.join).await?;
            founding
        }
        None => {
            tracing::info!(
                name = settings.name,
                expect = settings.expect,
                "waits for the other nodes of a new cluster"
            );
            forming.form(&settings.join).await?
        }
    };
    for founder in founding.members.iter().filter(|founder| peers.address(founder.node_id).is_none()) {
        peers.set_address(founder.node_id, founder.peer_address.clone());
    }
    let replicas = replicas_of(&founding);
    let config = Config { cluster_id: founding.cluster_id.clone(), shards: founding.shards, replicas, ..config };
    let ids = founding.members.iter().map(|founder| founder.node_id).collect();
    tokio::spawn(keep_greeting(peers.clone(), forming.clone(), settings.join.clone(), ids));
    let clustering = Clustering { peers, member, founders: founding.members };
    let node = Node::start_in(config, stores, clustering).await;
    let node = node.map_err(|error| format!("the node does not start: {error}"))?;
    tokio::spawn(tell_problems(node.clone()));
    Ok((node, forming))
}

/// Before this node says anything else to the others: they may refuse it, or be reached at other addresses.
async fn greet_patiently(forming: &Form, join: &[String]) -> Result<(), Failure> {
    let begun = <TokioRuntime as AsyncRuntime>::Instant::now();
    loop {
        match forming.greet_all(join).await {
            Ok(_) => return Ok(()),
            Err(reason) if begun.elapsed() > TWIN_PATIENCE => return Err(reason),
            Err(_) => TokioRuntime::sleep(GREET_EVERY).await,
        }
    }
}

/// Looks for members that are not heard of, as long as the process runs: they, or this node, may have another address now.
async fn keep_greeting(peers: Peers<TokioRuntime>, forming: Form, join: Vec<String>, members: Vec<u64>) {
    loop {
        TokioRuntime::sleep(SILENT_AFTER).await;
        let silent = |node: &u64| {
            let heard = peers.last_heard(*node);
            *node != peers.me() && heard.is_none_or(|heard| heard.elapsed() > SILENT_AFTER)
        };
        if members.iter().any(silent) {
            // A refusal concerns whoever is there now, and is told to them.
            let _met = forming.greet_all(&join).await;
        }
    }
}

/// Logs what is wrong with the cluster when it begins, and when it ends.
async fn tell_problems(node: Node<TokioRuntime>) {
    let mut known = BTreeSet::new();
    loop {
        TokioRuntime::sleep(CHECK_EVERY).await;
        let found: BTreeSet<String> = node.check_cluster().await.into_iter().collect();
        found.difference(&known).for_each(|problem| tracing::warn!("{problem}"));
        known.difference(&found).for_each(|problem| tracing::info!("no longer: {problem}"));
        known = found;
    }
}

/// Replicas of a shard, also of a cluster that was founded when nothing was said of that.
fn replicas_of(founding: &Founding) -> u32 {
    if founding.replicas == 0 { REPLICAS } else { founding.replicas }
}

fn founded(known: &Identity, founding: &Founding) -> Identity {
    let founder = |member: &MemberRecord| Founder {
        node_id: member.node_id,
        name: member.name.clone(),
        peer_address: member.peer_address.clone(),
    };
    Identity {
        cluster_id: founding.cluster_id.clone(),
        shards: founding.shards,
        replicas: replicas_of(founding),
        founders: founding.members.iter().map(founder).collect(),
        ..known.clone()
    }
}

fn founding_of(identity: &Identity) -> Founding {
    let member = |founder: &Founder| MemberRecord {
        node_id: founder.node_id,
        name: founder.name.clone(),
        peer_address: founder.peer_address.clone(),
        ..MemberRecord::default()
    };
    Founding {
        cluster_id: identity.cluster_id.clone(),
        shards: identity.shards,
        replicas: identity.replicas,
        members: identity.founders.iter().map(member).collect(),
    }
}
