//! How nodes become a cluster: they greet each other, and the one with the lowest name founds it once enough of them have met.
//!
//! A cluster is founded in two steps. The founder proposes it (a new id, the founding members) to each of them, and each keeps that
//! before it agrees; when all have agreed the founder keeps it, too. Whoever restarts meanwhile learns of it from the others' greetings.
//! A node agrees to one cluster only, so two cannot both come to be with the same node in them. Greetings go on later: so nodes
//! find each other again at new addresses, and a node that does not belong is told so in a sentence.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use mainstay_api::peer::{Founding, Greeting};
use mainstay_api::record::MemberRecord;
use mainstay_base::RunId;
use mainstay_consensus::peer::GREETING_SERVICE;
use mainstay_consensus::{Handler, PeerError, Peers};
use mainstay_runtime::{Instant, Runtime};
use prost::Message;

use crate::lock;

const GREET_EVERY: Duration = Duration::from_millis(150);
const GREET_WITHIN: Duration = Duration::from_secs(2);
/// A copy of a running node is refused for so long before it gives up: the first may just be dying.
const TWIN_PATIENCE: Duration = Duration::from_secs(5);
/// A node that was heard of within this time runs.
const RUNS: Duration = Duration::from_millis(1_200);

/// Keeps what a node agreed to, durably. Blocks.
pub type Keep = Box<dyn Fn(&Founding) -> Result<(), String> + Send + Sync>;

/// A node before and while it is part of a cluster.
pub struct Forming<R: Runtime> {
    peers: Peers<R>,
    me: MemberRecord,
    expect: u32,
    /// What a cluster that this node founds begins with.
    new: Founding,
    keep: Keep,
    agreed: Mutex<Option<Founding>>,
    /// The incarnation and name of each node that greeted.
    met: Mutex<BTreeMap<u64, (u64, String)>>,
}

impl<R: Runtime> Forming<R> {
    /// Answers greetings from now on. `new`: what a cluster that this node founds begins with, without id and members. `agreed`: what
    /// the data directory already says.
    pub fn open(
        peers: Peers<R>,
        me: MemberRecord,
        (expect, new): (u32, Founding),
        agreed: Option<Founding>,
        keep: Keep,
    ) -> Arc<Self> {
        let (agreed, met) = (Mutex::new(agreed), Mutex::default());
        let forming = Arc::new(Self { peers, me, expect, new, keep, agreed, met });
        forming.peers.register(GREETING_SERVICE, Arc::new(Reception(Arc::downgrade(&forming))));
        forming
    }

    /// Greets the nodes at these addresses until this node is part of a cluster, and answers which.
    ///
    /// # Errors
    /// A sentence: the others will not have this node.
    pub async fn form(&self, join: &[String]) -> Result<Founding, String> {
        let begun = R::Instant::now();
        loop {
            match self.round(join).await {
                Err(reason) if R::Instant::now() - begun > TWIN_PATIENCE => return Err(reason),
                Err(_) | Ok(()) => {}
            }
            if let Some(agreed) = self.agreed() {
                return Ok(agreed);
            }
            R::sleep(GREET_EVERY).await;
        }
    }

    /// Tells the others where this node is, and learns where they are; once.
    ///
    /// # Errors
    /// A sentence: the others will not have this node.
    pub async fn greet_all(&self, addresses: &[String]) -> Result<usize, String> {
        let mut met = 0;
        for address in addresses {
            met += usize::from(self.greet(address, None).await?.is_some());
        }
        Ok(met)
    }

    fn agreed(&self) -> Option<Founding> {
        lock(&self.agreed).clone()
    }

    async fn round(&self, join: &[String]) -> Result<(), String> {
        let mut others: BTreeMap<String, (MemberRecord, String)> = BTreeMap::new();
        for address in join {
            let Some(greeting) = self.greet(address, None).await? else { continue };
            if let Some(cluster) = greeting.cluster {
                return self.agree(&cluster);
            }
            let member = greeting.member.unwrap_or_default();
            if greeting.expect != self.expect {
                return Err(format!(
                    "node {} expects {} nodes to begin with, and this one {}; give both the same --bootstrap-expect",
                    member.name, greeting.expect, self.expect
                ));
            }
            if member.node_id != self.me.node_id {
                others.insert(member.name.clone(), (member, address.clone()));
            }
        }
        let enough = others.len() + 1 >= self.expect as usize;
        if enough && others.keys().next().is_none_or(|first| self.me.name < *first) && self.agreed().is_none() {
            return self.found(others).await;
        }
        Ok(())
    }

    async fn found(&self, others: BTreeMap<String, (MemberRecord, String)>) -> Result<(), String> {
        let others: Vec<_> = others.into_values().take(self.expect.saturating_sub(1) as usize).collect();
        let mut members = vec![self.me.clone()];
        members.extend(others.iter().map(|(member, _)| member.clone()));
        let cluster_id = RunId::from_random(R::random()).to_string();
        let proposal = Founding { cluster_id, members, ..self.new.clone() };
        for (_, address) in &others {
            let answer = self.greet(address, Some(proposal.clone())).await?;
            let agreed = answer.and_then(|greeting| greeting.cluster);
            if agreed.is_none_or(|agreed| agreed.cluster_id != proposal.cluster_id) {
                return Ok(());
            }
        }
        self.agree(&proposal)
    }

    /// Becomes part of a cluster, if this node is of none yet.
    fn agree(&self, cluster: &Founding) -> Result<(), String> {
        let mut agreed = lock(&self.agreed);
        match &*agreed {
            Some(known) if known.cluster_id == cluster.cluster_id => return Ok(()),
            Some(known) => return Err(foreign(&known.cluster_id, &cluster.cluster_id)),
            None => {}
        }
        (self.keep)(cluster)?;
        *agreed = Some(cluster.clone());
        self.peers.set_cluster(cluster.cluster_id.clone());
        Ok(())
    }

    /// Greets who is at an address. None if nobody answers; a refusal is an error.
    async fn greet(&self, address: &str, proposal: Option<Founding>) -> Result<Option<Greeting>, String> {
        let own = Greeting { proposal, ..self.greeting() };
        let body = own.encode_to_vec().into();
        match self.peers.call_address(address, GREETING_SERVICE, body, GREET_WITHIN).await {
            Ok((_, answer)) => {
                let greeting = Greeting::decode(answer).map_err(|error| format!("{address} greets oddly: {error}"))?;
                self.meet(&greeting)?;
                Ok(Some(greeting))
            }
            Err(PeerError::Refused(reason)) => Err(reason),
            Err(_) => Ok(None),
        }
    }

    fn greeting(&self) -> Greeting {
        Greeting { member: Some(self.me.clone()), cluster: self.agreed(), proposal: None, expect: self.expect }
    }

    /// Looks at who greets: may it be here, and where is it?
    fn meet(&self, greeting: &Greeting) -> Result<(), String> {
        let Some(member) = &greeting.member else { return Err("a greeting without a name".into()) };
        let agreed = self.agreed();
        if let (Some(own), Some(other)) = (&agreed, &greeting.cluster)
            && own.cluster_id != other.cluster_id
        {
            return Err(foreign(&own.cluster_id, &other.cluster_id));
        }
        if !fits(&self.me.version, &member.version) {
            return Err(format!(
                "node {} is of version {}, and node {} of {}; nodes of one cluster may differ in the last number only",
                member.name, member.version, self.me.name, self.me.version
            ));
        }
        if member.node_id == self.me.node_id {
            // This node met itself, or its twin.
            return if member.incarnation == self.me.incarnation { Ok(()) } else { Err(twin(&self.me.peer_address)) };
        }
        if member.name == self.me.name {
            return Err(format!(
                "the name {} is that of the node at {}; choose another",
                member.name, self.me.peer_address
            ));
        }
        self.refuse_twin(member)?;
        if agreed.is_some() && greeting.cluster.is_some() {
            self.peers.set_address(member.node_id, member.peer_address.clone());
        }
        Ok(())
    }

    /// Two processes with one node's id: the second has a copy of the first one's directory. Two with one name: a mistake.
    fn refuse_twin(&self, member: &MemberRecord) -> Result<(), String> {
        let mut met = lock(&self.met);
        let runs = |node| self.peers.last_heard(node).is_some_and(|heard| R::Instant::now() - heard < RUNS);
        for (node, (incarnation, name)) in met.iter() {
            let at = || self.peers.address(*node).unwrap_or_default();
            // At the same address there can be only one: the first has ended.
            let elsewhere = at() != member.peer_address;
            if *node == member.node_id && *incarnation != member.incarnation && elsewhere && runs(*node) {
                return Err(twin(&at()));
            }
            if *node != member.node_id && *name == member.name && runs(*node) {
                return Err(format!("the name {name} is that of the node at {}; choose another", at()));
            }
        }
        met.insert(member.node_id, (member.incarnation, member.name.clone()));
        Ok(())
    }

    fn receive(&self, body: Bytes) -> Result<Bytes, String> {
        let greeting = Greeting::decode(body).map_err(|error| error.to_string())?;
        if let Err(reason) = self.meet(&greeting) {
            let member = greeting.member.unwrap_or_default();
            self.peers.note(format!("node {} at {} was refused: {reason}", member.name, member.peer_address));
            return Err(reason);
        }
        if let Some(proposal) = &greeting.proposal
            && proposal.members.iter().any(|member| member.node_id == self.me.node_id)
        {
            self.agree(proposal)?;
        }
        Ok(self.greeting().encode_to_vec().into())
    }
}

/// Whether binaries of these versions understand each other: the first two numbers are the same. Who does not tell is believed.
fn fits(own: &str, other: &str) -> bool {
    let first_two = |version: &str| version.splitn(3, '.').take(2).map(str::to_owned).collect::<Vec<_>>();
    own.is_empty() || other.is_empty() || first_two(own) == first_two(other)
}

fn foreign(own: &str, other: &str) -> String {
    format!(
        "these nodes are of different clusters ({own} and {other}); start the one that does not belong here with an empty data directory"
    )
}

fn twin(address: &str) -> String {
    format!("this node runs already, at {address}; is its data directory a copy? A new node needs an empty one")
}

/// Answers greetings.
struct Reception<R: Runtime>(Weak<Forming<R>>);

impl<R: Runtime> Handler for Reception<R> {
    fn handle(&self, _from: u64, body: Bytes) -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>> {
        let forming = self.0.upgrade();
        Box::pin(async move {
            let forming = forming.ok_or("the node is stopping")?;
            R::disk(move || forming.receive(body)).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn versions_may_differ_in_the_last_number() {
        assert!(fits("0.1.0", "0.1.7") && fits("", "0.1.0") && fits("1.2.3-rc1", "1.2.3"));
        assert!(!fits("0.1.0", "0.2.0") && !fits("1.0.0", "2.0.0") && !fits("1.2", "1.3"));
    }
}
