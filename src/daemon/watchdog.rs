//! Tells the service manager that the engine thread answers (sd_watchdog_enabled(3)).

use std::time::Duration;

use nix::unistd::Pid;

use crate::elect::EngineHandle;
use crate::guard::ToGuard;

/// Signs of life in the time after which the service manager loses patience.
const SIGNS: u32 = 3;

/// Says so from now on, if the service manager asked this service for it. `service`: the process that it started.
pub fn feed(engine: EngineHandle, guard: ToGuard, service: Pid) {
    let variable = |name| std::env::var(name).ok();
    let Some(every) = interval(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), service) else { return };
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(every);
        loop {
            ticks.tick().await;
            match tokio::time::timeout(every, engine.ping()).await {
                Ok(Ok(())) => guard.tell("WATCHDOG=1"),
                // The engine has ended: so does the daemon.
                Ok(Err(_)) => return,
                // Nothing is said as long as it hangs.
                Err(_) => {}
            }
        }
    });
}

/// Between two signs of life.
fn interval(microseconds: Option<String>, wanted: Option<String>, service: Pid) -> Option<Duration> {
    let patience = Duration::from_micros(microseconds?.parse().ok()?);
    let is_for_us = wanted.is_none_or(|pid| pid.parse() == Ok(service.as_raw()));
    (is_for_us && !patience.is_zero()).then(|| (patience / SIGNS).max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_service_that_was_asked_gives_signs_and_early_enough() {
        let us = Pid::from_raw(17);
        let asked = |time: &str, pid: Option<&str>| interval(Some(time.into()), pid.map(str::to_owned), us);
        assert_eq!(asked("3000000", Some("17")), Some(Duration::from_secs(1)));
        assert_eq!(asked("3000000", None), Some(Duration::from_secs(1)));
        assert_eq!(asked("3000000", Some("18")), None);
        assert_eq!(asked("0", None), None);
        assert_eq!(asked("soon", None), None);
        assert_eq!(interval(None, None, us), None);
    }
}
