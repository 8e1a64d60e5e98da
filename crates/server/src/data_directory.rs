//! The directory that keeps a node's data: whose it is, and that only one process uses it.
//!
//! ```text
//! identity   text: format version, cluster id, node id, shards, of a cluster's node also replicas, its name and who founded the cluster;
//!            written whole or not at all, and once more when a cluster is founded
//! lock       held while a server runs
//! log/       the log store
//! state/     the state store
//! ```
//!
//! A directory that is not ours, or not ours to use, is left as it was found.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use mainstay_node::REPLICAS;

use crate::Failure;

/// Of a node that is alone, and of a cluster's node.
const FORMAT_ALONE: u32 = 1;
const FORMAT: u32 = 2;
const TITLE: &str = "mainstay data directory";
const IDENTITY: &str = "identity";
const IDENTITY_NEW: &str = "identity.new";
const LOCK: &str = "lock";
const TEMPORARY_PREFIX: &str = "mainstay-dev-";
/// Younger temporary directories may belong to a server that is just starting.
const ABANDONED_AFTER: Duration = Duration::from_secs(60);

/// Whose data a directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Empty while a cluster is not founded yet.
    pub cluster_id: String,
    pub node_id: u64,
    pub shards: u32,
    /// Of each shard.
    pub replicas: u32,
    /// Empty for a node that is alone.
    pub name: String,
    /// Who founded the cluster, by name.
    pub founders: Vec<Founder>,
}

/// One of the nodes that founded a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    pub node_id: u64,
    pub name: String,
    /// Where the others reached it then.
    pub peer_address: String,
}

/// A directory that this process has to itself.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Identity,
    temporary: bool,
    _lock: File,
}

impl DataDirectory {
    /// Opens a directory, or makes one of a path where nothing or an empty directory is.
    pub fn open(path: &Path, new: &Identity) -> Result<Self, Failure> {
        examine(path)?;
        if !path.exists() {
            fs::create_dir_all(path).map_err(|error| cannot("create", path, &error))?;
            sync_directory(path.parent().unwrap_or(path));
        }
        let lock = lock(path)?;
        let identity = match read_identity(path)? {
            Some(identity) => identity,
            None => {
                write_identity(path, new).map(|()| new.clone()).map_err(|error| cannot("write to", path, &error))?
            }
        };
        belongs(path, &identity, new)?;
        for part in ["log", "state"] {
            let part = path.join(part);
            fs::create_dir_all(&part).map_err(|error| cannot("create", &part, &error))?;
        }
        sync_directory(path);
        Ok(Self { path: path.to_path_buf(), identity, temporary: false, _lock: lock })
    }

    /// Makes a directory that is removed when the server stops. Those of servers that were killed are removed too.
    pub fn temporary(name: &str, new: &Identity) -> Result<Self, Failure> {
        let parent = std::env::temp_dir();
        remove_abandoned(&parent);
        let path = parent.join(format!("{TEMPORARY_PREFIX}{name}"));
        Ok(Self { temporary: true, ..Self::open(&path, new)? })
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the log store keeps its files.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the state store keeps its files.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// What keeps another identity in this directory, durably.
    pub fn keeper(&self) -> impl Fn(&Identity) -> Result<(), Failure> + Send + Sync + 'static {
        let path = self.path.clone();
        move |identity| write_identity(&path, identity).map_err(|error| cannot("write to", &path, &error))
    }

    pub fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Ends the use of the directory. All stores in it must be closed.
    pub fn close(self) {
        if self.temporary {
            // The next start tries again.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn cannot(act: &str, path: &Path, error: &io::Error) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "this user may not; change its owner, or choose another directory".to_owned()
        }
        io::ErrorKind::ReadOnlyFilesystem => "its file system is read-only; choose another directory".to_owned(),
        io::ErrorKind::StorageFull => "the disk is full; make room, or choose another directory".to_owned(),
        _ => format!("{error}; choose another directory, or repair this one"),
    };
    format!("cannot {act} {}: {reason}", path.display())
}

/// Whether a path is ours or free, without touching it.
fn examine(path: &Path) -> Result<(), Failure> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot("use", path, &error)),
        Ok(found) if !found.is_dir() => {
            return Err(format!(
                "{} is a file, and data is kept in a directory; choose the path of a new or empty one",
                path.display()
            ));
        }
        Ok(_) => {}
    }
    if path.join(IDENTITY).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(|error| cannot("read", path, &error))? {
        let name = entry.map_err(|error| cannot("read", path, &error))?.file_name();
        if name != LOCK && name != IDENTITY_NEW {
            return Err(format!(
                "{} holds other files ({}) and no data of this server; choose a new or empty directory",
                path.display(),
                name.display()
            ));
        }
    }
    Ok(())
}

/// Refuses a directory that is another node's.
fn belongs(path: &Path, found: &Identity, wanted: &Identity) -> Result<(), Failure> {
    let path = path.display();
    match (found.name.as_str(), wanted.name.as_str()) {
        (found, wanted) if found == wanted => Ok(()),
        ("", wanted) => Err(format!(
            "{path} holds the data of a node that is alone, and {wanted} is to be part of a cluster; \
             choose a new or empty directory for it"
        )),
        (found, "") => Err(format!(
            "{path} holds the data of {found}, a node of a cluster; start it with --node-name {found}, --peer-listen and --join"
        )),
        (found, wanted) => Err(format!(
            "{path} holds the data of {found}, not of {wanted}; start it with --node-name {found}, or choose another directory"
        )),
    }
}

fn lock(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).open(path.join(LOCK));
    let mut file = file.map_err(|error| cannot("write to", path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            return Err(format!(
                "{} is in use by another server (process {}); stop that one, or choose another directory",
                path.display(),
                holder.trim()
            ));
        }
        Err(TryLockError::Error(error)) => return Err(cannot("lock", path, &error)),
    }
    // Only for the message above, so it may fail.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn read_identity(path: &Path) -> Result<Option<Identity>, Failure> {
    let file = path.join(IDENTITY);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot("read", &file, &error)),
    };
    let value = |wanted: &str| {
        let pairs = text.lines().filter_map(|line| line.split_once(" = "));
        pairs.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.trim())
    };
    let damaged = || format!("{} is damaged; restore it from a backup of this directory", file.display());
    let format: u32 = value("format").and_then(|value| value.parse().ok()).ok_or_else(damaged)?;
    if format > FORMAT {
        return Err(format!(
            "{} was written by a newer version of mainstay (data format {format}, this one knows up to {FORMAT}); \
             run that version or a newer one",
            path.display()
        ));
    }
    let identity = || {
        let name = value("name").unwrap_or_default().to_owned();
        Some(Identity {
            cluster_id: value("cluster").filter(|id| !id.is_empty() || !name.is_empty())?.to_owned(),
            founders: founders(&text)?,
            name,
            node_id: value("node")?.parse().ok()?,
            shards: value("shards")?.parse().ok().filter(|shards| *shards > 0)?,
            replicas: match value("replicas") {
                Some(replicas) => replicas.parse().ok().filter(|replicas| *replicas > 0)?,
                None => REPLICAS,
            },
        })
    };
    identity().map(Some).ok_or_else(damaged)
}

/// One line each: id, address, name.
fn founders(text: &str) -> Option<Vec<Founder>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("founder = "));
    lines
        .map(|line| {
            let mut parts = line.splitn(3, ' ');
            let node_id = parts.next()?.parse().ok()?;
            Some(Founder { node_id, peer_address: parts.next()?.to_owned(), name: parts.next()?.trim().to_owned() })
        })
        .collect()
}

fn write_identity(path: &Path, identity: &Identity) -> io::Result<()> {
    let Identity { cluster_id, node_id, shards, replicas, name, founders } = identity;
    let format = if name.is_empty() { FORMAT_ALONE } else { FORMAT };
    let mut text =
        format!("# {TITLE}\nformat = {format}\ncluster = {cluster_id}\nnode = {node_id}\nshards = {shards}\n");
    if !name.is_empty() {
        text += &format!("replicas = {replicas}\nname = {name}\n");
    }
    for Founder { node_id, name, peer_address } in founders {
        text += &format!("founder = {node_id} {peer_address} {name}\n");
    }
    let new = path.join(IDENTITY_NEW);
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(new, path.join(IDENTITY))?;
    File::open(path)?.sync_all()
}

/// Makes the names in a directory durable, where the file system can.
fn sync_directory(path: &Path) {
    let _ = File::open(path).and_then(|directory| directory.sync_all());
}

fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX);
        if ours && is_abandoned(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether no server has a temporary directory, be it whole or half removed.
fn is_abandoned(path: &Path) -> bool {
    let made = fs::metadata(path).and_then(|metadata| metadata.modified());
    let old = made.is_ok_and(|made| SystemTime::now().duration_since(made).is_ok_and(|age| age > ABANDONED_AFTER));
    old && match File::open(path.join(LOCK)) {
        Ok(file) => file.try_lock().is_ok(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> Identity {
        Identity { cluster_id: "c-1".into(), node_id: 1, shards: 4, replicas: REPLICAS, ..Identity::default() }
    }

    fn named(name: &str) -> Identity {
        Identity { node_id: 77, shards: 16, replicas: 5, name: name.into(), ..Identity::default() }
    }

    #[test]
    fn an_identity_is_kept() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("a/b");
        DataDirectory::open(&path, &new()).expect("opens").close();
        let other = Identity { cluster_id: "c-2".into(), node_id: 2, shards: 16, ..new() };
        assert_eq!(*DataDirectory::open(&path, &other).expect("opens").identity(), new());
    }

    #[test]
    fn a_cluster_is_kept_when_it_is_founded() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = DataDirectory::open(parent.path(), &named("a")).expect("opens");
        let founder = |node_id, name: &str| Founder { node_id, name: name.into(), peer_address: "h:1".into() };
        let founded =
            Identity { cluster_id: "c".into(), founders: vec![founder(1, "a"), founder(2, "b")], ..named("a") };
        directory.keeper()(&founded).expect("keeps");
        directory.close();
        assert_eq!(*DataDirectory::open(parent.path(), &named("a")).expect("opens").identity(), founded);
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        let (cluster, alone) = (parent.path().join("cluster"), parent.path().join("alone"));
        DataDirectory::open(&cluster, &named("a")).expect("opens").close();
        DataDirectory::open(&alone, &new()).expect("opens").close();
        let refused = |path: &Path, new: &Identity| DataDirectory::open(path, new).expect_err("is refused");
        assert!(refused(&cluster, &named("b")).contains("data of a, not of b"));
        assert!(refused(&cluster, &new()).contains("--node-name a"));
        assert!(refused(&alone, &named("a")).contains("is alone"));
    }

    #[test]
    fn what_is_not_ours_is_refused_and_left_alone() {
        let parent = tempfile::tempdir().expect("a directory");
        let file = parent.path().join("temporal.db");
        fs::write(&file, "sqlite").expect("writes");
        let sentence = DataDirectory::open(&file, &new()).expect_err("a file");
        assert!(sentence.contains("is a file"), "{sentence}");
        let sentence = DataDirectory::open(parent.path(), &new()).expect_err("foreign");
        assert!(sentence.contains("temporal.db"), "{sentence}");
        assert_eq!(fs::read_dir(parent.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_second_server_is_refused_and_told_of_the_first() {
        let parent = tempfile::tempdir().expect("a directory");
        let first = DataDirectory::open(parent.path(), &new()).expect("opens");
        let sentence = DataDirectory::open(parent.path(), &new()).expect_err("locked");
        assert!(sentence.contains(&format!("process {}", std::process::id())), "{sentence}");
        first.close();
        DataDirectory::open(parent.path(), &new()).expect("opens");
    }

    #[test]
    fn newer_and_damaged_directories_are_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        DataDirectory::open(parent.path(), &new()).expect("opens").close();
        let identity = parent.path().join(IDENTITY);
        fs::write(&identity, "format = 3\nsomething = else\n").expect("writes");
        let sentence = DataDirectory::open(parent.path(), &new()).expect_err("newer");
        assert!(sentence.contains("newer version"), "{sentence}");
        fs::write(&identity, "format = 1\n").expect("writes");
        let sentence = DataDirectory::open(parent.path(), &new()).expect_err("damaged");
        assert!(sentence.contains("damaged"), "{sentence}");
    }

    #[test]
    fn what_killed_servers_left_is_removed_and_what_is_in_use_or_young_is_not() {
        let parent = tempfile::tempdir().expect("a directory");
        let make = |name: &str, age: u64| {
            let path = parent.path().join(format!("{TEMPORARY_PREFIX}{name}"));
            let directory = DataDirectory::open(&path, &new()).expect("opens");
            let at = SystemTime::now() - Duration::from_secs(age);
            File::open(path).and_then(|file| file.set_modified(at)).expect("dates back");
            directory
        };
        let _used = make("used", 100);
        drop((make("young", 1), make("left", 100), make("half", 100)));
        let half = parent.path().join("mainstay-dev-half");
        let made = fs::metadata(&half).and_then(|metadata| metadata.modified()).expect("tells");
        ["identity", "lock"].iter().for_each(|name| fs::remove_file(half.join(name)).expect("removes"));
        File::open(half).and_then(|file| file.set_modified(made)).expect("dates back");
        remove_abandoned(parent.path());
        let mut names: Vec<_> = fs::read_dir(parent.path()).expect("lists").flatten().map(|e| e.file_name()).collect();
        names.sort();
        assert_eq!(names, ["mainstay-dev-used", "mainstay-dev-young"]);
    }

    #[test]
    fn a_start_that_was_cut_short_is_repeated() {
        let parent = tempfile::tempdir().expect("a directory");
        fs::write(parent.path().join(LOCK), "").expect("writes");
        fs::write(parent.path().join(IDENTITY_NEW), "form").expect("writes");
        DataDirectory::open(parent.path(), &new()).expect("opens");
    }
}
