//! The thread that hands requests to the kernel.
//!
//! A netlink send waits for the kernel's RTNL lock, non-blocking or not, and anybody who makes or removes
//! interfaces holds that lock. So the send is not done on the engine thread: adverts go on meanwhile.

use std::io;
use std::sync::mpsc;

use rtnetlink::Handle;

/// Starts the thread; `prepare` runs on it first. It ends with the last clone of the handle.
pub(super) fn start(prepare: impl FnOnce() + Send + 'static) -> io::Result<Handle> {
    let (ready, started) = mpsc::channel();
    std::thread::Builder::new().name("vipd-netlink".into()).spawn(move || {
        prepare();
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = ready.send(Err(error));
                return;
            }
        };
        runtime.block_on(async {
            match rtnetlink::new_connection() {
                Ok((mut connection, handle, _)) => {
                    // A stream that ends without a word must not count as success.
                    connection.set_forward_ack(true);
                    let _ = ready.send(Ok(handle));
                    connection.await;
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        });
    })?;
    started.recv().unwrap_or_else(|_| Err(io::Error::other("the netlink thread ended at once")))
}
