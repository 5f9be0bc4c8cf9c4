//! A running simulator: started, asked, moved, looked into, stopped.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use tokio_util::sync::CancellationToken;

use super::clock::PlatformClock;
use super::faults::FaultPlan;
use super::log::Logged;
use super::server;
use super::settings::SimulatorSettings;
use super::world::World;
use super::{SimulatorError, log};
use scoreline_domain::time::{Clock as _, Timestamp};

/// A simulated platform that listens. It stops when it is dropped.
pub struct Simulator {
    pub(super) world: Arc<World>,
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Open connections are dropped after so long.
const SHUTDOWN: Duration = Duration::from_millis(200);
const MOST_CUSTOMERS: u32 = (1 << 28) - 1;

impl Simulator {
    /// Starts listening. When this returns, requests are answered.
    ///
    /// # Errors
    /// When a file cannot be read, or the address is taken.
    pub fn start(settings: SimulatorSettings) -> Result<Self, SimulatorError> {
        if settings.customers > MOST_CUSTOMERS {
            return Err(SimulatorError::TooManyCustomers(settings.customers));
        }
        let (listen, threads) = (settings.listen, settings.threads.max(1));
        let taken = |source| SimulatorError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).map_err(taken)?;
        listener.set_nonblocking(true).map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        let world = Arc::new(World::new(settings)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("simulator")
            .enable_all()
            .build()
            .map_err(SimulatorError::Threads)?;
        let stop = CancellationToken::new();
        let served = Arc::clone(&world);
        let stopped = stop.clone();
        let work = move || {
            runtime.block_on(async {
                let answer = move |request: Request<Body>| server::answer(Arc::clone(&served), request);
                // The kernel has the socket already; only a runtime without sockets would refuse it.
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    let serving = axum::serve(listener, Router::new().fallback(answer));
                    tokio::select! {
                        _ = serving => {}
                        () = stopped.cancelled() => {}
                    }
                }
            });
            runtime.shutdown_timeout(SHUTDOWN);
        };
        let thread = std::thread::Builder::new().name("simulator".to_owned()).spawn(work);
        Ok(Self { world, address, stop, thread: Some(thread.map_err(SimulatorError::Threads)?) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// In front of `/api/v2/…`.
    pub fn api_url(&self) -> String {
        format!("http://{}{}", self.address, self.world.settings.api_prefix)
    }

    /// In front of `/oauth/token`.
    pub fn login_url(&self) -> String {
        format!("http://{}{}", self.address, self.world.settings.login_prefix)
    }

    pub fn settings(&self) -> &SimulatorSettings {
        &self.world.settings
    }

    /// The platform's clock. Tests can hand it to their client.
    pub fn clock(&self) -> PlatformClock {
        self.world.clock.clone()
    }

    pub fn now(&self) -> Timestamp {
        self.world.clock.now()
    }

    /// Moves the platform's clock forward: conversations go on, tokens and jobs expire, windows pass.
    pub fn advance(&self, by: Duration) {
        self.world.clock.advance(by);
    }

    /// Replaces the script; occurrences count from here.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.world.plan(plan);
    }

    /// Ends every token that was issued.
    pub fn revoke_tokens(&self) {
        self.world.tokens.revoke(None);
    }

    /// Every request so far, oldest first; the last million of them.
    pub fn log(&self) -> Vec<Logged> {
        self.world.log.entries()
    }

    /// Requests so far, and those answered with 429.
    pub fn requests(&self) -> (u64, u64) {
        self.world.log.counts()
    }

    /// The most requests that counted for one token in any window of the limit's period.
    pub fn busiest_window(&self) -> usize {
        log::busiest_window(&self.log(), self.world.settings.limits.period)
    }

    /// Why the log file stopped being written, told once.
    pub fn log_failure(&self) -> Option<std::io::Error> {
        self.world.log.failure()
    }

    /// Stops listening and waits until its threads have ended.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic in it has been printed; there is nothing to save.
            drop(thread.join());
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.end();
    }
}
