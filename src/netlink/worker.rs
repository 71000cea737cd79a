//! A thread for requests that may wait: it owns what they work on.

use std::io;
use std::sync::mpsc;

use tokio::sync::oneshot;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// The way to the thread; it ends with the last clone.
#[derive(Debug)]
pub(crate) struct Worker<S> {
    jobs: mpsc::Sender<Job<S>>,
}

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<S: 'static> Worker<S> {
    /// Starts the thread in the network namespace of the caller; `open` runs on it with the first job.
    pub fn start(name: &str, open: impl FnOnce() -> S + Send + 'static) -> io::Result<Self> {
        let (jobs, waiting) = mpsc::channel::<Job<S>>();
        std::thread::Builder::new().name(name.into()).spawn(move || {
            let Ok(first) = waiting.recv() else { return };
            let mut state = open();
            first(&mut state);
            for job in waiting {
                job(&mut state);
            }
        })?;
        Ok(Self { jobs })
    }

    /// Runs one job behind those that wait. The job is on its way when this returns; what it gives can be waited for.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> impl Future<Output = io::Result<T>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.send(Box::new(move |state| drop(answer.send(job(state)))));
        async move {
            let gone = || io::Error::other("the thread for slow requests has ended");
            sent.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())
        }
    }
}
