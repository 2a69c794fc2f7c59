//! How a process ended that is not our child: asked of a pidfd that was opened while it lived.
//!
//! Linux 6.15 and later tell a process's exit status to whoever holds its pidfd (PIDFD_GET_INFO, <linux/pidfd.h>).
//! Older kernels do not, and the end is then without a reason.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// `struct pidfd_info` of <linux/pidfd.h>, its first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    /// Real, effective, saved and filesystem user and group.
    ids: [u32; 8],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;
/// Asks for, and answers that there is, an exit code.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// A process that is held, so that its end can be asked for.
pub(super) struct Held(OwnedFd);

impl Held {
    /// `None`: it ended, or the kernel has no such thing.
    pub(super) fn open(pid: u32) -> Option<Self> {
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// The wait status (wait(2)) of a process that ended and was taken note of.
    #[allow(unsafe_code)]
    pub(super) fn status(&self) -> Option<i32> {
        let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
        // SAFETY: the descriptor is open, and `info` is a whole pidfd_info of the size that the number says, all of
        // integers, within which the kernel writes.
        let outcome = unsafe { libc::ioctl(self.0.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut info) };
        (outcome == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_end_of_a_process_is_told_where_the_kernel_can() {
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let held = Held::open(child.id()).unwrap();
        child.wait().unwrap();
        let mut killed = Command::new("sleep").arg("60").spawn().unwrap();
        let of_killed = Held::open(killed.id()).unwrap();
        assert_eq!(of_killed.status(), None, "it lives");
        killed.kill().unwrap();
        killed.wait().unwrap();
        match held.status() {
            Some(status) => assert_eq!((status, of_killed.status()), (7 << 8, Some(9))),
            None => eprintln!("this kernel does not tell how a process ended: Linux 6.15 does"),
        }
    }
}
