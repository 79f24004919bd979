//! Receives one datagram with its sender's credentials and descriptors.
//!
//! This is `recvmsg(2)` and the walk over its control messages, by hand: a
//! sender from another pid namespace has the pid 0 here, which a non-zero pid
//! type cannot hold, and a pidfd that the kernel attaches (Linux 6.5) is known to
//! no library yet. Bounded by [`limits::NOTIFY_MAX`] and
//! [`limits::NOTIFY_FDS_MAX`]; what the kernel has no room for it closes itself.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use greenroom_core::limits;

/// Bytes for one SCM_RIGHTS of the largest size, one SCM_CREDENTIALS and one
/// SCM_PIDFD, each with its header (16 bytes) and padding.
const CONTROL_MAX: usize =
    16 + limits::NOTIFY_FDS_MAX * size_of::<RawFd>() + 8 + 16 + size_of::<libc::ucred>() + 8 + 24;
/// `SO_PASSPIDFD` and `SCM_PIDFD`, the same on all architectures named in [`ask_for_pidfds`].
const SO_PASSPIDFD: libc::c_int = 76;
const SCM_PIDFD: libc::c_int = 4;

/// Control messages must lie as their header wants it.
#[repr(C, align(8))]
struct Control([u8; CONTROL_MAX]);

/// Who sent a datagram, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    /// 0 when it has no number in our pid namespace.
    pub(super) pid: i32,
    pub(super) uid: u32,
}

/// The sender as a handle, which no other process can come to be.
#[derive(Debug)]
pub(super) enum PidFd {
    /// The kernel attaches none (before Linux 6.5).
    Unknown,
    /// The sender was gone when the datagram was received.
    Gone,
    /// It.
    Of(OwnedFd),
}

/// What came in.
#[derive(Debug)]
pub(super) struct Received {
    /// Bytes in the caller's buffer.
    pub(super) length: usize,
    /// The datagram was longer than the buffer.
    pub(super) cut: bool,
    /// `None` when the kernel attached no credentials.
    pub(super) sender: Option<Sender>,
    /// The sender itself, where the kernel says so.
    pub(super) identity: PidFd,
    /// The descriptors that came along, ours to close.
    pub(super) descriptors: Vec<OwnedFd>,
}

/// Takes one datagram from `socket`, which must not block, into `buffer`.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; CONTROL_MAX]);
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is plain numbers and pointers; all zero is its empty value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control.0).cast();
    header.msg_controllen = CONTROL_MAX as _;
    // SAFETY: `header` points to `iov`, `buffer` and `control`, which outlive the
    // call, with their true lengths.
    let length = unsafe {
        libc::recvmsg(
            socket.as_raw_fd(),
            &raw mut header,
            libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT,
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    let mut received = Received {
        length,
        cut: header.msg_flags & libc::MSG_TRUNC != 0,
        sender: None,
        identity: PidFd::Unknown,
        descriptors: Vec::new(),
    };
    // SAFETY: the kernel has filled `control` and set `msg_controllen` to what it
    // wrote; the CMSG functions stay within these bytes.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(&raw const header);
        while !message.is_null() {
            take(&*message, libc::CMSG_DATA(message), &mut received);
            message = libc::CMSG_NXTHDR(&raw const header, message);
        }
    }
    Ok(received)
}

/// Takes one control message.
///
/// # Safety
/// `data` points to the payload that follows `message`, as the kernel wrote it,
/// and no descriptor in it has been taken before.
unsafe fn take(message: &libc::cmsghdr, data: *const u8, received: &mut Received) {
    // SAFETY: CMSG_LEN only computes.
    #[allow(clippy::unnecessary_cast, reason = "its type differs between C libraries")]
    let payload = (message.cmsg_len as usize).saturating_sub(unsafe { libc::CMSG_LEN(0) } as usize);
    match (message.cmsg_level, message.cmsg_type) {
        (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
            for n in 0..payload / size_of::<RawFd>() {
                // SAFETY: within the payload; each descriptor was made for us just
                // now and nobody else knows it.
                received
                    .descriptors
                    .push(unsafe { OwnedFd::from_raw_fd(data.cast::<RawFd>().add(n).read_unaligned()) });
            }
        }
        (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if payload >= size_of::<libc::ucred>() => {
            // SAFETY: the payload is large enough; ucred is three plain numbers.
            let credentials = unsafe { data.cast::<libc::ucred>().read_unaligned() };
            received.sender = Some(Sender {
                pid: credentials.pid,
                uid: credentials.uid,
            });
        }
        (libc::SOL_SOCKET, SCM_PIDFD) if payload >= size_of::<RawFd>() => {
            // SAFETY: the payload is large enough. A number from 0 on is a descriptor
            // that was made for us just now; below stands an error: the sender is gone.
            let fd = unsafe { data.cast::<RawFd>().read_unaligned() };
            received.identity = if fd < 0 {
                PidFd::Gone
            } else {
                // SAFETY: see above; nobody else knows it.
                PidFd::Of(unsafe { OwnedFd::from_raw_fd(fd) })
            };
        }
        _ => {}
    }
}

/// Asks the kernel to attach the sender's pidfd to each datagram. Older kernels
/// refuse, and then its number is all that is known.
pub(super) fn ask_for_pidfds(socket: &impl AsRawFd) {
    let known = cfg!(any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64",
        target_arch = "s390x",
        target_arch = "powerpc64",
    ));
    if known {
        let on: libc::c_int = 1;
        // SAFETY: the option's value is one `int`, given with its true size.
        unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PASSPIDFD,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            );
        }
    }
}
