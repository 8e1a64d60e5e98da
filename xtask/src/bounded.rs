//! Child processes that may not run for ever.

use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::Failure;

const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// For what a child has to clean up, a server of its own above all.
const GRACE: Duration = Duration::from_secs(15);

/// Asks again and again, at most so long.
fn wait<T>(within: Duration, pause: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if began.elapsed() >= within {
            return None;
        }
        thread::sleep(pause);
    }
}

/// Runs a command to its end; it is interrupted, and a failure, when it takes too long.
pub fn run(command: &mut Command, within: Duration) -> Result<(), Failure> {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|w| w.to_string_lossy()).collect();
    let line = words.join(" ");
    eprintln!("xtask: {line}");
    let began = Instant::now();
    let mut child = command.spawn().map_err(|error| format!("{line} did not start: {error}"))?;
    match wait(within, LOOK_AGAIN, || child.try_wait().ok().flatten()) {
        Some(status) if status.success() => {
            eprintln!("xtask: {line} took {:.0} s", began.elapsed().as_secs_f64());
            Ok(())
        }
        Some(status) => Err(format!("{line} failed ({status})")),
        None => {
            end(&mut child, "INT", GRACE);
            Err(format!("{line} took longer than {within:?} and was ended"))
        }
    }
}

/// Sends a signal and waits; who does not obey is killed, and none is returned.
pub fn end(child: &mut Child, signal: &str, within: Duration) -> Option<ExitStatus> {
    let _ = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
    let ended = wait(within, LOOK_AGAIN, || child.try_wait().ok().flatten());
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_ended() {
        let began = Instant::now();
        let sentence = run(Command::new("sleep").arg("60"), Duration::from_millis(100)).expect_err("too long");
        assert!(sentence.contains("took longer") && began.elapsed() < Duration::from_secs(30), "{sentence}");
        assert!(run(&mut Command::new("true"), Duration::from_secs(10)).is_ok());
        assert!(run(&mut Command::new("false"), Duration::from_secs(10)).is_err());
    }
}
