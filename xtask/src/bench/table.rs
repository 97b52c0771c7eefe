//! The figures for people: what each case costs, beside its floor and its limit.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

use super::figures::{Case, Figures};
use super::limits::{Most, Verdict};

/// Every case, and how many times its floor it costs.
pub(super) fn figures(figures: &Figures) -> String {
    let mut table = plain(["case", "flows", "least", "median", "unit", "times its floor"]);
    for case in &figures.cases {
        let floor = floor(&case.name).filter(|floor| *floor != case.name);
        let ratio = floor.and_then(|floor| Some((case.minimum()? / figures.minimum(floor)?, floor)));
        table.add_row([
            Cell::new(&case.name).add_attribute(Attribute::Bold),
            number(case.flows.to_string()),
            number(tenths(case.minimum())),
            number(tenths(case.median())),
            Cell::new(unit(case)),
            Cell::new(ratio.map_or_else(String::new, |(ratio, floor)| format!("{ratio:.2} x {floor}"))),
        ]);
    }
    let machine = &figures.machine;
    format!(
        "net cost, least and median of {} rounds; Linux {}, {} CPUs, {}\n{table}",
        figures.rounds, machine.kernel, machine.cpus, machine.processor
    )
}

/// Every limit, and whether it is kept.
pub(super) fn verdicts(verdicts: &[Verdict]) -> String {
    let mut table = plain(["case", "limit", "may cost", "costs", "times", "verdict"]);
    for verdict in verdicts {
        let limit = match verdict.limit.most {
            Most::Figure(most) => format!("{most}"),
            Most::Times(factor, other) => format!("{factor:.2} x {other}"),
        };
        let (word, color) = match verdict.found {
            None => ("not measured", Color::Grey),
            Some(_) if verdict.is_missed() => ("missed", Color::Red),
            Some(_) => ("kept", Color::Green),
        };
        table.add_row([
            Cell::new(verdict.limit.case).add_attribute(Attribute::Bold),
            Cell::new(limit),
            number(tenths(verdict.found.map(|found| found.most))),
            number(tenths(verdict.found.map(|found| found.cost))),
            number(
                verdict
                    .found
                    .and_then(|found| found.times)
                    .map_or_else(String::new, |times| format!("{times:.2}")),
            ),
            Cell::new(word).fg(color),
        ]);
    }
    format!("limits on the least net cost\n{table}")
}

/// What the programs are to the kernel.
pub(super) fn programs(figures: &Figures) -> String {
    let mut table = plain(["program", "verified instructions", "instructions", "bytes of machine code"]);
    for program in &figures.programs {
        table.add_row([
            Cell::new(&program.name).add_attribute(Attribute::Bold),
            number(program.verified_instructions.to_string()),
            number(program.instructions.to_string()),
            number(program.jited_bytes.to_string()),
        ]);
    }
    table.to_string()
}

/// The floor of a case: the one that visits as many flows, or the one without a table.
fn floor(case: &str) -> Option<&'static str> {
    match case.rsplit('_').next()? {
        "1" if case.starts_with("drain_only") => Some("floor_stateless_1"),
        "1" if case != "floor_stateless_1" => Some("floor_lru_1"),
        "64k" => Some("floor_lru_64k"),
        "1m" => Some("floor_lru_1m"),
        _ => None,
    }
}

fn unit(case: &Case) -> &'static str {
    if case.unit() == "ms" { "ms a scan" } else { "ns a packet" }
}

fn plain<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

fn number(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn tenths(figure: Option<f64>) -> String {
    figure.map_or_else(String::new, |figure| format!("{figure:.1}"))
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures as run;
    use super::super::limits::judge;
    use super::*;

    /// The line of a case, its columns apart by single spaces.
    fn line(table: &str, case: &str) -> String {
        let bare = table.replace(['│', '┆'], " ");
        let line = bare.lines().find(|line| line.trim_start().starts_with(case)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_case_stands_beside_the_floor_of_as_many_flows() {
        let run = run(&[("tcp4_est_1", 40.0), ("floor_lru_1", 32.0), ("drain_scan_1m_ms", 12.0)]);
        let table = figures(&run);
        assert_eq!(line(&table, "tcp4_est_1"), "tcp4_est_1 1 40.0 70.0 ns a packet 1.25 x floor_lru_1");
        assert_eq!(line(&table, "floor_lru_1"), "floor_lru_1 1 32.0 56.0 ns a packet");
        assert_eq!(line(&table, "drain_scan_1m_ms"), "drain_scan_1m_ms 1 12.0 21.0 ms a scan");
    }

    #[test]
    fn each_limit_has_its_verdict() {
        let run = run(&[("not_for_service", 21.0), ("drain_only_1", 26.0), ("floor_stateless_1", 20.0)]);
        let table = verdicts(&judge(&run));
        assert_eq!(line(&table, "not_for_service"), "not_for_service 20 20.0 21.0 missed");
        assert_eq!(line(&table, "drain_only_1"), "drain_only_1 1.30 x floor_stateless_1 26.0 26.0 1.30 kept");
        assert_eq!(line(&table, "tcp4_est_1"), "tcp4_est_1 60 not measured");
    }

    #[test]
    fn the_programs_are_listed() {
        assert_eq!(line(&programs(&run(&[])), "baton"), "baton 9 8 7");
    }
}
