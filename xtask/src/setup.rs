//! What a fresh machine needs before the first build: libclang, which RocksDB's bindings are generated with.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, run};

/// Where build output goes: outside the checkout, unless CARGO_TARGET_DIR says otherwise (then cargo reads it itself).
pub fn target_directory() -> Option<PathBuf> {
    if std::env::var_os("CARGO_TARGET_DIR").is_some() {
        return None;
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))?;
    Some(cache.join("mainstay/target"))
}

/// Installs libclang where it is missing and this user may; otherwise says exactly what to install.
pub fn prepare() -> Result<(), Failure> {
    if has_libclang() {
        return Ok(());
    }
    let install = "apt-get install -y libclang-dev clang";
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Err(format!("libclang is missing (RocksDB's bindings need it); install it, on Debian: sudo {install}"));
    }
    eprintln!("xtask: installing libclang (RocksDB's first build then takes about 15 minutes)");
    run(Command::new("apt-get").arg("update"))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "libclang-dev", "clang"])
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let Ok(found) = Command::new("sh")
        .args([
            "-c",
            "ls /usr/lib/llvm*/lib/libclang*.so* /usr/lib*/libclang*.so* /usr/lib/*/libclang*.so* 2>/dev/null",
        ])
        .output()
    else {
        return false;
    };
    String::from_utf8_lossy(&found.stdout)
        .lines()
        .any(|path| path.contains("/libclang.so") || path.contains("/libclang-") && !path.contains("libclang-cpp"))
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}
