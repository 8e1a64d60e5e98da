//! What a fresh machine needs: libclang before the first build, which RocksDB's bindings are generated with, and Chromium before
//! the tests of the web interface.

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
    install_packages(&["libclang-dev", "clang"])
}

/// Installs a browser where there is none and this user may; otherwise says what to install.
pub fn prepare_browser() -> Result<(), Failure> {
    if has_browser() {
        return Ok(());
    }
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Err("Chromium is missing (the tests of the web interface need it); install it, on Debian: \
            sudo apt-get install -y chromium, or name another with MAINSTAY_CHROMIUM"
            .into());
    }
    eprintln!("xtask: installing Chromium");
    install_packages(&["chromium"])
}

fn has_browser() -> bool {
    let on_path = |name: &str| {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&paths).any(|directory| directory.join(name).is_file())
    };
    std::env::var_os("MAINSTAY_CHROMIUM").is_some()
        || ["chromium", "chromium-browser", "google-chrome"].into_iter().any(on_path)
}

fn install_packages(names: &[&str]) -> Result<(), Failure> {
    run(Command::new("apt-get").arg("update"))?;
    run(Command::new("apt-get").args(["install", "-y"]).args(names).env("DEBIAN_FRONTEND", "noninteractive"))
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
