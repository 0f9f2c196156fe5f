//! Inputs that are kept: small files in `tests/fixtures/fuzz/<target>/`, replayed in every `cargo test`.
//!
//! A file's name says nothing but what it holds: the beginning of a digest, or a word where a person put it there.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use harness::workspace;
use sha2::{Digest as _, Sha256};

/// Where a target's inputs lie.
pub(crate) fn folder(target: &str) -> PathBuf {
    workspace::root().join("tests/fixtures/fuzz").join(target)
}

/// All inputs of a target, with their names, in order.
pub(crate) fn read(target: &str) -> Result<Vec<(String, Vec<u8>)>> {
    let folder = folder(target);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("no corpus at {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        inputs.push((name, fs::read(&path)?));
    }
    inputs.sort();
    Ok(inputs)
}

/// Adds an input, and gives its file.
pub(crate) fn keep(target: &str, input: &[u8]) -> Result<PathBuf> {
    let digest = Sha256::digest(input);
    let name: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let path = folder(target).join(name);
    fs::create_dir_all(folder(target))?;
    fs::write(&path, input).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
