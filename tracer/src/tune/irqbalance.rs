//! The socket of irqbalance (1.3 and later): `setup` tells, `settings ban irqs N M` replaces the IRQs that it leaves
//! alone; `sock_handle` in irqbalance.c. It listens to root only, whom it knows by the credentials that come with the
//! message.

use std::{
    io::{self, IoSlice, Read as _},
    mem::MaybeUninit,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, UCred, sendmsg},
    process::{getgid, getpid, getuid},
};

use crate::proc::cpus::number;

/// It answers between two looks at the interrupts.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of the longest command that it takes.
const LONGEST: usize = 16_000;
const ANSWER_BYTES: u64 = 1 << 20;

/// Where the irqbalance with this process id listens.
#[must_use]
pub fn socket(run: &Path, pid: u32) -> PathBuf {
    run.join(format!("irqbalance/irqbalance{pid}.sock"))
}

/// IRQs that it was told to leave alone, numbers with blanks between them.
pub(super) fn read(run: &Path, pid: u32) -> io::Result<String> {
    let mut stream = tell(run, pid, "setup")?;
    let mut answer = String::new();
    stream
        .by_ref()
        .take(ANSWER_BYTES)
        .read_to_string(&mut answer)?;
    banned(&answer)
        .ok_or_else(|| io::Error::other(format!("irqbalance answers {:?}", answer.trim())))
}

/// Replaces them.
pub(super) fn write(run: &Path, pid: u32, irqs: &str) -> io::Result<()> {
    let irqs = if irqs.trim().is_empty() { "NONE" } else { irqs };
    let command = format!("settings ban irqs {irqs}");
    if command.len() > LONGEST {
        return Err(io::Error::other("too many IRQs for one command"));
    }
    let mut stream = tell(run, pid, &command)?;
    // It closes once it has taken the command.
    let mut nothing = Vec::new();
    stream
        .by_ref()
        .take(ANSWER_BYTES)
        .read_to_end(&mut nothing)?;
    Ok(())
}

fn tell(run: &Path, pid: u32, command: &str) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket(run, pid))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let own = UCred {
        pid: getpid(),
        uid: getuid(),
        gid: getgid(),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmCredentials(own));
    let sent = sendmsg(
        &stream,
        &[IoSlice::new(command.as_bytes())],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    if sent != command.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(stream)
}

/// `SLEEP 10 IRQ 24 LOAD 0 DIFF 0 CLASS 5 IRQ 25 … BANNED 00000001`.
fn banned(answer: &str) -> Option<String> {
    answer.strip_prefix("SLEEP ")?;
    let words: Vec<&str> = answer.split_whitespace().collect();
    let irqs = words.windows(2).filter(|pair| pair[0] == "IRQ");
    let mut irqs: Vec<u32> = irqs.filter_map(|pair| number(pair[1])).collect();
    irqs.sort_unstable();
    irqs.dedup();
    let irqs: Vec<String> = irqs.iter().map(u32::to_string).collect();
    Some(irqs.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_irqs_are_read_from_the_answer() {
        let answer =
            "SLEEP 10 IRQ 25 LOAD 0 DIFF 0 CLASS 5 IRQ 24 LOAD 1 DIFF 0 CLASS 5 BANNED 00000001";
        assert_eq!(banned(answer).as_deref(), Some("24 25"));
        assert_eq!(banned("SLEEP 10 BANNED 0").as_deref(), Some(""));
        assert_eq!(banned(""), None);
    }

    #[test]
    fn bans_are_told_to_the_socket() {
        use std::{io::Write as _, os::unix::net::UnixListener, thread};
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("irqbalance")).unwrap();
        let listener = UnixListener::bind(socket(directory.path(), 600)).unwrap();
        let daemon = thread::spawn(move || {
            let mut heard = Vec::new();
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut command = [0; 100];
                let length = stream.read(&mut command).unwrap();
                let command = String::from_utf8_lossy(&command[..length]).into_owned();
                if command == "setup" {
                    stream
                        .write_all(b"SLEEP 10 IRQ 24 LOAD 0 DIFF 0 CLASS 5 BANNED 0")
                        .unwrap();
                }
                heard.push(command);
            }
            heard
        });
        write(directory.path(), 600, "24 25").unwrap();
        assert_eq!(read(directory.path(), 600).unwrap(), "24");
        assert_eq!(daemon.join().unwrap(), ["settings ban irqs 24 25", "setup"]);
    }
}
