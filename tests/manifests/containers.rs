//! The container files, as far as a reader of their text can judge: nothing here builds an image.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, ensure};
use harness::workspace;

use crate::resource;

/// One instruction: its word, and the rest.
type Instruction = (String, String);

/// The instructions of a file, with continued lines joined and comments left out.
fn instructions(file: &str) -> Result<Vec<Instruction>> {
    let text = fs::read_to_string(workspace::root().join("envoy/images").join(file))?;
    let lines = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    let joined = lines.replace("\\\n", " ");
    let own = joined.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let (word, rest) = line.split_once(' ').with_context(|| format!("{file}: {line}"))?;
        Ok((word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" ")))
    });
    own.collect()
}

/// The stages, each from its FROM on.
fn stages(instructions: &[Instruction]) -> Vec<&[Instruction]> {
    let starts: Vec<usize> =
        instructions.iter().enumerate().filter(|(_, own)| own.0 == "FROM").map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([instructions.len()]);
    starts.iter().zip(ends).map(|(start, end)| &instructions[*start..end]).collect()
}

/// Sources and destination of each COPY, with the stage it copies from.
fn copies(stage: &[Instruction]) -> Vec<(Option<&str>, Vec<&str>, &str)> {
    let copies = stage.iter().filter(|(word, _)| word == "COPY").map(|(_, rest)| {
        let mut words: Vec<&str> = rest.split(' ').collect();
        let from = words[0].strip_prefix("--from=");
        if from.is_some() {
            words.remove(0);
        }
        let destination = words.pop().unwrap_or_default();
        (from, words, destination)
    });
    copies.collect()
}

/// What holds of both: known instructions, sources that are there, and a last stage from scratch.
fn check(file: &str) -> Result<Vec<Instruction>> {
    let own = instructions(file)?;
    let words = ["ARG", "FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "EXPOSE", "ENTRYPOINT"];
    for (word, rest) in &own {
        ensure!(words.contains(&word.as_str()) && !rest.is_empty(), "{word} {rest}");
    }
    let mut names = BTreeSet::new();
    let stages = stages(&own);
    for stage in &stages {
        for (from, sources, _) in copies(stage) {
            match from {
                Some(name) => ensure!(names.contains(name), "no stage is called {name}"),
                None => {
                    for source in sources {
                        ensure!(workspace::root().join(source).exists(), "{source} is not there");
                    }
                }
            }
        }
        if let Some((_, name)) = stage[0].1.split_once(" AS ") {
            names.insert(name.to_owned());
        }
    }
    // Everything that the workspace names has to be there for cargo to start.
    let manifest = fs::read_to_string(workspace::root().join("Cargo.toml"))?;
    let members = manifest.lines().find(|line| line.starts_with("members")).context("no members")?;
    let copied = copies(stages[0]).into_iter().flat_map(|(_, sources, _)| sources).collect::<Vec<_>>();
    for member in members.split('"').skip(1).step_by(2) {
        ensure!(copied.contains(&member), "{member} is not copied");
    }
    ensure!(stages.last().context("no stage")?[0].1 == "scratch", "it is not from scratch");
    Ok(own)
}

#[test]
fn the_companions_image_is_one_program_that_is_not_root() {
    companion().expect("a container file that holds");
}

fn companion() -> Result<()> {
    let own = check("companion.Dockerfile")?;
    let last = stages(&own).pop().context("no stage")?;
    let value = |word: &str| last.iter().find(|own| own.0 == word).map(|own| own.1.as_str());
    let entry = value("ENTRYPOINT").context("no entry point")?.trim_matches(['[', ']', '"']);
    let copies = copies(last);
    ensure!(copies.iter().any(|(_, _, to)| *to == entry), "{entry} is not in the image");
    let certificates = value("ENV").and_then(|own| own.split_once('=')).context("no certificates")?;
    ensure!(certificates.0 == "SSL_CERT_FILE" && copies.iter().any(|(_, _, to)| *to == certificates.1));
    let user = value("USER").context("no user")?;
    for (file, kind) in [
        ("kubernetes/postgresql/deployment.yaml", "Deployment"),
        ("kubernetes/sqlite/statefulset.yaml", "StatefulSet"),
    ] {
        let pod = resource(file, kind)?["spec"]["template"]["spec"].clone();
        let expected =
            format!("{}:{}", pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]);
        ensure!(user == expected, "{file}: {expected}, the image has {user}");
        for port in pod["containers"][0]["ports"].as_array().into_iter().flatten() {
            let port = port["containerPort"].to_string();
            ensure!(value("EXPOSE").is_some_and(|own| own.split(' ').any(|own| own == port)), "{port}");
        }
    }
    Ok(())
}

#[test]
fn the_filters_image_is_the_module_alone() {
    let own = check("filter.Dockerfile").expect("a container file that holds");
    let last = stages(&own).pop().expect("a stage");
    // Istio looks for this name, and in an image without a layer of its own kind for nothing else.
    assert_eq!(copies(last), [(Some("build"), vec!["/gatehook/plugin.wasm"], "/plugin.wasm")]);
    assert_eq!(last.len(), 2);
}
