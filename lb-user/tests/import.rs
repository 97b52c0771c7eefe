//! `baton import`: samples that have every directive of the two manuals, and those that come with the packages.
//!
//! `BATON_BLESS=1` writes the outcome of the samples anew; read the difference before you keep it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use baton::config::{Config, Loaded, render};
use baton::import::{ImportError, Imported, keepalived, ldirectord};
use proptest::prelude::*;

type Import = fn(&str, &str, &[String]) -> Result<Imported, ImportError>;

const SAMPLES: [(&str, Import); 2] = [("ldirectord.cf", ldirectord), ("keepalived.conf", keepalived)];

fn sample(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import").join(name)).unwrap()
}

/// What was imported, as a configuration that can be used without a warning.
fn used(imported: &Imported) -> Loaded {
    let loaded = Config::parse(&imported.config, "imported")
        .unwrap_or_else(|found| panic!("{}\n{}", render(&found, false), imported.config));
    assert_eq!(loaded.config.services.len(), imported.services);
    loaded
}

#[test]
fn the_samples_become_what_is_beside_them() {
    for (name, import) in SAMPLES {
        let imported = import(&sample(name), name, &[]).unwrap();
        used(&imported);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/import/{name}.toml"));
        if env::var_os("BATON_BLESS").is_some() {
            fs::write(path, &imported.config).unwrap();
        } else {
            assert_eq!(fs::read_to_string(path).unwrap(), imported.config, "{name} becomes another file");
        }
    }
}

#[test]
fn no_directive_of_a_manual_is_unknown_and_none_is_lost() {
    for (name, import) in SAMPLES {
        let imported = import(&sample(name), name, &[]).unwrap();
        for note in &imported.notes {
            // The manual of ldirectord knows no `execute`-less sub-file, so it says so of this one alone.
            let known = !note.message.starts_with("unknown");
            assert!(known, "{name}:{}: {}: {}", note.line, note.directive, note.message);
            assert!(!note.directive.is_empty() && !note.message.is_empty());
        }
    }
}

#[test]
fn secrets_are_not_repeated() {
    let imported = ldirectord(&sample("ldirectord.cf"), "ldirectord.cf", &[]).unwrap();
    let shown = serde_json::to_string(&imported).unwrap();
    assert!(sample("ldirectord.cf").contains("do-not-print-this"));
    assert!(!shown.contains("do-not-print-this") && !shown.contains("nor-this"));
}

#[test]
fn what_cannot_be_read_is_named_with_its_line() {
    let line = |result: Result<Imported, ImportError>| result.unwrap_err().to_string();
    let said = line(ldirectord("autoreload=yes\nvirtual 10.0.0.1:80\n", "a.cf", &[]));
    assert!(said.starts_with("a.cf:2: "), "{said}");
    let said = line(ldirectord("\treal=10.0.0.1:80 masq\n", "a.cf", &[]));
    assert!(said.starts_with("a.cf:1: "), "{said}");
    let said = line(keepalived("virtual_server 10.0.0.1 80 {\n", "k.conf", &[]));
    assert!(said.starts_with("k.conf:1: "), "{said}");
    let said = line(keepalived("global_defs {\n}\n}\n", "k.conf", &[]));
    assert!(said.starts_with("k.conf:3: "), "{said}");
}

#[test]
fn interfaces_are_those_that_are_given_else_those_of_the_file() {
    let interfaces = |given: &[String]| {
        let imported = keepalived(&sample("keepalived.conf"), "k.conf", given).unwrap();
        used(&imported).config.data_plane.interfaces
    };
    assert_eq!(interfaces(&[]), ["bond0"]);
    assert_eq!(interfaces(&["eth7".to_owned()]), ["eth7"]);
}

/// The directory with the packages' own samples, unpacked once; `Err` says why there is none.
fn packages() -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("balancers");
    if directory.join("done").exists() {
        return Ok(directory);
    }
    fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(&directory).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("{program}: {error}")),
        }
    };
    run("apt-get", &["download", "ldirectord", "keepalived"])?;
    for entry in fs::read_dir(&directory).map_err(|error| error.to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".deb") {
            run("dpkg-deb", &["-x", &name, "."])?;
        }
    }
    fs::write(directory.join("done"), "").map_err(|error| error.to_string())?;
    Ok(directory)
}

#[test]
fn the_samples_of_the_packages_import() {
    let directory = match packages() {
        Ok(directory) => directory,
        Err(why) => {
            println!("skipped: the packages ldirectord and keepalived cannot be had: {why}");
            return;
        }
    };
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();

    let sample = text(&directory.join("usr/share/doc/ldirectord/examples/ldirectord.cf"));
    let imported = ldirectord(&sample, "ldirectord.cf", &[]).unwrap();
    assert_eq!(used(&imported).config.services[0].backends.len(), 3);
    // Most of its services are commented out.
    let lines = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(bare) if bare.starts_with(['\t', 'v']) && !bare.contains(' ') || bare.starts_with("\t") => bare,
        _ => line,
    });
    let all = lines.map(|line| format!("{line}\n")).collect::<String>();
    let imported = ldirectord(&all, "ldirectord.cf", &[]).unwrap();
    used(&imported);
    assert!(imported.services >= 12, "{}", imported.services);

    let mut services = 0;
    let mut files = 0;
    for entry in fs::read_dir(directory.join("usr/share/doc/keepalived/samples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("keepalived.conf") {
            continue;
        }
        let imported = keepalived(&text(&path), &name, &[]).unwrap_or_else(|error| panic!("{error}"));
        used(&imported);
        files += 1;
        services += imported.services;
    }
    assert!(files >= 20 && services >= 20, "{files} files, {services} services");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever stands in a file: it is refused with a line of it, or what comes of it can be used.
    #[test]
    fn what_is_imported_can_be_used(
        lines in proptest::collection::vec((0usize..2000, "[ -~é\\x00\\x1b]{0,12}", 0u8..12), 0..60),
        which in 0usize..2,
    ) {
        let (name, import) = SAMPLES[which];
        let sample = sample(name);
        let known: Vec<&str> = sample.lines().collect();
        let text: String = lines
            .iter()
            .map(|(index, noise, change)| {
                let line = known[index % known.len()];
                match change {
                    0 => format!("{noise}\n"),
                    1 => format!("{line}{noise}\n"),
                    2 => {
                        let word = line.split_whitespace().next().unwrap_or_default();
                        format!("\t{word} {noise}\n")
                    }
                    _ => format!("{line}\n"),
                }
            })
            .collect();
        // In order, so that blocks are whole more often.
        let ordered: String = known.iter().enumerate().filter(|(at, _)| lines.iter().all(|(index, ..)| index % known.len() != *at)).map(|(_, line)| format!("{line}\n")).collect();
        for text in [text, ordered] {
            match import(&text, "x", &[]) {
                Ok(imported) => { used(&imported); }
                Err(error) => prop_assert!(error.line >= 1 && error.line <= text.lines().count()),
            }
        }
    }
}
