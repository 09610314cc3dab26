//! What goes wrong in the middle.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};

use super::place::{DEVICE, LIMIT, Place, ended};
use crate::{
    netns::Pair, plan::kill_at_each_step, scenario::note, tracer::complete, undo::Pending,
};

pub(super) fn killed_at_any_step() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let (plan, file) = place.plan()?;
    kill_at_each_step(
        &file,
        plan.changes().count(),
        |args, fault| place.tune(args, fault),
        |when| place.is_untouched(when),
    )
}

pub(super) fn signalled() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let (_, file) = place.plan()?;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let tracer = place.applying(&file, 3)?;
        tracer.signal(signal)?;
        tracer.signal(Signal::SIGCONT)?;
        let (status, said) = ended(tracer)?;
        ensure!(
            status.code() == Some(1)
                && said.contains("stopped by a signal; 2 changes")
                && said.contains("the host is as it was"),
            "{signal}: {status}: {said}"
        );
        place.is_untouched(signal.as_str())?;
    }
    Ok(())
}

pub(super) fn read_only() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let (_, file) = place.plan()?;
    // For this tracer alone: its mounts are its own.
    let queue = format!("/sys/class/net/{DEVICE}/queues/rx-0/rps_flow_cnt");
    let apply = place.command(&["apply", &file, "--yes"], "")?;
    let (status, out, err) = place.netns.run(|| {
        mount_read_only(&queue)?;
        complete(None, apply, LIMIT)
    })??;
    ensure!(
        status.code() == Some(1)
            && err.contains("rps_flow_cnt")
            && err.contains("the host is as it was"),
        "{status}: {out} {err}"
    );
    note(&err);
    place.is_untouched("a read-only file")
}

fn mount_read_only(file: &str) -> Result<()> {
    let bind = MsFlags::MS_BIND;
    mount(Some(file), file, None::<&str>, bind, None::<&str>).context("cannot bind")?;
    let again = bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(Some(file), file, None::<&str>, again, None::<&str>).context("cannot remount")
}

/// What is left of a namespace without its device.
fn of_device(path: &Path) -> bool {
    path.starts_with("/sys")
}

pub(super) fn vanished() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let (_, file) = place.plan()?;
    let tracer = place.applying(&file, 1)?;
    place.netns.ip(&["link", "del", DEVICE])?;
    tracer.signal(Signal::SIGCONT)?;
    let (status, said) = ended(tracer)?;
    ensure!(
        status.code() == Some(1)
            && said.contains("rps_cpus: it is gone")
            && said.contains("the host is as it was"),
        "{status}: {said}"
    );
    note(&said);
    place.is_untouched_but(of_device, "a device that vanished")?;

    // And before the first.
    let (status, _, err) = place.tune(&["apply", &file, "--yes"], "")?;
    ensure!(
        status.code() == Some(1) && err.contains("plan again"),
        "{status}: {err}"
    );
    place.is_untouched_but(of_device, "a device that is gone")
}

pub(super) fn gone_before_revert() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let (_, file) = place.plan()?;
    place.tuned(&["apply", &file, "--yes"])?;
    place.netns.ip(&["link", "del", DEVICE])?;
    let told = place.tuned(&["status"])?;
    ensure!(told.contains("gone"), "{told}");
    note(place.tuned(&["revert"])?);
    place.is_untouched_but(of_device, "reverted without its device")
}

pub(super) fn full_disk() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let (_, file) = place.plan()?;
    let state = place.state();
    fs::create_dir(&state)?;
    mount(
        Some("tmpfs"),
        &state,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=16k,mode=700"),
    )?;
    let mounted = state.clone();
    let mounted = Pending::new(move || Ok(umount2(&mounted, MntFlags::MNT_DETACH)?));
    fill(&state)?;
    let (status, out, err) = place.tune(&["apply", &file, "--yes"], "")?;
    ensure!(
        status.code() == Some(1) && err.contains("nothing was changed"),
        "{status}: {out} {err}"
    );
    note(err);
    place.is_untouched("no room for the journal")?;
    mounted.undo()
}

fn fill(directory: &Path) -> Result<()> {
    let full = fs::write(directory.join("fill"), vec![0; 64 << 10]);
    let error = full.err().context("a tmpfs of 16 KiB took 64 KiB")?;
    ensure!(error.raw_os_error() == Some(nix::libc::ENOSPC), "{error}");
    Ok(())
}

pub(super) fn two_at_once() -> Result<()> {
    let pair = Pair::new()?;
    let place = Place::new(&pair.receiver)?;
    let (_, file) = place.plan()?;
    let mut first = place.applying(&file, 3)?;
    let (status, _, err) = place.tune(&["revert"], "")?;
    let pid = format!("pid {}", first.pid());
    ensure!(
        status.code() == Some(1) && err.contains(&pid),
        "{status}: {err}, the first is {pid}"
    );
    note(err);
    first.signal(Signal::SIGCONT)?;
    let status = first.wait(LIMIT)?;
    ensure!(status.success(), "the first: {status}");
    place.tuned(&["revert"])?;
    place.is_untouched("after both")
}
