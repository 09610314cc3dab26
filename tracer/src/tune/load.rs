//! Reports and plans from files.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::plan::{Plan, SCHEMA};
use crate::{
    model::report::{self, Record, Report},
    record::seems::Seems,
    report::json,
};

/// The summary among `lines`, JSON as `tracer run --format json` prints it.
pub fn report(lines: impl BufRead) -> Result<Report> {
    usable(summary(lines)?)
}

/// `report`, if a plan can be made of it.
pub fn usable(report: Report) -> Result<Report> {
    ensure!(
        report.schema <= report::SCHEMA,
        "schema {} is newer than this tracer's {}",
        report.schema,
        report::SCHEMA
    );
    ensure!(
        report.topology.is_some(),
        "the report does not tell how the host is set up (topology)"
    );
    Ok(report)
}

/// The last summary among the lines.
fn summary(lines: impl BufRead) -> Result<Report> {
    let mut found = None;
    for (at, line) in lines.lines().enumerate() {
        let line = line?;
        // Windows and events are many and large; only their kind matters here.
        if !line.contains("\"summary\"") {
            ensure!(
                line.starts_with('{') || line.trim().is_empty(),
                "line {} is no JSON of `tracer run --format json`",
                at + 1
            );
            continue;
        }
        match json::parse(&line).with_context(|| format!("line {}", at + 1))? {
            Record::Summary(report) => found = Some(report),
            Record::Window(_) | Record::Event(_) => {}
        }
    }
    found.context("no line of kind \"summary\": was the run ended before it printed its report?")
}

/// The plan in `path`, JSON as `tracer tune plan --format json` prints it; `-` is stdin. Every setting and value in it
/// is one that tracer may write.
pub fn plan(path: &Path) -> Result<Plan> {
    let name = if path.as_os_str() == "-" {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let mut bytes = Vec::new();
    open(path)?
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {name}"))?;
    if let Some(why) = no_plan(Seems::of(&bytes), &name) {
        bail!(why);
    }
    let text = std::str::from_utf8(&bytes);
    text.map_err(anyhow::Error::new)
        .and_then(parse_plan)
        .with_context(|| {
            format!("no plan in {name}, as 'tracer tune plan --format json > plan.json' makes one")
        })
}

/// Why what is in the file is none.
fn no_plan(seems: Seems, name: &str) -> Option<String> {
    Some(match seems {
        Seems::Plan | Seems::Json => return None,
        Seems::Recording | Seems::Report => format!(
            "{name} is {seems}, no plan: 'tracer tune plan --from {name} --format json > plan.json' makes one of it"
        ),
        _ => format!(
            "{name} is {seems}, no plan: 'tracer tune plan --format json > plan.json' makes one"
        ),
    })
}

pub(super) fn parse_plan(text: &str) -> Result<Plan> {
    let plan: Plan = serde_json::from_str(text)?;
    ensure!(plan.kind == "plan", "kind is {:?}", plan.kind);
    ensure!(
        plan.schema <= SCHEMA,
        "schema {} is newer than this tracer's {SCHEMA}",
        plan.schema
    );
    for change in plan.changes() {
        change
            .setting
            .check(&change.to)
            .map_err(anyhow::Error::msg)?;
    }
    Ok(plan)
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file =
        std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(Box::new(BufReader::new(file)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::topology::Topology, report::fixture};

    #[test]
    fn the_summary_is_found_behind_windows() {
        let report = Report {
            topology: Some(Topology::default()),
            schema: 1,
            ..fixture::healthy()
        };
        let window = json::line(&Record::Window(report.clone())).unwrap();
        let line = json::line(&Record::Summary(report.clone())).unwrap();
        let text = format!("{window}\n{line}\n");
        assert_eq!(summary(text.as_bytes()).unwrap(), report);
        let error = summary(window.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("summary"), "{error}");
        assert!(summary(&b"tracer: no\n"[..]).is_err());
    }

    #[test]
    fn a_plan_that_names_another_file_is_refused() {
        let text = r#"{"kind":"plan","schema":1,"id":"1","host":{"hostname":"a","kernel":"b","machine_id":null,
            "boot_id":null,"netns":null},"baseline":{"duration_ns":1,"packets":0,"lost":0},"steps":[{"part":"backlog",
            "title":"","why":"","finding":"","effect":"","risk":null,"changes":[{"setting":{"kind":"sysctl",
            "name":"kernel.core_pattern"},"from":null,"to":"1"}]}],"by_hand":[],"notes":[],"cpus":[],"applications":[]}"#;
        let error = parse_plan(text).unwrap_err().to_string();
        assert!(error.contains("not a setting"), "{error}");
    }

    #[test]
    fn what_is_given_for_a_plan_is_named_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let said = |name: &str, text: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            format!("{:#}", plan(&path).unwrap_err())
        };
        let recording = crate::record::frame::encode(b"{}\n").unwrap();
        let why = said("before.trec", &recording);
        assert!(why.contains("before.trec is a recording, no plan"), "{why}");
        assert!(why.contains("before.trec --format json"), "{why}");
        let why = said("plan.txt", b"5 changes for db7, in this order\n");
        assert!(why.contains("plan.txt is text, no plan"), "{why}");
        let why = said("other.json", b"{\"a\":1}");
        assert!(
            why.contains("other.json") && why.contains("tune plan --format json"),
            "{why}"
        );
    }
}
