//! What a power loss may leave at the end of a write-ahead log, told apart from damage.
//!
//! Each batch is one record, and it is synced before the next is acknowledged. So a record that is incomplete or wrong, with
//! nothing whole behind it, is a write that nobody was told of: the file is cut before it. A wrong record with a whole one behind
//! it was acknowledged, and so was what follows: the log is refused. RocksDB's own recovery modes either drop such a rest
//! silently or refuse a torn last record; so this runs before it opens the log, and leaves it nothing to decide.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use mainstay_storage::StorageError;

const BLOCK: usize = 32 << 10;
/// Checksum (4 bytes), length (2), kind (1).
const HEADER: usize = 7;
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Cuts torn last records off the write-ahead logs in a directory.
///
/// # Errors
/// If one is damaged before its end, or cannot be read or cut.
pub(crate) fn repair(directory: &Path) -> Result<(), StorageError> {
    let mut torn: Option<(PathBuf, usize)> = None;
    for path in logs(directory).map_err(|error| told(directory, &error))? {
        let bytes = fs::read(&path).map_err(|error| told(&path, &error))?;
        let extent = extent(&bytes);
        let damaged = match &torn {
            Some((earlier, at)) if extent.whole > 0 || extent.resumes => Some((earlier.clone(), *at)),
            _ => extent.resumes.then(|| (path.clone(), extent.whole)),
        };
        if let Some((path, at)) = damaged {
            return Err(StorageError::Corrupt(format!("{} is damaged at byte {at}", path.display())));
        }
        if extent.whole < bytes.len() && torn.is_none() {
            torn = Some((path, extent.whole));
        }
    }
    let Some((path, whole)) = torn else { return Ok(()) };
    let cut = || {
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(whole as u64)?;
        file.sync_all()
    };
    cut().map_err(|error| told(&path, &error))
}

fn told(path: &Path, error: &io::Error) -> StorageError {
    StorageError::Io(format!("{}: {error}", path.display()))
}

/// Write-ahead logs in the order in which they were written.
fn logs(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries? {
                let path = entry?.path();
                if path.extension().is_some_and(|ending| ending == "log") {
                    found.push(path);
                }
            }
        }
    }
    // Their names are numbers of equal width.
    found.sort();
    Ok(found)
}

/// How much of a write-ahead log is whole.
#[derive(Debug, Default, PartialEq, Eq)]
struct Extent {
    /// Where the last whole record ends.
    whole: usize,
    /// Whether a record begins somewhere behind something that is not whole.
    resumes: bool,
}

/// A fragment of a record, with the right checksum.
struct Fragment {
    kind: u8,
    end: usize,
}

/// The fragment at a position, if there is a whole one. It never crosses a block.
fn fragment(bytes: &[u8], at: usize) -> Option<Fragment> {
    let header = bytes.get(at..at + HEADER)?;
    let (length, kind) = (usize::from(u16::from_le_bytes([header[4], header[5]])), header[6]);
    let end = at + HEADER + length;
    let block_end = (at / BLOCK + 1) * BLOCK;
    if kind == 0 || end > block_end {
        return None;
    }
    let stored = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    (masked(crc32c(bytes.get(at + HEADER - 1..end)?)) == stored).then_some(Fragment { kind, end })
}

/// Where the next fragment may begin: the last few bytes of a block are filler.
fn next(at: usize) -> usize {
    if BLOCK - at % BLOCK < HEADER { (at / BLOCK + 1) * BLOCK } else { at }
}

fn extent(bytes: &[u8]) -> Extent {
    let (mut whole, mut at, mut inside) = (0, 0, false);
    while at < bytes.len() {
        let Some(found) = fragment(bytes, at) else { break };
        match (found.kind, inside) {
            (FIRST, false) => inside = true,
            (MIDDLE, true) => {}
            (LAST, true) => (inside, whole) = (false, found.end),
            (FIRST..=LAST, _) | (_, true) => break,
            (_, false) => whole = found.end,
        }
        at = next(found.end);
    }
    if !inside && at >= bytes.len() {
        return Extent { whole: bytes.len(), resumes: false };
    }
    Extent { whole, resumes: resumes(bytes, at) }
}

/// Whether a record begins behind a position where none does. Lengths are not to be trusted in its block, so every byte is
/// tried there; each later block begins with a fragment.
fn resumes(bytes: &[u8], damage: usize) -> bool {
    let begins = |at: usize| {
        // The kind first: it is cheap, and spares most checksums.
        bytes.get(at + HEADER - 1).is_some_and(|kind| matches!(*kind, FULL | FIRST)) && fragment(bytes, at).is_some()
    };
    let block_end = (damage / BLOCK + 1) * BLOCK;
    if (damage + 1..block_end.min(bytes.len())).any(begins) {
        return true;
    }
    (block_end..bytes.len()).step_by(BLOCK).any(|block| {
        let mut at = block;
        while let Some(found) = fragment(bytes, at) {
            if found.kind == FULL || found.kind == FIRST {
                return true;
            }
            at = next(found.end);
        }
        false
    })
}

/// RocksDB stores checksums so, lest a checksum of data with checksums be weak.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// Appends a record as RocksDB does; returns where it ends.
    fn append(log: &mut Vec<u8>, mut data: &[u8]) -> usize {
        let mut first = true;
        loop {
            while BLOCK - log.len() % BLOCK < HEADER {
                log.push(0);
            }
            let room = BLOCK - log.len() % BLOCK - HEADER;
            let (now, rest) = data.split_at(room.min(data.len()));
            let kind = match (first, rest.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, false) => MIDDLE,
                (false, true) => LAST,
            };
            let body = [&[kind], now].concat();
            log.extend(masked(crc32c(&body)).to_le_bytes());
            log.extend((now.len() as u16).to_le_bytes());
            log.extend(body);
            (first, data) = (false, rest);
            if rest.is_empty() {
                return log.len();
            }
        }
    }

    fn log(sizes: &[usize]) -> (Vec<u8>, Vec<usize>) {
        let mut log = Vec::new();
        let ends = sizes.iter().map(|size| append(&mut log, &vec![b'r'; *size])).collect();
        (log, ends)
    }

    const SIZES: [usize; 5] = [100, 70_000, BLOCK - 200, 3, 40_000];

    #[test]
    fn every_cut_leaves_the_records_before_it() {
        let (log, ends) = log(&SIZES);
        assert_eq!(extent(&log), Extent { whole: log.len(), resumes: false });
        for cut in (0..log.len()).step_by(97).chain(ends.iter().map(|end| end - 1)) {
            let whole = ends.iter().copied().filter(|end| *end <= cut).max().unwrap_or(0);
            let found = extent(&log[..cut]);
            assert!(found.whole == whole || found.whole == cut && cut - whole < HEADER, "cut at {cut}: {found:?}");
            assert!(!found.resumes, "cut at {cut}");
        }
    }

    #[test]
    fn damage_is_a_torn_write_only_in_the_last_record() {
        let (whole, ends) = log(&SIZES);
        let last = ends[3];
        for at in (0..whole.len()).step_by(61) {
            let mut log = whole.clone();
            log[at] ^= 0x10;
            let found = extent(&log);
            let filler = found.whole == log.len();
            assert!(filler || found.resumes == (at < last), "damage at {at}, last record from {last}: {found:?}");
        }
    }

    #[test]
    fn a_page_that_never_reached_the_disk_is_zeros() {
        let (whole, ends) = log(&SIZES);
        let mut log = whole.clone();
        log[ends[3] + 5000..ends[3] + 9000].fill(0);
        assert_eq!(extent(&log), Extent { whole: ends[3], resumes: false });
        log = whole;
        log[ends[0]..ends[0] + 4096].fill(0);
        assert!(extent(&log).resumes);
    }

    #[test]
    fn space_that_was_only_reserved_is_no_damage() {
        let (mut log, ends) = log(&[100, 200]);
        log.extend([0; 5000]);
        assert_eq!(extent(&log), Extent { whole: ends[1], resumes: false });
    }
}
