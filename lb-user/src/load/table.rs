//! The summary of a run as tables for people.

use comfy_table::{CellAlignment, Table, presets};

use super::latency::Latency;
use super::summary::Summary;

/// Renders a summary as text of several lines without a line end after the last.
pub fn render(summary: &Summary) -> String {
    let mut parts = vec![headline(summary), kinds(summary).to_string(), totals(summary).to_string()];
    if summary.failed > 0 {
        let causes = summary.by_cause.iter().map(|(cause, count)| format!("{count} {cause}"));
        parts.push(format!("failed: {}", causes.collect::<Vec<_>>().join(", ")));
    }
    parts.join("\n")
}

/// The verdict in one line.
fn headline(summary: &Summary) -> String {
    let verdict = match (summary.is_anything_lost(), summary.is_clean()) {
        (true, _) => "LOST",
        (false, true) => "nothing lost",
        (false, false) => "UNDECIDED",
    };
    let abandoned = match summary.abandoned {
        0 => String::new(),
        count => format!(", {count} abandoned"),
    };
    let early = if summary.stopped_early { ", stopped early" } else { "" };
    format!(
        "{verdict}: {} requests to {}, {} failed{abandoned}, in {:.1} s{early}",
        summary.requests,
        summary.target,
        summary.failed,
        summary.elapsed_ms / 1000.0
    )
}

fn kinds(summary: &Summary) -> Table {
    let mut table = new_table();
    table
        .set_header(["kind", "requests", "ok", "failed", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms"]);
    for (name, kind) in &summary.by_kind {
        table.add_row(row(name, [kind.requests, kind.ok, kind.failed], &kind.corrected));
    }
    let counts = [summary.requests, summary.ok, summary.failed];
    table.add_row(row("all, from intended time", counts, &summary.corrected));
    table.add_row(row("all, from actual start", counts, &summary.uncorrected));
    right_align(&mut table);
    table
}

fn row(name: &str, counts: [u64; 3], latency: &Latency) -> Vec<String> {
    let figures = [latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms];
    let mut cells = vec![name.to_owned()];
    cells.extend(counts.map(|count| count.to_string()));
    cells.extend(figures.map(|figure| format!("{figure:.2}")));
    cells
}

fn totals(summary: &Summary) -> Table {
    let connections = &summary.connections;
    let mut table = new_table();
    table.add_row([
        "longest gap".to_owned(),
        format!("{:.0} ms, {:.1} s into the run", summary.longest_gap_ms, summary.longest_gap_at_ms / 1000.0),
    ]);
    table.add_row([
        "rate".to_owned(),
        format!("{:.1} of {:.1} /s", summary.rate_achieved, summary.rate_planned),
    ]);
    table.add_row(["latest start".to_owned(), format!("{:.2} ms after its time", summary.max_late_ms)]);
    table.add_row([
        "connections".to_owned(),
        format!(
            "{} opened, {} at once, {} closed and {} reset while idle",
            connections.opened, connections.peak, connections.closed_idle, connections.reset_idle
        ),
    ]);
    for (name, backend) in &summary.by_backend {
        table.add_row([
            format!("backend {name}"),
            format!("{} requests, {} failed", backend.requests, backend.failed),
        ]);
    }
    if let (Some(doubled), Some(lost), Some(failed)) =
        (summary.doubled, summary.lost, summary.executed_but_failed)
    {
        let text = format!("{doubled} doubled, {lost} lost, {failed} failed although executed");
        table.add_row(["executions".to_owned(), text]);
    }
    table
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table
}

fn right_align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
