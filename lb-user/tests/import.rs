//! `baton import`: samples that have every directive of the two manuals, and those that come with the packages.
//!
//! `BATON_BLESS=1` writes the outcome of the samples anew; read the difference before you keep it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
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
fn no_directive_of_a_manual_is_unknown() {
    for (name, import) in SAMPLES {
        let imported = import(&sample(name), name, &[]).unwrap();
        for note in &imported.notes {
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
fn a_host_that_tls_cannot_name_is_left_out() {
    let text = "virtual=192.0.2.1:443\n\treal=10.0.0.1:443 masq\n\tvirtualhost=a..b\n";
    let imported = ldirectord(text, "a.cf", &[]).unwrap();
    used(&imported);
    assert!(imported.notes.iter().any(|note| note.line == 3), "{:?}", imported.notes);
}

#[test]
fn an_address_of_ipv4_that_is_written_as_ipv6_is_one_of_ipv4() {
    let text = "virtual_server ::ffff:192.0.2.1 80 {\n protocol TCP\n real_server ::ffff:10.0.0.1 80 {\n }\n real_server \
                10.0.0.2 80 {\n }\n}\n";
    let service = used(&keepalived(text, "k.conf", &[]).unwrap()).config.services.remove(0);
    assert_eq!(service.vip.to_string(), "192.0.2.1:80");
    assert_eq!(service.backends.len(), 2);
}

/// What was noted of a line.
fn noted(imported: &Imported, line: usize) -> Vec<&str> {
    imported.notes.iter().filter(|note| note.line == line).map(|note| note.message.as_str()).collect()
}

#[test]
fn redirects_that_ldirectord_followed_are_noted_for_each_check_over_http() {
    let text = "virtual=192.0.2.1:80\n\treal=10.0.0.1:80 masq\nvirtual=192.0.2.1:8443\n\treal=10.0.0.2:443 masq\n\t\
                service=https\nvirtual=192.0.2.1:25\n\treal=10.0.0.3:25 masq\n";
    let imported = ldirectord(text, "a.cf", &[]).unwrap();
    used(&imported);
    let of_redirects = imported.notes.iter().filter(|note| note.message.contains("redirects"));
    assert_eq!(of_redirects.map(|note| note.line).collect::<Vec<_>>(), [1, 5], "{:?}", imported.notes);
}

#[test]
fn a_real_server_that_is_asked_otherwise_than_the_first_is_noted() {
    let notes = |settings: &str| {
        let text = format!(
            "virtual=192.0.2.1:80\n\treal=10.0.0.1:80 masq \"a\", \"one\"\n\treal=10.0.0.2:80 masq \"a\", \"two\"\n\t\
             real=10.0.0.3:80 masq \"b\", \"one\"\n\treal=10.0.0.4:80 masq\n\treal=10.0.0.5:80 masq \"a\", \
             \"one\"\n{settings}"
        );
        let imported = ldirectord(&text, "a.cf", &[]).unwrap();
        used(&imported);
        (1..=9).filter(|line| noted(&imported, *line).iter().any(|why| why.contains("one check"))).collect()
    };
    let (first, of_service): (Vec<_>, Vec<_>) = (notes(""), notes("\trequest=a\n\treceive=two\n"));
    assert_eq!((first, of_service), (vec![3, 4, 5], vec![2, 4, 6]));
}

#[test]
fn a_service_that_nobody_asked_is_noted() {
    // Port 9000 has no usual service.
    let text = "virtual=192.0.2.1:9000\n\treal=10.0.0.1:9000 masq\nvirtual=192.0.2.1:80\n\treal=10.0.0.2:80 masq\n\t\
                service=none\n";
    let imported = ldirectord(text, "a.cf", &[]).unwrap();
    used(&imported);
    for line in [1, 5] {
        assert!(
            noted(&imported, line).iter().any(|why| why.contains("without a check")),
            "{:?}",
            imported.notes
        );
    }
}

#[test]
fn timeouts_of_a_virtual_server_of_ldirectord_come_before_those_of_the_file() {
    let timeout = |file: &str, own: &str, kind: &str| {
        let text =
            format!("{file}\nvirtual=192.0.2.1:80\n\treal=10.0.0.1:80 masq\n\tchecktype={kind}\n{own}");
        used(&ldirectord(&text, "a.cf", &[]).unwrap()).config.services[0].check.timeout.as_secs()
    };
    let file = "negotiatetimeout=7\nchecktimeout=8";
    let cases = [
        (timeout("negotiatetimeout=7", "\tchecktimeout=3\n", "negotiate"), 3),
        (timeout("checktimeout=7", "\tnegotiatetimeout=3\n", "connect"), 3),
        (timeout(file, "\tchecktimeout=3\n\tnegotiatetimeout=4\n", "negotiate"), 4),
        (timeout(file, "\tchecktimeout=3\n\tnegotiatetimeout=4\n", "connect"), 3),
        (timeout(file, "", "negotiate"), 7),
        (timeout(file, "", "connect"), 8),
        (timeout("checktimeout=8", "", "negotiate"), 8),
        (timeout("", "", "negotiate"), 30),
        (timeout("", "", "connect"), 5),
    ];
    assert!(cases.iter().all(|(is, should)| is == should), "{cases:?}");
}

#[test]
fn that_the_manual_and_the_program_disagree_about_quiescent_is_noted_once() {
    let one = |port: u16| format!("virtual=192.0.2.1:{port}\n\treal=10.0.0.1:{port} masq\n");
    let notes = |text: &str| {
        let imported = ldirectord(text, "a.cf", &[]).unwrap();
        used(&imported);
        imported.notes.iter().filter(|note| note.directive == "quiescent").count()
    };
    let both = one(80) + &one(81);
    assert_eq!((notes(&both), notes(&format!("quiescent=no\n{both}"))), (1, 0));
}

#[test]
fn what_keepalived_has_by_default_is_written_out() {
    let check = |server: &str, checker: &str| {
        let text = format!(
            "virtual_server 192.0.2.1 80 {{\n delay_loop 20\n protocol TCP\n {server}\n real_server 10.0.0.1 80 {{\n \
             delay_loop 10\n {checker} }}\n}}\n"
        );
        used(&keepalived(&text, "k.conf", &[]).unwrap()).config.services.remove(0).check
    };
    let misc = "MISC_CHECK {\n misc_path /bin/true\n";
    // In seconds: the fast interval, the timeout.
    let cases = [
        ("", "TCP_CHECK {\n }\n", (1, 5)),
        ("", "HTTP_GET {\n url {\n path /\n }\n }\n", (3, 5)),
        ("", "SSL_GET {\n url {\n path /\n }\n }\n", (3, 5)),
        ("", "DNS_CHECK {\n }\n", (10, 5)),
        ("", &format!("{misc} }}\n"), (1, 20)),
        ("connect_timeout 4", &format!("{misc} }}\n"), (1, 20)),
        ("", &format!("{misc} misc_timeout 7\n }}\n"), (1, 7)),
        ("delay_before_retry 2", "HTTP_GET {\n url {\n path /\n }\n }\n", (2, 5)),
        ("", "", (1, 5)),
    ];
    for (server, checker, expected) in cases {
        let check = check(server, checker);
        let times = (check.fast_interval.as_secs(), check.timeout.as_secs());
        assert_eq!(times, expected, "{server} {checker}");
    }
}

#[test]
fn ports_of_ldirectord_may_be_names() {
    let text = "virtual=192.0.2.1:http\n\treal=10.0.0.1:http masq\n\treal=10.0.0.2:no-such-port masq\n";
    let imported = ldirectord(text, "a.cf", &[]).unwrap();
    if Path::new("/etc/services").exists() {
        let service = used(&imported).config.services.remove(0);
        assert_eq!((service.vip.port(), service.backends.len()), (80, 1));
        assert!(imported.notes.iter().any(|note| note.line == 3), "{:?}", imported.notes);
    } else {
        assert!(imported.notes.iter().any(|note| note.line == 1), "{:?}", imported.notes);
    }
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
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run("dpkg-deb", &["-x", &path.to_string_lossy(), "."])?;
        }
    }
    fs::write(directory.join("done"), "").map_err(|error| error.to_string())?;
    Ok(directory)
}

/// The directory, or a line that says why the test is skipped.
fn packages_or_skip() -> Option<PathBuf> {
    // Two tests ask at once.
    static UNPACKED: LazyLock<Result<PathBuf, String>> = LazyLock::new(packages);
    match &*UNPACKED {
        Ok(directory) => Some(directory.clone()),
        Err(why) => {
            println!("skipped: the packages ldirectord and keepalived cannot be had: {why}");
            None
        }
    }
}

fn joined<'l>(lines: impl Iterator<Item = &'l str>) -> String {
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// A page of a manual, as its source, from one line on to another.
fn manual(path: &Path, from: &str, to: &str) -> String {
    let output = Command::new("gzip").arg("-dc").arg(path).output().unwrap();
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = page.lines().skip_while(|line| !line.starts_with(from)).skip(1);
    joined(lines.take_while(|line| !line.starts_with(to)))
}

#[test]
fn the_samples_have_every_directive_of_the_manuals() {
    let Some(directory) = packages_or_skip() else { return };
    let ldirectord = manual(&directory.join("usr/share/man/man8/ldirectord.8.gz"), ".SH", "no such line");
    let ldirectord: BTreeSet<_> = ldirectord
        .lines()
        .filter_map(|line| line.strip_prefix("\\&\\fB")?.split_once('='))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    let page = directory.join("usr/share/man/man5/keepalived.conf.5.gz");
    let keepalived: BTreeSet<_> = manual(&page, ".SH LVS CONFIGURATION", ".SH ADVANCED")
        .lines()
        .filter_map(|line| line.strip_prefix(' ')?.trim_start().strip_prefix("\\fB"))
        .filter_map(|line| line.split([' ', '\\']).next())
        .filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()) && !name.contains('|'))
        .map(str::to_owned)
        .collect();
    for ((name, _), (least, directives)) in SAMPLES.iter().zip([(40, ldirectord), (75, keepalived)]) {
        assert!(directives.len() >= least, "{name}: {directives:?}");
        let sample = sample(name);
        let first_words: BTreeSet<_> = sample
            .lines()
            .filter_map(|line| line.split(['=', ' ', '\t']).find(|word| !word.is_empty()))
            .collect();
        let missing: Vec<_> =
            directives.iter().filter(|directive| !first_words.contains(directive.as_str())).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
    }
}

#[test]
fn the_samples_of_the_packages_import() {
    let Some(directory) = packages_or_skip() else { return };
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();

    let sample = text(&directory.join("usr/share/doc/ldirectord/examples/ldirectord.cf"));
    let imported = ldirectord(&sample, "ldirectord.cf", &[]).unwrap();
    assert_eq!(used(&imported).config.services[0].backends.len(), 3);
    // Most of its services are commented out.
    let lines = sample.lines().map(|line| match line.strip_prefix('#') {
        Some(bare) if bare.starts_with('\t') || bare.starts_with("virtual") => bare,
        _ => line,
    });
    let all = joined(lines);
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
    // Several samples send more than one VIP to the same real servers by `nat`: of these only the first is kept.
    assert!(files >= 20 && services >= 16, "{files} files, {services} services");
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
        let left_out = |at: usize| lines.iter().any(|(index, ..)| index % known.len() == at);
        let kept = (0..known.len()).filter(|at| !left_out(*at));
        let ordered = joined(kept.map(|at| known[at]));
        for text in [text, ordered] {
            match import(&text, "x", &[]) {
                Ok(imported) => { used(&imported); }
                Err(error) => prop_assert!(error.line >= 1 && error.line <= text.lines().count()),
            }
        }
    }
}
