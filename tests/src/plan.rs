//! Plans made by hand.

use anyhow::Result;
use tracer::{
    model::setting::Setting,
    tune::plan::{Part, Plan, Planned, Step},
};

/// A change from what is there now, if that is to be checked.
#[must_use]
pub fn change(setting: Setting, from: Option<String>, to: &str) -> Planned {
    Planned {
        setting,
        from,
        to: to.to_owned(),
    }
}

/// A plan of these changes for this host.
pub fn of(changes: Vec<Planned>) -> Result<Plan> {
    let uname = nix::sys::utsname::uname()?;
    let step = Step {
        part: Part::Backlog,
        title: "Everything".to_owned(),
        why: "a test".to_owned(),
        finding: "none".to_owned(),
        effect: "none".to_owned(),
        risk: None,
        changes,
    };
    let mut plan = Plan {
        kind: "plan".to_owned(),
        schema: 1,
        id: "1".to_owned(),
        steps: vec![step],
        ..Plan::default()
    };
    plan.host.hostname = uname.nodename().to_string_lossy().into_owned();
    plan.host.kernel = uname.release().to_string_lossy().into_owned();
    Ok(plan)
}
