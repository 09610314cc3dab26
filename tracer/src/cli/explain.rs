//! `tracer explain`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Result;

use super::{Global, terminal};
use crate::{
    explain::{THRESHOLDS, lookup, near},
    report::{Style, explain as render},
};

/// Arguments of `tracer explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A rule (single-cpu), a drop reason (CPU_BACKLOG), a column (squeezed), a stage, a hook (softirq_entry), or
    /// 'thresholds'; case, - and _ do not matter. Without it, all that can be explained.
    #[arg(value_name = "RULE|REASON|COLUMN|HOOK")]
    name: Option<String>,
}

/// Nobody knows that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is called '{name}'; {}", advise(near))]
pub(super) struct UnknownTopic {
    name: String,
    near: Vec<&'static str>,
}

fn advise(near: &[&str]) -> String {
    if near.is_empty() {
        "'tracer explain' lists all names".to_owned()
    } else {
        format!("did you mean {}?", near.join(", "))
    }
}

/// Runs the command; no privileges needed.
pub(super) fn explain(args: &Args, global: Global) -> Result<ExitCode> {
    let style = Style {
        width: terminal::width(),
        color: terminal::color(global.color),
        unicode: terminal::unicode(),
    };
    let text = match args.name.as_deref() {
        None => render::list(&style),
        Some(name) if name.eq_ignore_ascii_case(THRESHOLDS) => render::thresholds(&style),
        Some(name) => {
            let found = lookup(name);
            if found.is_empty() {
                let near = near(name);
                let name = name.to_owned();
                return Err(UnknownTopic { name, near }.into());
            }
            render::render(&found, &style)
        }
    };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
