//! What a process on this machine costs, from /proc.

use std::fs;
use std::time::Duration;

/// A process.
pub(crate) struct Process {
    pid: u32,
}

/// Bytes resident.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub now: u64,
    pub peak: u64,
}

impl Process {
    pub fn of(pid: u32) -> Result<Self, String> {
        let process = Self { pid };
        process.ticks().map(|_| process).ok_or_else(|| format!("no process {pid} on this machine; leave out --pid"))
    }

    /// CPU time that it has used, in all threads.
    pub fn cpu(&self) -> Duration {
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Duration::from_secs_f64(self.ticks().unwrap_or(0) as f64 / per_second as f64)
    }

    fn ticks(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        // The name in parentheses may hold anything; user and system time are the 12th and 13th field after it.
        let (_, fields) = text.rsplit_once(')')?;
        let mut times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        Some(times.next()?.ok()? + times.next()?.ok()?)
    }

    pub fn memory(&self) -> Option<Memory> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
        };
        Some(Memory { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = Process::of(std::process::id()).expect("runs");
        while own.cpu() < Duration::from_millis(10) {}
        let memory = own.memory().expect("tells");
        assert!(memory.now > 0 && memory.now <= memory.peak);
        assert!(Process::of(u32::MAX).is_err());
    }
}
